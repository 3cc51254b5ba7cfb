//! All the looking, once per round: what the app finds, which versions are there, whether changes are noticed. Read-only.

use std::collections::BTreeSet;

use jiff::Timestamp;
use platform::paths::Paths;
use policy_schema::Problem;
use semver::Version;

use crate::app::descriptor::Descriptor;
use crate::app::observe;
use crate::update;

/// What is there, at one moment. Nothing after it reads the disk or asks a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) app: observe::Observed,
    /// The version of the app that is installed, as far as the agent installs it.
    pub(crate) installed: Option<Version>,
    /// Versions that failed to start on this device.
    pub(crate) quarantined: BTreeSet<Version>,
    /// Why changes of policy are not noticed at once.
    pub(crate) watch_failure: Option<String>,
    /// What is wrong with the agent's own state.
    pub(crate) problems: Vec<Problem>,
    pub(crate) now: Timestamp,
}

/// Observes everything that a round needs.
pub(super) fn observe(
    paths: &Paths,
    descriptor: Option<&Descriptor>,
    watch_failure: Option<&str>,
    now: Timestamp,
) -> Observed {
    let installation =
        descriptor.and_then(Descriptor::system).and_then(|system| system.installation.as_ref());
    let app = observe::observe(paths, descriptor);
    let (quarantined, problem) = update::quarantined(paths);
    Observed {
        installed: installation.and_then(|installation| update::installed_version(paths, installation)),
        quarantined,
        watch_failure: watch_failure.map(ToOwned::to_owned),
        problems: app.problem.clone().into_iter().chain(problem).collect(),
        app,
        now,
    }
}
