//! The service manager: telling systemd the state of a service (`Type=notify`), sockets and units of systemd's, and logs.
//! Without systemd, nothing happens.

mod ffi;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use sd_notify::NotifyState;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::environment;
use crate::paths::Paths;
use crate::role::{BackgroundItems, Role, Severity, Startup};

pub use crate::unix::signal::{StopSignal, dispatch, session_change, set_umask};

/// Keeps this process's memory from other programs of its user, which can then neither trace nor read it, and from the
/// disk when it crashes (`PR_SET_DUMPABLE`). What it starts is not affected.
pub fn protect_memory() {
    // Fails with no value of this type.
    let _refused = nix::sys::prctl::set_dumpable(false);
}

/// How an administrator starts the machine service.
pub const START: &str = "systemctl start steward-agent";

/// Reports that the service is ready; `systemctl status` shows the text.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that the service is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How often systemd wants to hear that the service's loop still turns: twice in the time after which it ends the service
/// (`WatchdogSec`). `None` if it does not watch.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Reports that the service's loop still turns.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// The socket at which systemd listened until it started this process (socket activation, `sd_listen_fds(3)`). It is given
/// once.
pub(crate) fn inherited_socket() -> Option<UnixListener> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let first = sd_notify::listen_fds().ok()?.next().filter(|_| !TAKEN.swap(true, Ordering::Relaxed))?;
    let socket = ffi::take(first)?;
    let listens = getsockopt(&socket, sockopt::AcceptConn).unwrap_or_default();
    listens.then(|| UnixListener::from(socket))
}

/// The unit that checks for updates and installs them with the rights for that, which the agent's own unit does not have. The
/// agent's unit names it; a process that a person started has none, and installs by itself.
#[must_use]
pub fn update_unit() -> Option<String> {
    environment::variable("STEWARD_UPDATE_UNIT")
}

/// Not applicable: what users can turn off here is what [`startup`] tells.
#[must_use]
pub fn background_items() -> BackgroundItems {
    BackgroundItems::NotApplicable
}

/// How systemd starts a process (systemctl(1), `is-enabled`).
#[must_use]
pub fn startup(role: Role) -> Startup {
    let (scope, unit) = match role {
        Role::Agent => ("--system", "steward-agent.service"),
        // What one user has turned off only that user's systemd knows.
        Role::Broker if environment::directory("XDG_RUNTIME_DIR").is_some() => {
            ("--user", "steward-broker.socket")
        }
        Role::Broker => ("--global", "steward-broker.socket"),
    };
    let mut command = std::process::Command::new("systemctl");
    let output = command.args([scope, "is-enabled", unit]).env("LC_ALL", "C").stdin(Stdio::null()).output();
    match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Startup::Unknown("this system has no systemd".to_owned())
        }
        Err(error) => Startup::Unknown(error.to_string()),
        Ok(output) => {
            startup_of(&String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr))
        }
    }
}

/// What `systemctl is-enabled` means by its output.
fn startup_of(state: &str, errors: &str) -> Startup {
    match state.trim() {
        "enabled" | "enabled-runtime" | "alias" | "static" | "linked" | "generated" => Startup::Automatic,
        "disabled" | "indirect" => Startup::Disabled,
        "masked" | "masked-runtime" => Startup::Masked,
        "not-found" => Startup::NotInstalled,
        "" if errors.contains("No such file") => Startup::NotInstalled,
        state => Startup::Unknown(format!("{state} {}", errors.trim()).trim().to_owned()),
    }
}

/// Starts a unit of `Type=oneshot` and waits until it has ended.
///
/// # Errors
/// It cannot be started, or it failed.
pub async fn run_unit(unit: &str) -> io::Result<()> {
    let mut command = tokio::process::Command::new("systemctl");
    command.args(["start", "--quiet", unit]).stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.stderr(Stdio::piped()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("it failed");
    Err(io::Error::other(format!("{unit} did not run: {line}")))
}

fn notify(states: &[NotifyState<'_>]) {
    // Outside systemd this fails as a rule, and there is nothing to do about other failures.
    drop(sd_notify::notify(states));
}

/// Whether whoever keeps the log adds the time to each line: systemd's journal does (systemd.exec(5), `JOURNAL_STREAM`).
#[must_use]
pub fn log_has_times() -> bool {
    environment::variable("JOURNAL_STREAM").is_some()
}

/// The journal as a log with fields, where standard error goes there as well: each event with its level as `PRIORITY`, and its fields
/// as `STEWARD_NAME` (systemd.journal-fields(7)). `None` where there is no journal, or it cannot be reached.
#[must_use]
pub fn journal<S>() -> Option<impl Layer<S>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let journal = log_has_times().then(|| tracing_journald::layer().ok()).flatten()?;
    Some(journal.with_field_prefix(Some("STEWARD".to_owned())))
}

/// Where a process keeps its log besides standard error: nowhere, the journal has it.
#[must_use]
pub fn log_file(_: &Paths, _: Role) -> Option<PathBuf> {
    None
}

/// Nothing: the journal has every line.
pub fn report_event(_: Severity, _: &str) {}

/// The last lines of the services' logs, by name: what the journal has and the user of this process may read. A
/// log that cannot be read is left out.
#[must_use]
pub fn logs(_: &Paths, bytes: u64) -> Vec<(&'static str, String)> {
    let sources =
        [("agent.log", ["--unit", "steward-agent"]), ("broker.log", ["--user-unit", "steward-broker"])];
    let read = |unit: [&str; 2]| {
        let mut command = std::process::Command::new("journalctl");
        command.args(unit).args(["--lines", "3000", "--no-pager", "--output", "short-iso"]);
        let output = command.stdin(std::process::Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let from = text.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        let from = text.ceil_char_boundary(from);
        Some(text[from..].to_owned())
            .filter(|text| !text.trim().is_empty() && !text.starts_with("-- No entries"))
    };
    sources.into_iter().filter_map(|(name, unit)| Some((name, read(unit)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_a_unit_says_whether_it_starts() {
        let missing = "Failed to get unit file state for steward-agent.service: No such file or directory\n";
        for (state, errors, expected) in [
            ("enabled\n", "", Startup::Automatic),
            ("enabled-runtime\n", "", Startup::Automatic),
            ("disabled\n", "", Startup::Disabled),
            ("masked\n", "", Startup::Masked),
            ("masked-runtime\n", "", Startup::Masked),
            ("", missing, Startup::NotInstalled),
            ("not-found\n", "", Startup::NotInstalled),
            ("", "Failed to connect to bus\n", Startup::Unknown("Failed to connect to bus".to_owned())),
        ] {
            assert_eq!(startup_of(state, errors), expected, "{state}{errors}");
        }
    }
}
