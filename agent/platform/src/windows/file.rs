//! Replacing files so that a crash leaves the old or the new one, and what tells files apart.
//!
//! The folder decides who has access: the agent's folders are created with an access list that does not inherit what
//! `ProgramData` gives to every user, and what is inside them inherits theirs.

mod ffi;

use std::io::{self, Write as _};
use std::os::windows::fs::MetadataExt as _;
use std::os::windows::io::{AsHandle as _, BorrowedHandle};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err::OpenOptions;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_CALL_NOT_IMPLEMENTED, ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER,
    ERROR_LOCK_VIOLATION, ERROR_NOT_SUPPORTED, ERROR_SHARING_VIOLATION,
};
use windows_sys::Win32::Storage::FileSystem::{DELETE, FILE_FLAG_BACKUP_SEMANTICS, FILE_SHARE_READ};

use super::security::{self, Descriptor};
use crate::clock;
use crate::paths::{beside, folder_of};

pub(super) use ffi::free_space;

/// Who may read what is written. Only administrators and its owner may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every user may read it.
    Public,
    /// Only administrators and its owner may.
    Private,
}

/// How long a file that another program has open is tried again: virus scanners, indexers and backups have it for moments.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_PAUSE: Duration = Duration::from_millis(20);

/// Replaces a file: the new one is written beside it, flushed, and moved over it. While another program has one of them open,
/// it is tried again for two seconds.
///
/// # Errors
/// Any step (`ResourceBusy`: another program has the file open); the old file is then still there and nothing is left beside
/// it.
pub fn replace(path: &Path, bytes: &[u8], _: Access) -> io::Result<()> {
    let beside = beside(path);
    let written = write_new(&beside, bytes).and_then(|()| rename(&beside, path));
    if let Err(error) = written {
        // Best effort: the error that led here is the one to report.
        drop(fs_err::remove_file(&beside));
        return Err(error);
    }
    Ok(())
}

/// Moves a file into the place of another, as patiently as [`replace`].
///
/// # Errors
/// The system refused.
#[expect(clippy::disallowed_methods, reason = "the number of the error counts, which fs_err hides")]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    patiently("replace", to, || std::fs::rename(from, to))
}

/// Tries again for a while what fails because another program has a file open.
fn patiently<T>(what: &str, path: &Path, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = clock::monotonic();
    let mut was_closed = false;
    loop {
        let error = match act() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let is_open = is_held(&error) && is_open_elsewhere(path);
        // A folder that is read-only, or not the caller's, is refused with the same error: nobody waits for that. But whoever had the file
        // open may have let it go since it was tried, so it is tried once more.
        let may_pass = is_open || (is_held(&error) && !was_closed);
        if may_pass && clock::monotonic().saturating_sub(begun) < PATIENCE {
            was_closed = !is_open;
            std::thread::sleep(PATIENCE_PAUSE);
            continue;
        }
        if is_open {
            let message = format!("another program has {} open: {error}", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        return Err(io::Error::new(error.kind(), format!("failed to {what} {}: {error}", path.display())));
    }
}

/// Errors that mean that another program has a file open, as a rule.
fn is_held(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    [ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION]
        .iter()
        .any(|held| code == Some(*held))
}

/// Whether a file cannot be opened for this process alone.
fn is_open_elsewhere(path: &Path) -> bool {
    use std::os::windows::fs::OpenOptionsExt as _;
    let alone = std::fs::OpenOptions::new().access_mode(DELETE).share_mode(0).open(path);
    alone.is_err_and(|error| error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_SHARING_VIOLATION))
}

/// Tells one state of a file from another, as far as the system records it: a replaced file has another mark.
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

/// The identity of the folder at a path; `None` if there is none or it cannot be examined.
#[must_use]
pub fn identity(path: &Path) -> Option<Identity> {
    Some(Identity { born: fs_err::metadata(path).ok()?.creation_time() })
}

/// Tells one existing file or folder from every other of this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    /// The disk or network share as Windows names it. An image of a disk, or a server, chooses its numbers itself.
    volume: PathBuf,
    serial: u64,
    number: u128,
}

/// The file or folder at a path. Links are followed.
///
/// # Errors
/// There is none, the system refused, or its file system has no file IDs (`Unsupported`).
pub(crate) fn id(path: &Path) -> io::Result<FileId> {
    Ok(locate(path)?.1)
}

