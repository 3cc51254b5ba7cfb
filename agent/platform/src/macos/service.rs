//! The service manager: launchd stops a service with a signal, and needs no reports.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

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

/// The end of the services' logs, by name: where `packaging/macos` has launchd write them. A log that cannot
/// be read is left out.
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
