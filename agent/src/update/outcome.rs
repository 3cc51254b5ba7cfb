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
use updates::journal::State;
use updates::rollout::INTERVAL;
use updates::signed::SignedError;
use updates::{Journal, Reason, Verdict};
use url::Url;

use super::download::DownloadError;
use super::fetch::FetchError;
use super::folder::FolderError;
use super::installer::InstallerError;
use super::journals::JournalError;
use super::publisher::PublisherError;
use super::target::InstallError;
use crate::state::unwritable;

/// Seconds before the next check when the feed or the artifact could not be downloaded.
const RETRY: u64 = 900;
/// No server can keep a device away longer, in seconds.
const LONGEST_RETRY: u64 = 24 * 60 * 60;
/// The next check is at most this many seconds later, so that devices do not come all at once.
const SPREAD: u64 = 1800;

/// What a check of the feed led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The newest version that the feed offers.
    pub(crate) offered: Option<Version>,
    /// What happened, as a sentence.
    pub(crate) message: String,
    pub(crate) problem: Option<Problem>,
    /// Nothing is in the way of an installation but the app, which is open.
    pub(crate) waits_for_app: bool,
    pub(crate) finished_at: Timestamp,
    pub(crate) next: Timestamp,
}

/// What a check found and decided.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) offered: Option<Version>,
    /// What was installed before.
    pub(super) installed: Option<Version>,
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    /// Members of the feed that may keep a release from some devices, and that are not known here.
    pub(super) unknown: Vec<String>,
    /// What a signed repository names and no device takes, with the reason.
    pub(super) refused: Vec<String>,
}