/// The path of a file or folder with every link resolved, and which it is, both of the same open file. The path is for
/// comparing only: it is in lower case.
///
/// # Errors
/// As for [`id`].
pub(crate) fn locate(path: &Path) -> io::Result<(PathBuf, FileId)> {
    use fs_err::os::windows::fs::OpenOptionsExt as _;
    // Without any access it opens as well while others write or delete; the flag opens folders too.
    let file = OpenOptions::new().access_mode(0).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)?;
    let path = PathBuf::from(ffi::final_path(file.as_handle())?.to_string_lossy().to_lowercase());
    let (serial, number) = numbers(file.as_handle())?;
    let volume = path.components().next().map(|prefix| PathBuf::from(prefix.as_os_str())).unwrap_or_default();
    Ok((path, FileId { volume, serial, number }))
}

/// The serial number of a volume and the number of a file in it, as long as the file system has them.
fn numbers(file: BorrowedHandle<'_>) -> io::Result<ffi::Numbers> {
    let numbers = match ffi::numbers(file) {
        Err(error) if is_unsupported(&error) => ffi::short_numbers(file)?,
        result => result?,
    };
    // What file systems without numbers say (Microsoft, [MS-FSCC], 2.1.9 and 2.1.10).
    if [0, u128::from(u64::MAX), u128::MAX].contains(&numbers.1) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "its file system has no file IDs"));
    }
    Ok(numbers)
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    [ERROR_CALL_NOT_IMPLEMENTED, ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED]
        .iter()
        .any(|unsupported| code == Some(*unsupported))
}

/// Removes a file. One that does not exist is no error.
///
/// # Errors
/// The system refused.
#[expect(clippy::disallowed_methods, reason = "the number of the error counts, which fs_err hides")]
pub fn remove(path: &Path) -> io::Result<()> {
    patiently("remove", path, || match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
}

/// Creates a folder and those above it; a new one gets the access. One that exists must belong to the system, to
/// administrators or to the user who runs this process: every user may create folders in `ProgramData`, and would own
/// what the agent trusts.
///
/// # Errors
/// It belongs to another user, or the system refused.
pub fn create_folder(path: &Path, access: Access) -> io::Result<()> {
    if path.is_dir() {
        if !security::is_trustworthy(path)? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} belongs to a user who is not an administrator; remove it", path.display()),
            ));
        }
        return Ok(());
    }
    let above = folder_of(path);
    if above != path && !above.is_dir() {
        create_folder(above, access)?;
    }
    match ffi::create_folder(path, &Descriptor::parse(&access_list(access)?)?) {
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

/// Gives a folder of the agent's that exists its access, and what is in it inherits that: whether an administrator started the
/// agent by hand or Windows started it as a service makes no difference afterwards. Without the rights of an administrator
/// nothing happens.
///
/// # Errors
/// The system refused.
pub fn correct_access(path: &Path, access: Access) -> io::Result<()> {
    if security::is_administrator()? {
        security::correct_access(path, &Descriptor::parse(&access_list(access)?)?)?;
    }
    Ok(())
}

/// Opens a new file that no other user can open, for a download or the like; its folder is private.
///
/// # Errors
/// It exists, or the system refused.
pub fn create_private(path: &Path) -> io::Result<fs_err::File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Opens a file for reading, so that nobody can change, replace or remove it while it is open. Programs of this user can still
/// be started from it.
///
/// # Errors
/// It is open for writing, or the system refused.
pub fn open_unchangeable(path: &Path) -> io::Result<fs_err::File> {
    let mut options = OpenOptions::new();
    fs_err::os::windows::fs::OpenOptionsExt::share_mode(&mut options, FILE_SHARE_READ);
    options.read(true).open(path)
}

/// Opens a file that is there to be locked, and makes it if there is none.
pub(crate) fn open_lock(path: &Path) -> io::Result<std::fs::File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(file.into_parts().0)
}

