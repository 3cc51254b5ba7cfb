//! What the system itself says about the device.

use std::io;

use windows_registry::LOCAL_MACHINE;

use super::registry::is_absent;

/// The ID of this boot: the number that Windows counts up with every start. `None` if it cannot be read.
#[must_use]
pub fn boot_id() -> Option<String> {
    let key = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters";
    let number = LOCAL_MACHINE.open(key).ok()?.get_u32("BootId").ok()?;
    Some(number.to_string())
}

/// Seconds since this boot, sleep included. `None` if they cannot be counted.
#[must_use]
pub fn seconds_since_boot() -> Option<i64> {
    i64::try_from(super::ffi::milliseconds_since_boot() / 1000).ok()
}

/// The ID of this installation of the system; `None` if it has none.
///
/// # Errors
/// It cannot be read. That does not mean that there is none.
pub fn machine_id() -> io::Result<Option<String>> {
    let key = LOCAL_MACHINE.open(r"SOFTWARE\Microsoft\Cryptography");
    match key.and_then(|key| key.get_string("MachineGuid")) {
        Ok(id) => Ok(Some(id)),
        Err(error) if is_absent(error.code().0) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
