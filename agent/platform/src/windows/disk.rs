//! The room on a disk.

use std::path::Path;

use sysinfo::{Disk, DiskRefreshKind, Disks};

/// The size of the drive at a path, and what is available of it, in bytes; `None` if the system does not say.
#[must_use]
pub fn space(path: &str) -> Option<(u64, u64)> {
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()).ok()?;
    let drive = disks.iter().find(|disk| disk.mount_point() == Path::new(path))?;
    Some((Disk::total_space(drive), Disk::available_space(drive)))
}
