//! All the looking, once per round: what the app finds, which versions are there, whether changes are noticed. Read-only.

use jiff::Timestamp;
use platform::installed::App;
use platform::paths::Paths;
use policy_schema::Problem;
use updates::Journal;

use crate::app::descriptor::{Descriptor, Installation};
use crate::app::observe;
use crate::app::ownership::OwnershipRecord;
use crate::update;

/// What is there, at one moment. Nothing after it reads the disk or asks a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) app: observe::Observed,
    /// The version of the app that is installed, as it is named.
    pub(crate) installed: Option<String>,
    /// How far an update of the app is, and what was tried.
    pub(crate) journal: Journal,
    /// That of the agent itself.
    pub(crate) agent_journal: Journal,
    /// Why changes of policy are not noticed at once.
    pub(crate) watch_failure: Option<String>,
    /// What is wrong with the agent's own state.
    pub(crate) problems: Vec<Problem>,
    pub(crate) now: Timestamp,
}

/// Which version was installed when the operating system was asked last. Its lists are long, so it is not asked each round.
#[derive(Debug)]
pub(super) struct InstalledApp {
    name: String,
    asked_at: Timestamp,
    version: Option<String>,
}

/// Seconds after which the operating system is asked again.
const ASK_AGAIN: i64 = 15 * 60;
/// An app is there, and nothing says which version.
const UNKNOWN_VERSION: &str = "of an unknown version";

impl InstalledApp {
    /// The version that is installed, asked for if what is known is too old or of another app.
    fn version(
        known: &mut Option<Self>,
        paths: &Paths,
        descriptor: Option<&Descriptor>,
        now: Timestamp,
    ) -> Option<String> {
        let descriptor = descriptor?;
        let system = descriptor.system()?;
        let is_current = |known: &Self| {
            let age = known.asked_at.duration_until(now).as_secs();
            known.name == descriptor.name && (0..ASK_AGAIN).contains(&age)
        };
        if let Some(known) = known.as_ref().filter(|known| is_current(known)) {
            return known.version.clone();
        }
        let app =
            App { package: system.package.as_deref(), folders: &system.programs, title: &descriptor.title };
        let named = platform::app::installed_version(paths, &app);
        let is_there = || system.programs.iter().any(|folder| paths.under_root(folder.as_ref()).exists());
        let version = named.or_else(|| is_there().then(|| UNKNOWN_VERSION.to_owned()));
        *known = Some(Self { name: descriptor.name.clone(), asked_at: now, version: version.clone() });
        version
    }
}

/// Observes everything that a round needs.
pub(super) fn observe(
    paths: &Paths,
    descriptor: Option<&Descriptor>,
    watch_failure: Option<&str>,
    unsaved: Option<&OwnershipRecord>,
    installed_app: &mut Option<InstalledApp>,
    now: Timestamp,
) -> Observed {
    let installation =
        descriptor.and_then(Descriptor::system).and_then(|system| system.installation.as_ref());
    let installed = match installation {
        Some(Installation::Folder(_)) => {
            let own = descriptor.and_then(|app| update::installed(paths, app));
            let own = own.map(|version| version.to_string());
            own.or_else(|| InstalledApp::version(installed_app, paths, descriptor, now))
        }
        Some(Installation::Installer(_) | Installation::Agent) | None => {
            InstalledApp::version(installed_app, paths, descriptor, now)
        }
    };
    let observed = descriptor.map(|app| update::observe(paths, &app.name)).unwrap_or_default();
    let update::Observed { journal, problem } = observed;
    let app = observe::observe(paths, descriptor, unsaved, journal.waits_for_app());
    Observed {
        installed,
        journal,
        agent_journal: update::observe(paths, update::AGENT).journal,
        watch_failure: watch_failure.map(ToOwned::to_owned),
        problems: app.problem.clone().into_iter().chain(problem).collect(),
        app,
        now,
    }
}
