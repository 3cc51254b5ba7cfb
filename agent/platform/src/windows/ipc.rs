//! Local APIs: named pipes, and which process connected.

mod ffi;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::windows::io::AsHandle as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer};

use super::process::{Process, session};
use super::security::{self, Descriptor, Rights};
use crate::paths::Paths;
use crate::program::Program;

/// One connection, as the side that listens has it.
pub type Stream = NamedPipeServer;
/// One connection, as the side that connects has it.
pub type Connection = NamedPipeClient;

/// All pipes of that name are taken for the moment (winerror.h).
const ERROR_PIPE_BUSY: i32 = 231;
/// How often, and how far apart, a busy pipe is tried.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Whether a stranger can take the name of an API: any process may make any pipe.
pub const NAMES_CAN_BE_TAKEN: bool = true;

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every local user.
    Everybody,
    /// The user who runs this process, and the machine service.
    OwnerAndAgent,
}

/// The process that connected, as Windows names it.
#[derive(Clone, Debug)]
pub struct Peer {
    process: Process,
    rights: Rights,
    /// Its user, in short.
    user: u64,
}

impl Peer {
    /// Process ID when it connected.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        Some(self.process.id())
    }

    /// Equal for connections of the same user.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.user
    }

    /// The program that it runs.
    ///
    /// # Errors
    /// The system does not say.
    pub fn program(&self) -> io::Result<Program> {
        self.process.program()
    }

    /// Whether it runs as LocalSystem, or as an administrator and is elevated. The user who runs this process is not an
    /// administrator for that reason alone ([`Self::is_owner`]).
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.rights.administrator
    }

    /// Whether a browser that this process opens appears where the peer's user looks: one user may have several sessions, at
    /// the console and over Remote Desktop.
    #[must_use]
    pub fn is_in_own_session(&self) -> bool {
        let own = session(std::process::id());
        // Where the system does not say, it is as it nearly always is.
        own.is_err() || session(self.process.id()).ok() == own.ok()
    }

    /// Whether it may change what this machine service does: an administrator who is elevated. Where the service itself
    /// runs without such rights, its user may.
    #[must_use]
    pub fn may_manage(&self) -> bool {
        self.rights.administrator || self.rights.owner && !security::is_administrator().unwrap_or(true)
    }

    /// Whether its user is the one who runs this process.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.rights.owner
    }
}

/// A local API that listens.
#[derive(Debug)]
pub struct Listener {
    name: String,
    access: String,
    next: NamedPipeServer,
}

impl Listener {
    /// The next connection, and its peer, or why Windows does not say who that is.
    ///
    /// # Errors
    /// The system refused; a later call may succeed.
    pub async fn accept(&mut self) -> io::Result<(Stream, io::Result<Peer>)> {
        self.next.connect().await?;
        // The next instance exists before this one is served, so a caller always finds the pipe.
        let next = ffi::create_pipe(&self.name, &Descriptor::parse(&self.access)?, false)?;
        let stream = std::mem::replace(&mut self.next, next);
        // A caller that cannot be identified is refused where it matters who it is.
        let peer = peer(&stream);
        Ok((stream, peer))
    }
}

/// Listens at a pipe. Its first instance can be made only once, so where another process was quicker, this one is
/// refused instead of sharing the name with it.
///
/// # Errors
/// Another process listens there (`AddrInUse`), or the system refused.
pub fn listen(path: &Path, audience: Audience) -> io::Result<Listener> {
    let name = path.to_string_lossy().into_owned();
    let all = "D:P(A;;GA;;;SY)(A;;GA;;;BA)";
    // A service belongs to no user, not even to the one who started it by hand.
    let all = if audience == Audience::Everybody && security::is_administrator()? {
        all.to_owned()
    } else {
        format!("{all}(A;;GA;;;{})", security::own_user()?)
    };
    let access = match audience {
        Audience::OwnerAndAgent => all,
        Audience::Everybody => format!("{all}(A;;{:#x};;;AU)", ffi::PIPE_RIGHTS),
    };
    let taken =
        || io::Error::new(io::ErrorKind::AddrInUse, format!("another process already listens at {name}"));
    if ffi::open_pipe(path).is_ok() {
        return Err(taken());
    }
    let descriptor = Descriptor::parse(&access)?;
    let next = ffi::create_pipe(&name, &descriptor, true).map_err(|error| {
        let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::ResourceBusy];
        if kinds.contains(&error.kind()) {
            return taken();
        }
        io::Error::new(error.kind(), format!("failed to listen at {name}: {error}"))
    })?;
    Ok(Listener { name, access, next })
}

