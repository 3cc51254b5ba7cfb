//! What the service manager wants to hear (systemd, `Type=notify`). Without one, nothing happens.

use sd_notify::NotifyState;

pub use crate::unix::signal::{StopSignal, clear_umask};

/// How an administrator starts the machine service.
pub const START: &str = "systemctl start steward-agent";

/// The service is ready; the text is shown by `systemctl status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service is about to end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    // Nobody to tell is the usual case outside systemd, and there is nothing to do about the others.
    drop(sd_notify::notify(states));
}

/// The last lines of the services' logs, by name: what the journal has and whoever runs this may read.
#[must_use]
pub fn logs(bytes: u64) -> Vec<(&'static str, String)> {
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
