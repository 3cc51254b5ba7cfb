//! What Windows offers only as C functions.
#![expect(unsafe_code, reason = "the one place that calls C")]

use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::windows::io::{AsRawHandle as _, AsRawSocket as _, FromRawHandle as _, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use policy_schema::read::registry::{MAXIMUM_VALUE, RegistryValue};
use tokio::net::TcpSocket;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer, ServerOptions};
use windows_registry::Key;
use windows_sys::Win32::Foundation::{
    ERROR_MORE_DATA, ERROR_NO_MORE_ITEMS, ERROR_SUCCESS, FILETIME, HANDLE, INVALID_HANDLE_VALUE, LocalFree,
    WAIT_OBJECT_0,
};
use windows_sys::Win32::Networking::WinSock::{SO_EXCLUSIVEADDRUSE, SOL_SOCKET, setsockopt};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW,
    SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    CheckTokenMembership, CreateWellKnownSid, DuplicateToken, EqualSid, GetTokenInformation, IsWellKnownSid,
    OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, SecurityIdentification,
    TOKEN_DUPLICATE, TOKEN_QUERY, TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, CreateFileW, FILE_FLAG_OVERLAPPED, GetDiskFreeSpaceExW, OPEN_EXISTING,
    SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT,
};
use windows_sys::Win32::System::Pipes::GetNamedPipeClientProcessId;
use windows_sys::Win32::System::Registry::{
    REG_NOTIFY_CHANGE_ATTRIBUTES, REG_NOTIFY_CHANGE_LAST_SET, REG_NOTIFY_CHANGE_NAME,
    REG_NOTIFY_CHANGE_SECURITY, REG_NOTIFY_THREAD_AGNOSTIC, RegEnumKeyExW, RegEnumValueW,
    RegNotifyChangeKeyValue, RegQueryInfoKeyW,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, GetCurrentProcess, INFINITE, OpenProcess, OpenProcessToken,
    PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW, SetEvent, WaitForMultipleObjects,
};

/// The longest name of a value has 16383 characters, that of a key 255 (Microsoft, "Registry element size limits").
const LONGEST_VALUE_NAME: usize = 16_384;
const LONGEST_KEY_NAME: usize = 256;
/// How often a key that is being written to is read.
const READS: u32 = 20;
/// To read and write data and attributes, but not to make another instance (Microsoft, "Named Pipe Security and Access
/// Rights": FILE_GENERIC_READ and FILE_GENERIC_WRITE without FILE_CREATE_PIPE_INSTANCE).
pub(super) const PIPE_RIGHTS: u32 = 0x0012_019b;

