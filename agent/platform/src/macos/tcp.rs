//! Whose the other end of a TCP connection within this device is. macOS has no call that names the user of one connection, so
//! its own program is asked, which sees the sockets of this user's processes (lsof(8)).

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

/// Whether the client of a connection is a process of the user who runs this one; `None` if it is not among them.
///
/// # Errors
/// The program could not be run.
pub(crate) fn client_is_own(client: SocketAddr, server: SocketAddr) -> io::Result<Option<bool>> {
    let user = nix::unistd::geteuid().to_string();
    let port = format!("-iTCP:{}", client.port());
    let output = Command::new("/usr/sbin/lsof")
        .args(["-bnPw", "-a", "-u", &user, &port, "-Fn"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let wanted = format!("n{client}->{server}");
    let found = String::from_utf8_lossy(&output.stdout).lines().any(|line| line == wanted);
    Ok(found.then_some(true))
}

/// The ranges of ports that the system keeps for itself: none that a program could not ask for.
pub(crate) fn reserved_ranges() -> Vec<RangeInclusive<u16>> {
    Vec::new()
}
