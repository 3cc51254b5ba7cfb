//! What Unix offers for memory only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;

use nix::sys::mman::{mlock, munlock};

pub(super) fn lock(bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes are mapped as long as they are borrowed, and locking changes none of them.
    Ok(unsafe { mlock(address(bytes), bytes.len()) }?)
}

pub(super) fn unlock(bytes: &[u8]) {
    // SAFETY: the bytes are mapped as long as they are borrowed, and unlocking changes none of them.
    // It fails for bytes that are not locked, which is what is wanted.
    let _not_locked = unsafe { munlock(address(bytes), bytes.len()) };
}

fn address(bytes: &[u8]) -> NonNull<c_void> {
    NonNull::from(bytes).cast()
}
