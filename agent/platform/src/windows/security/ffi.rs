//! What Windows offers for users, tokens and access lists only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::windows::io::{AsRawHandle as _, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{NonNull, null_mut};

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertSidToStringSidW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SE_KERNEL_OBJECT, SetNamedSecurityInfoW,
};
use windows_sys::Win32::Security::{
    CheckTokenMembership, CopySid, CreateWellKnownSid, DACL_SECURITY_INFORMATION, DuplicateToken,
    GetSecurityDescriptorDacl, GetSecurityDescriptorOwner, GetTokenInformation, IsValidSid,
    OBJECT_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, PSID,
    SECURITY_ATTRIBUTES, SECURITY_MAX_SID_SIZE, SecurityIdentification, TOKEN_DUPLICATE, TOKEN_QUERY,
    TOKEN_USER, TokenUser, WELL_KNOWN_SID_TYPE, WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::super::ffi::{error, owned, succeeded, units, wide};

const SID_WORDS: usize = SECURITY_MAX_SID_SIZE as usize / size_of::<u32>();
/// A SID as text is far shorter than this, in UTF-16 units.
const MAXIMUM_TEXT: usize = 4096;

/// The identity of a user or group: a SID that Windows wrote. The words after its end are zero, so that equal SIDs are
/// equal arrays; words, because a SID is aligned to 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sid([u32; SID_WORDS]);

impl Sid {
    /// The account of Windows itself, which services run as.
    pub(super) fn local_system() -> io::Result<Self> {
        Self::well_known(WinLocalSystemSid)
    }

    /// The group of administrators.
    pub(super) fn administrators() -> io::Result<Self> {
        Self::well_known(WinBuiltinAdministratorsSid)
    }

    /// `S-1-5-...`.
    pub(super) fn text(&self) -> io::Result<String> {
        let mut text = null_mut();
        // SAFETY: `self` holds a SID, which is only read. A text is allocated with `LocalAlloc` and ends in NUL, and
        // only `LocalText` has the pointer.
        let text = unsafe {
            succeeded(ConvertSidToStringSidW(self.as_ptr(), &raw mut text))?;
            LocalText::owned(text)?
        };
        Ok(text.read())
    }

    fn well_known(kind: WELL_KNOWN_SID_TYPE) -> io::Result<Self> {
        let mut sid = [0; SID_WORDS];
        let mut length = SECURITY_MAX_SID_SIZE;
        // SAFETY: the buffer has the length that is passed and the alignment of a SID; these SIDs need no domain.
        succeeded(unsafe { CreateWellKnownSid(kind, null_mut(), sid.as_mut_ptr().cast(), &raw mut length) })?;
        Ok(Self(sid))
    }

    /// Copies a SID.
    ///
    /// # Safety
    /// The pointer is null, or points to what Windows wrote as a SID and lives as long as the call.
    unsafe fn copy(sid: PSID) -> io::Result<Self> {
        let mut copy = [0; SID_WORDS];
        // SAFETY: it is not null, so the caller promises that it points to a SID; what has the form of one is not
        // longer than the buffer, whose length is passed.
        unsafe {
            if sid.is_null() || IsValidSid(sid) == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the system names no user"));
            }
            succeeded(CopySid(SECURITY_MAX_SID_SIZE, copy.as_mut_ptr().cast(), sid))?;
        }
        Ok(Self(copy))
    }

    /// For functions that only read it.
    fn as_ptr(&self) -> PSID {
        self.0.as_ptr().cast_mut().cast()
    }
}

/// What a process may do, and as whom.
pub(super) struct Token(OwnedHandle);

impl Token {
    /// The token of a process.
    pub(super) fn of(process: BorrowedHandle<'_>) -> io::Result<Self> {
        let mut token = null_mut();
        // SAFETY: a borrowed handle is open. The new handle is given to `owned` alone.
        unsafe {
            succeeded(OpenProcessToken(
                process.as_raw_handle(),
                TOKEN_QUERY | TOKEN_DUPLICATE,
                &raw mut token,
            ))?;
            owned(token).map(Self)
        }
    }

    /// The token of this process.
    pub(super) fn own() -> io::Result<Self> {
        // SAFETY: this pseudo handle is valid as long as the process runs, and is not closed.
        Self::of(unsafe { BorrowedHandle::borrow_raw(GetCurrentProcess()) })
    }

