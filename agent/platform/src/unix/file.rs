//! Replacing files so that a crash leaves the old or the new one, and what tells files apart.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::paths::{beside, folder_of};

/// Who may read what is written. Only its owner may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every user may read it.
    Public,
    /// Only its owner may.
    Private,
}

impl Access {
    fn of_file(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Private => 0o600,
        }
    }

    fn of_folder(self) -> u32 {
        match self {
            Self::Public => 0o755,
            Self::Private => 0o700,
        }
    }
}

/// Replaces a file: the new one is written beside it with its final mode, synced, renamed over it, and the folder
/// is synced, so that it is there after a power loss.
///
/// # Errors
/// Any step; the old file is then still there and nothing is left beside it.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let beside = beside(path);
    let written = write_new(&beside, bytes, access.of_file()).and_then(|()| rename(&beside, path));
    if let Err(error) = written {
        // Best effort: the error that led here is the one to report.
        drop(fs_err::remove_file(&beside));
        return Err(error);
    }
    sync_folder(path)
}

/// Moves a file into the place of another.
///
/// # Errors
/// The system refused.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs_err::rename(from, to)
}

/// Tells one state of a file from another, as far as the system records it: a replaced file has another mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// The mark of a file as it is now.
///
/// # Errors
/// There is none, or the system refused.
pub fn mark(path: &Path) -> io::Result<Mark> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs_err::metadata(path)?;
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Ok(Mark { inode: metadata.ino(), bytes: metadata.len(), changed })
}

/// Tells one folder from another of the same name. The inode alone does not: a new folder may get the number of one
/// that was just removed, but not its time of birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    born: std::time::SystemTime,
}

/// The identity of the folder at a path; `None` if there is none, it cannot be examined, or the file system records no
/// time of birth.
#[must_use]
pub fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs_err::metadata(path).ok()?;
    Some(Identity { device: metadata.dev(), inode: metadata.ino(), born: metadata.created().ok()? })
}

/// Tells one existing file or folder from every other of this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// The file or folder at a path. Links are followed.
///
/// # Errors
/// There is none, or the system refused.
pub(crate) fn id(path: &Path) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs_err::metadata(path)?;
    Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
}

/// The path of a file or folder with every link resolved, and which it is.
///
/// # Errors
/// As for [`id`].
pub(crate) fn locate(path: &Path) -> io::Result<(PathBuf, FileId)> {
    let path = fs_err::canonicalize(path)?;
    let file = id(&path)?;
    Ok((path, file))
}

/// Removes a file durably. One that does not exist is no error.
///
/// # Errors
/// The system refused.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates a folder and those above it; a new one gets the access.
///
/// # Errors
/// The system refused.
pub fn create_folder(path: &Path, access: Access) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(access.of_folder()).create(path).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to create the folder {}: {error}", path.display()))
    })
}

/// Takes from a folder that exists what is more than its access. What an administrator has tightened stays.
///
/// # Errors
/// The system refused.
pub fn correct_access(path: &Path, access: Access) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs_err::metadata(path)?.permissions().mode() & 0o7777;
    let excess = mode & 0o777 & !access.of_folder();
    if excess == 0 {
        return Ok(());
    }
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode & !excess))
}

/// Opens a new file that no other user can open, for a download or the like.
///
/// # Errors
/// It exists, or the system refused.
pub fn create_private(path: &Path) -> io::Result<fs_err::File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(Access::Private.of_file()).open(path)
}

/// Opens a file that is there to be locked, and makes it if there is none. Only its owner can open it, also if that was
/// different.
pub(crate) fn open_lock(path: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(Access::Private.of_file());
    options.options_mut().custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    let file = options.open(path)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(Access::Private.of_file()))?;
    Ok(file.into_parts().0)
}

/// Opens a log for more, which only its owner can read, and makes it if there is none.
pub(crate) fn open_log(path: &Path) -> io::Result<fs_err::File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(Access::Private.of_file());
    options.options_mut().custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    options.open(path)
}

/// Opens a new file of an installed version, which every user may read and only its owner may write.
///
/// # Errors
/// It exists, or the system refused.
pub fn create_program(path: &Path, executable: bool) -> io::Result<fs_err::File> {
    let mode = if executable { 0o755 } else { Access::Public.of_file() };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    Ok(file)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options.options_mut().custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    let mut file = options.open(path)?;
    // The mode given to open(2) loses what the umask takes, and does not apply to a file that was left behind.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens a file for reading. Nothing keeps others from changing it but the access to its folder.
///
/// # Errors
/// The system refused.
pub fn open_unchangeable(path: &Path) -> io::Result<fs_err::File> {
    fs_err::File::open(path)
}

/// Syncs the folder of a path.
///
/// # Errors
/// The system refused.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    fs_err::File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn replaced_file_has_its_final_mode_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("managed.json");
        for (text, access) in [("one", Access::Private), ("two", Access::Public)] {
            replace(&path, text.as_bytes(), access).unwrap();
            assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
            assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, access.of_file());
        }
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn access_that_is_too_wide_is_narrowed_and_one_that_was_tightened_stays() {
        let folder = tempfile::tempdir().unwrap();
        for (before, access, after) in [
            (0o777, Access::Public, 0o755),
            (0o750, Access::Public, 0o750),
            (0o2755, Access::Private, 0o2700),
            (0o700, Access::Private, 0o700),
        ] {
            fs_err::set_permissions(folder.path(), std::fs::Permissions::from_mode(before)).unwrap();
            correct_access(folder.path(), access).unwrap();
            let mode = fs_err::metadata(folder.path()).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, after, "{before:o} {access:?}");
        }
    }

    #[test]
    fn failed_replacement_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("target");
        fs_err::create_dir(&path).unwrap();
        assert!(replace(&path, b"x", Access::Public).is_err());
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn recreated_folder_has_another_identity() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("policy.d");
        let mut seen = Vec::new();
        for _ in 0..5 {
            fs_err::create_dir(&path).unwrap();
            let now = identity(&path);
            fs_err::write(path.join("x"), "a change inside").unwrap();
            assert_eq!(identity(&path), now);
            assert!(now.is_none() || !seen.contains(&now));
            seen.push(now);
            fs_err::remove_dir_all(&path).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[test]
    fn link_planted_beside_the_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("managed.json");
        let victim = folder.path().join("victim");
        fs_err::write(&victim, "untouched").unwrap();
        fs_err::os::unix::fs::symlink(&victim, folder.path().join(".managed.json.new")).unwrap();
        drop(replace(&path, b"x", Access::Public));
        assert_eq!(fs_err::read_to_string(&victim).unwrap(), "untouched");
    }
}
