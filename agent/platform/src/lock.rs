//! A file that only one process holds. The system gives it back when that process ends, however it ends. Portable.

use std::fs::TryLockError;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::os::file::{self, Access};

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, not looked at")] std::fs::File);

/// Why a lock is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{owner} holds {place}")]
    Held {
        /// What the other process said about itself.
        owner: String,
        /// The file.
        place: String,
    },
    /// The system refused.
    #[error("failed to lock {place}")]
    Refused {
        /// The file.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock for a process that there may be only one of. Where the system refuses (a disk that cannot be
    /// written to), it goes on without: `None`.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn only_one(path: &Path, folder: Access) -> Result<Option<Self>, LockError> {
        match Self::take(path, folder) {
            Ok(lock) => Ok(Some(lock)),
            Err(held @ LockError::Held { .. }) => Err(held),
            Err(LockError::Refused { .. }) => Ok(None),
        }
    }

    /// Takes the lock and leaves who holds it in the file, for people. A file system without locks gives it to
    /// everybody.
    ///
    /// # Errors
    /// Another process holds it, or the system refused.
    pub fn take(path: &Path, folder: Access) -> Result<Self, LockError> {
        let place = || path.display().to_string();
        let refused = |source| LockError::Refused { place: place(), source };
        if let Some(above) = path.parent() {
            file::create_folder(above, folder).map_err(refused)?;
        }
        let mut options = fs_err::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(refused)?.into_parts().0;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Where a lock keeps others from reading as well, its owner stays unnamed.
                if file.read_to_string(&mut owner).is_err() || owner.is_empty() {
                    "another process".clone_into(&mut owner);
                }
                return Err(LockError::Held { owner: owner.trim().to_owned(), place: place() });
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(Self(file));
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}", std::process::id()));
        match written {
            Ok(()) => Ok(Self(file)),
            // Its name is for people only: a full disk stops nobody.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(Self(file)),
            Err(error) => Err(refused(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_names_its_owner_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steward/broker.lock");
        let held = Lock::take(&path, Access::Private).unwrap();
        let refused = Lock::take(&path, Access::Private).unwrap_err().to_string();
        let named = format!("process {}", std::process::id());
        assert!(refused.starts_with(&named) || refused.starts_with("another process"), "{refused}");
        drop(held);
        Lock::take(&path, Access::Private).unwrap();
    }
}