/// Opens a log for more, and makes it if there is none; its folder is private.
pub(crate) fn open_log(path: &Path) -> io::Result<fs_err::File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Opens a new file of an installed version. What makes a program of it is its name.
///
/// # Errors
/// It exists, or the system refused.
pub fn create_program(path: &Path, _: bool) -> io::Result<fs_err::File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Syncs the folder of a path: nothing to do, NTFS writes its journal in order.
///
/// # Errors
/// Never.
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// SYSTEM and administrators may do everything, all others may read what is public. Without the rights of an administrator,
/// the user who creates it may do everything as well. Nothing is inherited from above (Microsoft, "Security Descriptor
/// Definition Language"; 0x1200a9 is to read and to execute).
fn access_list(access: Access) -> io::Result<String> {
    let own = if security::is_administrator()? {
        String::new()
    } else {
        format!("(A;OICI;FA;;;{})", security::own_user()?)
    };
    let others = if access == Access::Public { "(A;OICI;0x1200a9;;;BU)" } else { "" };
    Ok(format!("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA){own}{others}"))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let create = || std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(path);
    let mut file = patiently("write", path, create)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn access_lists_inherit_nothing_and_private_one_gives_users_nothing() {
        let [private, public] = [Access::Private, Access::Public].map(|access| access_list(access).unwrap());
        assert!(private.starts_with("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)") && public.starts_with(&private));
        assert!(!private.contains("BU") && public.ends_with("(A;OICI;0x1200a9;;;BU)"), "{public}");
        let owner = security::own_user().unwrap();
        assert_eq!(
            private.contains(&owner),
            !security::is_administrator().unwrap(),
            "no user has rights of their own"
        );
    }

    /// Found by trial: an administrator started the agent by hand, and its folders had that person in their access lists.
    #[test]
    #[ignore = "Wine 8 keeps access as modes of Unix and gives another list back; run it on Windows"]
    fn folder_that_was_made_by_hand_gets_the_access_of_a_service() {
        if !security::is_administrator().unwrap() {
            return;
        }
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("Steward");
        let by_hand = format!("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;{})", security::own_user().unwrap());
        ffi::create_folder(&folder, &Descriptor::parse(&by_hand).unwrap()).unwrap();
        create_folder(&folder, Access::Private).unwrap();
        correct_access(&folder, Access::Private).unwrap();
        let wanted = Descriptor::parse(&access_list(Access::Private).unwrap()).unwrap();
        assert!(!security::correct_access(&folder, &wanted).unwrap(), "it has it already");
    }

    #[test]
    fn file_has_the_same_number_under_each_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("Quick.exe"), folder.path().join("other.exe"));
        for path in [&path, &other] {
            fs_err::write(path, "x").unwrap();
        }
        let file = id(&path).unwrap();
        assert!(file.volume.to_string_lossy().starts_with(r"\\?\"), "{file:?}");
        assert_eq!(id(&folder.path().join("QUICK.EXE")).unwrap(), file);
        assert_eq!(locate(&folder.path().join("QUICK.EXE")).unwrap(), locate(&path).unwrap());
        assert_ne!(id(&other).unwrap(), file);
        assert_ne!(id(folder.path()).unwrap(), file);
        assert_eq!(id(&folder.path().join("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn both_kinds_of_numbers_tell_files_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| fs_err::File::create(folder.path().join(name)).unwrap();
        let (one, other) = (file("one"), file("other"));
        for numbers in [ffi::numbers, ffi::short_numbers] {
            let again = fs_err::File::open(folder.path().join("one")).unwrap();
            let found = numbers(one.as_handle()).unwrap();
            assert_eq!(numbers(again.as_handle()).unwrap(), found);
            assert_ne!(numbers(other.as_handle()).unwrap(), found);
            assert_ne!(found.1, 0);
        }
    }

    #[test]
    fn file_system_without_long_numbers_is_told_from_a_refusal() {
        let error = |code: u32| io::Error::from_raw_os_error(code.cast_signed());
        assert!(
            is_unsupported(&error(ERROR_INVALID_PARAMETER)) && is_unsupported(&error(ERROR_NOT_SUPPORTED))
        );
        assert!(!is_unsupported(&error(5)) && !is_unsupported(&io::Error::other("x")));
    }

    /// Found by trial: a virus scanner, or a user, that had a readable file open kept policy from being enforced.
    #[test]
    fn held_file_is_replaced_when_it_is_released_and_named_otherwise() {
        use fs_err::os::windows::fs::OpenOptionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        replace(&path, b"old", Access::Public).unwrap();
        let open = || OpenOptions::new().read(true).share_mode(FILE_SHARE_READ).open(&path).unwrap();
        let held = open();
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(held);
        });
        replace(&path, b"new", Access::Public).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"new");
        letting_go.join().unwrap();

        let held = open();
        let error = replace(&path, b"newer", Access::Public).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        assert!(
            error.to_string().contains("another program has") && error.to_string().contains("status.json")
        );
        assert_eq!(remove(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(held);
        assert_eq!(fs_err::read(&path).unwrap(), b"new");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
        remove(&path).unwrap();
    }

    #[test]
    fn file_in_folder_of_each_access_is_replaced() {
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
