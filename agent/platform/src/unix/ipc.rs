//! Local APIs: Unix sockets, and which process connected.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpSocket, UnixListener, UnixStream};

use super::file::{self, Access};
use crate::os::process::Process;
use crate::paths::folder_of;
use crate::program::Program;

/// One connection, as the side that listens has it.
pub type Stream = UnixStream;
/// One connection, as the side that connects has it.
pub type Connection = UnixStream;

/// How often, and how far apart, a full queue is tried.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// A local API that listens.
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// The next connection, and its peer, or why the kernel does not say who that is.
    ///
    /// # Errors
    /// The system refused, for example for want of file descriptors; a later call may succeed.
    pub async fn accept(&mut self) -> io::Result<(Stream, io::Result<Peer>)> {
        let (stream, _) = self.0.accept().await?;
        // A caller that cannot be identified is refused where it matters who it is.
        let peer = peer(&stream);
        Ok((stream, peer))
    }
}

/// Whether a stranger can take the name of an API: here it lies in a folder of its owner.
pub const NAMES_CAN_BE_TAKEN: bool = false;

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every local user.
    Everybody,
    /// The user who runs this process, and the machine service.
    OwnerAndAgent,
}

/// The process that connected, as the kernel names it.
#[derive(Clone, Debug)]
pub struct Peer {
    user: u32,
    /// Or why it is not known, such as a want of file descriptors.
    process: Result<Process, String>,
}

impl Peer {
    /// Process ID when it connected.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().ok().map(Process::id)
    }

    /// Equal for connections of the same user, also under the subordinate IDs that belong to it.
    #[must_use]
    pub fn key(&self) -> u64 {
        u64::from(real_user(self.user))
    }

    /// The program that it runs now.
    ///
    /// # Errors
    /// The process has ended, or the system does not say.
    pub fn program(&self) -> io::Result<Program> {
        self.process.as_ref().map_err(|reason| io::Error::other(reason.clone()))?.program()
    }

    /// Whether it runs as root. The user who runs this process is not an administrator for that reason alone
    /// ([`Self::is_owner`]).
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.user == 0
    }

    /// Whether a browser that this process opens appears where the peer's user looks: here a user has one desktop.
    #[must_use]
    pub fn is_in_own_session(&self) -> bool {
        true
    }

    /// Whether it may change what this machine service does: an administrator, or the user as whom the service runs.
    #[must_use]
    pub fn may_manage(&self) -> bool {
        self.is_administrator() || self.is_owner()
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
        // The folder keeps everybody out but root, whom its mode does not bind. The agent's unit has the right to pass folders,
        // not the right to open what is closed.
        Audience::OwnerAndAgent => (Access::Private, 0o666),
    };
    file::create_folder(folder_of(path), folder)?;
    if folder == Access::Private {
        // Whoever made it, it is all that keeps other users out.
        file::correct_access(folder_of(path), folder)?;
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

/// The socket at which the service manager listened for this process, if it did: it stays when the process ends, and the
/// next caller starts another.
#[must_use]
pub fn inherited() -> Option<Listener> {
    let socket = crate::os::service::inherited_socket()?;
    socket.set_nonblocking(true).ok()?;
    UnixListener::from_std(socket).ok().map(Listener)
}

/// Whose process has to listen, so that its answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The user's who runs this process, or root's.
    Trusted,
    /// The user's to whom the folder of the socket belongs.
    OfFolder,
}

/// Connects to a socket. Before anything is sent, it is checked whose process listens: any user can put a socket, or a link
/// to one, into a folder of his own.
///
/// # Errors
/// No process listens there, the wrong one does (`PermissionDenied`), or the system refused.
pub async fn connect(path: &Path, server: Server) -> io::Result<Connection> {
    let denied =
        |what: &str| io::Error::new(io::ErrorKind::PermissionDenied, format!("{what} at {}", path.display()));
    let of_folder = match server {
        Server::Trusted => None,
        Server::OfFolder => Some(owner_without_links(path)?.ok_or_else(|| denied("there is a link"))?),
    };
    let mut tries = 0;
    let stream = loop {
        match UnixStream::connect(path).await {
            // The queue is full of connections that wait for the server.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => break result?,
        }
    };
    let user = stream.peer_cred()?.uid();
    let own = nix::unistd::geteuid().as_raw();
    let is_right = match of_folder {
        Some(owner) => user == owner,
        None => user == own || user == 0,
    };
    if is_right { Ok(stream) } else { Err(denied("another user's process listens")) }
}

