//! Memory that is not written to swap space.

use std::io;

mod ffi;

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
