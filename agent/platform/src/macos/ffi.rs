//! What macOS offers only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use objc2_core_foundation::{CFPreferencesAppSynchronize, CFPreferencesAppValueIsForced, CFString};

/// The first of these keys that is not forced in a preference domain
/// (developer.apple.com, `CFPreferencesAppValueIsForced`).
pub(super) fn not_forced<'a>(domain: &str, keys: &[&'a str]) -> Option<&'a str> {
    let domain = CFString::from_str(domain);
    // Without this, a process sees the values of its first read for as long as it lives.
    CFPreferencesAppSynchronize(&domain);
    keys.iter().copied().find(|key| !CFPreferencesAppValueIsForced(&CFString::from_str(key), &domain))
}

/// A text that the kernel has under a name (sysctl(3)).
pub(super) fn kernel_text(name: &std::ffi::CStr) -> Option<String> {
    let mut buffer = [0_u8; 256];
    let mut length = buffer.len();
    // SAFETY: the name ends in NUL. It, the buffer and the length live as long as the call; the length is that of the
    // buffer. Nothing is set, so what would be is null.
    let failed = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            &raw mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    let text = buffer.get(..length.checked_sub(1)?).filter(|_| failed == 0)?;
    std::str::from_utf8(text).ok().map(ToOwned::to_owned)
}

/// The ID of this machine (gethostuuid(2)).
pub(super) fn host_id() -> io::Result<[u8; 16]> {
    let mut id = [0_u8; 16];
    let wait = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: the buffer has the 16 bytes that a UUID has; it and the time limit live as long as the call.
    let failed = unsafe { libc::gethostuuid(id.as_mut_ptr(), &raw const wait) };
    if failed == 0 { Ok(id) } else { Err(io::Error::last_os_error()) }
}

#[repr(C)]
struct AuditToken([u32; 8]);

unsafe extern "C" {
    // libproc.h; since macOS 11.
    fn proc_pidpath_audittoken(token: *const AuditToken, buffer: *mut u8, size: u32) -> libc::c_int;
}

/// `PROC_PIDPATHINFO_MAXSIZE` (libproc.h).
const PATH_BYTES: u32 = 4096;

/// The path of the program of the process that an audit token names; no other process has the token.
pub(super) fn program(token: &[u32; 8]) -> io::Result<PathBuf> {
    let mut path = [0_u8; PATH_BYTES as usize];
    let token = AuditToken(*token);
    // SAFETY: the token is only read; any numbers may be in it. The buffer has the length that is passed, and both live
    // as long as the call.
    let length = unsafe { proc_pidpath_audittoken(&raw const token, path.as_mut_ptr(), PATH_BYTES) };
    match usize::try_from(length).ok().and_then(|length| path.get(..length)) {
        Some(path) if !path.is_empty() => Ok(OsStr::from_bytes(path).into()),
        Some(_) | None => Err(io::Error::last_os_error()),
    }
}
