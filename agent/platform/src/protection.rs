//! What protects the device, as the operating system tells it. In: what its files, keys and programs say. Out: an [`Observation`] of
//! each. Called for a report.

pub use crate::finding::{Finding, Observation};
use crate::os::protection as system;
pub use crate::os::protection::build;
use crate::paths::Paths;

/// Everything that is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protections {
    /// The disks of the system are encrypted.
    pub disk_encryption: Observation,
    /// A firewall filters incoming connections.
    pub firewall: Observation,
    /// The firmware starts only what is signed.
    pub secure_boot: Observation,
    /// The screen locks by itself.
    pub screen_lock: Observation,
    /// The operating system waits for a restart.
    pub pending_restart: Observation,
}

/// Looks at everything. Takes as long as a few programs need; each may take 10 seconds at most.
#[must_use]
pub fn observe(paths: &Paths) -> Protections {
    Protections {
        disk_encryption: system::disk_encryption(paths),
        firewall: system::firewall(paths),
        secure_boot: system::secure_boot(paths),
        screen_lock: system::screen_lock(paths),
        pending_restart: system::pending_restart(paths),
    }
}
