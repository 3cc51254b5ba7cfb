//! Whose the other end of a TCP connection within this device is: the process that the table of connections names, and its
//! user.

mod ffi;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::windows::io::AsHandle as _;
use std::os::windows::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use super::process::Process;
use super::security;
use crate::environment;

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

/// The ranges of ports that Windows keeps for Hyper-V, WSL, containers or an administrator, as its own program lists them;
/// none if it cannot be asked. There is no function for it.
pub(crate) fn reserved_ranges() -> Vec<RangeInclusive<u16>> {
    let system = environment::directory("SystemRoot").unwrap_or_else(|| PathBuf::from(r"C:\Windows"));
    let output = Command::new(system.join(r"System32\netsh.exe"))
        .args(["int", "ipv4", "show", "excludedportrange", "protocol=tcp"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .creation_flags(CREATE_NO_WINDOW)
        .output();
    output.map(|output| ranges_in(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// The lines with two numbers, whatever the language. A star marks a range of an administrator's, which does not keep programs
/// out.
fn ranges_in(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(first..=last)
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn reserved_ranges_are_read_in_any_language() {
        // As Windows 11 prints it.
        let text = "\r\nProtokoll tcp Portausschlussbereiche\r\n\r\nStartport    Endport      \r\n----------    --------      \r\n\
                    \u{20}     5357        5357      \r\n     18062       18161      \r\n     50000       50059     *\r\n\r\n\
                    * - Verwaltete Portausschlüsse.\r\n\r\n";
        assert_eq!(ranges_in(text), [5357..=5357, 18062..=18161]);
        assert_eq!(ranges_in("The syntax is wrong: 1 2 3"), []);
        assert!(reserved_ranges().iter().all(|range| range.start() <= range.end()));
    }

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
