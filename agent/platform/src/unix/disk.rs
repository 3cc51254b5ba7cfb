//! The room on a disk.

/// The size of the file system at a path, and what is available of it to ordinary users, in bytes; `None` if the system does not say.
/// Only that file system is asked: another may be on a server that is gone.
#[must_use]
pub fn space(path: &str) -> Option<(u64, u64)> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    // These have different types on different systems.
    let wide = |number: &dyn std::fmt::Display| number.to_string().parse::<u64>().ok();
    let block = wide(&found.fragment_size())?;
    Some((wide(&found.blocks())?.checked_mul(block)?, wide(&found.blocks_available())?.checked_mul(block)?))
}
