//! Which program is at the other end of a connection.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

use super::ffi;

/// One process, for as long as it lives: its audit token has the number and the version of that number.
#[derive(Clone, Debug)]
pub struct Process {
    id: i32,
    token: [u32; 8],
}

/// The program that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it lies.
    pub path: PathBuf,
}

impl Process {
    /// The process that connected (`LOCAL_PEERTOKEN`, unix(4)).
    pub(crate) fn at_the_other_end(stream: &UnixStream, id: i32) -> io::Result<Self> {
        let token = getsockopt(stream, sockopt::LocalPeerToken)?;
        Ok(Self { id, token: token.val })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.unsigned_abs()
    }

    /// The program that it runs now.
    ///
    /// # Errors
    /// It has ended, or another process has its number.
    pub fn program(&self) -> io::Result<Program> {
        Ok(Program { path: ffi::program(&self.token)? })
    }
}

impl Program {
    /// Whether it is the file that lies at a path. Links are followed.
    #[must_use]
    pub fn is(&self, path: &Path) -> bool {
        match (fs_err::canonicalize(path), fs_err::canonicalize(&self.path)) {
            (Ok(wanted), Ok(own)) => wanted == own,
            (_, _) => false,
        }
    }

    /// Whether it lies in a folder.
    #[must_use]
    pub fn is_inside(&self, folder: &Path) -> bool {
        match (fs_err::canonicalize(folder), fs_err::canonicalize(&self.path)) {
            (Ok(folder), Ok(own)) => own.starts_with(folder),
            (_, _) => false,
        }
    }

    /// Whether its file has gone since it was started.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        !self.path.exists()
    }

    /// Whether it has been removed since it was started.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.is_removed()
    }
}

/// Who signed a program, if its signature is good (codesign(1)).
#[must_use]
pub fn origin(program: &Path) -> Option<String> {
    let ask = |question: &[&str]| {
        let mut command = std::process::Command::new("/usr/bin/codesign");
        command.args(question).arg(program).stdin(std::process::Stdio::null()).output().ok()
    };
    ask(&["--verify"]).filter(|answer| answer.status.success())?;
    let shown = ask(&["--display", "--verbose=2"])?;
    let text = String::from_utf8_lossy(&shown.stderr).into_owned();
    let signer = text.lines().find_map(|line| line.strip_prefix("Authority="))?;
    Some(format!("signed by {signer}"))
}
