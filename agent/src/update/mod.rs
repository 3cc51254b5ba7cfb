//! The app's versions: look at the feed, choose, download, verify, install, put back.
//!
//! In: what policy allows and what is installed. Out: an [`Outcome`] for the status. Called by the main loop as a task
//! of its own, so that nothing waits for it. Only a [`download::Verified`] can be installed.

mod choose;
mod download;
mod feed;
mod install;

use std::collections::BTreeSet;
use std::path::PathBuf;

use agent_platform::file;
use agent_platform::paths::Paths;
use jiff::Timestamp;
use policy_schema::{Code, Policy, Problem};
use semver::Version;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::app::descriptor::Installation;
use crate::clock;
use crate::http::{Http, Network, chain};
use crate::policy::{private_folder, unwritable};

pub(crate) use install::installed_version;

/// Seconds between looks at the feed: 5 h 47 min, so that a device does not come at the same time every day.
const INTERVAL: u64 = 20_820;
/// Seconds before another try when the feed could not be reached.
const RETRY: u64 = 900;

/// What a look at the feed needs to know.
pub(crate) struct Job {
    pub(crate) paths: Paths,
    pub(crate) policy: Policy,
    pub(crate) feed: Url,
    pub(crate) app: String,
    pub(crate) installation: Installation,
    pub(crate) device_id: String,
}

/// What is remembered between looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Versions that failed to start here; not tried again.
    pub(crate) held: BTreeSet<Version>,
    /// A version that was switched to and has not yet shown that it starts.
    pub(crate) probation: Option<Probation>,
}

/// A switch that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probation {
    pub(crate) version: Version,
    pub(crate) previous: Option<Version>,
}

/// What came of a look at the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The version that the feed offers.
    pub(crate) offered: Option<Version>,
    /// What happened, as a sentence.
    pub(crate) message: String,
    pub(crate) problem: Option<Problem>,
    pub(crate) finished_at: Timestamp,
    pub(crate) next: Timestamp,
}

/// Looks at the feed and does what policy wants.
pub(crate) async fn run(job: Job) -> Outcome {
    let mut offered = None;
    let result = look(&job, &mut offered).await;
    let now = clock::now();
    let spread = u64::from(u16::from_le_bytes(clock::random())) % 1800;
    match result {
        Ok(message) => Outcome {
            offered,
            message,
            problem: None,
            finished_at: now,
            next: clock::after(now, INTERVAL + spread),
        },
        Err(problem) => {
            // The way to the feed may be clear again soon; what a feed says changes seldom.
            let soon =
                problem.code == Code::UpdateFeedUnreachable || problem.code == Code::UpdateDownloadFailed;
            Outcome {
                offered,
                message: problem.message.clone(),
                problem: Some(problem),
                finished_at: now,
                next: clock::after(now, if soon { RETRY } else { INTERVAL } + spread),
            }
        }
    }
}

/// Whether a crash interrupted a switch.
pub(crate) fn is_interrupted(paths: &Paths) -> bool {
    load(paths).probation.is_some()
}

/// Finishes a switch that a crash interrupted: the version proves that it starts, or the previous one comes back.
pub(crate) async fn recover(paths: &Paths, installation: &Installation) -> Option<Problem> {
    let mut memory = load(paths);
    let probation = memory.probation.clone()?;
    install::prove(paths, installation, &probation, &mut memory).await.err()
}

async fn look(job: &Job, offered: &mut Option<Version>) -> Result<String, Problem> {
    let http = Http::new(&Network::from(&job.policy))
        .map_err(|error| Problem::new(Code::UpdateFeedUnreachable, chain(&error)).at(job.feed.as_str()))?;
    let bytes = http
        .get(&job.feed, feed::MAXIMUM_BYTES)
        .await
        .map_err(|error| Problem::new(Code::UpdateFeedUnreachable, chain(&error)).at(job.feed.as_str()))?;
    let release = feed::parse(&bytes, &job.feed).map_err(|error| {
        Problem::new(Code::UpdateFeedInvalid, error.to_string())
            .at(job.feed.as_str())
            .using("the version that is installed; nothing was downloaded")
    })?;
    *offered = Some(release.version.clone());
    let mut memory = load(&job.paths);
    let installed = installed_version(&job.paths, &job.installation);
    let decision = choose::choose(
        &release,
        installed.as_ref(),
        &memory.held,
        &job.policy,
        &choose::Device { id: &job.device_id, app: &job.app },
        clock::now(),
    );
    match decision {
        choose::Decision::Stay(reason) => Ok(reason),
        choose::Decision::Hold => {
            let message =
                format!("version {} is held, because it did not start on this device", release.version);
            let kept = installed.map_or_else(|| "no version".to_owned(), |version| version.to_string());
            Err(Problem::new(Code::UpdateRolledBack, message)
                .using(kept)
                .hint("publish a corrected version".to_owned()))
        }
        choose::Decision::Announce => {
            let message = format!("version {} is available", release.version);
            Err(Problem::new(Code::UpdateAvailable, message)
                .using("the version that is installed, because `UpdateMode` is `notify`")
                .hint("set `UpdateMode` to `automatic`".to_owned()))
        }
        choose::Decision::Install => {
            let staging = private_folder(&job.paths).join("downloads");
            let verified = download::download(&http, &release, &staging).await?;
            let version = release.version.clone();
            install::install(&job.paths, &job.installation, verified, &mut memory).await?;
            let before = installed.map_or_else(String::new, |before| format!(", {before} before"));
            Ok(format!("version {version} was installed{before}"))
        }
    }
}

fn load(paths: &Paths) -> Memory {
    // A lost memory costs one more try of a version that failed; the device is no worse for it.
    fs_err::read(memory_path(paths))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn save(paths: &Paths, memory: &Memory) -> Result<(), Problem> {
    let path = memory_path(paths);
    file::create_folder(&private_folder(paths), file::Access::Private)
        .and_then(|()| file::replace(&path, &serde_json::to_vec_pretty(memory)?, file::Access::Private))
        .map_err(|error| unwritable(&path, &error))
}

/// Versions that are held on this device.
pub(crate) fn held(paths: &Paths) -> BTreeSet<Version> {
    load(paths).held
}

fn memory_path(paths: &Paths) -> PathBuf {
    private_folder(paths).join("update.json")
}
