//! Which program the peer of a connection runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, readlinkat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, fstatat};
use tokio::net::UnixStream;

use super::file::FileId;
use crate::program::Program;

/// One process, for as long as it lives: its ID may be given to another process, this is not.
#[derive(Clone, Debug)]
pub struct Process {
    id: i32,
    /// Its folder below /proc, which stays that of this process and has no entries once it has ended.
    folder: Arc<OwnedFd>,
    /// The program that it ran when it connected.
    path: PathBuf,
    file: FileId,
}

impl Process {
    /// The process that connected. The kernel's own handle of it (`SO_PEERPIDFD`, since Linux 6.5) tells whether its
    /// ID was given to another since: not while it runs. An older kernel leaves the moment between connecting and accepting.
    pub(crate) fn of_peer(stream: &UnixStream, id: i32) -> io::Result<Self> {
        let handle = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(handle) => Some(handle),
            Err(Errno::ENOPROTOOPT) => None,
            Err(error) => return Err(error.into()),
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(format!("/proc/{id}").as_str(), flags, Mode::empty())?;
        if handle.is_some_and(|handle| !still_runs(&handle)) {
            return Err(io::Error::other("the process has ended"));
        }
        // Not the file at that path but the one that runs, whatever was mounted over it or put in its place.
        let metadata = fstatat(&folder, "exe", AtFlags::empty())?;
        let path = PathBuf::from(readlinkat(&folder, "exe")?);
        let file = FileId { device: metadata.st_dev, inode: metadata.st_ino };
        Ok(Self { id, folder: Arc::new(folder), path, file })
    }

    /// Its ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.unsigned_abs()
    }

    /// The program that it has run since it connected. One that connects first, leaves the connection to another
    /// process and then becomes another program is neither.
    ///
    /// # Errors
    /// It has ended, may not be examined, or became another program.
    pub fn program(&self) -> io::Result<Program> {
        let now = fstatat(self.folder.as_fd(), "exe", AtFlags::empty())?;
        if (now.st_dev, now.st_ino) != (self.file.device, self.file.inode) {
            return Err(io::Error::other("it became another program since it connected"));
        }
        let exists = now.st_nlink != 0;
        Ok(Program::new(self.path.clone(), exists.then(|| self.file.clone())))
    }
}

/// Which process holds the lock of a file (proc(5), `/proc/locks`); `None` if the system does not say.
pub(crate) fn lock_holder(file: &std::fs::File) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = file.metadata().ok()?.ino();
    let locks = fs_err::read_to_string("/proc/locks").ok()?;
    let id = locks.lines().find_map(|line| {
        // Such as `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`; one that waits has an arrow behind its number.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, "FLOCK", _, _, process, file, ..] = fields.as_slice() else { return None };
        let same = file.rsplit(':').next()?.parse::<u64>() == Ok(inode);
        same.then(|| process.parse::<u32>().ok()).flatten()
    })?;
    let name = fs_err::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    let name: String = name.trim().chars().filter(|letter| !letter.is_control()).collect();
    Some(if name.is_empty() || id == std::process::id() {
        format!("process {id}")
    } else {
        format!("process {id} (`{name}`)")
    })
}

/// Whether a user sees what this process opens: here every process of a user's may ask for a window.
pub(crate) fn has_desktop() -> bool {
    true
}

/// Nothing: no program has a window because it is started.
pub(crate) fn without_window(command: &mut Command) -> &mut Command {
    command
}

/// Which package brought a program onto this device, as its package manager says. Takes some milliseconds.
#[must_use]
pub fn origin(program: &Path) -> Option<String> {
    let ask = |manager: &str, arguments: &[&str], program: &Path| {
        let mut command = Command::new(manager);
        command.args(arguments).arg(program).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(ToOwned::to_owned)
    };
    // Packages from before `/bin` became a link to `/usr/bin` name `/bin/x`, the kernel `/usr/bin/x`.
    let merged = program.strip_prefix("/usr").ok().map(|rest| Path::new("/").join(rest));
    let debian = std::iter::once(program.to_owned()).chain(merged).find_map(|program| {
        let line = ask("/usr/bin/dpkg-query", &["--search"], &program)?;
        Some(format!("Debian package {}", line.split(": ").next()?))
    });
    debian.or_else(|| Some(format!("RPM package {}", ask("/usr/bin/rpm", &["--query", "--file"], program)?)))
}

/// Whether the process that a handle was made for has not ended (`pidfd_open(2)`: the handle is then not readable).
fn still_runs(handle: &OwnedFd) -> bool {
    let mut handles = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    poll(&mut handles, PollTimeout::ZERO) == Ok(0)
}
