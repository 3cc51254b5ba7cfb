//! What Windows offers for processes only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::io::{AsRawHandle as _, BorrowedHandle, OwnedHandle};
use std::path::PathBuf;

use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

use super::super::ffi::{LONGEST_PATH, owned, succeeded, units};

/// Opens a process to query it. As long as it is open, its ID is given to no other.
pub(super) fn open_process(id: u32) -> io::Result<OwnedHandle> {
    // SAFETY: the function takes any number. The new handle is given to `owned` alone.
    unsafe { owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, id)) }
}

/// The session that a process runs in.
pub(super) fn session(process: u32) -> io::Result<u32> {
    let mut session = 0;
    // SAFETY: the number is a local variable of the type that is written.
    succeeded(unsafe { ProcessIdToSessionId(process, &raw mut session) })?;
    Ok(session)
}

/// The path of the program that a process runs.
pub(super) fn process_program(process: BorrowedHandle<'_>) -> io::Result<PathBuf> {
    let mut path = vec![0_u16; LONGEST_PATH];
    let mut length = units(path.len());
    // SAFETY: a borrowed handle is open. The buffer lives as long as the call and is not shorter than is passed.
    succeeded(unsafe {
        QueryFullProcessImageNameW(process.as_raw_handle(), 0, path.as_mut_ptr(), &raw mut length)
    })?;
    Ok(OsString::from_wide(&path[..length as usize]).into())
}
