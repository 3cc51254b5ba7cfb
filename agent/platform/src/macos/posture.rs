//! Facts about the device that the system itself keeps.

use super::ffi;

/// The identity of this boot: changes with every start of the system.
#[must_use]
pub fn boot_id() -> Option<String> {
    ffi::kernel_fact(c"kern.bootsessionuuid")
}

/// The identity of this machine.
#[must_use]
pub fn machine_id() -> Option<String> {
    ffi::host_identity().map(|bytes| format!("{:032x}", u128::from_be_bytes(bytes)))
}
