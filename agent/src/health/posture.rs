//! What the device is like. Looked at when a report is made, never on a timer of its own.

use agent_platform::paths::SYSTEM_DISK;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, System};

/// Facts about the device. No names of people or hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Posture {
    /// Name and version of the operating system.
    pub(crate) operating_system: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) architecture: String,
    /// In seconds.
    pub(crate) uptime: Option<u64>,
    /// In bytes.
    pub(crate) memory_total: Option<u64>,
    /// In bytes.
    pub(crate) memory_available: Option<u64>,
    /// Of the disk that the system lies on, in bytes.
    pub(crate) disk_total: Option<u64>,
    /// In bytes.
    pub(crate) disk_available: Option<u64>,
}

/// Looks at the device. What cannot be found out stays unknown.
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
    }
}

fn memory() -> Option<(u64, u64)> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Some((system.total_memory(), system.available_memory())).filter(|(total, _)| *total > 0)
}
