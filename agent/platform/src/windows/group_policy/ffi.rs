//! What Windows offers for Group Policy only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::marker::PhantomData;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::GroupPolicy::{EnterCriticalPolicySection, LeaveCriticalPolicySection};

/// The lock of the machine's Group Policy. It belongs to the thread that took it.
pub(super) struct CriticalSection {
    section: HANDLE,
    _of_thread: PhantomData<*const ()>,
}

impl CriticalSection {
    /// Waits for it, however long that takes.
    pub(super) fn enter() -> io::Result<Self> {
        // SAFETY: it takes a boolean: 1 is the machine's policy. What it returns is given to `Self` alone.
        let section = unsafe { EnterCriticalPolicySection(1) };
        if section.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { section, _of_thread: PhantomData })
    }
}

impl Drop for CriticalSection {
    fn drop(&mut self) {
        // SAFETY: `enter` has returned it, and it is given back once, by the thread that took it: it is not `Send`.
        unsafe { LeaveCriticalPolicySection(self.section) };
    }
}
