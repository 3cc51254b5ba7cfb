//! Services where there is no systemd: nobody watches their loop, and the agent itself has the rights to install updates.

use std::future::{Ready, ready};
use std::io;
use std::time::Duration;

/// Never: nobody watches.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    None
}

/// Nothing: nobody watches.
pub fn alive() {}

/// None: the agent installs updates itself.
#[must_use]
pub fn update_unit() -> Option<String> {
    None
}

/// Fails: there are no units.
///
/// # Errors
/// Always.
pub fn run_unit(_: &str) -> Ready<io::Result<()>> {
    ready(Err(io::ErrorKind::Unsupported.into()))
}
