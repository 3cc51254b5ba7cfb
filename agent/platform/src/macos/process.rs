//! Which program the peer of a connection runs.

use std::io;
use std::path::Path;
use std::process::Command;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

use super::ffi;
use super::file::{self, FileId};
use crate::program::Program;

/// One process, for as long as it lives: its audit token has its ID and the version of that ID.
#[derive(Clone, Debug)]
pub struct Process {
    id: i32,
    token: [u32; 8],
    /// The file at the path of its program when it connected. Another may be put in its place later.
    file: Result<FileId, io::ErrorKind>,
}

impl Process {
    /// The process that connected (`LOCAL_PEERTOKEN`, unix(4)).
    pub(crate) fn of_peer(stream: &UnixStream, id: i32) -> io::Result<Self> {
        let token = getsockopt(stream, sockopt::LocalPeerToken)?.val;
        let file = ffi::program(&token).and_then(|path| file::id(&path)).map_err(|error| error.kind());
        Ok(Self { id, token, file })
    }

    /// Its ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.unsigned_abs()
    }

    /// The program that it runs. One that becomes another program after it connected is not the file that it was then,
    /// so it is neither.
    ///
    /// # Errors
    /// It has ended, another process has its ID, or its file could not be examined.
    pub fn program(&self) -> io::Result<Program> {
        let path = ffi::program(&self.token)?;
        let exists = !matches!(path.try_exists(), Ok(false));
        match &self.file {
            Ok(file) => Ok(Program::new(path, exists.then(|| file.clone()))),
            Err(io::ErrorKind::NotFound) => Ok(Program::new(path, None)),
            Err(kind) => Err((*kind).into()),
        }
    }
}

/// Whether a user sees what this process opens: here every process of a user's may ask for a window.
pub(crate) fn has_desktop() -> bool {
    true
}

/// Nothing: no program has a window because it is started.
pub(crate) fn without_window(command: &mut Command) -> &mut Command {
    command
}

/// Who signed a program, if its signature is good (codesign(1)).
#[must_use]
pub fn origin(program: &Path) -> Option<String> {
    let codesign = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/codesign");
        command.args(arguments).arg(program).stdin(std::process::Stdio::null()).output().ok()
    };
    codesign(&["--verify"]).filter(|output| output.status.success())?;
    let shown = codesign(&["--display", "--verbose=2"])?;
    let text = String::from_utf8_lossy(&shown.stderr).into_owned();
    let signer = text.lines().find_map(|line| line.strip_prefix("Authority="))?;
    Some(format!("signed by {signer}"))
}

/// Which process holds the lock of a file: the system does not say.
pub(crate) fn lock_holder(_: &std::fs::File) -> Option<String> {
    None
}
