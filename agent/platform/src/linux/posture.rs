//! Facts about the device that the system's own files hold.

/// The identity of this boot: changes with every start of the system.
#[must_use]
pub fn boot_id() -> Option<String> {
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

/// The identity of this installation of the system.
#[must_use]
pub fn machine_id() -> Option<String> {
    fs_err::read_to_string("/etc/machine-id").ok().map(|text| text.trim().to_owned())
}
