//! Writes and removes what the app finds. What is recorded about that, before and afterwards, is in [`super::ownership`].

use std::io;
use std::path::Path;

use platform::file::{self, Access};
use platform::native::{self, Values};
use platform::paths::{Paths, folder_of};

/// A change of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// To set.
    pub(crate) set: Values,
    /// To remove.
    pub(crate) gone: Vec<String>,
    /// What is the agent's afterwards.
    pub(crate) ours: Values,
}

/// Writes a managed configuration.
///
/// # Errors
/// The system refused; the old configuration is then still there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match file::replace(path, bytes, Access::Public) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file::create_folder(folder_of(path), Access::Public)?;
            file::replace(path, bytes, Access::Public)
        }
        written => written,
    }
}

/// Removes a managed configuration that the agent wrote.
///
/// # Errors
/// The system refused.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    file::remove(path)
}

/// Sets and removes values.
///
/// # Errors
/// The system refused. Some of them may be changed.
pub(crate) fn write_values(paths: &Paths, location: &str, change: &Change) -> io::Result<()> {
    native::write(paths, location, &change.set, &change.gone)
}
