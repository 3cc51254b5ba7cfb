//! The app's versions: checks the feed, chooses, downloads, verifies, installs and rolls back.
//!
//! In: what policy allows and what is installed. Out: an [`Outcome`] for the status. Called by the machine service as a
//! task of its own, so nothing waits for it. Only a [`download::Verified`] can be installed.

mod archive;
mod choose;
mod download;
mod feed;
mod install;
mod outcome;
mod record;
mod unit;

use std::collections::BTreeSet;

use net::http::{Http, Network};
use platform::paths::Paths;
use platform::state::StateError;
use platform::{clock, random};
use policy_schema::Problem;
use semver::Version;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::app::descriptor::{self, Descriptor, Installation};
use crate::health::sources::posture;
use crate::state::{private_folder, unreadable};
use choose::Decision;
use outcome::{CheckResult, UnitError, UpdateError};
use record::UpdateRecord;

pub(crate) use choose::UpdateRules;
pub(crate) use install::installed_version;
pub(crate) use outcome::Outcome;
pub(crate) use unit::perform;

/// What a check of the feed needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) rules: UpdateRules,
    pub(crate) network: Network,
    pub(crate) feed: Url,
    pub(crate) app: String,
    pub(crate) device_id: String,
}

/// Checks the feed and does what policy allows. Where the agent's own process has no right to install, a unit does it.
pub(crate) async fn run(paths: &Paths, job: Job) -> Outcome {
    let feed = job.feed.clone();
    match platform::service::update_unit() {
        Some(unit) => unit::check(paths, &unit, job).await.unwrap_or_else(|error| failed(&feed, error)),
        None => check(paths, &job).await,
    }
}

/// Finishes a switch that a crash interrupted: a version that starts is confirmed, else the previous one is current
/// again.
pub(crate) async fn recover(paths: &Paths, app: &str) -> Option<Problem> {
    match platform::service::update_unit() {
        Some(unit) => {
            let recovered = unit::recover(paths, &unit, app).await;
            recovered.unwrap_or_else(|error| Some(outcome::unit_problem(&error)))
        }
        None => finish(paths, app).await,
    }
}

async fn check(paths: &Paths, job: &Job) -> Outcome {
    let (mut offered, mut unknown) = (None, Vec::new());
    let result = check_feed(paths, job, &mut offered, &mut unknown).await;
    let seed = u16::from_le_bytes(random::bytes());
    Outcome::new(&job.feed, result, offered, clock::now(), seed).with_unknown(&unknown)
}

fn failed(feed: &Url, error: UnitError) -> Outcome {
    let seed = u16::from_le_bytes(random::bytes());
    Outcome::new(feed, Err(UpdateError::Unit(error)), None, clock::now(), seed)
}

fn installation(app: &str) -> Option<&'static Installation> {
    descriptor::find(app).and_then(Descriptor::system)?.installation.as_ref()
}

/// Takes up the record of an earlier run. One that is damaged or newer is moved aside, which the problem says.
pub(crate) fn take_up(paths: &Paths) -> Option<Problem> {
    let error = UpdateRecord::take_up(paths).err()?;
    (!error.is_in_place()).then(|| record_unreadable(&error))
}

/// Whether a crash interrupted a switch.
pub(crate) fn is_interrupted(paths: &Paths) -> bool {
    UpdateRecord::load(paths).probation.is_some()
}

async fn finish(paths: &Paths, app: &str) -> Option<Problem> {
    let installation = installation(app)?;
    let mut record = UpdateRecord::load(paths);
    let probation = record.probation.clone()?;
    if let Err(error) = install::finish_switch(paths, installation, &probation) {
        return Some(outcome::install_problem(&error));
    }
    let confirmed = install::confirm(paths, installation, &probation, &mut record).await;
    confirmed.err().as_ref().map(outcome::install_problem)
}

/// Versions that did not start on this device, and what is wrong with the record of them.
pub(crate) fn quarantined(paths: &Paths) -> (BTreeSet<Version>, Option<Problem>) {
    match UpdateRecord::read(paths) {
        Ok(record) => (record.quarantined, None),
        Err(error) => (BTreeSet::new(), Some(record_unreadable(&error))),
    }
}

fn record_unreadable(error: &StateError) -> Problem {
    unreadable("the record of updates", error)
        .using("no record: a version that failed to start may be tried once more")
}

async fn check_feed(
    paths: &Paths,
    job: &Job,
    offered: &mut Option<Version>,
    unknown: &mut Vec<String>,
) -> Result<CheckResult, UpdateError> {
    let installation = installation(&job.app).ok_or(UpdateError::NoInstallation)?;
    let http = Http::new(&job.network).map_err(UpdateError::Unreachable)?;
    let bytes = http.get(&job.feed, feed::MAXIMUM_BYTES).await.map_err(UpdateError::Unreachable)?;
    let release = feed::parse(&bytes, &job.feed)?;
    *offered = Some(release.version.clone());
    let mut record = UpdateRecord::load(paths);
    let installed = installed_version(paths, installation);
    unknown.clone_from(&release.brakes.unknown);
    let system = posture::kernel();
    let decision = choose::choose(
        &release,
        installed.as_ref(),
        &record.quarantined,
        &job.rules,
        &choose::Device { id: &job.device_id, app: &job.app, system: system.as_deref() },
        clock::now(),
    );
    let version = release.version.clone();
    Ok(match decision {
        Decision::Stay(reason) => CheckResult::Unchanged(reason),
        Decision::Quarantined => CheckResult::Quarantined { version, installed },
        Decision::Announce => CheckResult::Available(version),
        Decision::Install => {
            let staging = private_folder(paths).join("downloads");
            let verified = download::download(&http, &release, &staging)
                .await
                .map_err(|source| UpdateError::Download { url: release.artifact.url.clone(), source })?;
            install::install(paths, installation, verified, &mut record).await?;
            CheckResult::Installed { version, previous: installed }
        }
    })
}
