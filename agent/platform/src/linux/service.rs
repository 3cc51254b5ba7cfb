//! The service manager: telling systemd the state of a service (`Type=notify`), and its logs. Without systemd, nothing
//! happens.

use std::path::PathBuf;

use sd_notify::NotifyState;

use crate::environment;
use crate::paths::Paths;
use crate::role::{Role, Severity};

pub use crate::unix::signal::{StopSignal, set_umask};

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

fn notify(states: &[NotifyState<'_>]) {
    // Outside systemd this fails as a rule, and there is nothing to do about other failures.
    drop(sd_notify::notify(states));
}

/// Whether whoever keeps the log adds the time to each line: systemd's journal does (systemd.exec(5), `JOURNAL_STREAM`).
#[must_use]
pub fn log_has_times() -> bool {
    environment::variable("JOURNAL_STREAM").is_some()
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