/// The owner of the folder of a socket, and of the one above it; `None` if they differ, or one of them or the socket is a
/// link.
fn owner_without_links(socket: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let examine = |path: &Path| fs_err::symlink_metadata(path);
    let folder = folder_of(socket);
    let (socket, own, above) = (examine(socket)?, examine(folder)?, examine(folder_of(folder))?);
    let plain = socket.file_type().is_socket() && own.is_dir() && above.is_dir();
    Ok((plain && own.uid() == above.uid() && socket.uid() == own.uid()).then_some(own.uid()))
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
    let process = match credentials.pid() {
        Some(id) => Process::of_peer(stream, id).map_err(|error| error.to_string()),
        None => Err("the system does not name its process".to_owned()),
    };
    Ok(Peer { user: credentials.uid(), process })
}

/// Below this ID there are no subordinate ones (subuid(5), useradd(8): from 100000 on).
const FIRST_SUBORDINATE: u32 = 65536;
/// A device of an organization has a line for each of its users.
const MAXIMUM_SUBORDINATES: u64 = 1024 * 1024;

/// The user to whom an ID belongs: a user may have thousands of subordinate IDs, and run a process under each of them.
fn real_user(user: u32) -> u32 {
    use std::io::Read as _;
    if user < FIRST_SUBORDINATE {
        return user;
    }
    let mut table = String::new();
    let file = fs_err::File::open("/etc/subuid").map(|file| file.take(MAXIMUM_SUBORDINATES));
    if file.and_then(|mut file| file.read_to_string(&mut table)).is_err() {
        return user;
    }
    owner_of_subordinate(&table, user).unwrap_or(user)
}

fn owner_of_subordinate(table: &str, user: u32) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, count): (u32, u32) = (first.parse().ok()?, count.parse().ok()?);
        let is_in = user.checked_sub(first).is_some_and(|offset| offset < count);
        // By name or by ID.
        let id = || {
            let known = nix::unistd::User::from_name(owner).ok().flatten();
            owner.parse().ok().or_else(|| known.map(|known| known.uid.as_raw()))
        };
        is_in.then(id).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_belong_to_their_user() {
        let table = "# comment\n1001:100000:65536\nroot:165536:65536\nbroken:x:y\n1002:231072:1\n";
        for (user, owner) in [
            (99_999, None),
            (100_000, Some(1001)),
            (165_535, Some(1001)),
            (165_536, Some(0)),
            (231_072, Some(1002)),
            (231_073, None),
        ] {
            assert_eq!(owner_of_subordinate(table, user), owner, "{user}");
        }
        assert_eq!(real_user(1000), 1000);
    }

    /// Found by trial: a socket that any process had put there was believed by the machine service.
    #[tokio::test]
    async fn link_to_a_socket_is_not_followed_where_the_folder_decides() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("1000/steward");
        let path = folder.join("broker.sock");
        let _listener = listen(&path, Audience::OwnerAndAgent).unwrap();
        connect(&path, Server::OfFolder).await.unwrap();
        connect(&path, Server::Trusted).await.unwrap();
        let other = outer.path().join("1001/steward");
        fs_err::create_dir_all(&other).unwrap();
        fs_err::os::unix::fs::symlink(&path, other.join("broker.sock")).unwrap();
        let refused = connect(&other.join("broker.sock"), Server::OfFolder).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let third = outer.path().join("1002");
        fs_err::create_dir_all(&third).unwrap();
        fs_err::os::unix::fs::symlink(&folder, third.join("steward")).unwrap();
        let refused = connect(&third.join("steward/broker.sock"), Server::OfFolder).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn owner_is_administrator_only_if_root() {
        let own = nix::unistd::geteuid().as_raw();
        for (user, administrator, owner) in
            [(0, true, own == 0), (own, own == 0, true), (own + 1, false, false)]
        {
            let peer = Peer { user, process: Err(String::new()) };
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
        let mut second = listen(&path, Audience::OwnerAndAgent).unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(fs_err::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let (client, accepted) = tokio::join!(connect(&path, Server::Trusted), second.accept());
        drop(client);
        let peer = accepted.unwrap().1.unwrap();
        assert!(peer.is_owner());
        assert_eq!(peer.process(), Some(std::process::id()));
        assert!(peer.program().unwrap().is(&std::env::current_exe().unwrap()));
    }
}