    /// Its user.
    pub(super) fn user(&self) -> io::Result<Sid> {
        #[repr(C)]
        struct Buffer {
            user: TOKEN_USER,
            sid: [u32; SID_WORDS],
        }
        let mut buffer = Buffer { user: TOKEN_USER::default(), sid: [0; SID_WORDS] };
        let mut length = 0;
        // SAFETY: `self` owns the token, so it is open. The buffer lives as long as the call, has the length that is
        // passed, and begins with what `TokenUser` means; the SID comes after it.
        succeeded(unsafe {
            GetTokenInformation(
                self.0.as_raw_handle(),
                TokenUser,
                (&raw mut buffer).cast(),
                units(size_of::<Buffer>()),
                &raw mut length,
            )
        })?;
        if (length as usize) < size_of::<TOKEN_USER>() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the system names no user"));
        }
        // SAFETY: Windows has written a TOKEN_USER, whose pointer is to a SID in the same buffer. That has not moved.
        unsafe { Sid::copy(buffer.user.User.Sid) }
    }

    /// Whether it has a group that counts now: that of administrators only if it is elevated.
    pub(super) fn has_group(&self, group: &Sid) -> io::Result<bool> {
        let (mut copy, mut member) = (null_mut(), 0);
        // SAFETY: `self` owns the token, so it is open. Its copy is given to `owned` alone and lives as long as the
        // second call; the group is a SID that is only read.
        unsafe {
            succeeded(DuplicateToken(self.0.as_raw_handle(), SecurityIdentification, &raw mut copy))?;
            let copy = owned(copy)?;
            succeeded(CheckTokenMembership(copy.as_raw_handle(), group.as_ptr(), &raw mut member))?;
        }
        Ok(member != 0)
    }
}

/// The owner of a file or folder.
pub(super) fn owner(path: &Path) -> io::Result<Sid> {
    let descriptor = descriptor_of(path, OWNER_SECURITY_INFORMATION)?;
    let (mut owner, mut defaulted) = (null_mut(), 0);
    // SAFETY: `descriptor` owns the descriptor, so it lives longer than the owner, which is inside it. Windows has written the
    // owner: null, or a SID.
    unsafe {
        succeeded(GetSecurityDescriptorOwner(descriptor.0.as_ptr(), &raw mut owner, &raw mut defaulted))?;
        Sid::copy(owner)
    }
}

/// The access list of a file or folder, as text.
pub(super) fn access_of(path: &Path) -> io::Result<String> {
    descriptor_of(path, DACL_SECURITY_INFORMATION)?.text()
}

/// Parts of the security descriptor of a file or folder.
fn descriptor_of(path: &Path, parts: OBJECT_SECURITY_INFORMATION) -> io::Result<Descriptor> {
    let mut descriptor = null_mut();
    // SAFETY: the path ends in NUL and lives as long as the call; what is null is optional.
    let code = unsafe {
        GetNamedSecurityInfoW(
            wide(path).as_ptr(),
            SE_FILE_OBJECT,
            parts,
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut descriptor,
        )
    };
    if code != ERROR_SUCCESS {
        return Err(error(code));
    }
    // SAFETY: Windows allocated the descriptor with `LocalAlloc`, and only `Local` has it.
    unsafe { Local::owned(descriptor) }.map(Descriptor)
}

