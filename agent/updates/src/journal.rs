//! The journal of the updates of one app on one device: how far an update is, what was tried, what happened.
//!
//! In: what happened ([`Event`]). Out: the next journal, and what to do next ([`Action`]). The shell makes each journal durable
//! before it does what it asks for, so an update goes on after a crash at any point: it gives [`Event::Resumed`], and does what
//! comes. Status, reports and notifications are made of this journal, so they cannot contradict one another.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use policy_schema::Extra;
use protocol::update::{Command, HistoryEntry, Hold, Stage};
use semver::Version;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Reason;
use crate::decision::Decision;
use crate::feed::Release;

mod step;

/// The same file is installed at most so often.
pub const ATTEMPTS: u32 = 3;

/// After so many, a file that was another one each time is tried once in this time.
const PAUSE: SignedDuration = SignedDuration::from_hours(24);

/// The journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// How far the present update is.
    #[serde(default)]
    pub state: State,
    /// Versions that were rolled back. They are not installed again.
    #[serde(default)]
    pub quarantined: Vec<Quarantine>,
    /// Files that were tried.
    #[serde(default)]
    pub attempts: Vec<Attempts>,
    /// An administrator holds updates.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// A restart of the device finishes an installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// The version before the present one, which can be put back.
    #[serde(default)]
    pub previous: Option<Version>,
    /// What happened, the newest last.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How far an update is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "a variant says what its fields are")]
pub enum State {
    /// Nothing is under way.
    #[default]
    Idle,
    /// A release is wanted. `wait`: why it is not installed as soon as it is there.
    Offered { offer: Offer, wait: Option<Wait> },
    /// A part of it is there, up to `offset`. `etag` is that of the whole file on the server.
    Downloading { offer: Offer, wait: Option<Wait>, offset: u64, etag: Option<String> },
    /// It is there and verified.
    Verified { offer: Offer },
    /// It waits. `fetched`: it is there.
    Waiting { offer: Offer, why: Wait, fetched: bool },
    /// It is being installed over `previous`.
    Installing { offer: Offer, previous: Option<Version> },
    /// It is installed and has to show that it starts.
    Confirming { version: Version, previous: Option<Version> },
    /// The version before is being put back.
    RollingBack {
        version: Version,
        previous: Option<Version>,
        reason: String,
        /// How often that failed.
        #[serde(default)]
        failures: u32,
    },
    /// It is installed and starts.
    Committed { version: Version, previous: Option<Version> },
    /// The version before is back.
    RolledBack { version: Version, previous: Option<Version>, reason: String },
}

/// What an update waits for, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// A sentence without a full stop.
    pub text: String,
    /// When it comes, if that is a time.
    pub until: Option<Timestamp>,
    /// The app is open, and is to be closed.
    pub app_open: bool,
}

impl From<&Reason> for Wait {
    fn from(reason: &Reason) -> Self {
        let app_open = matches!(reason, Reason::AppOpen { .. });
        Self { text: reason.to_string(), until: reason.until(), app_open }
    }
}

/// A release that a device wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What it installs.
    pub version: Version,
    /// Where it is.
    pub url: Url,
    /// Of the whole file, in base64.
    pub sha512: String,
    /// In bytes.
    pub size: u64,
    /// Since when the device wants it: its deadline counts from here.
    pub since: Timestamp,
}

impl Offer {
    /// When it is to be installed, whatever the window.
    #[must_use]
    pub fn deadline(&self, hours: u32) -> Option<Timestamp> {
        self.since.checked_add(SignedDuration::from_hours(hours.into())).ok()
    }

    fn of(release: &Release, since: Timestamp) -> Self {
        Self {
            version: release.version.clone(),
            url: release.artifact.url.clone(),
            sha512: release.artifact.digest(),
            size: release.artifact.size,
            since,
        }
    }
}

/// A version that is installed once the device was restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The version.
    pub version: Version,
    /// The start of the device that has to end for that.
    pub boot: String,
}

