//! What the device is like. Looked at when a report is made, never on a timer of its own.

use platform::SYSTEM_DISK;
use policy_schema::Extra;
use protocol::report::Posture;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, System};

/// Observes the device. What the system does not tell stays unknown.
pub(crate) fn observe() -> Posture {
    let memory = memory();
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()).ok();
    let root = disks
        .as_ref()
        .and_then(|disks| disks.iter().find(|disk| disk.mount_point() == std::path::Path::new(SYSTEM_DISK)));
    Posture {
        operating_system: System::long_os_version().ok(),
        kernel: System::kernel_version().ok(),
        architecture: std::env::consts::ARCH.to_owned(),
        uptime: System::uptime().ok(),
        memory_total: memory.map(|(total, _)| total),
        memory_available: memory.map(|(_, available)| available),
        disk_total: root.map(sysinfo::Disk::total_space),
        disk_available: root.map(sysinfo::Disk::available_space),
        extra: Extra::default(),
    }
}

/// The version of the kernel, as release feeds of electron-builder mean it (Node.js, `os.release()`).
pub(crate) fn kernel() -> Option<String> {
    let version = System::kernel_version().ok()?;
    // Windows gives the number of its build alone.
    Some(if cfg!(windows) && !version.contains('.') { format!("10.0.{version}") } else { version })
}

fn memory() -> Option<(u64, u64)> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Some((system.total_memory(), system.available_memory())).filter(|(total, _)| *total > 0)
}
