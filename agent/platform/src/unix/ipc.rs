//! Local APIs: Unix sockets and who is at the other end.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::{TcpSocket, UnixListener, UnixStream};

use super::file::{self, Access};
use crate::os::program::{Process, Program};

/// One connection, as the side that listens has it.
pub type Stream = UnixStream;
/// One connection, as the side that connects has it.
pub type Connection = UnixStream;

/// A local API that listens.
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// The next connection, and who is at the other end if the kernel says so.
    ///
    /// # Errors
    /// The system refused, for example for want of file descriptors; a later call may succeed.
    pub async fn accept(&mut self) -> io::Result<(Stream, Option<Peer>)> {
        let (stream, _) = self.0.accept().await?;
        let peer = peer(&stream).ok();
        Ok((stream, peer))
    }
}

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every local user.
    Everybody,
    /// The user who runs this process.
    Owner,
}

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Debug)]
pub struct Peer {
    user: u32,
    process: Option<Process>,
}

impl Peer {
    /// Process ID when it connected.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Equal for connections of the same user.
    #[must_use]
    pub fn key(&self) -> u64 {
        u64::from(self.user)
    }

    /// The program that it runs now.
    ///
    /// # Errors
    /// The process has ended, or the system does not say.
    pub fn program(&self) -> io::Result<Program> {
        self.process.as_ref().ok_or_else(|| io::Error::other("the process has ended"))?.program()
    }

    /// Whether it may change what the machine does: root, or whoever runs this process.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.user == 0 || self.is_owner()
    }

    /// Whether it is the user who runs this process.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.user == nix::unistd::geteuid().as_raw()
    }
}

/// Listens on a socket. One that a dead process left is replaced; one that answers is an error.
///
/// # Errors
/// Another process answers there (`AddrInUse`), or the system refused.
pub fn listen(path: &Path, audience: Audience) -> io::Result<Listener> {
    let (folder, mode) = match audience {
        Audience::Everybody => (Access::Public, 0o666),
        Audience::Owner => (Access::Private, 0o600),
    };
    if let Some(parent) = path.parent() {
        file::create_folder(parent, folder)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another process already answers at {}", path.display()),
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs_err::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to listen at {}: {error}", path.display()))
    })?;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(Listener(listener))
}

/// Connects to a socket.
///
/// # Errors
/// Nobody listens there, or the system refused.
pub async fn connect(path: &Path) -> io::Result<Connection> {
    UnixStream::connect(path).await
}

/// Takes away what a listener that has ended leaves behind.
///
/// # Errors
/// The system refused.
pub fn remove(path: &Path) -> io::Result<()> {
    file::remove(path)
}

/// Makes a TCP port ours alone once it is bound. Unix shares no port that is listened at; this option only lets one be
/// taken again while connections of before are still remembered.
pub(crate) fn keep_port_to_ourselves(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)
}

fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    let process = credentials.pid().and_then(|process| Process::at_the_other_end(stream, process).ok());
    Ok(Peer { user: credentials.uid(), process })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_by_a_dead_process_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steward/agent.sock");
        let first = listen(&path, Audience::Everybody).unwrap();
        assert_eq!(listen(&path, Audience::Everybody).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let mut second = listen(&path, Audience::Owner).unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (client, accepted) = tokio::join!(connect(&path), second.accept());
        drop(client);
        let peer = accepted.unwrap().1.unwrap();
        assert!(peer.is_owner());
        assert_eq!(peer.process(), Some(std::process::id()));
        assert!(peer.program().unwrap().is(&std::env::current_exe().unwrap()));
    }
}
