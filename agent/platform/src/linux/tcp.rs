//! Whose the other end of a TCP connection within this device is: the kernel's table of sockets, asked for one connection
//! (`sock_diag(7)`), or read as a file where the kernel does not answer that.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// `linux/sock_diag.h`, `linux/netlink.h`, `linux/tcp.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;
const HEADER: usize = 16;
/// Where `inet_diag_msg` has its user, counted from the end of the header: four bytes, the socket's identity (48), three
/// numbers of four bytes.
const USER: usize = 4 + 48 + 12;
/// The table of a busy machine has some thousand lines of 150 bytes.
const MAXIMUM_TABLE: u64 = 16 * 1024 * 1024;

/// Whether the client of a connection is a process of the user who runs this one; `None` if there is no such connection any
/// more.
///
/// # Errors
/// The system does not say.
pub(crate) fn client_is_own(client: SocketAddr, server: SocketAddr) -> io::Result<Option<bool>> {
    let user = match ask_kernel(client, server) {
        Ok(user) => user,
        Err(_) => in_table(client, server)?,
    };
    Ok(user.map(|user| user == nix::unistd::geteuid().as_raw()))
}

/// The ranges of ports that the system keeps for itself: none that a program could not ask for.
pub(crate) fn reserved_ranges() -> Vec<RangeInclusive<u16>> {
    Vec::new()
}

/// The user of the socket at the client's end.
fn ask_kernel(client: SocketAddr, server: SocketAddr) -> io::Result<Option<u32>> {
    let diag = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    // The kernel answers at once; nothing waits for it forever.
    setsockopt(&diag, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
    send(diag.as_raw_fd(), &request(client, server), MsgFlags::empty())?;
    let mut response = [0; 1024];
    let length = recv(diag.as_raw_fd(), &mut response, MsgFlags::empty())?;
    user_in(&response[..length])
}

/// `nlmsghdr` and `inet_diag_req_v2`, for exactly one socket: the client's, of which the server is the other end.
fn request(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let octets = |address: IpAddr| -> [u8; 16] {
        let mut all = [0; 16];
        match address {
            IpAddr::V4(address) => all[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => all = address.octets(),
        }
        all
    };
    let family = if client.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut body = Vec::with_capacity(56);
    body.extend([family as u8, IPPROTO_TCP, 0, 0]);
    // In whatever state.
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(client.port().to_be_bytes());
    body.extend(server.port().to_be_bytes());
    body.extend(octets(client.ip()));
    body.extend(octets(server.ip()));
    // Any interface, and no cookie.
    body.extend(0_u32.to_ne_bytes());
    body.extend([0xff; 8]);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len()).unwrap_or_default().to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// The user in a response. Of a connection that its process has closed the kernel names no user, which must not pass for
/// root.
fn user_in(message: &[u8]) -> io::Result<Option<u32>> {
    let short = || io::Error::other("a response of the kernel that is too short");
    let number = |at: usize| -> io::Result<u32> {
        let bytes = message.get(at..at + 4).ok_or_else(short)?;
        Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let kind = message.get(4..6).ok_or_else(short)?;
    match u16::from_ne_bytes([kind[0], kind[1]]) {
        SOCK_DIAG_BY_FAMILY => {
            let state = *message.get(HEADER + 1).ok_or_else(short)?;
            Ok(if state == TCP_ESTABLISHED { Some(number(HEADER + USER)?) } else { None })
        }
        NLMSG_ERROR => {
            let code = number(HEADER)?.cast_signed().unsigned_abs().cast_signed();
            if code == nix::errno::Errno::ENOENT as i32 {
                return Ok(None);
            }
            Err(io::Error::from_raw_os_error(code))
        }
        _ => Err(io::Error::other("an unexpected response of the kernel")),
    }
}

/// The same from the table as a file (proc(5), `/proc/net/tcp`).
fn in_table(client: SocketAddr, server: SocketAddr) -> io::Result<Option<u32>> {
    let path = if client.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let mut table = String::new();
    fs_err::File::open(path)?.take(MAXIMUM_TABLE).read_to_string(&mut table)?;
    Ok(user_of_line(&table, client, server))
}

fn user_of_line(table: &str, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    use std::fmt::Write as _;
    // Addresses are written as numbers of 32 bits in the machine's own order.
    let end = |address: SocketAddr| {
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut text = String::new();
        for four in octets.chunks_exact(4) {
            let number = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
            // Writing to a String cannot fail.
            let _ = write!(text, "{number:08X}");
        }
        format!("{text}:{:04X}", address.port())
    };
    let (local, remote) = (end(client), end(server));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, from, to, state, _, _, _, user, ..] = fields.as_slice() else { return None };
        (from == local && to == remote && state == "01").then(|| user.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn client_of_a_connection_is_found_in_both_ways_and_is_gone_after_its_end() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, client) = listener.accept().unwrap();
            let server = accepted.local_addr().unwrap();
            let own = Some(nix::unistd::geteuid().as_raw());
            assert_eq!(ask_kernel(client, server).unwrap(), own, "{address}");
            assert_eq!(in_table(client, server).unwrap(), own, "{address}");
            assert_eq!(client_is_own(client, server).unwrap(), Some(true));
            // The client is the one who connected, not whoever has the same ports the other way round.
            drop(connection);
            drop(accepted);
            assert_eq!(ask_kernel(client, server).unwrap(), None, "{address}");
            assert_eq!(in_table(client, server).unwrap(), None, "{address}");
            assert_eq!(client_is_own(client, server).unwrap(), None);
        }
    }

    #[test]
    fn another_user_is_told_apart() {
        let client = "127.0.0.1:40000".parse().unwrap();
        let server = "127.0.0.1:18080".parse().unwrap();
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:46A0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
            1: 0100007F:9C40 0100007F:46A0 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0\n\
            2: 0100007F:9C40 0100007F:46A0 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0 20 4 30 10 -1\n";
        if cfg!(target_endian = "little") {
            assert_eq!(user_of_line(table, client, server), Some(1001));
            assert_eq!(user_of_line(table, server, client), None);
        }
        let mut message = vec![0; HEADER + USER + 8];
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message[HEADER + USER..HEADER + USER + 4].copy_from_slice(&1001_u32.to_ne_bytes());
        message[HEADER + 1] = TCP_ESTABLISHED;
        assert_eq!(user_in(&message).unwrap(), Some(1001));
        // The state of a connection that waits to be forgotten.
        message[HEADER + 1] = 6;
        assert_eq!(user_in(&message).unwrap(), None);
        for length in 0..HEADER + USER + 4 {
            assert!(user_in(&message[..length]).is_err() || length > HEADER + 1, "{length}");
        }
    }
}
