//! Files that are either the old or the new one, whatever happens in between.
//!
//! Access is decided by the folder: the agent's folders are made with an access list that does not inherit what
//! `ProgramData` gives to everybody, and what lies in them inherits theirs.

use std::io::{self, Write as _};
use std::os::windows::fs::MetadataExt as _;
use std::path::Path;

use fs_err::OpenOptions;

use super::ffi;
use crate::paths::beside;

/// Who may read what is written. Only administrators and its owner may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody may read it.
    Public,
    /// Only administrators and its owner may.
    Private,
}

/// Replaces a file: the new one is written beside it, flushed, and moved over it.
///
/// # Errors
/// Any step; the old file is then still there and nothing is left beside it.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let beside = beside(path);
    let written = write_new(&beside, bytes, access).and_then(|()| fs_err::rename(&beside, path));
    if let Err(error) = written {
        // Best effort: the error that led here is the one to report.
        drop(fs_err::remove_file(&beside));
        return Err(error);
    }
    Ok(())
}

/// Tells one state of a file from another, as far as the system notes it: a replaced file has another mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    bytes: u64,
    created: u64,
    changed: u64,
}

/// The mark of a file as it is now.
///
/// # Errors
/// There is none, or the system refused.
pub fn mark(path: &Path) -> io::Result<Mark> {
    let metadata = fs_err::metadata(path)?;
    Ok(Mark {
        bytes: metadata.file_size(),
        created: metadata.creation_time(),
        changed: metadata.last_write_time(),
    })
}

/// Tells one folder from another of the same name, by its time of birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    born: u64,
}

/// The identity of what lies at a path; `None` if nothing does.
#[must_use]
pub fn identity(path: &Path) -> Option<Identity> {
    Some(Identity { born: fs_err::metadata(path).ok()?.creation_time() })
}

/// Removes a file. One that is not there is fine.
///
/// # Errors
/// The system refused.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a folder and those above it; a new one gets the access. One that is there must belong to the system, to
/// administrators or to whoever runs this process: anybody may make folders in `ProgramData`, and would own what the
/// agent believes.
///
/// # Errors
/// It belongs to somebody else, or the system refused.
pub fn create_folder(path: &Path, access: Access) -> io::Result<()> {
    if path.is_dir() {
        return if ffi::is_trustworthy(path)? {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} belongs to somebody who is no administrator; remove it", path.display()),
            ))
        };
    }
    if let Some(above) = path.parent().filter(|above| !above.is_dir()) {
        create_folder(above, access)?;
    }
    match ffi::create_folder(path, &access_list(access)?) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            create_folder(path, access)
        }
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("failed to create the folder {}: {error}", path.display()),
        )),
        Ok(()) => Ok(()),
    }
}

/// Opens a new file that nobody else can open, for a download or the like; its folder is private.
///
/// # Errors
/// It exists, or the system refused.
pub fn create_private(path: &Path) -> io::Result<fs_err::File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Opens a new file of an installed version. What makes a program of it is its name.
///
/// # Errors
/// It exists, or the system refused.
pub fn create_program(path: &Path, _: bool) -> io::Result<fs_err::File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Syncs the folder that a path lies in: nothing to do, NTFS writes its journal in order.
///
/// # Errors
/// Never.
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// SYSTEM, administrators and whoever makes it may do everything, everybody else may read what is public. Nothing is
/// inherited from above (Microsoft, "Security Descriptor Definition Language").
fn access_list(access: Access) -> io::Result<String> {
    let owner = ffi::own_user()?;
    let all = format!("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{owner})");
    Ok(match access {
        Access::Private => all,
        Access::Public => format!("{all}(A;OICI;GRGX;;;BU)"),
    })
}

fn write_new(path: &Path, bytes: &[u8], _: Access) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_nothing_to_users_and_nothing_is_inherited() {
        let [private, public] = [Access::Private, Access::Public].map(|access| access_list(access).unwrap());
        assert!(private.starts_with("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)") && public.starts_with(&private));
        assert!(!private.contains("BU") && public.ends_with("(A;OICI;GRGX;;;BU)"), "{public}");
    }

    #[test]
    fn a_file_is_replaced_in_a_folder_of_its_own_access() {
        let outer = tempfile::tempdir().unwrap();
        for access in [Access::Private, Access::Public] {
            let folder = outer.path().join(format!("{access:?}"));
            create_folder(&folder, access).unwrap();
            for text in ["one", "two"] {
                replace(&folder.join("file"), text.as_bytes(), access).unwrap();
                assert_eq!(fs_err::read_to_string(folder.join("file")).unwrap(), text);
            }
            assert_eq!(fs_err::read_dir(&folder).unwrap().count(), 1);
        }
    }
}
