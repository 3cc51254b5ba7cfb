//! What the machine service tells about updates besides the status: how far one is, and what happened before.

use jiff::Timestamp;
use policy_schema::{Extra, Open};
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing is under way.
    Idle,
    /// A release is wanted; its download has not begun.
    Offered,
    /// A part of it is there.
    Downloading,
    /// It is there and verified.
    Verified,
    /// It waits for something.
    Waiting,
    /// It is being installed.
    Installing,
    /// It is installed and has to show that it starts.
    Confirming,
    /// It did not start; the previous version is being put back.
    RollingBack,
    /// It is installed and starts.
    Committed,
    /// The previous version is back.
    RolledBack,
}

/// How far the update of an app is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// How far.
    pub stage: Open<Stage>,
    /// The version that it is about.
    pub version: Option<Version>,
    /// How much of the file is there, in bytes.
    pub downloaded: u64,
    /// How large the file is, in bytes; 0 once it is installed.
    pub size: u64,
    /// When what it waits for comes, if that is a time.
    pub until: Option<Timestamp>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What happened in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// A release was offered that this device wants.
    Offered,
    /// A wanted release is no longer offered, or no longer wanted.
    Withdrawn,
    /// A download or an installation failed; the version before stays.
    Failed,
    /// A version was installed and starts.
    Installed,
    /// The version before was put back.
    RolledBack,
    /// An administrator holds updates.
    Held,
    /// An administrator ended that, or lets a quarantined version be installed again.
    Released,
}

/// One event of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub happened: Open<Happened>,
    /// The version that it is about.
    pub version: Option<Version>,
    /// A sentence about it.
    pub message: String,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What happened before, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The name of the app.
    pub app: String,
    /// The events.
    pub entries: Vec<HistoryEntry>,
}

/// An administrator holds updates on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Until when; `null` until an administrator ends it.
    pub until: Option<Timestamp>,
}

/// An administrator asks for a check of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// What is to be done before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
}

/// What an administrator can ask for besides a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Holds updates on this device.
    Hold {
        /// Until when; `null` until [`Command::Release`].
        until: Option<Timestamp>,
    },
    /// Ends a hold, and lets what failed too often be tried again.
    Release {
        /// A quarantined version to let be installed again.
        version: Option<Version>,
    },
    /// Puts the previous version back, and quarantines the present one.
    RollBack,
}
