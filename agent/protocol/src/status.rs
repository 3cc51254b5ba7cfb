//! The status of a device. The machine service makes it; everything that shows or sends health reads it. Part of the
//! published JSON Schema.

use std::collections::BTreeSet;

use jiff::Timestamp;
use policy_schema::settings::UpdateMode;
use policy_schema::{Extra, Open, Problem};
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::diagnosis::ReportedDiagnosis;
use crate::health::history::HealthHistory;
use crate::update::{Hold, Progress};

/// At most this many problems are listed. All of them are counted.
pub const MAXIMUM_PROBLEMS: usize = 100;

/// The status that the machine service publishes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The version of this format.
    pub format: u32,
    /// The agent's version.
    pub agent_version: String,
    /// When the agent started.
    pub started_at: Timestamp,
    /// When the status last changed.
    pub observed_at: Timestamp,
    /// The policy in effect.
    pub policy: PolicyStatus,
    /// The managed app.
    pub app: AppStatus,
    /// The app's updates.
    pub update: UpdateStatus,
    /// The updates of the agent itself; absent where policy names no feed for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_update: Option<UpdateStatus>,
    /// The delivery of reports.
    pub report: ReportStatus,
    /// Sign-in on this device, whoever is signed in; `null` if the agent is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignInStatus>,
    /// What the components of the device were before.
    #[serde(default, skip_serializing_if = "HealthHistory::is_empty")]
    pub history: HealthHistory,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
    /// How many problems there are, including those that are not listed.
    pub problem_count: usize,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The status of policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStatus {
    /// Equal on devices with equal policy; secrets do not count.
    pub hash: String,
    /// When policy was last read.
    pub read_at: Timestamp,
    /// Every source that exists, the weakest first.
    #[serde(alias = "places")]
    pub sources: Vec<SourceStatus>,
    /// How many settings are set by policy.
    pub settings: usize,
    /// `OrganizationName`.
    pub organization: Option<String>,
    /// `SupportContact`.
    pub support_contact: Option<String>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One source of policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceStatus {
    /// Path or registry key.
    pub name: String,
    /// How many values it holds; `null` if it could not be read.
    pub values: Option<usize>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The managed app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppStatus {
    /// The name in the setting `App`.
    pub name: String,
    /// The name that users know.
    pub title: String,
    /// Why there is nothing to manage on this operating system.
    pub not_applicable: Option<String>,
    /// The path of the managed configuration, if there is one.
    pub configuration: Option<String>,
    /// The installed version, if one can be read.
    pub version: Option<Version>,
    /// The installed version as the operating system or the app names it; `null` if the app is not installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// How often, since the agent started, somebody changed or removed what it had written for the app, and the agent put it
    /// back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repaired: u64,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The app's updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateStatus {
    /// Whether the agent manages versions on this device.
    pub managed: bool,
    /// `UpdateMode`.
    pub mode: Option<Open<UpdateMode>>,
    /// A check of the feed, a download or an installation is under way.
    pub running: bool,
    /// The result of the last check.
    pub message: Option<String>,
    /// The version that the feed offers.
    pub offered: Option<Version>,
    /// Quarantined versions: they did not start on this device and are not tried again.
    #[serde(alias = "held")]
    pub quarantined: BTreeSet<Version>,
    /// How far the present update is; `null` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// An administrator holds updates; `null` if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// When the feed was last checked.
    #[serde(alias = "looked_at")]
    pub checked_at: Option<Timestamp>,
    /// When it is checked next.
    pub next: Option<Timestamp>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The delivery of reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportStatus {
    /// Where reports go; `null` if none are sent.
    pub url: Option<String>,
    /// Reports that wait on disk.
    pub queued: usize,
    /// When a report was last delivered.
    pub delivered_at: Option<Timestamp>,
    /// When the next report is due.
    pub next: Option<Timestamp>,
    /// Until when the certificate of this device for reports is valid; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_until: Option<Timestamp>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Whether users can sign in on this device, as far as the machine service knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignInStatus {
    /// Policy says where to sign in (`Issuer` and `ClientId`).
    pub configured: bool,
    /// When a user was signed in last, with the issuer and the client that policy has now; `null` if never.
    pub proven_at: Option<Timestamp>,
    /// When the documents of the identity provider were checked last.
    pub checked_at: Option<Timestamp>,
    /// When they are checked next.
    pub next: Option<Timestamp>,
    /// What that check found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnoses: Vec<ReportedDiagnosis>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A device where all is well, for tests.
#[cfg(any(test, feature = "samples"))]
#[must_use]
pub fn sample_status() -> Status {
    let at = Timestamp::UNIX_EPOCH;
    Status {
        format: crate::FORMAT,
        agent_version: "1.2.3".to_owned(),
        started_at: at,
        observed_at: at,
        policy: PolicyStatus { hash: "abc".to_owned(), read_at: at, settings: 3, ..PolicyStatus::default() },
        app: AppStatus {
            name: "lab-notes".to_owned(),
            title: "Lab Notes".to_owned(),
            configuration: Some("/etc/x.json".to_owned()),
            version: Some(semver::Version::new(2, 0, 0)),
            installed: Some("2.0.0".to_owned()),
            ..AppStatus::default()
        },
        update: UpdateStatus {
            managed: true,
            mode: Some(policy_schema::settings::UpdateMode::Automatic.into()),
            message: Some("2.0.0 is up to date".to_owned()),
            offered: Some(semver::Version::new(2, 0, 0)),
            checked_at: Some(at),
            ..UpdateStatus::default()
        },
        ..Status::default()
    }
}
