//! Memory that is not written to the page file.

use std::io;

mod ffi;

/// The size of a page.
pub(crate) fn page_bytes() -> usize {
    4096
}

/// Keeps these bytes out of the page file (`VirtualLock`).
///
/// # Errors
/// The process has locked as much as its working set allows.
pub(crate) fn lock(bytes: &[u8]) -> io::Result<()> {
    ffi::lock(bytes)
}

/// The opposite of [`lock`].
pub(crate) fn unlock(bytes: &[u8]) {
    ffi::unlock(bytes);
}