/// Every value of a key. A value that is too large to be policy is named but not read. They are counted by number, so
/// a value that goes meanwhile would hide another: it is read again until nothing has changed.
pub(super) fn values(key: &Key) -> io::Result<Vec<RegistryValue>> {
    for _ in 0..READS {
        let (longest, before) = facts(key)?;
        let values = values_once(key, longest)?;
        if facts(key)?.1 == before {
            return Ok(values);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the key does not stop changing"))
}

fn values_once(key: &Key, longest: usize) -> io::Result<Vec<RegistryValue>> {
    let mut name = vec![0_u16; LONGEST_VALUE_NAME];
    let mut data = vec![0_u8; longest.clamp(1024, MAXIMUM_VALUE)];
    let mut values = Vec::new();
    loop {
        let index = u32::try_from(values.len()).map_err(io::Error::other)?;
        let (mut name_length, mut length, mut kind) = (units(name.len()), units(data.len()), 0);
        // SAFETY: the key is open; each buffer is as long as its length says.
        let code = unsafe {
            RegEnumValueW(
                key.as_raw(),
                index,
                name.as_mut_ptr(),
                &raw mut name_length,
                null(),
                &raw mut kind,
                data.as_mut_ptr(),
                &raw mut length,
            )
        };
        let bytes = match code {
            ERROR_SUCCESS => data[..length as usize].to_vec(),
            ERROR_NO_MORE_ITEMS => return Ok(values),
            // It has grown since the longest was asked for.
            ERROR_MORE_DATA if data.len() < MAXIMUM_VALUE => {
                data.resize((data.len() * 2).min(MAXIMUM_VALUE), 0);
                continue;
            }
            ERROR_MORE_DATA => vec![0; MAXIMUM_VALUE + 1],
            code => return Err(error(code)),
        };
        let name = String::from_utf16_lossy(&name[..name_length as usize]);
        values.push(RegistryValue { name, kind, bytes });
    }
}

/// Lets nobody else bind the port that a socket will be bound to. Without it, a program of any user may take a share of
/// the port with `SO_REUSEADDR` (Microsoft, "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE").
pub(super) fn use_port_exclusively(socket: &TcpSocket) -> io::Result<()> {
    let on = 1_i32;
    let socket = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the socket is open; the value has the four bytes that its length says.
    let failed = unsafe { setsockopt(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (&raw const on).cast(), 4) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The names of all subkeys of a key.
pub(super) fn subkeys(key: &Key) -> io::Result<Vec<String>> {
    let mut name = vec![0_u16; LONGEST_KEY_NAME];
    let mut names = Vec::new();
    loop {
        let index = u32::try_from(names.len()).map_err(io::Error::other)?;
        let mut length = units(name.len());
        // SAFETY: the key is open; the buffer is as long as its length says.
        let code = unsafe {
            RegEnumKeyExW(
                key.as_raw(),
                index,
                name.as_mut_ptr(),
                &raw mut length,
                null(),
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        match code {
            ERROR_SUCCESS => names.push(String::from_utf16_lossy(&name[..length as usize])),
            ERROR_NO_MORE_ITEMS => return Ok(names),
            code => return Err(error(code)),
        }
    }
}

/// The length of the longest value of a key, and when it was last written to.
fn facts(key: &Key) -> io::Result<(usize, u64)> {
    let mut longest = 0;
    let mut written = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    // SAFETY: the key is open; every place that is not null can hold what is written to it.
    let code = unsafe {
        RegQueryInfoKeyW(
            key.as_raw(),
            null_mut(),
            null_mut(),
            null(),
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut longest,
            null_mut(),
            &raw mut written,
        )
    };
    if code != ERROR_SUCCESS {
        return Err(error(code));
    }
    Ok((longest as usize, u64::from(written.dwHighDateTime) << 32 | u64::from(written.dwLowDateTime)))
}

/// Sets the signal at the next change of a key: once, and never again before it is asked for anew. With `inside`, at
/// any change of its values and of what lies below; else only when a subkey comes or goes.
pub(super) fn notify(key: &Key, inside: bool, signal: &Signal) -> io::Result<()> {
    let filter = if inside {
        REG_NOTIFY_CHANGE_NAME
            | REG_NOTIFY_CHANGE_ATTRIBUTES
            | REG_NOTIFY_CHANGE_LAST_SET
            | REG_NOTIFY_CHANGE_SECURITY
    } else {
        REG_NOTIFY_CHANGE_NAME
    };
    // SAFETY: the key and the event are open. The one who asks keeps the event open as long as the key.
    let code = unsafe {
        RegNotifyChangeKeyValue(
            key.as_raw(),
            inside.into(),
            filter | REG_NOTIFY_THREAD_AGNOSTIC,
            signal.0.as_raw_handle(),
            1,
        )
    };
    if code == ERROR_SUCCESS { Ok(()) } else { Err(error(code)) }
}

/// Something that one thread can wait for and that takes itself back when it was seen (an auto-reset event).
#[derive(Debug)]
pub(super) struct Signal(OwnedHandle);

impl Signal {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the handle is checked and owned from here on.
        unsafe { owned(CreateEventW(null(), 0, 0, null())) }.map(Self)
    }

    pub(super) fn set(&self) -> io::Result<()> {
        // SAFETY: the event is open.
        succeeded(unsafe { SetEvent(self.0.as_raw_handle()) })
    }

    /// Waits until one of at most 64 signals is set; which one.
    pub(super) fn wait_for_one(signals: &[&Self]) -> io::Result<usize> {
        let handles: Vec<HANDLE> = signals.iter().map(|signal| signal.0.as_raw_handle()).collect();
        // SAFETY: the handles are open and as many as their number says.
        let seen = unsafe { WaitForMultipleObjects(units(handles.len()), handles.as_ptr(), 0, INFINITE) };
        let index = seen.wrapping_sub(WAIT_OBJECT_0) as usize;
        if index < signals.len() { Ok(index) } else { Err(io::Error::last_os_error()) }
    }
}

/// Makes one instance of a named pipe with an access list in SDDL. Other computers cannot connect.
pub(super) fn create_pipe(name: &str, access: &str, first: bool) -> io::Result<NamedPipeServer> {
    let descriptor = Descriptor::parse(access)?;
    let mut attributes = descriptor.attributes();
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true);
    // SAFETY: the attributes and the descriptor they point to live until the call has returned.
    unsafe { options.create_with_security_attributes_raw(name, (&raw mut attributes).cast()) }
}

/// The process at the other end of a pipe.
pub(super) fn pipe_client(pipe: &NamedPipeServer) -> io::Result<u32> {
    let mut process = 0;
    // SAFETY: the pipe is open, and the number lives as long as the call.
    succeeded(unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut process) })?;
    if process == 0 { Err(io::Error::other("the system does not say who is calling")) } else { Ok(process) }
}

/// A process, to ask about it. As long as this is open, its number is given to no other.
pub(super) fn open_process(process: u32) -> io::Result<OwnedHandle> {
    // SAFETY: the handle is checked and owned from here on.
    unsafe { owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process)) }
}

