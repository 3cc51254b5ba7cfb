//! Which program the peer of a connection runs.

mod ffi;

use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::os::windows::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use super::file::{self, FileId};
use crate::program::Program;

/// One process. While this is held, its ID is given to no other.
#[derive(Clone, Debug)]
pub struct Process {
    id: u32,
    handle: Arc<OwnedHandle>,
    /// The file that it ran when it was opened. Windows keeps it from being deleted while it runs, but it may be moved,
    /// and another put at its path.
    file: Result<FileId, io::ErrorKind>,
}

impl Process {
    pub(super) fn open(id: u32) -> io::Result<Self> {
        let handle = ffi::open_process(id)?;
        let path = ffi::process_program(handle.as_handle());
        let file = path.and_then(|path| file::id(&path)).map_err(|error| error.kind());
        Ok(Self { id, handle: Arc::new(handle), file })
    }

    /// Its ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The program that it runs.
    ///
    /// # Errors
    /// The system does not say, or its file could not be opened.
    pub fn program(&self) -> io::Result<Program> {
        let path = ffi::process_program(self.handle.as_handle())?;
        let exists = !matches!(path.try_exists(), Ok(false));
        match &self.file {
            Ok(file) => Ok(Program::new(path, exists.then(|| file.clone()))),
            Err(io::ErrorKind::NotFound) => Ok(Program::new(path, None)),
            Err(kind) => Err((*kind).into()),
        }
    }
}

impl AsHandle for Process {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }
}

/// The session that a process runs in.
pub(super) fn session(process: u32) -> io::Result<u32> {
    ffi::session(process)
}

/// Whether a user sees what this process opens: session 0 belongs to services.
pub(crate) fn has_desktop() -> bool {
    session(std::process::id()).is_ok_and(|session| session != 0)
}

/// Keeps a program of the console from opening one.
pub(crate) fn without_window(command: &mut Command) -> &mut Command {
    command.creation_flags(CREATE_NO_WINDOW)
}

/// Which MSIX package brought a program onto this device: only Windows itself writes to their folder.
#[must_use]
pub fn origin(program: &Path) -> Option<String> {
    let mut parts = program.components().map(|part| part.as_os_str().to_string_lossy());
    parts.find(|part| part.eq_ignore_ascii_case("WindowsApps"))?;
    Some(format!("MSIX package {}", parts.next()?))
}

/// Which process holds the lock of a file: the system does not say.
pub(crate) fn lock_holder(_: &std::fs::File) -> Option<String> {
    None
}