/// A version that was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The version.
    pub version: Version,
    /// When; `None` from the record of an earlier agent.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// How often a file was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Its SHA-512 in base64.
    pub sha512: String,
    /// How often its installation began.
    #[serde(default)]
    pub installations: u32,
    /// How often another file came in its place, so that this one may still be good.
    #[serde(default)]
    pub other_files: u32,
    /// How it failed last.
    pub last: String,
    /// When.
    pub at: Timestamp,
}

impl Attempts {
    /// How often, of both kinds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.installations.saturating_add(self.other_files)
    }

    /// When it may be tried again, if it may not be now: a file that failed for good never, one that never came once a day.
    #[must_use]
    pub fn exhausted(&self, now: Timestamp) -> Option<Option<Timestamp>> {
        if self.installations >= ATTEMPTS {
            return Some(None);
        }
        let again = self.at.checked_add(PAUSE).unwrap_or(Timestamp::MAX);
        // A clock that was set back keeps nothing away for longer.
        let pauses = self.other_files >= ATTEMPTS && self.at <= now && now < again;
        pauses.then_some(Some(again))
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "a variant says what its fields are")]
pub enum Event<'a> {
    /// The process starts, perhaps after a crash.
    Resumed,
    /// The feed was checked.
    Decided(Decision<'a>),
    /// Another part of the download is durable.
    Progress { offset: u64, etag: Option<String> },
    /// The download is whole and verified. `wait`: why it is not installed now.
    Fetched { wait: Option<Reason> },
    /// There is no whole and right download. `lasting`: the same file would fail again.
    FetchFailed { reason: String, lasting: bool },
    /// Nothing on the device is in the way of the installation. `installed` is what is there now.
    Ready { installed: Option<Version> },
    /// Something is.
    NotReady(Reason),
    /// The version is installed.
    Installed,
    /// It is, once the device was restarted, and it cannot be tried before. `boot`: the ID of the present start of the device, if the
    /// system names it.
    RestartNeeded { boot: Option<String> },
    /// It is not, and the version before is as it was. `lasting`: the same file would fail again.
    InstallFailed { reason: String, lasting: bool },
    /// It is not, and what is there now is not the version before.
    Damaged { reason: String },
    /// The version starts.
    Confirmed,
    /// It does not.
    DoesNotStart { reason: String },
    /// It was confirmed, and then failed when a user started it for the first time.
    FirstStartFailed { version: Version, reason: String },
    /// The version before is back.
    RolledBack,
    /// It could not be put back. `lasting`: it is gone.
    NotRolledBack { reason: String, lasting: bool },
    /// An administrator asks for something. `installed` is what is there now.
    Commanded { command: Command, installed: Option<Version> },
}

/// What to do next. The event that follows from it comes after the journal is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant says what its fields are")]
pub enum Action {
    /// Download the rest, and verify the whole.
    Fetch { offer: Offer, offset: u64, etag: Option<String> },
    /// See whether something is in the way of an installation.
    Check,
    /// Install the download, which is verified once more.
    Install { offer: Offer },
    /// See whether the version starts.
    Confirm { version: Version },
    /// Put the version before back.
    RollBack { previous: Option<Version> },
    /// Remove the download.
    Discard,
    /// Remove versions besides these.
    CleanUp { keep: Vec<Version> },
}

impl Journal {
    /// Whether the device is between two versions, which nothing may interrupt.
    #[must_use]
    pub fn is_committed_to_finish(&self) -> bool {
        matches!(self.state, State::Installing { .. } | State::Confirming { .. } | State::RollingBack { .. })
    }

    /// Whether all is ready but for the app, which is open.
    #[must_use]
    pub fn waits_for_app(&self) -> bool {
        matches!(&self.state, State::Waiting { why, .. } if why.app_open)
    }

