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

use std::collections::BTreeSet;

use net::http::{Http, Network};
use platform::paths::Paths;
use platform::state::StateError;
use platform::{clock, random};
use policy_schema::{Policy, Problem};
use semver::Version;
use url::Url;

use crate::app::descriptor::Installation;
use crate::health::sources::posture;
use crate::state::{private_folder, unreadable};
use choose::Decision;
use outcome::{CheckResult, UpdateError};
use record::UpdateRecord;

pub(crate) use install::installed_version;
pub(crate) use outcome::Outcome;

/// What a check of the feed needs to know.
pub(crate) struct Job {
    pub(crate) paths: Paths,
    pub(crate) policy: Policy,
    pub(crate) feed: Url,
    pub(crate) app: String,
    pub(crate) installation: Installation,
    pub(crate) device_id: String,
}

/// Checks the feed and does what policy allows.
pub(crate) async fn run(job: Job) -> Outcome {
    let (mut offered, mut unknown) = (None, Vec::new());
    let result = check(&job, &mut offered, &mut unknown).await;
    let seed = u16::from_le_bytes(random::bytes());
    Outcome::new(&job.feed, result, offered, clock::now(), seed).with_unknown(&unknown)
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

/// Finishes a switch that a crash interrupted: a version that starts is confirmed, else the previous one is current
/// again.
pub(crate) async fn recover(paths: &Paths, installation: &Installation) -> Option<Problem> {
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

async fn check(
    job: &Job,
    offered: &mut Option<Version>,
    unknown: &mut Vec<String>,
) -> Result<CheckResult, UpdateError> {
    let http = Http::new(&Network::from(&job.policy)).map_err(UpdateError::Unreachable)?;
    let bytes = http.get(&job.feed, feed::MAXIMUM_BYTES).await.map_err(UpdateError::Unreachable)?;
    let release = feed::parse(&bytes, &job.feed)?;
    *offered = Some(release.version.clone());
    let mut record = UpdateRecord::load(&job.paths);
    let installed = installed_version(&job.paths, &job.installation);
    unknown.clone_from(&release.brakes.unknown);
    let system = posture::kernel();
    let decision = choose::choose(
        &release,
        installed.as_ref(),
        &record.quarantined,
        &job.policy,
        &choose::Device { id: &job.device_id, app: &job.app, system: system.as_deref() },
        clock::now(),
    );
    let version = release.version.clone();
    Ok(match decision {
        Decision::Stay(reason) => CheckResult::Unchanged(reason),
        Decision::Quarantined => CheckResult::Quarantined { version, installed },
        Decision::Announce => CheckResult::Available(version),
        Decision::Install => {
            let staging = private_folder(&job.paths).join("downloads");
            let verified = download::download(&http, &release, &staging)
                .await
                .map_err(|source| UpdateError::Download { url: release.artifact.url.clone(), source })?;
            install::install(&job.paths, &job.installation, verified, &mut record).await?;
            CheckResult::Installed { version, previous: installed }
        }
    })
}
