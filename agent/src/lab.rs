//! What simulations and benches take from the agent, so that they imitate nothing that matters: when a report is due, under which identity
//! a device reports, and what a report becomes in each dialect. `cargo xtask fleet` and `cargo xtask bench` use it.

use std::process::ExitCode;

use semver::Version;

pub use crate::health::encode::dialects;
pub use crate::health::identity::{Identity, Origin};
pub use crate::service::delivery::{Delivery, End, Event, Outcome, next_slot};

/// Runs the command line as another version of this program would.
#[must_use]
pub fn main_as(version: Version) -> ExitCode {
    crate::version::set(version);
    crate::cli::main()
}
