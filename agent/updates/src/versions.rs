//! Which version of the agent runs: the one that its package installed, or a later one that it has installed beside that.
//!
//! In: what was kept, and what happened. Out: what is to be kept, and which version is started. A new version is on probation until it has
//! proved itself; one that misses its deadline, or ends three times in a row before it was stable, is not started again. The version before takes
//! its place, and in the end that of the package. The crate `watchdog` keeps it on disk and starts the versions.

use jiff::Timestamp;
use policy_schema::Extra;
use semver::Version;
use serde::{Deserialize, Serialize};

/// So often a version is started without being stable for once.
pub const STARTS: u32 = 3;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// The version that has proved itself; `None`: that of the package.
    #[serde(default)]
    pub current: Option<Version>,
    /// The one before it, which was kept; `None`: that of the package.
    #[serde(default)]
    pub previous: Option<Version>,
    /// The version on probation.
    #[serde(default)]
    pub probation: Option<Version>,
    /// How often what runs was started since it ran for long enough to be called stable.
    #[serde(default)]
    pub starts: u32,
    /// The program that starts the versions: that of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The versions that failed, the latest last.
    #[serde(default)]
    pub failed: Vec<Failed>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A version that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The version.
    pub version: Version,
    /// How, as a sentence without a full stop.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The version; `None`: that of the package.
    pub version: Option<Version>,
    /// It has to prove itself.
    pub on_probation: bool,
    /// How often it was started since it was stable last, this time included.
    pub starts: u32,
}

/// What is known of a version that was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has proved itself, or something newer is there.
    Proved,
    /// It is on probation.
    OnProbation,
    /// It failed.
    Failed(String),
    /// It was not started yet.
    Untried,
}

impl Versions {
    /// The service is about to start.
    #[must_use]
    pub fn launch(mut self, packaged: &Version, now: Timestamp) -> (Self, Launch) {
        // What the package brings is newer by now.
        self.current = self.current.filter(|version| version > packaged);
        self.previous = self.previous.filter(|version| version > packaged);
        self.probation = self.probation.filter(|version| version > packaged);
        while self.starts >= STARTS && (self.probation.is_some() || self.current.is_some()) {
            let reason = format!("it ended {STARTS} times in a row soon after its start");
            let version = self.probation.clone().or_else(|| self.current.clone());
            let Some(version) = version else { break };
            self = self.give_up(&version, reason, now);
        }
        self.starts = self.starts.saturating_add(1);
        let version = self.probation.clone().or_else(|| self.current.clone());
        let launch = Launch { version, on_probation: self.probation.is_some(), starts: self.starts };
        (self, launch)
    }

    /// A version that runs has proved itself. One that has installed another meanwhile says nothing about that one.
    #[must_use]
    pub fn proved(mut self, running: &Version) -> Self {
        match self.probation.take() {
            Some(version) if version == *running => {
                self.failed.retain(|failed| failed.version != version);
                self.previous = self.current.replace(version);
            }
            other => self.probation = other,
        }
        self
    }

    /// A version has run for so long that what it did at its start is no cause of a crash any more.
    #[must_use]
    pub fn stable(mut self, running: &Version) -> Self {
        if self.probation.as_ref().is_none_or(|version| version == running) {
            self.starts = 0;
        }
        self
    }

    /// A version did not prove itself in time, or cannot be started at all: it is not started again.
    #[must_use]
    pub fn give_up(mut self, version: &Version, reason: String, at: Timestamp) -> Self {
        if self.probation.as_ref() == Some(version) {
            self.probation = None;
        } else if self.current.as_ref() == Some(version) {
            self.current = self.previous.take();
        } else {
            return self;
        }
        self.starts = 0;
        self.failed.retain(|failed| failed.version != *version);
        self.failed.push(Failed { version: version.clone(), reason, at });
        let surplus = self.failed.len().saturating_sub(KEPT);
        self.failed.drain(..surplus);
        self
    }

    /// Somebody stopped the service, which says nothing about the version that ran.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.starts = self.starts.saturating_sub(1);
        self
    }

    /// A version is installed, and is started next.
    #[must_use]
    pub fn arm(mut self, version: Version) -> Self {
        self.failed.retain(|failed| failed.version != version);
        self.starts = 0;
        self.probation = Some(version);
        self
    }

    /// What is known of a version, where `running` runs.
    #[must_use]
    pub fn standing(&self, version: &Version, running: &Version) -> Standing {
        if self.probation.as_ref() == Some(version) {
            return Standing::OnProbation;
        }
        if let Some(failed) = self.failed.iter().find(|failed| failed.version == *version) {
            return Standing::Failed(failed.reason.clone());
        }
        if self.current.as_ref() == Some(version) || running >= version {
            return Standing::Proved;
        }
        Standing::Untried
    }

    /// The versions whose files are needed.
    pub fn needed(&self) -> impl Iterator<Item = &Version> {
        [&self.current, &self.previous, &self.probation].into_iter().flatten()
    }
}

