//! Local APIs: Unix sockets, and which process connected.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::{TcpSocket, UnixListener, UnixStream};

use super::file::{self, Access};
use crate::os::process::Process;
use crate::program::Program;

/// One connection, as the side that listens has it.
pub type Stream = UnixStream;
/// One connection, as the side that connects has it.
pub type Connection = UnixStream;

/// A local API that listens.
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// The next connection, and its peer if the kernel says who that is.
    ///
    /// # Errors
    /// The system refused, for example for want of file descriptors; a later call may succeed.
    pub async fn accept(&mut self) -> io::Result<(Stream, Option<Peer>)> {
        let (stream, _) = self.0.accept().await?;
        // A caller that cannot be identified is refused where it matters who it is.
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

/// The process that connected, as the kernel names it.
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

    /// Whether it runs as root. The user who runs this process is not an administrator for that reason alone
    /// ([`Self::is_owner`]).
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.user == 0
    }

    /// Whether its user is the one who runs this process.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.user == nix::unistd::geteuid().as_raw()
    }
}

/// Listens on a socket. One that a dead process left is replaced; one at which another process listens is an error.
///
/// # Errors
/// Another process listens there (`AddrInUse`), or the system refused.
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
                format!("another process already listens at {}", path.display()),
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
/// No process listens there, or the system refused.
pub async fn connect(path: &Path) -> io::Result<Connection> {
    UnixStream::connect(path).await
}

/// Removes what a listener that has ended leaves behind.
///
/// # Errors
/// The system refused.
pub fn remove(path: &Path) -> io::Result<()> {
    file::remove(path)
}

/// Makes a TCP port exclusive once it is bound. Unix never shares a port at which a process listens; this option only
/// lets it be bound again while the system still remembers earlier connections.
pub(crate) fn use_port_exclusively(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)
}

fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    let process = credentials.pid().and_then(|process| Process::of_peer(stream, process).ok());
    Ok(Peer { user: credentials.uid(), process })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_administrator_only_if_root() {
        let own = nix::unistd::geteuid().as_raw();
        for (user, administrator, owner) in
            [(0, true, own == 0), (own, own == 0, true), (own + 1, false, false)]
        {
            let peer = Peer { user, process: None };
            assert_eq!((peer.is_administrator(), peer.is_owner()), (administrator, owner), "{user} of {own}");
        }
    }

    #[tokio::test]
    async fn socket_of_dead_process_is_replaced_and_of_listening_one_is_refused() {
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
