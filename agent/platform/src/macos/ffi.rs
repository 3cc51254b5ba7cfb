//! What macOS offers only as C functions.
#![expect(unsafe_code, reason = "the one place that calls C")]

use objc2_core_foundation::{CFPreferencesAppSynchronize, CFPreferencesAppValueIsForced, CFString};

/// The first of these keys that is not forced in a preference domain
/// (developer.apple.com, `CFPreferencesAppValueIsForced`).
pub(super) fn not_forced<'a>(domain: &str, keys: &[&'a str]) -> Option<&'a str> {
    let domain = CFString::from_str(domain);
    // Without this, a process sees the values of its first look for as long as it lives.
    CFPreferencesAppSynchronize(&domain);
    keys.iter().copied().find(|key| !CFPreferencesAppValueIsForced(&CFString::from_str(key), &domain))
}

/// A text of the kernel's table of facts (sysctl(3)).
pub(super) fn kernel_fact(name: &std::ffi::CStr) -> Option<String> {
    let mut buffer = [0_u8; 256];
    let mut length = buffer.len();
    // SAFETY: the name ends in NUL; the buffer is as long as `length` says; nothing is set.
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

/// The identity of this machine (gethostuuid(2)).
pub(super) fn host_identity() -> Option<[u8; 16]> {
    let mut identity = [0_u8; 16];
    let wait = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: the buffer has the 16 bytes that a UUID has, and the time limit lives as long as the call.
    let failed = unsafe { libc::gethostuuid(identity.as_mut_ptr(), &raw const wait) };
    (failed == 0).then_some(identity)
}

#[repr(C)]
struct AuditToken([u32; 8]);

unsafe extern "C" {
    // libproc.h; since macOS 11.
    safe fn proc_pidpath_audittoken(
        token: &AuditToken,
        buffer: &mut [u8; PATH_BYTES],
        size: u32,
    ) -> libc::c_int;
}

/// `PROC_PIDPATHINFO_MAXSIZE` (libproc.h).
const PATH_BYTES: usize = 4096;

/// The program of the process that an audit token names; no other process has the token.
pub(super) fn program(token: &[u32; 8]) -> std::io::Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut path = [0_u8; PATH_BYTES];
    let length = proc_pidpath_audittoken(&AuditToken(*token), &mut path, 4096);
    match usize::try_from(length).ok().and_then(|length| path.get(..length)) {
        Some(path) if !path.is_empty() => Ok(std::ffi::OsStr::from_bytes(path).into()),
        Some(_) | None => Err(std::io::Error::last_os_error()),
    }
}
