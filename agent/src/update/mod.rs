//! The app's versions: the shell around the crate `updates`, which decides. It fetches the feed, downloads, verifies, installs and
//! puts back, as the journal says, and makes each journal durable before it does what follows.
//!
//! In: what policy allows and what is installed. Out: an [`Outcome`] for the status. Called by the machine service as a
//! task of its own, so nothing waits for it. Only a [`download::Verified`] can be installed.

mod agent;
mod archive;
mod download;
mod drive;
mod fetch;
mod folder;
mod installer;
mod journals;
mod outcome;
mod publisher;
mod signed;
mod target;
mod unit;
pub(crate) mod users;

use std::path::PathBuf;

use net::http::Network;
use platform::paths::Paths;
use platform::state::StateError;
use platform::{clock, random};
use policy_schema::roots::TrustedRoots;
use policy_schema::settings::{UpdateAppClose, UpdateMode};
use policy_schema::{Policy, Problem};
use protocol::app::App;
use protocol::update::Command;
use semver::Version;
use serde::{Deserialize, Serialize};
use updates::{Journal, OwnUpdater, Rules};
use url::Url;

use crate::app::descriptor::{Descriptor, System};
use crate::state::{private_folder, unreadable};
use drive::Run;
use outcome::UnitError;
use target::Target;

/// The name of the agent itself, where others have those of apps.
pub(crate) const AGENT: &str = "steward";

pub(crate) use agent::{try_version, waits_for_restart};
pub(crate) use fetch::{Source, fetch, releases};
pub(crate) use outcome::Outcome;
pub(crate) use unit::perform;

/// What a check of the feed needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) rules: Rules,
    pub(crate) network: Network,
    /// Tried in this order.
    pub(crate) feeds: Vec<Url>,
    /// `UpdateTrustedRoots`.
    #[serde(default)]
    pub(crate) roots: Option<TrustedRoots>,
    /// `UpdateAllowedHosts`.
    pub(crate) hosts: Vec<String>,
    /// `UpdateSources`.
    pub(crate) sources: Vec<String>,
    /// `UpdateBandwidthKilobytes`.
    pub(crate) kilobytes_per_second: Option<u32>,
    /// Who may have signed an installer.
    pub(crate) publishers: Vec<String>,
    /// The app's own updater.
    pub(crate) own_updater: OwnUpdater,
    pub(crate) app: String,
    pub(crate) device_id: String,
    /// What an administrator asked for, before the feed is checked.
    pub(crate) commands: Vec<Command>,
    /// `UpdateAppClose`.
    pub(crate) app_close: UpdateAppClose,
    /// The app is to be closed now for this version: its users were told, and their time is over.
    pub(crate) close_now: Option<Version>,
    /// What happened when the version that was installed last was started again.
    pub(crate) failed_start: Option<FailedStart>,
}

/// A version that was installed, and failed when a user started it for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedStart {
    pub(crate) version: Version,
    /// How it ended.
    pub(crate) reason: String,
}

impl Job {
    /// What policy says about a check of the feeds; `None` if the app cannot be updated here.
    pub(crate) fn new(
        policy: &Policy,
        app: &Descriptor,
        own_updater: OwnUpdater,
        device_id: &str,
    ) -> Option<Self> {
        let system = app.system()?;
        let feeds = feeds(policy, system);
        if feeds.is_empty() && policy.update_mode != UpdateMode::Off {
            return None;
        }
        Some(Self {
            rules: policy.into(),
            network: policy.into(),
            feeds,
            roots: policy.update_trusted_roots.clone(),
            hosts: policy.update_allowed_hosts.clone(),
            sources: policy.update_sources.clone(),
            kilobytes_per_second: policy.update_bandwidth_kilobytes,
            publishers: publishers(policy, system),
            own_updater,
            app: app.name.clone(),
            device_id: device_id.to_owned(),
            commands: Vec::new(),
            app_close: policy.update_app_close,
            close_now: None,
            failed_start: None,
        })
    }
}

impl Job {
    /// What policy says about a check for a new version of the agent; `None` if it names no feed, or no roots to trust.
    pub(crate) fn of_agent(policy: &Policy, device_id: &str) -> Option<Self> {
        let feed = policy.agent_update_feed.as_ref()?.parse().ok()?;
        let roots = policy.agent_roots()?.clone();
        Some(Self {
            rules: Rules::of_agent(policy),
            network: policy.into(),
            feeds: vec![feed],
            roots: Some(roots),
            hosts: policy.update_allowed_hosts.clone(),
            sources: policy.update_sources.clone(),
            kilobytes_per_second: policy.update_bandwidth_kilobytes,
            publishers: Vec::new(),
            own_updater: OwnUpdater::Off,
            app: AGENT.to_owned(),
            device_id: device_id.to_owned(),
            commands: Vec::new(),
            app_close: policy.update_app_close,
            close_now: None,
            failed_start: None,
        })
    }
}

/// The feeds of an app, which are tried in this order: policy's, else the vendor's, which are not signed.
pub(crate) fn feeds(policy: &Policy, system: &System) -> Vec<Url> {
    let of_policy = policy.update_feed.iter();
    let is_named = of_policy.len() > 0 || policy.update_trusted_roots.is_some();
    let named: Vec<&String> = if is_named { of_policy.collect() } else { system.feeds.iter().collect() };
    named.into_iter().filter_map(|feed| feed.parse().ok()).collect()
}

