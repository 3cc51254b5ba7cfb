//! The service manager: launchd stops a service with a signal, and needs no reports.

use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::log_file;
use crate::paths::Paths;
use crate::role::{Role, Severity};
pub use crate::unix::signal::{StopSignal, set_umask};

/// Keeps this process's memory from the disk when it crashes. Other programs of its user cannot read it anyway, because
/// it is not made for debugging.
pub fn protect_memory() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        // A limit can always be lowered.
        let _refused = setrlimit(Resource::RLIMIT_CORE, 0, hard);
    }
}

/// How an administrator starts the machine service.
pub const START: &str = "launchctl kickstart system/dev.steward.agent";

/// Nothing: launchd needs no report that a service is ready.
pub fn ready(_: &str) {}

/// Nothing: launchd sees by itself that a service ends.
pub fn stopping() {}

/// Whether whoever keeps the log adds the time to each line: launchd does not.
#[must_use]
pub fn log_has_times() -> bool {
    false
}

/// Where a process keeps its log besides standard error: launchd lets a log grow for ever.
#[must_use]
pub fn log_file(paths: &Paths, role: Role) -> Option<PathBuf> {
    Some(match role {
        Role::Agent => paths.under_root(Path::new("/Library/Logs/Steward/agent.log")),
        Role::Broker => paths.of_user("~/Library/Logs/Steward/broker.log"),
    })
}

/// Nothing: the files have every line.
pub fn report_event(_: Severity, _: &str) {}

/// The end of the services' logs, by name. A log that cannot be read is left out.
#[must_use]
pub fn logs(paths: &Paths, bytes: u64) -> Vec<(&'static str, String)> {
    let files = [("agent.log", log_file(paths, Role::Agent)), ("broker.log", log_file(paths, Role::Broker))];
    log_file::ends(files, bytes).collect()
}
