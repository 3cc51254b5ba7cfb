//! Which program is at the other end of a connection.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ffi;

/// One process. While this is held, its number is given to no other.
#[derive(Clone, Debug)]
pub struct Process {
    id: u32,
    handle: Arc<OwnedHandle>,
}

/// The program that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it lies.
    pub path: PathBuf,
}

impl Process {
    pub(super) fn open(id: u32) -> io::Result<Self> {
        Ok(Self { id, handle: Arc::new(ffi::open_process(id)?) })
    }

    pub(super) fn handle(&self) -> &OwnedHandle {
        &self.handle
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The program that it runs. Windows lets nobody replace it meanwhile.
    ///
    /// # Errors
    /// The system does not say.
    pub fn program(&self) -> io::Result<Program> {
        Ok(Program { path: ffi::process_program(&self.handle)? })
    }
}

impl Program {
    /// Whether it is the file that lies at a path. Links are followed, and capitals do not matter.
    #[must_use]
    pub fn is(&self, path: &Path) -> bool {
        matches!((plain(path), plain(&self.path)), (Some(wanted), Some(own)) if wanted == own)
    }

    /// Whether it lies in a folder.
    #[must_use]
    pub fn is_inside(&self, folder: &Path) -> bool {
        match (plain(folder), plain(&self.path)) {
            (Some(folder), Some(own)) => Path::new(&own).starts_with(&folder),
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

fn plain(path: &Path) -> Option<String> {
    Some(fs_err::canonicalize(path).ok()?.to_string_lossy().to_lowercase())
}

/// Which MSIX package brought a program onto this device: only Windows itself writes to their folder.
#[must_use]
pub fn origin(program: &Path) -> Option<String> {
    let mut parts = program.components().map(|part| part.as_os_str().to_string_lossy());
    parts.find(|part| part.eq_ignore_ascii_case("WindowsApps"))?;
    Some(format!("MSIX package {}", parts.next()?))
}
