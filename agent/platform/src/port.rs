//! TCP ports of this device: listening at one, and which process listens at one. Portable; each operating system keeps
//! other processes from a port in its own way.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use listeners::{Protocol, SocketState};
use tokio::net::{TcpListener, TcpSocket};

use crate::os::{ipc, tcp};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 128;

/// A process that listens at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its ID.
    pub process: u32,
    /// The name of its program.
    pub name: String,
    /// The path of its program, if the system says so.
    pub program: Option<PathBuf>,
}

/// Listens at an address that no other process can share, whatever options it sets.
///
/// # Errors
/// Another process listens there (`AddrInUse`), or the system refused.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    ipc::use_port_exclusively(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether listening failed because the system has no addresses of that family, or no such family at all (`EAFNOSUPPORT`).
#[must_use]
pub fn lacks_family(error: &io::Error) -> bool {
    // As Linux, macOS and Windows number it.
    error.kind() == io::ErrorKind::AddrNotAvailable || matches!(error.raw_os_error(), Some(97 | 47 | 10047))
}

/// The range of ports that the system keeps for something else and that this one is in: Windows reserves some for Hyper-V, WSL
/// and containers, and no program may listen there. May take a moment.
#[must_use]
pub fn reserved_range(port: u16) -> Option<RangeInclusive<u16>> {
    tcp::reserved_ranges().into_iter().find(|range| range.contains(&port))
}

/// How an administrator sees the ranges.
pub const SHOW_RESERVED: &str = "netsh int ipv4 show excludedportrange protocol=tcp";

/// Whose a connection to a port of this device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A process of the user who runs this one.
    Own,
    /// Another user's, or nobody's any more.
    Other,
    /// The system does not say.
    Unknown,
}

/// Whose the client of a connection is. Reads what the system knows of connections, which may take a moment.
#[must_use]
pub fn client(client: SocketAddr, server: SocketAddr) -> Client {
    match tcp::client_is_own(client, server) {
        Ok(Some(true)) => Client::Own,
        Ok(Some(false) | None) => Client::Other,
        Err(_) => Client::Unknown,
    }
}

/// The process that listens at a port of loopback; `None` if there is none, or it is another user's and the system does not
/// say.
#[must_use]
pub fn holder(port: u16) -> Option<Holder> {
    let is_wanted = |one: &listeners::Listener| {
        let address = one.socket.ip().to_canonical();
        one.protocol == Protocol::TCP
            && one.state == SocketState::Listen
            && one.socket.port() == port
            && (address.is_loopback() || address.is_unspecified())
    };
    let found = listeners::get_all().ok()?.into_iter().find(is_wanted)?.process;
    // Linux says so of a program whose file was replaced while it ran, as by an update.
    let path = found.path.strip_suffix(" (deleted)").unwrap_or(&found.path);
    let program = Some(path).filter(|path| !path.is_empty()).map(PathBuf::from);
    Some(Holder { process: found.pid, name: found.name, program })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listening_port_is_exclusive_and_free_again_after_close() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let first = listen(address.parse().unwrap()).unwrap();
            let taken = first.local_addr().unwrap();
            assert_eq!(listen(taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            // On Windows, this option alone lets a program take a share of another's port.
            let intruder = if taken.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
            intruder.set_reuseaddr(true).unwrap();
            assert!(intruder.bind(taken).and_then(|()| intruder.listen(1)).is_err(), "{address}");
            // Connections of a moment ago do not hold the port of the next sign-in.
            let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(taken), first.accept());
            drop((accepted.unwrap(), first));
            drop(client.unwrap());
            listen(taken).unwrap();
        }
    }

    #[test]
    #[cfg_attr(windows, ignore = "Wine 8 finds no owner here; on Windows itself it was not tried")]
    fn listening_process_is_found_on_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let found = holder(port).unwrap();
            assert_eq!(found.process, std::process::id(), "{address}");
            assert_eq!(found.program.unwrap(), std::env::current_exe().unwrap());
            drop(listener);
            assert_eq!(holder(port), None);
        }
    }
}
