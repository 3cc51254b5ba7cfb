//! Which program is at the other end of a connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use nix::fcntl::{AtFlags, OFlag, open, readlinkat};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, fstatat};
use tokio::net::UnixStream;

/// One process, for as long as it lives: its number may be given to another process, this is not.
#[derive(Clone, Debug)]
pub struct Process {
    id: i32,
    /// Its folder below /proc, which stays that of this process and answers nothing once it has ended.
    folder: Arc<OwnedFd>,
    /// What it ran when it was first looked at.
    first: Program,
}

/// The program that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it lies, as that process sees it: in a mount namespace of its own, that may be another file than here.
    pub path: PathBuf,
    device: u64,
    inode: u64,
    removed: bool,
}

impl Process {
    /// The process that connected. The kernel's own handle of it (`SO_PEERPIDFD`, since Linux 6.5) tells whether its
    /// number was given to another since; an older kernel leaves the moment between connecting and accepting.
    pub(crate) fn at_the_other_end(stream: &UnixStream, id: i32) -> io::Result<Self> {
        let kernels = getsockopt(stream, sockopt::PeerPidfd).ok();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(format!("/proc/{id}").as_str(), flags, Mode::empty())?;
        if kernels.is_some_and(|handle| !still_runs(&handle, id)) {
            return Err(io::Error::other("the process has ended"));
        }
        // Not a name but the very file, whatever was mounted over it or put in its place.
        let facts = fstatat(&folder, "exe", AtFlags::empty())?;
        let path = PathBuf::from(readlinkat(&folder, "exe")?);
        let first = Program { path, device: facts.st_dev, inode: facts.st_ino, removed: facts.st_nlink == 0 };
        Ok(Self { id, folder: Arc::new(folder), first })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.unsigned_abs()
    }

    /// The program that it has run since it connected. One that connects first, leaves the connection to somebody
    /// else and then becomes another program is neither.
    ///
    /// # Errors
    /// It has ended, may not be looked at, or became another program.
    pub fn program(&self) -> io::Result<Program> {
        let now = fstatat(self.folder.as_fd(), "exe", AtFlags::empty())?;
        if (now.st_dev, now.st_ino) != (self.first.device, self.first.inode) {
            return Err(io::Error::other("it became another program since it connected"));
        }
        Ok(Program { removed: now.st_nlink == 0, ..self.first.clone() })
    }
}

impl Program {
    /// Whether it is the file that lies at a path here and now. Links are followed; a file that has taken the place of
    /// the running one is another.
    #[must_use]
    pub fn is(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let same = |facts: std::fs::Metadata| (facts.dev(), facts.ino()) == (self.device, self.inode);
        !self.removed && fs_err::metadata(path).is_ok_and(same)
    }

    /// Whether it lies in a folder.
    #[must_use]
    pub fn is_inside(&self, folder: &Path) -> bool {
        fs_err::canonicalize(folder).is_ok_and(|folder| self.path.starts_with(folder)) && self.is(&self.path)
    }

    /// Whether its file has gone since it was started.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Whether it has been removed or replaced since it was started.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.removed || !self.is(&self.path)
    }
}

/// Which package brought a program onto this device, as its package manager says. Takes some milliseconds.
#[must_use]
pub fn origin(program: &Path) -> Option<String> {
    let asked = |manager: &str, question: &[&str], program: &Path| {
        let mut command = std::process::Command::new(manager);
        command.args(question).arg(program).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(ToOwned::to_owned)
    };
    // Packages of before the merger name `/bin/x`, the kernel `/usr/bin/x`.
    let merged = program.strip_prefix("/usr").ok().map(|rest| Path::new("/").join(rest));
    let debian = std::iter::once(program.to_owned()).chain(merged).find_map(|program| {
        let line = asked("/usr/bin/dpkg-query", &["--search"], &program)?;
        Some(format!("Debian package {}", line.split(": ").next()?))
    });
    debian
        .or_else(|| Some(format!("RPM package {}", asked("/usr/bin/rpm", &["--query", "--file"], program)?)))
}

/// Whether the process that a handle was made for still runs (`Pid` in proc(5), fdinfo: -1 once it has ended).
fn still_runs(handle: &OwnedFd, id: i32) -> bool {
    use std::os::fd::AsRawFd as _;
    let facts = fs_err::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd()));
    facts.is_ok_and(|facts| {
        facts.lines().any(|line| line.strip_prefix("Pid:").is_some_and(|rest| rest.trim() == id.to_string()))
    })
}
