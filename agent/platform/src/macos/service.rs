//! What the service manager wants: launchd asks for an end with a signal, and wants to hear nothing.

pub use crate::unix::signal::{StopSignal, clear_umask};

/// How an administrator starts the machine service.
pub const START: &str = "launchctl kickstart system/dev.steward.agent";

/// The service is ready. launchd does not ask.
pub fn ready(_: &str) {}

/// The service is about to end. launchd sees that itself.
pub fn stopping() {}
