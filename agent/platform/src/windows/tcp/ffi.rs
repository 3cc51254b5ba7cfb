//! The table of TCP connections, which Windows offers only as a C function.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{GetExtendedTcpTable, TCP_TABLE_OWNER_PID_CONNECTIONS};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};

use super::super::ffi::error;

/// The table may grow between two calls.
const TRIES: usize = 5;
/// It has 24 or 56 bytes for each connection.
const MAXIMUM_BYTES: u32 = 16 * 1024 * 1024;

/// One end of a connection, as its process has it.
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// 0 if the system does not say.
    pub(super) process: u32,
    /// `MIB_TCP_STATE`; what is not established has no process any more.
    pub(super) state: u32,
}

/// Every TCP connection of this device.
pub(super) fn connections(ipv4: bool) -> io::Result<Vec<Connection>> {
    let family = u32::from(if ipv4 { AF_INET } else { AF_INET6 });
    let mut size = 64 * 1024;
    for _ in 0..TRIES {
        let mut table = vec![0_u8; size as usize];
        // SAFETY: the buffer has as many bytes as its size says, and lives as long as the call.
        let code = unsafe {
            GetExtendedTcpTable(
                table.as_mut_ptr().cast(),
                &raw mut size,
                0,
                family,
                TCP_TABLE_OWNER_PID_CONNECTIONS,
                0,
            )
        };
        match code {
            NO_ERROR => return Ok(rows(&table, ipv4)),
            ERROR_INSUFFICIENT_BUFFER if size <= MAXIMUM_BYTES => {}
            code => return Err(error(code)),
        }
    }
    Err(io::Error::other("the table of connections grows faster than it can be read"))
}

/// The rows of a table: a count, and so many structures (Microsoft, `MIB_TCPROW_OWNER_PID`, `MIB_TCP6ROW_OWNER_PID`).
fn rows(table: &[u8], ipv4: bool) -> Vec<Connection> {
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map_or(0, |four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
    };
    // Only the lower half is a port, in the order of the network.
    let port =
        |bytes: &[u8], at: usize| bytes.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    let count = number(table, 0) as usize;
    let length = if ipv4 { 24 } else { 56 };
    let row = |row: &[u8]| {
        if ipv4 {
            let address = |at: usize| Ipv4Addr::from(number(row, at).to_ne_bytes());
            return Connection {
                local: (address(4), port(row, 8)).into(),
                remote: (address(12), port(row, 16)).into(),
                process: number(row, 20),
                state: number(row, 0),
            };
        }
        let address = |at: usize| {
            let octets = row.get(at..at + 16).and_then(|octets| <[u8; 16]>::try_from(octets).ok());
            Ipv6Addr::from(octets.unwrap_or_default())
        };
        Connection {
            local: (address(0), port(row, 20)).into(),
            remote: (address(24), port(row, 44)).into(),
            process: number(row, 52),
            state: number(row, 48),
        }
    };
    table.get(4..).unwrap_or_default().chunks_exact(length).take(count).map(row).collect()
}
