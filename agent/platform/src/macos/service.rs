//! The service manager: launchd stops a service with a signal, and needs no reports.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::log_file;
use crate::paths::Paths;
use crate::role::{Role, Severity, Startup};
pub use crate::unix::signal::{StopSignal, set_umask};

/// Keeps this process's memory from the disk when it crashes. Other programs of its user cannot read it anyway, because
/// it is not made for debugging.
pub fn protect_memory() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        // A limit can always be lowered.
        let _refused = setrlimit(Resource::RLIMIT_CORE, 0, hard);
    }
}

/// Fails: launchd runs the machine service as an ordinary process.
///
/// # Errors
/// Always.
pub fn dispatch(_: impl FnOnce(StopSignal) -> bool + Send + 'static) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "only Windows has a service control manager; launchd runs `steward agent`",
    ))
}

/// Never ends: brokers say themselves when a session changes.
pub fn session_change() -> std::future::Pending<()> {
    std::future::pending()
}

/// How an administrator starts the machine service.
pub const START: &str = "launchctl kickstart system/dev.steward.agent";

/// Nothing: launchd needs no report that a service is ready.
pub fn ready(_: &str) {}

/// Nothing: launchd sees by itself that a service ends.
pub fn stopping() {}

/// Never: launchd does not watch the loop of a service.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    None
}

/// Nothing: nobody watches.
pub fn alive() {}

/// None: launchd starts the broker with the session.
pub(crate) fn inherited_socket() -> Option<std::os::unix::net::UnixListener> {
    None
}

/// None: the agent has the rights to install updates itself.
#[must_use]
pub fn update_unit() -> Option<String> {
    None
}

/// Fails: there are no units here.
///
/// # Errors
/// Always.
pub fn run_unit(_: &str) -> impl Future<Output = io::Result<()>> + Send {
    std::future::ready(Err(io::ErrorKind::Unsupported.into()))
}

/// How launchd starts a process (launchctl(1), `print-disabled`).
#[must_use]
pub fn startup(role: Role) -> Startup {
    let user = nix::unistd::getuid();
    let (file, domain, label) = match role {
        Role::Agent => {
            ("/Library/LaunchDaemons/dev.steward.agent.plist", "system".to_owned(), "dev.steward.agent")
        }
        Role::Broker => {
            ("/Library/LaunchAgents/dev.steward.broker.plist", format!("gui/{user}"), "dev.steward.broker")
        }
    };
    if !Path::new(file).exists() {
        return Startup::NotInstalled;
    }
    let output =
        Command::new("/bin/launchctl").args(["print-disabled", &domain]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if is_disabled(&String::from_utf8_lossy(&output.stdout), label) => Startup::Disabled,
        Ok(_) => Startup::Automatic,
        Err(error) => Startup::Unknown(error.to_string()),
    }
}

/// Whether a list of launchd's, with lines such as `"dev.steward.agent" => disabled`, has a label as disabled. Older systems write
/// `true`.
fn is_disabled(list: &str, label: &str) -> bool {
    let label = format!("\"{label}\" => ");
    let states = list.lines().filter_map(|line| line.trim().strip_prefix(&label));
    states.into_iter().any(|state| matches!(state.trim(), "disabled" | "true"))
}

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
