//! What Windows offers for memory only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;

use windows_sys::Win32::System::Memory::{VirtualLock, VirtualUnlock};

use super::super::ffi::succeeded;

pub(super) fn lock(bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes are mapped as long as they are borrowed, and locking changes none of them.
    succeeded(unsafe { VirtualLock(bytes.as_ptr().cast(), bytes.len()) })
}

pub(super) fn unlock(bytes: &[u8]) {
    // SAFETY: the bytes are mapped as long as they are borrowed, and unlocking changes none of them. It fails for bytes
    // that are not locked, which is what is wanted.
    let _not_locked = unsafe { VirtualUnlock(bytes.as_ptr().cast(), bytes.len()) };
}
