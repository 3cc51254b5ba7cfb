//! Whose the other end of a TCP connection within this device is: the process that the table of connections names, and its
//! user.

mod ffi;

use std::io;
use std::net::SocketAddr;
use std::os::windows::io::AsHandle as _;

use super::process::Process;
use super::security;

/// `MIB_TCP_STATE_ESTAB` (tcpmib.h).
const ESTABLISHED: u32 = 5;

/// Whether the client of a connection is a process of the user who runs this one; `None` if there is no such connection any
/// more.
///
/// # Errors
/// The system does not say.
pub(crate) fn client_is_own(client: SocketAddr, server: SocketAddr) -> io::Result<Option<bool>> {
    let is_wanted =
        |one: &ffi::Connection| one.local == client && one.remote == server && one.state == ESTABLISHED;
    let connections = ffi::connections(client.is_ipv4())?;
    let Some(process) = connections.iter().find(|one| is_wanted(one)).map(|one| one.process) else {
        return Ok(None);
    };
    if process == 0 {
        return Err(io::Error::other("the system names no process"));
    }
    // A process that may not be opened is another user's.
    let Ok(process) = Process::open(process) else { return Ok(Some(false)) };
    Ok(Some(security::rights(process.as_handle())?.owner))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[ignore = "Wine 8 names no process of a connection; run it on Windows"]
    fn client_of_a_connection_is_found_and_is_gone_after_its_end() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, client) = listener.accept().unwrap();
            let server = accepted.local_addr().unwrap();
            assert_eq!(client_is_own(client, server).unwrap(), Some(true));
            drop((connection, accepted));
            assert_ne!(client_is_own(client, server).unwrap(), Some(true));
        }
    }
}
