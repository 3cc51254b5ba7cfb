//! Memory that is not written to swap space.

use std::io;

use nix::unistd::{SysconfVar, sysconf};

mod ffi;

/// The size of a page: 4 KiB as a rule, 16 on Apple silicon, 64 on some servers.
pub(crate) fn page_bytes() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok())
        .filter(|size| size.is_power_of_two())
        .unwrap_or(64 * 1024)
}

/// Keeps these bytes out of swap space (mlock(2)).
///
/// # Errors
/// The limit `RLIMIT_MEMLOCK` is reached.
pub(crate) fn lock(bytes: &[u8]) -> io::Result<()> {
    ffi::lock(bytes)
}

/// The opposite of [`lock`].
pub(crate) fn unlock(bytes: &[u8]) {
    ffi::unlock(bytes);
}
