//! A file that only one process holds. The system gives it back when that process ends, however it ends. Portable.

use std::fs::TryLockError;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::os::file::{self, Access};
use crate::os::process;
use crate::paths::folder_of;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, never read")] std::fs::File);

/// Why a lock is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{owner} holds {path}")]
    Held {
        /// What the other process said about itself.
        owner: String,
        /// The file.
        path: String,
    },
    /// The system refused.
    #[error("failed to lock {path}")]
    Refused {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of a process that may run only once. Where the system refuses (a read-only disk), the process
    /// runs without a lock: `None`.
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

    /// Takes the lock and writes into the file which process holds it, for administrators to read. On a file system
    /// without locks, every process gets it.
    ///
    /// # Errors
    /// Another process holds it, or the system refused.
    pub fn take(path: &Path, folder: Access) -> Result<Self, LockError> {
        let name = || path.display().to_string();
        let refused = |source| LockError::Refused { path: name(), source };
        file::create_folder(folder_of(path), folder).map_err(refused)?;
        // Whoever can open it can lock it.
        let mut file = file::open_lock(path).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // The system knows better than what the file says, which its holder need not have written. On Windows a lock
                // keeps others from reading as well, so its holder stays unnamed.
                let mut written = String::new();
                let owner = process::lock_holder(&file).unwrap_or_else(|| {
                    drop(file.read_to_string(&mut written));
                    let written = written.trim();
                    if written.is_empty() { "another process".to_owned() } else { written.to_owned() }
                });
                return Err(LockError::Held { owner, path: name() });
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(Self(file));
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        // The text is only information: the lock holds on a full disk as well, or without a quota.
        let _unwritten = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}", std::process::id()));
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_lock_is_refused_naming_its_owner_and_free_after_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steward/broker.lock");
        let held = Lock::take(&path, Access::Private).unwrap();
        let refused = Lock::take(&path, Access::Private).unwrap_err().to_string();
        let named = format!("process {}", std::process::id());
        assert!(refused.starts_with(&named) || refused.starts_with("another process"), "{refused}");
        drop(held);
        // The system's word counts, not the file's. Any process may hold it, `flock(1)` as well.
        fs_err::write(&path, "process 1\n").unwrap();
        let file = fs_err::File::open(&path).unwrap().into_parts().0;
        file.lock().unwrap();
        let refused = Lock::take(&path, Access::Private).unwrap_err().to_string();
        assert!(!cfg!(target_os = "linux") || refused.starts_with(&named), "{refused}");
        drop(file);
        Lock::take(&path, Access::Private).unwrap();
    }

    /// Found by trial: the lock was readable, so any user could hold it, and the service did not start.
    #[cfg(unix)]
    #[test]
    fn lock_is_private_also_if_it_was_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.lock");
        for before in [None, Some(0o644), Some(0o666)] {
            if let Some(mode) = before {
                fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            drop(Lock::take(&path, Access::Private).unwrap());
            assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{before:?}");
        }
    }
}
