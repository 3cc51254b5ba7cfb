//! What the system itself says about the device.

use std::io;

use nix::time::{ClockId, clock_gettime};

use super::ffi;

/// The ID of this boot: it changes with every start of the system. `None` if the system does not say.
#[must_use]
pub fn boot_id() -> Option<String> {
    ffi::kernel_text(c"kern.bootsessionuuid")
}

/// Seconds since this boot, sleep included: this clock goes on while the system sleeps (`clock_gettime(3)`). `None` if the
/// system does not say.
#[must_use]
pub fn seconds_since_boot() -> Option<i64> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(|time| time.tv_sec())
}

/// The ID of this machine; every Mac has one.
///
/// # Errors
/// The system does not say.
pub fn machine_id() -> io::Result<Option<String>> {
    let id = ffi::host_id()?;
    Ok(Some(format!("{:032x}", u128::from_be_bytes(id))))
}