/// So many versions that failed are remembered.
const KEPT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn launch(versions: Versions) -> (Versions, Option<String>, u32) {
        let (versions, launch) = versions.launch(&version("1.0.0"), Timestamp::UNIX_EPOCH);
        (versions, launch.version.map(|version| version.to_string()), launch.starts)
    }

    #[test]
    fn version_that_proves_itself_becomes_the_current_one() {
        let (versions, started, starts) = launch(Versions::default().arm(version("2.0.0")));
        assert_eq!((started.as_deref(), starts), (Some("2.0.0"), 1));
        assert_eq!(versions.standing(&version("2.0.0"), &version("1.0.0")), Standing::OnProbation);
        let versions = versions.proved(&version("2.0.0")).arm(version("3.0.0")).proved(&version("3.0.0"));
        assert_eq!(versions.current, Some(version("3.0.0")));
        assert_eq!(versions.previous, Some(version("2.0.0")));
        let (_, started, starts) = launch(versions);
        assert_eq!((started.as_deref(), starts), (Some("3.0.0"), 1));
    }

    #[test]
    fn third_crash_leads_to_the_previous_version_and_then_to_the_packaged_one() {
        let mut versions =
            Versions::default().arm(version("2.0.0")).proved(&version("2.0.0")).arm(version("3.0.0"));
        let mut started = Vec::new();
        for _ in 0..8 {
            let next;
            (versions, next, _) = launch(versions);
            started.push(next.unwrap_or_default());
        }
        let expected = ["3.0.0", "3.0.0", "3.0.0", "2.0.0", "2.0.0", "2.0.0", "", ""];
        assert_eq!(started, expected);
        for failed in ["2.0.0", "3.0.0"] {
            let standing = versions.standing(&version(failed), &version("1.0.0"));
            assert!(matches!(standing, Standing::Failed(_)), "{failed}: {standing:?}");
        }
        // Without another version there is nothing to give up.
        assert_eq!(launch(versions).2, 3);
    }

    /// Found by trial: the API of the old version answered a moment after it had installed the new one, which then counted as proved.
    #[test]
    fn version_that_installed_another_says_nothing_about_that_one() {
        let versions = Versions::default().arm(version("2.0.0")).proved(&version("1.0.0"));
        assert_eq!(versions.probation, Some(version("2.0.0")));
        let versions = versions.give_up(&version("1.0.0"), "late".to_owned(), Timestamp::UNIX_EPOCH);
        assert_eq!((versions.probation, versions.failed.len()), (Some(version("2.0.0")), 0));
    }

    /// Found by trial: a version proved itself within milliseconds, crashed after that, and was started for ever.
    #[test]
    fn proved_version_that_crashes_three_times_before_it_is_stable_is_given_up() {
        let mut versions = Versions::default().arm(version("2.0.0"));
        for _ in 0..3 {
            let (next, started, _) = launch(versions);
            assert_eq!(started.as_deref(), Some("2.0.0"));
            versions = next.proved(&version("2.0.0"));
        }
        let stable = versions.clone().stable(&version("2.0.0"));
        assert_eq!(launch(stable).1.as_deref(), Some("2.0.0"));
        assert_eq!(launch(versions).1, None);
    }

    #[test]
    fn service_that_is_stopped_has_not_failed() {
        let mut versions = Versions::default().arm(version("2.0.0"));
        for _ in 0..10 {
            let (next, started, _) = launch(versions);
            assert_eq!(started.as_deref(), Some("2.0.0"));
            versions = next.stopped();
        }
    }

    #[test]
    fn missed_deadline_keeps_a_version_from_starting_until_it_is_reinstalled() {
        let (versions, ..) = launch(Versions::default().arm(version("2.0.0")));
        let versions =
            versions.give_up(&version("2.0.0"), "it did not answer".to_owned(), Timestamp::UNIX_EPOCH);
        let (versions, started, _) = launch(versions);
        assert_eq!(started, None);
        let (_, started, _) = launch(versions.arm(version("2.0.0")));
        assert_eq!(started.as_deref(), Some("2.0.0"));
    }

    #[test]
    fn package_that_is_newer_runs_itself() {
        let versions =
            Versions::default().arm(version("0.9.0")).proved(&version("0.9.0")).arm(version("1.0.0"));
        let (versions, started, _) = launch(versions);
        assert_eq!((started, versions.current.is_none()), (None, true));
        // The update is no failure: what it was for is there.
        assert_eq!(versions.standing(&version("1.0.0"), &version("1.0.0")), Standing::Proved);
    }

    #[test]
    fn unknown_members_of_a_newer_version_survive() {
        let text = r#"{"current":"2.0.0","new-member":[1]}"#;
        let versions: Versions = serde_json::from_str(text).unwrap();
        let (versions, ..) = launch(versions);
        assert!(serde_json::to_string(&versions).unwrap().contains("\"new-member\":[1]"));
    }
}
