//! What Windows offers for pipes and ports only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::os::windows::io::{AsRawHandle as _, AsRawSocket as _};
use std::path::Path;
use std::ptr::{null, null_mut};

use tokio::net::TcpSocket;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::Networking::WinSock::{SO_EXCLUSIVEADDRUSE, SOL_SOCKET, setsockopt};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, OPEN_EXISTING, SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT,
};
use windows_sys::Win32::System::Pipes::{GetNamedPipeClientProcessId, GetNamedPipeServerProcessId};

use super::super::ffi::{succeeded, wide};
use super::super::security::Descriptor;

/// To read and write data and attributes, but not to make another instance (Microsoft, "Named Pipe Security and Access
/// Rights": `FILE_GENERIC_READ` and `FILE_GENERIC_WRITE` without `FILE_CREATE_PIPE_INSTANCE`).
pub(super) const PIPE_RIGHTS: u32 = 0x0012_019b;

/// Makes one instance of a named pipe with an access list. Other computers cannot connect.
pub(super) fn create_pipe(name: &str, access: &Descriptor, first: bool) -> io::Result<NamedPipeServer> {
    let attributes = access.attributes();
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true);
    // SAFETY: the attributes are of the type that the function takes and are only read. They live as long as the call,
    // as does the descriptor that they borrow.
    unsafe { options.create_with_security_attributes_raw(name, attributes.as_ptr().cast_mut().cast()) }
}

/// The process that connected to a pipe.
pub(super) fn pipe_client(pipe: &NamedPipeServer) -> io::Result<u32> {
    let mut process = 0;
    // SAFETY: the pipe is borrowed, so it is open; the number is a local variable.
    succeeded(unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut process) })?;
    if process == 0 {
        Err(io::Error::other("the system does not say which process connected"))
    } else {
        Ok(process)
    }
}

/// The process that made a pipe.
pub(super) fn pipe_server(pipe: &NamedPipeClient) -> io::Result<u32> {
    let mut process = 0;
    // SAFETY: the pipe is borrowed, so it is open; the number is a local variable.
    succeeded(unsafe { GetNamedPipeServerProcessId(pipe.as_raw_handle(), &raw mut process) })?;
    if process == 0 {
        Err(io::Error::other("the system does not say which process listens"))
    } else {
        Ok(process)
    }
}

/// Connects to a pipe with exactly the rights that reading and writing need. The usual rights include that to
/// serve the pipe, which the agent gives to no other user. The server learns who the caller is and can do no more.
pub(super) fn open_pipe(name: &Path) -> io::Result<NamedPipeClient> {
    let name = wide(name);
    // SAFETY: the name ends in NUL and lives as long as the call; what is null is optional.
    let handle = unsafe {
        CreateFileW(
            name.as_ptr(),
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
    // SAFETY: the handle is open, was opened for overlapped use, and is given away here.
    unsafe { NamedPipeClient::from_raw_handle(handle) }
}

/// Keeps other processes from binding the port that a socket will be bound to. Without it, a program of any user may
/// share the port with `SO_REUSEADDR` (Microsoft, "Using `SO_REUSEADDR` and `SO_EXCLUSIVEADDRUSE`").
pub(super) fn use_port_exclusively(socket: &TcpSocket) -> io::Result<()> {
    let on = 1_i32;
    let socket = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the socket is borrowed, so it is open. The value lives as long as the call and has the four bytes that
    // its length says.
    let failed = unsafe { setsockopt(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (&raw const on).cast(), 4) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