/// Who may sign an app's installers now: whom policy names, else the publishers that are known.
pub(crate) fn publishers(policy: &Policy, system: &System) -> Vec<String> {
    if policy.update_publishers.is_empty() {
        return system.publishers(clock::now()).map(|publisher| publisher.name.clone()).collect();
    }
    policy.update_publishers.clone()
}

/// Checks the feed and does what policy allows. Where the agent's own process has no right to install, a unit does it.
pub(crate) async fn run(paths: &Paths, job: Job) -> Outcome {
    let feed = job.feeds.first().cloned();
    match platform::service::update_unit() {
        Some(unit) => {
            unit::check(paths, &unit, job).await.unwrap_or_else(|error| failed(feed.as_ref(), error))
        }
        None => check(paths, &job).await,
    }
}

/// Lets a download that is under way end soon: policy or an administrator may say something else by now. It goes on with the next
/// check, from where it is.
pub(crate) fn interrupt(paths: &Paths) {
    let file = stop_file(paths);
    if let Err(error) = fs_err::write(&file, []) {
        tracing::warn!("a download that is under way cannot be ended: {error}");
    }
}

/// Begins anew after [`interrupt`].
pub(crate) fn go_on(paths: &Paths) {
    if let Err(error) = platform::file::remove(&stop_file(paths)) {
        tracing::warn!("downloads are held up: {error}");
    }
}

/// Where what signed repositories say is kept. Two processes may read those of the app and of the agent at once, so each has its own.
fn repositories(paths: &Paths, app: &str) -> PathBuf {
    let folder = private_folder(paths).join("repositories");
    if app == AGENT { folder.join(AGENT) } else { folder }
}

fn stop_file(paths: &Paths) -> PathBuf {
    private_folder(paths).join("update-stop")
}

/// Finishes what a crash interrupted: an installation is done again, a version that starts is confirmed, else the previous one
/// is current again.
pub(crate) async fn recover(paths: &Paths, app: &str) -> Option<Problem> {
    match platform::service::update_unit() {
        Some(unit) => {
            let recovered = unit::recover(paths, &unit, app).await;
            recovered.unwrap_or_else(|error| Some(outcome::unit_problem(&error)))
        }
        None => finish(paths, app).await,
    }
}

/// Checks the feed of the agent itself, and does what policy allows, in this process: its folder is the agent's own.
pub(crate) async fn run_agent(paths: &Paths, job: &Job) -> Outcome {
    check(paths, job).await
}

async fn check(paths: &Paths, job: &Job) -> Outcome {
    let mut run = match Run::new(paths, &job.app) {
        Ok(run) => run,
        Err(error) => return outcome::failed(job.feeds.first(), error, seed()),
    };
    run.finish().await;
    for command in &job.commands {
        run.command(command.clone()).await;
    }
    run.check(job).await
}

async fn finish(paths: &Paths, app: &str) -> Option<Problem> {
    let mut run = match Run::new(paths, app) {
        Ok(run) => run,
        Err(error) => return Some(error.problem(None)),
    };
    run.finish().await;
    run.problem()
}

/// Verifies who made a file.
///
/// # Errors
/// It is nobody whom `accepted` names.
pub(crate) async fn check_publisher(file: PathBuf, accepted: Vec<String>) -> anyhow::Result<()> {
    Ok(publisher::check(file, accepted).await?)
}

fn failed(feed: Option<&Url>, error: UnitError) -> Outcome {
    outcome::failed(feed, outcome::UpdateError::Unit(error), seed())
}

fn seed() -> u16 {
    u16::from_le_bytes(random::bytes())
}

/// Whether a file is a program that is everything itself, and is installed as it is.
pub(crate) fn is_one_program(name: &str) -> bool {
    archive::Kind::of(name) == archive::Kind::Program
}

/// Whether a crash interrupted an installation.
pub(crate) fn is_interrupted(paths: &Paths, app: &str) -> bool {
    journals::peek(paths, app).is_ok_and(|journal| journal.is_committed_to_finish())
}

/// Takes up the journals of an earlier run. A file that is damaged or newer is moved aside, which the problem says.
pub(crate) fn take_up(paths: &Paths) -> Option<Problem> {
    let error = journals::take_up(paths).err()?;
    (!error.is_in_place()).then(|| journal_unreadable(&error))
}

/// What an observation of the device finds about updates.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    /// The journal of the app.
    pub(crate) journal: Journal,
    /// What is wrong with it.
    pub(crate) problem: Option<Problem>,
}

/// Observes the updates of an app.
pub(crate) fn observe(paths: &Paths, app: &str) -> Observed {
    match journals::peek(paths, app) {
        Ok(journal) => Observed { journal, problem: None },
        Err(error) => Observed { journal: Journal::default(), problem: Some(journal_unreadable(&error)) },
    }
}

/// The journal of an app, for whoever may read it.
///
/// # Errors
/// It cannot be read.
pub(crate) fn journal(paths: &Paths, app: &str) -> Result<Journal, StateError> {
    journals::peek(paths, app)
}

/// The app as users start it; `None` if the agent does not install it.
pub(crate) fn app(paths: &Paths, app: &Descriptor) -> Option<App> {
    Some(App {
        name: app.name.clone(),
        title: app.title.clone(),
        processes: app.system()?.processes.clone(),
        program: Target::of(paths, app)?.program().display().to_string(),
    })
}

/// What is installed of an app that the agent installs.
pub(crate) fn installed(paths: &Paths, app: &Descriptor) -> Option<Version> {
    Target::of(paths, app)?.installed_version()
}

fn journal_unreadable(error: &StateError) -> Problem {
    unreadable("the journal of updates", error)
        .using("no journal: a version that failed to start may be tried once more")
}
