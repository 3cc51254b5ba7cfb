//! What the `ffi.rs` files of the folders here have in common: texts, lengths, results and handles of C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{FromRawHandle as _, OwnedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::SystemInformation::GetTickCount64;

/// The longest path, in UTF-16 units with its NUL (Microsoft, "Maximum Path Length Limitation").
pub(super) const LONGEST_PATH: usize = 32_768;

/// Owns a handle that a function has just returned; null means that the function failed.
///
/// # Safety
/// The handle is null, or it is open and nothing else closes it.
pub(super) unsafe fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is not null, so the caller promises that it is open and closed by nothing else.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// How long the system runs, sleep included (Microsoft, `GetTickCount64`).
pub(super) fn milliseconds_since_boot() -> u64 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { GetTickCount64() }
}

/// A path as UTF-16 that ends in NUL.
pub(super) fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// A length as C functions take it. A longer one is cut, never the other way round.
pub(super) fn units(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The result of a function that returns 0 if it fails and says why in the thread's last error.
pub(super) fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The error of a function that returns its code.
pub(super) fn error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code.cast_signed())
}