/// None: Windows listens at no pipe for a process that does not run.
#[must_use]
pub fn inherited() -> Option<Listener> {
    None
}

/// Whose process has to listen, so that its answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The user's who runs this process, or an administrator's.
    Trusted,
    /// The user's whom the name of the pipe names.
    OfFolder,
}

/// Connects to a pipe. Before anything is sent, it is checked whose process listens: whoever creates a pipe first has its
/// name.
///
/// # Errors
/// No process listens there, the wrong one does (`PermissionDenied`), or the system refused.
pub async fn connect(path: &Path, server: Server) -> io::Result<Connection> {
    let mut tries = 0;
    let pipe = loop {
        match ffi::open_pipe(path) {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => break result?,
        }
    };
    let denied = || {
        let message = format!("another user's process listens at {}", path.display());
        io::Error::new(io::ErrorKind::PermissionDenied, message)
    };
    let process = Process::open(ffi::pipe_server(&pipe)?);
    let is_right = match server {
        Server::Trusted => {
            match process.and_then(|process| Ok((security::rights(process.as_handle())?, process))) {
                Ok((rights, _)) if rights.administrator => true,
                Ok((rights, process)) if rights.owner => {
                    if !runs_own_program(&process) {
                        let message = format!(
                            "another program than this one listens at {} (process {})",
                            path.display(),
                            process.id()
                        );
                        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
                    }
                    true
                }
                Ok(_) => false,
                // The process of a service, or of somebody else.
                Err(_) => security::is_pipe_of_administrators(pipe.as_handle()).map_err(|_| denied())?,
            }
        }
        Server::OfFolder => {
            // A process that may not be opened is another user's.
            let process = process.map_err(|_| denied())?;
            let user = security::user(process.as_handle())?;
            path.to_string_lossy().ends_with(&user)
        }
    };
    if is_right { Ok(pipe) } else { Err(denied()) }
}

/// Whether a process runs the program that this one runs, or did until an update replaced its file.
fn runs_own_program(process: &Process) -> bool {
    let (Ok(own), Ok(program)) = (std::env::current_exe(), process.program()) else { return false };
    program.is(&own) || program.is_replaced() && program.path == own || program.is_stewards(&Paths::new(None))
}

/// Removes what a listener that has ended leaves behind: nothing, a pipe goes with its process.
///
/// # Errors
/// Never.
pub fn remove(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes a TCP port exclusive once it is bound.
pub(crate) fn use_port_exclusively(socket: &TcpSocket) -> io::Result<()> {
    ffi::use_port_exclusively(socket)
}

fn peer(stream: &NamedPipeServer) -> io::Result<Peer> {
    let process = Process::open(ffi::pipe_client(stream)?)?;
    let rights = security::rights(process.as_handle())?;
    let mut hasher = DefaultHasher::new();
    security::user(process.as_handle())?.hash(&mut hasher);
    Ok(Peer { process, rights, user: hasher.finish() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn owner_of_an_own_pipe_is_known() {
        let name = format!(r"\\.\pipe\steward-test-owner-{}", std::process::id());
        let path = Path::new(&name);
        let mut listener = listen(path, Audience::OwnerAndAgent).unwrap();
        let (client, accepted) = tokio::join!(connect(path, Server::Trusted), listener.accept());
        let client = client.unwrap();
        drop(accepted.unwrap());
        // A user's, or that of the group if the user is an administrator.
        security::is_pipe_of_administrators(client.as_handle()).unwrap();
    }

    #[tokio::test]
    async fn pipe_at_which_a_process_listens_is_refused() {
        let name = format!(r"\\.\pipe\steward-test-{}", std::process::id());
        let path = Path::new(&name);
        let mut first = listen(path, Audience::OwnerAndAgent).unwrap();
        assert_eq!(listen(path, Audience::OwnerAndAgent).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        for _ in 0..3 {
            let (client, accepted) = tokio::join!(connect(path, Server::Trusted), first.accept());
            client.unwrap();
            let peer = accepted.unwrap().1.unwrap();
            assert!(peer.is_owner());
            assert_eq!(peer.process(), Some(std::process::id()));
            assert!(peer.program().unwrap().is(&std::env::current_exe().unwrap()));
        }
    }
}