/// A check that has ended.
pub(super) struct Checked {
    pub(super) before: Journal,
    pub(super) after: Journal,
    pub(super) result: Result<Found, UpdateError>,
    /// What went wrong with what was decided.
    pub(super) failure: Option<UpdateError>,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the artifact cannot be downloaded")]
    Download { url: Url, source: DownloadError },
    #[error("the update was not installed")]
    Install {
        source: InstallError,
        /// What is current now, if the version before was put back.
        back: Option<io::Result<Option<Version>>>,
    },
    #[error("version {version} is not installed")]
    Publisher { version: Version, source: PublisherError },
    #[error("version {version} does not start")]
    DoesNotStart {
        version: Version,
        program: PathBuf,
        source: io::Error,
        /// What is current now; `None` until that is known.
        back: Option<io::Result<Option<Version>>>,
    },
    #[error("the previous version cannot be made current again")]
    NotRolledBack(#[source] io::Error),
    #[error("an installation that was interrupted is not finished")]
    Unfinished,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the journal of updates cannot be read")]
    State(#[from] StateError),
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

/// The outcome of a check that led to a version which has to show whether it works.
pub(super) fn on_probation(version: &Version, seed: u16) -> Outcome {
    let now = platform::clock::now();
    Outcome {
        offered: Some(version.clone()),
        message: format!("version {version} is installed, and has to show that it works"),
        problem: None,
        waits_for_app: false,
        finished_at: now,
        next: platform::clock::after(now, RETRY + u64::from(seed) % RETRY),
    }
}

/// The outcome of a check that did not come to its end.
pub(super) fn failed(feed: Option<&Url>, error: UpdateError, seed: u16) -> Outcome {
    let (before, after) = (Journal::default(), Journal::default());
    let checked = Checked { before, after, result: Err(error), failure: None };
    checked.outcome(feed, platform::clock::now(), seed)
}

impl Checked {
    /// The outcome of a check that ended at `now`. The seed spreads the next check.
    pub(super) fn outcome(self, feed: Option<&Url>, now: Timestamp, seed: u16) -> Outcome {
        let Self { before, after, result, failure } = self;
        let spread = u64::from(seed) % SPREAD;
        let (found, failure) = match result {
            Ok(found) => (Some(found), failure),
            Err(error) => (None, Some(error)),
        };
        let offered = found.as_ref().and_then(|found| found.offered.clone());
        let wait = failure.as_ref().and_then(UpdateError::retry).unwrap_or(INTERVAL.into());
        let mut next = platform::clock::after(now, wait + spread);
        // A window or a deadline is met to the second: the download is there already.
        let prepared = found.as_ref().filter(|found| found.verdict == Verdict::Prepare && failure.is_none());
        if let Some(until) = prepared.and_then(|found| found.reason.until()) {
            next = next.min(until.max(platform::clock::after(now, 1)));
        }
        let decided = found.as_ref().is_some_and(|found| found.verdict == Verdict::Install);
        let waits_for_app = failure.is_none() && decided && after.waits_for_app();
        let (mut message, problem) = match (failure, found.as_ref()) {
            (Some(error), _) => {
                let problem = error.problem(feed);
                (problem.message.clone(), Some(problem))
            }
            (None, None) => ("nothing was found".to_owned(), None),
            (None, Some(found)) => {
                let news = before.history.last() != after.history.last();
                let installed = news && matches!(after.state, State::Committed { .. });
                match (after.history.last().filter(|_| installed), &after.state) {
                    (Some(last), _) => (last.message.clone(), None),
                    // The download took so long that another decision came.
                    (None, State::Waiting { why, fetched: true, .. })
                        if !why.app_open && found.verdict == Verdict::Install =>
                    {
                        (why.text.clone(), None)
                    }
                    (None, State::Waiting { why, .. }) if why.app_open => {
                        let message = why.text.clone();
                        let problem = Problem::new(Code::UpdateWaitsForApp, message.clone())
                            .using(found.kept())
                            .hint("close the app".to_owned());
                        (message, Some(problem))
                    }
                    (None, _) => (found.reason.to_string(), found.problem()),
                }
            }
        };
        let refusal = found.as_ref().and_then(Found::refusal);
        let at_feed = |problem: Problem| match feed {
            Some(feed) => problem.at(feed.as_str()),
            None => problem,
        };
        let problem = problem.or_else(|| refusal.map(at_feed));
        if let Some(unknown) =
            found.as_ref().map(|found| &found.unknown).filter(|unknown| !unknown.is_empty())
        {
            let members = unknown.join("`, `");
            message = format!(
                "{message}; the feed also has `{members}`, which may hold the release back and is not known to this version"
            );
        }
        Outcome { offered, message, problem, waits_for_app, finished_at: now, next }
    }
}

impl Found {
    /// What stays installed.
    fn kept(&self) -> String {
        self.installed.as_ref().map_or_else(|| "no version".to_owned(), ToString::to_string)
    }

    /// What to report about what a signed repository names and no device takes.
    fn refusal(&self) -> Option<Problem> {
        let first = self.refused.first()?;
        let more = match self.refused.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let problem = Problem::new(Code::UpdateFeedUntrusted, format!("{first}{more}"));
        Some(problem.using("the other releases").hint("name it in both repositories alike".to_owned()))
    }

    /// What to report about a decision.
    fn problem(&self) -> Option<Problem> {
        let kept = || self.kept();
        let message = self.reason.to_string();
        match &self.reason {
            Reason::Quarantined { version, .. } => Some(
                Problem::new(Code::UpdateRolledBack, message).using(kept()).hint(format!(
                    "publish a corrected version; `steward update release {version}` lets this one be installed again"
                )),
            ),
            Reason::Exhausted { .. } => Some(
                Problem::new(Code::UpdateGivenUp, message).using(kept()).hint(
                    "publish a corrected file; `steward update release` lets this one be tried again".to_owned(),
                ),
            ),
            Reason::Held { .. } => Some(
                Problem::new(Code::UpdateHeld, message)
                    .using(kept())
                    .hint("`steward update release` ends it".to_owned()),
            ),
            Reason::Available { .. } => Some(
                Problem::new(Code::UpdateAvailable, message)
                    .using("the version that is installed, because `UpdateMode` is `notify`")
                    .hint("set `UpdateMode` to `automatic`".to_owned()),
            ),
            Reason::OwnUpdater { restart, .. } => {
                Some(Problem::new(Code::UpdateWaitsForOwnUpdater, message).using(kept()).hint(if *restart {
                    "quit the app and start it again".to_owned()
                } else {
                    "set `AppSelfUpdate` to `none`".to_owned()
                }))
            }
            Reason::NewerThanPin { .. } => Some(
                Problem::new(Code::UpdateNewerThanPin, message)
                    .using(kept())
                    .hint("name the downgrade in `UpdateDowngrades`, or raise the pin".to_owned()),
            ),
            Reason::UpToDate { .. }
            | Reason::NothingOffered
            | Reason::OtherChannel { .. }
            | Reason::Pinned { .. }
            | Reason::LedAway { .. }
            | Reason::System { .. }
            | Reason::VendorRollout { .. }
            | Reason::Deferred { .. }
            | Reason::Rollout { .. }
            | Reason::Off
            | Reason::Window { .. }
            | Reason::Deadline { .. }
            | Reason::AppOpen { .. }
            | Reason::Restart { .. }
            | Reason::Publisher { .. }
            | Reason::Due { .. }
            | Reason::First { .. }
            | Reason::BelowMinimum { .. }
            | Reason::DeadlinePassed { .. }
            | Reason::Downgrade { .. } => None,
        }
    }
}

impl UpdateError {
    /// The seconds after which the same check may succeed; `None` if that is no question of time. A feed, an archive and a
    /// version change seldom; a network and a disk do.
    fn retry(&self) -> Option<u64> {
        match self {
            Self::Fetch(FetchError::Signed(SignedError::Unreachable(_, error))) => {
                let source = std::error::Error::source(error);
                Some(source.and_then(|source| source.downcast_ref()).map_or(RETRY, of_server))
            }
            Self::Fetch(FetchError::Unreachable(error))
            | Self::Download { source: DownloadError::Http(error), .. } => Some(of_server(error)),
            Self::Download { source, .. } => (!source.is_other_file()).then_some(RETRY),
            Self::Install { source, back } => {
                // Without a version that works there is no time to lose.
                let urgent = source.is_damage() || matches!(back, Some(Err(_)));
                (!source.is_lasting() || urgent).then_some(RETRY)
            }
            Self::Publisher { source, .. } => {
                matches!(source, PublisherError::Unreadable(_)).then_some(RETRY)
            }
            Self::Fetch(FetchError::Signed(SignedError::Store(..)))
            | Self::Unit(_)
            | Self::Journal(_)
            | Self::State(_)
            | Self::NotRolledBack(_)
            | Self::Unfinished
            | Self::DoesNotStart { back: Some(Err(_)), .. } => Some(RETRY),
            Self::DoesNotStart { .. } | Self::Fetch(_) | Self::NoInstallation => None,
        }
    }

    pub(super) fn problem(&self, feed: Option<&Url>) -> Problem {
        let at_feed = |problem: Problem| match feed {
            Some(feed) => problem.at(feed.as_str()),
            None => problem,
        };
        match self {
            Self::Fetch(error @ (FetchError::Unreachable(_) | FetchError::None)) => {
                at_feed(Problem::new(Code::UpdateFeedUnreachable, chain(error)))
            }
            Self::Fetch(FetchError::Signed(error)) => at_feed(signed_problem(error)),
            Self::Fetch(error @ FetchError::Feed(_)) => {
                at_feed(Problem::new(Code::UpdateFeedInvalid, chain(error)))
                    .using("the version that is installed; nothing was downloaded")
            }
            Self::Download { url, source } => download_problem(url, source),
            Self::Install { source, back: None } => install_problem(source),
            Self::Install { source, back: Some(back) } => Problem::new(Code::UpdateRolledBack, chain(source))
                .using(match back {
                    Ok(Some(previous)) => format!("{previous} again"),
                    Ok(None) => "no version, because none was installed before".to_owned(),
                    Err(error) => format!("what is there: {}", chain(error)),
                }),
            Self::Publisher { version, source } => Problem::new(
                Code::UpdatePublisherNotAccepted,
                format!("{version} is not installed: {}", source.fault()),
            )
            .using("the version that is installed; the download is kept")
            .hint(source.hint()),
            Self::DoesNotStart { version, program, back, .. } => {
                let using = match back {
                    Some(Ok(Some(previous))) => format!("{previous} again"),
                    Some(Ok(None)) => "no version, because none was installed before".to_owned(),
                    Some(Err(error)) => format!("still {version}: {}", chain(error)),
                    None => format!("still {version}, until the agent has put the previous version back"),
                };
                Problem::new(Code::UpdateRolledBack, chain(self))
                    .at(program.display().to_string())
                    .using(using)
                    .hint(format!("publish a corrected version; {version} is quarantined on this device"))
            }
            Self::NotRolledBack(_) | Self::Unfinished => Problem::new(Code::UpdateInstallFailed, chain(self))
                .using("what is installed now; the agent tries again"),
            Self::Journal(error) => journal_problem(error),
            Self::State(error) => Problem::new(Code::UpdateInstallFailed, chain(self))
                .at(error.path().display().to_string())
                .using("the version that is installed: nothing is begun without the journal"),
            Self::NoInstallation => Problem::new(Code::UpdateInstallFailed, chain(self)),
            Self::Unit(error) => unit_problem(error),
        }
    }
}

/// What to report about a signed repository. What is installed runs on.
fn signed_problem(error: &SignedError) -> Problem {
    let (code, hint) = match error {
        SignedError::Unreachable(..) => return Problem::new(Code::UpdateFeedUnreachable, chain(error)),
        SignedError::Refused(..) => (
            Code::UpdateFeedUntrusted,
            "find out who changed it: `steward repo verify`; `steward repo status` prints what `UpdateTrustedRoots` has to be",
        ),
        SignedError::Expired { by_clock: false, .. } => (
            Code::UpdateFeedExpired,
            "sign the repository again; if what was signed is too late a time, replace the timestamp key in a new root",
        ),
        SignedError::Expired { .. } => (
            Code::UpdateFeedExpired,
            "sign the repository again with `steward repo renew`, or set the clock of the device",
        ),
        SignedError::Store(..) => (
            Code::AgentStateUnwritable,
            "make room on the disk, and see that only the agent writes in `private/repositories`",
        ),
    };
    Problem::new(code, chain(error))
        .using("the version that is installed; nothing new is installed")
        .hint(hint.to_owned())
}

/// A server may say when to come back (RFC 9110, section 10.2.3).
fn of_server(error: &HttpError) -> u64 {
    if let HttpError::Later { seconds, .. } = error { (*seconds).clamp(RETRY, LONGEST_RETRY) } else { RETRY }
}

/// What to report if nothing can be begun, because it could not be finished after a crash.
fn journal_problem(error: &JournalError) -> Problem {
    let reason = unwritable(&error.path, &error.source);
    let problem = Problem::new(Code::UpdateInstallFailed, chain(error))
        .at(error.path.display().to_string())
        .using("the version that is installed: nothing is begun without the journal");
    match reason.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
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
        DownloadError::Journal(error) => return journal_problem(error),
        DownloadError::Moved => {
            return Problem::new(Code::UpdateFileMoved, chain(error))
                .at(url.as_str())
                .using("the version that is installed; the agent tries again in some minutes");
        }
        DownloadError::Create(_)
        | DownloadError::NoSpace { .. }
        | DownloadError::Http(_)
        | DownloadError::WebPage
        | DownloadError::TooSlow { .. }
        | DownloadError::Interrupted
        | DownloadError::Write(_) => {
            return Problem::new(Code::UpdateDownloadFailed, chain(error))
                .at(url.as_str())
                .using("the version that is installed; the agent tries again, and keeps what has arrived");
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
fn install_problem(error: &InstallError) -> Problem {
    let problem = Problem::new(Code::UpdateInstallFailed, chain(error));
    match error {
        InstallError::Folder(FolderError::Unpack { folder, .. } | FolderError::Switch { folder, .. })
        | InstallError::Gone { folder, .. } => {
            problem.at(folder.display().to_string()).using("the version before")
        }
        InstallError::Agent { .. } => problem
            .using("the version that runs")
            .hint("publish the right file for this system and processor".to_owned()),
        InstallError::Installer { source, .. } => {
            let problem = problem.using("what is installed");
            match source {
                InstallerError::Publisher(error) => problem.hint(error.hint()),
                InstallerError::AppOpen => problem.hint("close the app".to_owned()),
                InstallerError::Format { .. }
                | InstallerError::Busy
                | InstallerError::Unfinished(_)
                | InstallerError::Keep(_)
                | InstallerError::Run(_)
                | InstallerError::Hindered(_)
                | InstallerError::Failed { .. } => problem,
            }
        }
    }
}

#[cfg(test)]
mod tests;