    /// What is wanted and not installed yet.
    #[must_use]
    pub fn offer(&self) -> Option<&Offer> {
        match &self.state {
            State::Offered { offer, .. }
            | State::Downloading { offer, .. }
            | State::Verified { offer, .. }
            | State::Waiting { offer, .. }
            | State::Installing { offer, .. } => Some(offer),
            State::Idle
            | State::Confirming { .. }
            | State::RollingBack { .. }
            | State::Committed { .. }
            | State::RolledBack { .. } => None,
        }
    }

    /// The version that the present update is about.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        match &self.state {
            State::Idle => None,
            State::Offered { offer, .. }
            | State::Downloading { offer, .. }
            | State::Verified { offer, .. }
            | State::Waiting { offer, .. }
            | State::Installing { offer, .. } => Some(&offer.version),
            State::Confirming { version, .. }
            | State::RollingBack { version, .. }
            | State::Committed { version, .. }
            | State::RolledBack { version, .. } => Some(version),
        }
    }

    /// The version that is being replaced, while another one is being installed.
    #[must_use]
    pub fn replaced(&self) -> Option<&Version> {
        self.replacement()?.1
    }

    /// The version that is being installed or confirmed, and the one that it replaces.
    fn replacement(&self) -> Option<(&Version, Option<&Version>)> {
        match &self.state {
            State::Installing { offer, previous } => Some((&offer.version, previous.as_ref())),
            State::Confirming { version, previous } => Some((version, previous.as_ref())),
            State::Idle
            | State::Offered { .. }
            | State::Downloading { .. }
            | State::Verified { .. }
            | State::Waiting { .. }
            | State::RollingBack { .. }
            | State::Committed { .. }
            | State::RolledBack { .. } => None,
        }
    }

    /// Since when a file is wanted.
    #[must_use]
    pub fn wanted_since(&self, sha512: &str) -> Option<Timestamp> {
        self.offer().filter(|offer| offer.sha512 == sha512).map(|offer| offer.since)
    }

    /// The hold, if it holds now.
    #[must_use]
    pub fn hold(&self, now: Timestamp) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| hold.until.is_none_or(|until| now < until))
    }

    /// Whether a version only waits for a restart of the device, whose present start has this ID.
    #[must_use]
    pub fn waits_for_restart(&self, version: &Version, boot: Option<&str>) -> bool {
        let pending = self.restart.as_ref().filter(|restart| restart.version == *version);
        pending.is_some_and(|restart| Some(restart.boot.as_str()) == boot)
    }

    /// The version that was installed last over another one, if its start says something about it: not before a restart of the device
    /// that it needs.
    #[must_use]
    pub fn just_installed(&self) -> Option<&Version> {
        let State::Committed { version, previous: Some(_) } = &self.state else { return None };
        Some(version).filter(|_| self.restart.is_none())
    }

    /// Whether a version was rolled back.
    #[must_use]
    pub fn quarantine(&self, version: &Version) -> Option<&Quarantine> {
        self.quarantined.iter().find(|one| one.version == *version)
    }

    /// All versions that were rolled back.
    #[must_use]
    pub fn quarantined_versions(&self) -> BTreeSet<Version> {
        self.quarantined.iter().map(|one| one.version.clone()).collect()
    }

    /// How often a file was tried.
    #[must_use]
    pub fn attempts(&self, sha512: &str) -> Option<&Attempts> {
        self.attempts.iter().find(|one| one.sha512 == sha512)
    }

    /// How far the present update is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Idle => Stage::Idle,
            State::Offered { .. } => Stage::Offered,
            State::Downloading { .. } => Stage::Downloading,
            State::Verified { .. } => Stage::Verified,
            State::Waiting { .. } => Stage::Waiting,
            State::Installing { .. } => Stage::Installing,
            State::Confirming { .. } => Stage::Confirming,
            State::RollingBack { .. } => Stage::RollingBack,
            State::Committed { .. } => Stage::Committed,
            State::RolledBack { .. } => Stage::RolledBack,
        }
    }
}

#[cfg(test)]
mod tests;