/// Gives a file or folder an access list that inherits nothing from above. What is in a folder inherits it.
pub(super) fn set_access(path: &Path, access: &Descriptor) -> io::Result<()> {
    let (mut present, mut defaulted, mut list) = (0, 0, null_mut());
    // SAFETY: `access` owns the descriptor, so it lives longer than the list, which is inside it. The path ends in NUL and
    // lives as long as the call; what is null is optional, and not changed.
    let code = unsafe {
        succeeded(GetSecurityDescriptorDacl(
            access.0.as_ptr(),
            &raw mut present,
            &raw mut list,
            &raw mut defaulted,
        ))?;
        if present == 0 || list.is_null() {
            // Without a list, everybody would have access.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no access list"));
        }
        SetNamedSecurityInfoW(
            wide(path).as_ptr(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION,
            null_mut(),
            null_mut(),
            list,
            null_mut(),
        )
    };
    if code == ERROR_SUCCESS { Ok(()) } else { Err(error(code)) }
}

/// The owner of an open pipe.
pub(super) fn pipe_owner(pipe: BorrowedHandle<'_>) -> io::Result<Sid> {
    let (mut owner, mut descriptor) = (null_mut(), null_mut());
    // SAFETY: a borrowed handle is open; what is null is optional.
    let code = unsafe {
        GetSecurityInfo(
            pipe.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut descriptor,
        )
    };
    if code != ERROR_SUCCESS {
        return Err(error(code));
    }
    // SAFETY: Windows allocated the descriptor with `LocalAlloc`, and only `Local` has it, until the end of the block. The owner
    // is null or a SID inside it.
    unsafe {
        let _descriptor = Local::owned(descriptor)?;
        Sid::copy(owner)
    }
}

/// An access list, ready to be given to something new.
pub(in crate::os) struct Descriptor(Local<c_void>);

impl Descriptor {
    /// Reads an access list (Microsoft, "Security Descriptor Definition Language").
    pub(in crate::os) fn parse(access: &str) -> io::Result<Self> {
        let text: Vec<u16> = access.encode_utf16().chain([0]).collect();
        let mut descriptor = null_mut();
        // SAFETY: the text ends in NUL and lives as long as the call. A descriptor is allocated with `LocalAlloc`, and
        // only `Local` has it.
        unsafe {
            succeeded(ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            ))?;
            Local::owned(descriptor).map(Self)
        }
    }

    /// The access list as text, in the form that Windows gives it.
    pub(in crate::os) fn text(&self) -> io::Result<String> {
        let mut text = null_mut();
        // SAFETY: `self` owns the descriptor, which is only read. A text is allocated with `LocalAlloc` and ends in NUL, and
        // only `LocalText` has the pointer.
        let text = unsafe {
            succeeded(ConvertSecurityDescriptorToStringSecurityDescriptorW(
                self.0.as_ptr(),
                SDDL_REVISION_1,
                DACL_SECURITY_INFORMATION,
                &raw mut text,
                null_mut(),
            ))?;
            LocalText::owned(text)?
        };
        Ok(text.read())
    }

    /// The form in which functions that create something take it.
    pub(in crate::os) fn attributes(&self) -> Attributes<'_> {
        let raw = SECURITY_ATTRIBUTES {
            nLength: units(size_of::<SECURITY_ATTRIBUTES>()),
            lpSecurityDescriptor: self.0.as_ptr(),
            bInheritHandle: 0,
        };
        Attributes { raw, _descriptor: PhantomData }
    }
}

/// Attributes that point to a descriptor, which they borrow.
pub(in crate::os) struct Attributes<'a> {
    raw: SECURITY_ATTRIBUTES,
    _descriptor: PhantomData<&'a Descriptor>,
}

impl Attributes<'_> {
    /// Valid as long as `self`.
    pub(in crate::os) fn as_ptr(&self) -> *const SECURITY_ATTRIBUTES {
        &raw const self.raw
    }
}

/// Memory that Windows allocated with `LocalAlloc`.
struct Local<T>(NonNull<T>);

impl<T> Local<T> {
    /// Owns what a function has just returned; null means that the function failed.
    ///
    /// # Safety
    /// The pointer is null, or it comes from `LocalAlloc` and nothing else frees it.
    unsafe fn owned(pointer: *mut T) -> io::Result<Self> {
        NonNull::new(pointer).map(Self).ok_or_else(io::Error::last_os_error)
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        // SAFETY: the caller of `owned` has promised that it comes from `LocalAlloc` and that nothing else frees it.
        unsafe { LocalFree(self.0.as_ptr().cast()) };
    }
}

/// A text that Windows allocated with `LocalAlloc`: UTF-16 that ends in NUL.
struct LocalText(Local<u16>);

impl LocalText {
    /// Owns a text that a function has just returned; null means that the function failed.
    ///
    /// # Safety
    /// As for [`Local::owned`], and the text ends in NUL.
    unsafe fn owned(text: *mut u16) -> io::Result<Self> {
        // SAFETY: the caller promises the same.
        unsafe { Local::owned(text) }.map(Self)
    }

    fn read(&self) -> String {
        let text = self.0.as_ptr();
        // SAFETY: the caller of `owned` has promised a NUL at the end, and nothing behind it is read. Nothing changes
        // the text while `self` is borrowed.
        let units = unsafe {
            let length = (0..MAXIMUM_TEXT).take_while(|&index| *text.add(index) != 0).count();
            std::slice::from_raw_parts(text, length)
        };
        String::from_utf16_lossy(units)
    }
}
