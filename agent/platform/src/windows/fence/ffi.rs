//! What Windows offers for job objects only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};
use std::ptr::null;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};

use super::super::ffi::succeeded;

/// A job whose processes end when it is dropped.
pub(super) struct Job(OwnedHandle);

impl Job {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: both pointers may be null: no name, and the access list of this process.
        let handle = unsafe { CreateJobObjectW(null(), null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the function has just given this handle, and nothing else owns it.
        let job = unsafe { OwnedHandle::from_raw_handle(handle) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let size = u32::try_from(size_of_val(&limits)).unwrap_or(0);
        // SAFETY: the limits are of the type that this class of information has, with their size; the job is open.
        succeeded(unsafe {
            SetInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size,
            )
        })?;
        Ok(Self(job))
    }

    /// From now on the process belongs to the job, and so does what it starts.
    pub(super) fn take(&self, process: RawHandle) -> io::Result<()> {
        // SAFETY: both handles are open: the job is borrowed, and the process is one whose end was not waited for.
        succeeded(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process) })
    }
}