/// The program that a process runs.
pub(super) fn process_program(process: &OwnedHandle) -> io::Result<PathBuf> {
    // The longest path of Windows (Microsoft, "Maximum Path Length Limitation").
    let mut path = vec![0_u16; 32_768];
    let mut length = units(path.len());
    // SAFETY: the process is open; the buffer is as long as its length says.
    succeeded(unsafe {
        QueryFullProcessImageNameW(process.as_raw_handle(), 0, path.as_mut_ptr(), &raw mut length)
    })?;
    Ok(OsString::from_wide(&path[..length as usize]).into())
}

/// Whether a process runs as the user of this one, and whether as an administrator (elevated).
pub(super) fn process_rights(process: &OwnedHandle) -> io::Result<(bool, bool)> {
    let theirs = token(process.as_raw_handle())?;
    // SAFETY: this pseudo handle is always valid and needs no closing.
    let ours = token(unsafe { GetCurrentProcess() })?;
    let (theirs_user, ours_user) = (user(&theirs)?, user(&ours)?);
    // SAFETY: both buffers hold what TOKEN_USER describes, as `user` made sure.
    let same = unsafe { EqualSid(sid(&theirs_user), sid(&ours_user)) != 0 };
    Ok((same, is_administrator(&theirs)?))
}

/// The user who runs this process, as a SID in text.
pub(super) fn own_user() -> io::Result<String> {
    // SAFETY: this pseudo handle is always valid and needs no closing.
    let user = user(&token(unsafe { GetCurrentProcess() })?)?;
    let mut text = null_mut();
    // SAFETY: the buffer holds a SID, as `user` made sure; the text is freed below.
    succeeded(unsafe { ConvertSidToStringSidW(sid(&user), &raw mut text) })?;
    Ok(take_text(text))
}

