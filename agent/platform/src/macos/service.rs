//! What the service manager wants: launchd asks for an end with a signal, and wants to hear nothing.

pub use crate::unix::signal::{StopSignal, clear_umask};

/// How an administrator starts the machine service.
pub const START: &str = "launchctl kickstart system/dev.steward.agent";

/// The service is ready. launchd does not ask.
pub fn ready(_: &str) {}

/// The service is about to end. launchd sees that itself.
pub fn stopping() {}

/// The end of the services' logs, by name: where `packaging/macos` has launchd write them.
#[must_use]
pub fn logs(bytes: u64) -> Vec<(&'static str, String)> {
    let read = |path: &str| {
        let text = String::from_utf8_lossy(&fs_err::read(path).ok()?).into_owned();
        let from = text.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        Some(text[text.ceil_char_boundary(from)..].to_owned())
    };
    [("agent.log", "/Library/Logs/Steward/agent.log")]
        .into_iter()
        .filter_map(|(name, path)| Some((name, read(path)?)))
        .collect()
}
