//! Facts about the device that the system itself keeps.

use windows_registry::LOCAL_MACHINE;

/// The identity of this boot: the number that Windows counts up with every start.
#[must_use]
pub fn boot_id() -> Option<String> {
    let key = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters";
    let number = LOCAL_MACHINE.open(key).ok()?.get_u32("BootId").ok()?;
    Some(number.to_string())
}

/// The identity of this installation of the system.
#[must_use]
pub fn machine_id() -> Option<String> {
    LOCAL_MACHINE.open(r"SOFTWARE\Microsoft\Cryptography").ok()?.get_string("MachineGuid").ok()
}
