//! The service manager: launchd stops a service with a signal, and needs no reports.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing_subscriber::layer::Identity;

pub use crate::no_units::{alive, run_unit, update_unit, watchdog_interval};
use crate::paths::Paths;
use crate::role::{BackgroundItems, Role, Severity, Startup};
pub use crate::unix::signal::{StopSignal, dispatch, session_change, set_umask};
use crate::{log_file, profile_list};

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

/// None: launchd starts the broker with the session.
pub(crate) fn inherited_socket() -> Option<std::os::unix::net::UnixListener> {
    None
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

/// Whether a profile manages the agent's jobs, so that users cannot turn them off (profiles(1); Apple, "Service Management: Managed
/// Login Items"). Only root sees the profiles of the device.
#[must_use]
pub fn background_items() -> BackgroundItems {
    if !nix::unistd::geteuid().is_root() {
        return BackgroundItems::Unknown("only an administrator can see the profiles of this Mac".to_owned());
    }
    let mut command = Command::new("/usr/bin/profiles");
    command.args(["show", "-type", "configuration", "-output", "stdout-xml"]).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return BackgroundItems::Unknown(format!("profiles: {}: {reason}", output.status));
        }
        Err(error) => return BackgroundItems::Unknown(format!("profiles: {error}")),
    };
    profile_list::background_items(&output)
}

/// Whether whoever keeps the log adds the time to each line: launchd does not.
#[must_use]
pub fn log_has_times() -> bool {
    false
}

/// A log with fields besides standard error: there is none.
#[must_use]
pub fn journal() -> Option<Identity> {
    None
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
