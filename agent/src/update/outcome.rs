//! PURE: from the result of a check to what the status shows and when the next check is due. The only place of `update`
//! that makes a [`Problem`].

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use net::chain;
use net::http::HttpError;
use platform::state::StateError;
use policy_schema::{Code, Problem};
use semver::Version;
use serde::{Deserialize, Serialize};
use url::Url;

use super::download::DownloadError;
use super::feed::FeedError;
use super::install::{InstallError, Rollback};
use crate::state::unwritable;

/// Seconds between checks of the feed: 5 h 47 min, so that a device does not come at the same time every day.
const INTERVAL: u64 = 20_820;
/// Seconds before the next check when the feed or the artifact could not be downloaded.
const RETRY: u64 = 900;
/// The next check is at most this many seconds later, so that devices do not come all at once.
const SPREAD: u64 = 1800;

/// What a check of the feed led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The version that the feed offers.
    pub(crate) offered: Option<Version>,
    /// What happened, as a sentence.
    pub(crate) message: String,
    pub(crate) problem: Option<Problem>,
    pub(crate) finished_at: Timestamp,
    pub(crate) next: Timestamp,
}

/// What a check did.
#[derive(Debug)]
pub(super) enum CheckResult {
    /// Nothing, and why.
    Unchanged(String),
    /// Nothing, because the offered version did not start on this device before.
    Quarantined { version: Version, installed: Option<Version> },
    /// Nothing: policy asks only to announce the version.
    Available(Version),
    /// It installed the version.
    Installed { version: Version, previous: Option<Version> },
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error(transparent)]
    Unreachable(HttpError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("the artifact cannot be downloaded")]
    Download { url: Url, source: DownloadError },
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("the app cannot be installed on this system")]
    NoInstallation,
    #[error(transparent)]
    Unit(UnitError),
}

/// The unit did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnitError {
    #[error("the request to the unit {unit} cannot be written to {}", path.display())]
    Request { unit: String, path: PathBuf, source: io::Error },
    #[error("the unit {unit} did not check for updates")]
    Run { unit: String, source: io::Error },
    #[error("the unit {unit} left no result")]
    Result { unit: String, source: Option<StateError> },
}

impl UnitError {
    /// The name of the unit.
    fn unit(&self) -> &str {
        match self {
            Self::Request { unit, .. } | Self::Run { unit, .. } | Self::Result { unit, .. } => unit,
        }
    }
}

impl Outcome {
    /// The outcome of a check that ended at `now`. The seed spreads the next check.
    pub(super) fn new(
        feed: &Url,
        result: Result<CheckResult, UpdateError>,
        offered: Option<Version>,
        now: Timestamp,
        seed: u16,
    ) -> Self {
        let wait = match &result {
            Err(error) if error.is_temporary() => RETRY,
            Ok(_) | Err(_) => INTERVAL,
        };
        let (message, problem) = match result {
            Ok(result) => result.describe(),
            Err(error) => {
                let problem = error.problem(feed);
                (problem.message.clone(), Some(problem))
            }
        };
        let next = platform::clock::after(now, wait + u64::from(seed) % SPREAD);
        Self { offered, message, problem, finished_at: now, next }
    }
}

impl Outcome {
    /// Says besides what a feed has that this version does not know.
    pub(super) fn with_unknown(mut self, members: &[String]) -> Self {
        if !members.is_empty() {
            let members = members.join("`, `");
            self.message = format!(
                "{}; the feed also has `{members}`, which may hold the release back and is not known to this version",
                self.message
            );
        }
        self
    }
}

impl CheckResult {
    fn describe(self) -> (String, Option<Problem>) {
        match self {
            Self::Unchanged(reason) => (reason, None),
            Self::Installed { version, previous: None } => (format!("version {version} was installed"), None),
            Self::Installed { version, previous: Some(previous) } => {
                (format!("version {version} was installed, {previous} before"), None)
            }
            Self::Quarantined { version, installed } => {
                let message =
                    format!("version {version} is quarantined, because it did not start on this device");
                let kept = installed.map_or_else(|| "no version".to_owned(), |version| version.to_string());
                let problem = Problem::new(Code::UpdateRolledBack, message.clone())
                    .using(kept)
                    .hint("publish a corrected version".to_owned());
                (message, Some(problem))
            }
            Self::Available(version) => {
                let message = format!("version {version} is available");
                let problem = Problem::new(Code::UpdateAvailable, message.clone())
                    .using("the version that is installed, because `UpdateMode` is `notify`")
                    .hint("set `UpdateMode` to `automatic`".to_owned());
                (message, Some(problem))
            }
        }
    }
}

impl UpdateError {
    /// Whether the same check may succeed soon. A feed, an archive and a version change seldom; a network does.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unit(_) => true,
            Self::Download { source, .. } => match source {
                DownloadError::Create(_)
                | DownloadError::NoSpace { .. }
                | DownloadError::Http(_)
                | DownloadError::TooSlow { .. }
                | DownloadError::Write(_) => true,
                DownloadError::TooShort { .. } | DownloadError::TooLong { .. } | DownloadError::Hash => false,
            },
            Self::Feed(_) | Self::Install(_) | Self::NoInstallation => false,
        }
    }

    fn problem(&self, feed: &Url) -> Problem {
        match self {
            Self::Unreachable(error) => {
                Problem::new(Code::UpdateFeedUnreachable, chain(error)).at(feed.as_str())
            }
            Self::Feed(error) => Problem::new(Code::UpdateFeedInvalid, chain(error))
                .at(feed.as_str())
                .using("the version that is installed; nothing was downloaded"),
            Self::Download { url, source } => download_problem(url, source),
            Self::Install(error) => install_problem(error),
            Self::NoInstallation => Problem::new(Code::UpdateInstallFailed, chain(self)),
            Self::Unit(error) => unit_problem(error),
        }
    }
}