/// Whether a file or folder belongs to the system, to administrators or to the user who runs this process.
pub(super) fn is_trustworthy(path: &Path) -> io::Result<bool> {
    let (mut owner, mut descriptor) = (null_mut(), null_mut());
    // SAFETY: the path ends in NUL; the descriptor is freed when it is dropped, and the owner points into it.
    let code = unsafe {
        GetNamedSecurityInfoW(
            wide(path).as_ptr(),
            SE_FILE_OBJECT,
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
    let _descriptor = Descriptor(descriptor);
    // SAFETY: this pseudo handle is always valid and needs no closing.
    let ours = user(&token(unsafe { GetCurrentProcess() })?)?;
    // SAFETY: the owner is a SID inside the descriptor, which lives; ours is one, as `user` made sure.
    Ok(unsafe {
        IsWellKnownSid(owner, WinLocalSystemSid) != 0
            || IsWellKnownSid(owner, WinBuiltinAdministratorsSid) != 0
            || EqualSid(owner, sid(&ours)) != 0
    })
}

/// Connects to a pipe with exactly the rights that reading and writing need. What is usually asked for includes the
/// right to serve the pipe, which the agent gives to nobody. The server learns who is calling and can do no more.
pub(super) fn open_pipe(name: &Path) -> io::Result<NamedPipeClient> {
    // SAFETY: the name ends in NUL; the handle is checked below.
    let handle = unsafe {
        CreateFileW(
            wide(name).as_ptr(),
            PIPE_RIGHTS,
            0,
            null(),
            OPEN_EXISTING,
            FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION,
            null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is a pipe that was opened for overlapped use, and nobody else closes it.
    unsafe { NamedPipeClient::from_raw_handle(handle) }
}

/// Makes one folder with an access list in SDDL.
pub(super) fn create_folder(path: &Path, access: &str) -> io::Result<()> {
    let descriptor = Descriptor::parse(access)?;
    let attributes = descriptor.attributes();
    // SAFETY: the path ends in NUL; the attributes and what they point to live until the call has returned.
    succeeded(unsafe { CreateDirectoryW(wide(path).as_ptr(), &raw const attributes) })
}

/// How many bytes this process may still write where a folder lies.
pub(super) fn free_space(folder: &Path) -> io::Result<u64> {
    let mut free = 0;
    // SAFETY: the path ends in NUL; the number lives as long as the call.
    succeeded(unsafe { GetDiskFreeSpaceExW(wide(folder).as_ptr(), &raw mut free, null_mut(), null_mut()) })?;
    Ok(free)
}

/// A security descriptor that Windows allocated.
struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    fn parse(access: &str) -> io::Result<Self> {
        let text: Vec<u16> = access.encode_utf16().chain([0]).collect();
        let mut descriptor = null_mut();
        // SAFETY: the text ends in NUL; the descriptor is freed when it is dropped.
        succeeded(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        })?;
        Ok(Self(descriptor))
    }

    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: units(size_of::<SECURITY_ATTRIBUTES>()),
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: Windows allocated it with LocalAlloc, and nobody else frees it.
        unsafe { LocalFree(self.0) };
    }
}

fn token(process: HANDLE) -> io::Result<OwnedHandle> {
    let mut token = null_mut();
    // SAFETY: the process is open; the token is checked and owned from here on.
    unsafe {
        succeeded(OpenProcessToken(process, TOKEN_QUERY | TOKEN_DUPLICATE, &raw mut token))?;
        owned(token)
    }
}

/// The user of a token, as a TOKEN_USER with its SID behind it.
fn user(token: &OwnedHandle) -> io::Result<Vec<u64>> {
    // A SID has at most 68 bytes, TOKEN_USER 16; u64 keeps the alignment that it needs.
    let mut buffer = vec![0_u64; 16];
    let mut length = 0;
    // SAFETY: the token is open; the buffer is as long as it says.
    succeeded(unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            units(buffer.len() * 8),
            &raw mut length,
        )
    })?;
    Ok(buffer)
}

fn sid(user: &[u64]) -> windows_sys::Win32::Security::PSID {
    // SAFETY: `user` filled the buffer with a TOKEN_USER, which is aligned to 8 bytes.
    unsafe { (*user.as_ptr().cast::<TOKEN_USER>()).User.Sid }
}

fn is_administrator(token: &OwnedHandle) -> io::Result<bool> {
    let mut administrators = [0_u64; 9];
    let mut length = units(size_of_val(&administrators));
    let mut copy = null_mut();
    let mut member = 0;
    // SAFETY: the buffer is as long as it says and holds any SID; the token is open; its copy is owned from here on.
    unsafe {
        succeeded(CreateWellKnownSid(
            WinBuiltinAdministratorsSid,
            null_mut(),
            administrators.as_mut_ptr().cast(),
            &raw mut length,
        ))?;
        succeeded(DuplicateToken(token.as_raw_handle(), SecurityIdentification, &raw mut copy))?;
        let copy = owned(copy)?;
        succeeded(CheckTokenMembership(
            copy.as_raw_handle(),
            administrators.as_mut_ptr().cast(),
            &raw mut member,
        ))?;
    }
    Ok(member != 0)
}

/// Takes a handle over.
///
/// # Safety
/// Nobody else closes it.
unsafe fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is not null, and the caller gives it away.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Takes a text over that Windows allocated with LocalAlloc.
fn take_text(text: *mut u16) -> String {
    // SAFETY: Windows ends such texts with NUL.
    let units = unsafe {
        let length = (0..).take_while(|&index| *text.add(index) != 0).count();
        std::slice::from_raw_parts(text, length)
    };
    let taken = String::from_utf16_lossy(units);
    // SAFETY: it came from LocalAlloc and is used no more.
    unsafe { LocalFree(text.cast()) };
    taken
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

fn units(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code.cast_signed())
}