/// What to report if the unit that installs did not do its work.
pub(super) fn unit_problem(error: &UnitError) -> Problem {
    Problem::new(Code::UpdateInstallFailed, chain(error))
        .using("the version that is installed")
        .hint(format!("see why: `journalctl --unit {}`", error.unit()))
}

fn download_problem(url: &Url, error: &DownloadError) -> Problem {
    let code = match error {
        DownloadError::Create(_)
        | DownloadError::NoSpace { .. }
        | DownloadError::Http(_)
        | DownloadError::TooSlow { .. }
        | DownloadError::Write(_) => {
            return Problem::new(Code::UpdateDownloadFailed, chain(error))
                .at(url.as_str())
                .using("the version that is installed");
        }
        DownloadError::TooShort { .. } | DownloadError::TooLong { .. } => Code::UpdateSizeMismatch,
        DownloadError::Hash => Code::UpdateHashMismatch,
    };
    Problem::new(code, chain(error))
        .at(url.as_str())
        .using("the version that is installed; the download was removed")
        .hint("publish the feed and its file again, together".to_owned())
}

/// What to report about an installation that failed.
pub(super) fn install_problem(error: &InstallError) -> Problem {
    match error {
        InstallError::Record(record) => unwritable(&record.path, &record.source),
        InstallError::Unpack { folder, .. } | InstallError::Switch { folder, .. } => {
            Problem::new(Code::UpdateInstallFailed, chain(error))
                .at(folder.display().to_string())
                .using("the version before")
        }
        InstallError::DoesNotStart { version, program, rollback, .. } => {
            let using = match rollback {
                Rollback::Previous(previous) => format!("{previous} again"),
                Rollback::Nothing => "no version, because none was installed before".to_owned(),
                Rollback::Failed(error) => format!("still {version}: {}", chain(error)),
            };
            Problem::new(Code::UpdateRolledBack, chain(error))
                .at(program.display().to_string())
                .using(using)
                .hint(format!("publish a corrected version; {version} is quarantined on this device"))
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn outcome(result: Result<CheckResult, UpdateError>) -> Outcome {
        let feed = "https://updates.example.com/latest.yml".parse().unwrap();
        Outcome::new(&feed, result, None, Timestamp::UNIX_EPOCH, 0)
    }

    fn download(source: DownloadError) -> Result<CheckResult, UpdateError> {
        Err(UpdateError::Download { url: "https://updates.example.com/a.tar.gz".parse().unwrap(), source })
    }

    #[test]
    fn failure_of_network_or_disk_is_retried_soon_and_wrong_artifact_is_not() {
        let temporary = [
            Err(UpdateError::Unreachable(HttpError::ProxyMissing)),
            download(DownloadError::Http(HttpError::ProxyMissing)),
            download(DownloadError::Write(io::Error::other("the disk is full"))),
        ];
        for result in temporary {
            assert_eq!(outcome(result).next.as_second(), i64::try_from(RETRY).unwrap());
        }
        let lasting = [
            Ok(CheckResult::Unchanged("up to date".to_owned())),
            Err(UpdateError::Feed(FeedError::NoArtifact)),
            download(DownloadError::Hash),
            download(DownloadError::TooShort { promised: 5 }),
        ];
        for result in lasting {
            assert_eq!(outcome(result).next.as_second(), i64::try_from(INTERVAL).unwrap());
        }
    }

    #[test]
    fn each_failure_has_its_code_and_names_its_cause_once() {
        let version = || Version::new(2, 0, 0);
        let source = || io::Error::other("a library is missing");
        let rollback = Rollback::Previous(Version::new(1, 0, 0));
        let program = "/opt/app/current/app".into();
        let cases = [
            (download(DownloadError::Hash), Code::UpdateHashMismatch, "SHA-512"),
            (download(DownloadError::Write(source())), Code::UpdateDownloadFailed, "a library is missing"),
            (
                Err(InstallError::Switch { version: version(), folder: "/opt/app".into(), source: source() }
                    .into()),
                Code::UpdateInstallFailed,
                "a library is missing",
            ),
            (
                Err(InstallError::DoesNotStart { version: version(), program, rollback, source: source() }
                    .into()),
                Code::UpdateRolledBack,
                "version 2.0.0 does not start: a library is missing",
            ),
        ];
        for (result, code, text) in cases {
            let problem = outcome(result).problem.unwrap();
            assert_eq!(problem.code, code);
            assert_eq!(problem.message.matches(text).count(), 1, "{problem}");
        }
    }

    #[test]
    fn offered_version_that_is_not_installed_is_a_note_or_an_error_with_a_hint() {
        let version = Version::new(2, 0, 0);
        let available = outcome(Ok(CheckResult::Available(version.clone())));
        assert_eq!(available.problem.unwrap().code, Code::UpdateAvailable);
        let quarantined = outcome(Ok(CheckResult::Quarantined { version, installed: None }));
        let problem = quarantined.problem.unwrap();
        assert_eq!(
            (problem.code, problem.using.as_deref()),
            (Code::UpdateRolledBack.into(), Some("no version"))
        );
        assert!(problem.hint.is_some() && quarantined.message == problem.message);
    }
}
