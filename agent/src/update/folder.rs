//! Installs a verified archive: one plain folder per version, a link to the current one, and the previous one kept.
//!
//! In: a [`Verified`] file. Out: the version that is current, or why it did not change. Called by [`super::target`] as the
//! journal says, so each step can be done once more after a crash.
//!
//! `versions/2.1.0/` is complete before the link leads to it.

use std::io;
use std::path::{Path, PathBuf};

use platform::paths::Paths;
use platform::{file, install as system};
use semver::Version;

use super::archive::{self, Kind, UnpackError};
use super::download::Verified;
use crate::app::descriptor::VersionFolders;

/// `EIO`: the device of a disk failed (errno(3)).
const EIO: i32 = 5;

/// Why a version is not the current one.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("version {version} cannot be unpacked")]
    Unpack { version: Version, folder: PathBuf, source: UnpackError },
    #[error("the link to the current version cannot lead to version {version}")]
    Switch { version: Version, folder: PathBuf, source: io::Error },
}

impl FolderError {
    /// Whether the same file would fail again: it is the fault of the archive, not of the disk.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Unpack { source: UnpackError::Io(error), .. } => {
                use io::ErrorKind::{
                    FileTooLarge, Interrupted, OutOfMemory, PermissionDenied, QuotaExceeded,
                    ReadOnlyFilesystem, ResourceBusy, StorageFull, TimedOut,
                };
                // The disk's errors. An I/O error of the disk has no kind of its own.
                !matches!(
                    error.kind(),
                    FileTooLarge
                        | Interrupted
                        | OutOfMemory
                        | PermissionDenied
                        | QuotaExceeded
                        | ReadOnlyFilesystem
                        | ResourceBusy
                        | StorageFull
                        | TimedOut
                ) && error.raw_os_error() != Some(EIO)
            }
            Self::Unpack { .. } => true,
            Self::Switch { .. } => false,
        }
    }
}

/// The version that the link leads to, if it has the program.
pub(super) fn installed_version(paths: &Paths, installation: &VersionFolders) -> Option<Version> {
    linked_version(paths, installation).filter(|_| program(paths, installation).is_file())
}

fn linked_version(paths: &Paths, installation: &VersionFolders) -> Option<Version> {
    let target = fs_err::read_link(link(&folder(paths, installation))).ok()?;
    target.file_name()?.to_str()?.parse().ok()
}

/// Unpacks a verified archive, and switches to it.
pub(super) async fn install(
    paths: &Paths,
    installation: &VersionFolders,
    verified: Verified,
) -> Result<(), FolderError> {
    let folder = folder(paths, installation);
    let version = verified.version().clone();
    let unpacking = tokio::task::spawn_blocking({
        let (target, program) = (version_folder(&folder, &version), installation.program.clone());
        move || unpack(verified, &target, &program)
    });
    unpacking
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error).into()))
        .map_err(|source| FolderError::Unpack { version: version.clone(), folder: folder.clone(), source })?;
    switch(paths, installation, &version)
}

/// Lets the link lead to a version that is there, if it does not: what was never tried must not be judged.
pub(super) fn switch(
    paths: &Paths,
    installation: &VersionFolders,
    version: &Version,
) -> Result<(), FolderError> {
    if linked_version(paths, installation).as_ref() == Some(version) {
        return Ok(());
    }
    let folder = folder(paths, installation);
    let target = version_folder(&folder, version);
    system::switch(&link(&folder), &target).map_err(|source| FolderError::Switch {
        version: version.clone(),
        folder,
        source,
    })
}

/// The program of the current version.
pub(super) fn program(paths: &Paths, installation: &VersionFolders) -> PathBuf {
    link(&folder(paths, installation)).join(&installation.program)
}

/// Tries whether the current version starts.
pub(super) async fn try_start(paths: &Paths, installation: &VersionFolders) -> io::Result<()> {
    system::try_start(&program(paths, installation), &installation.self_check).await
}

fn unpack(mut verified: Verified, target: &Path, program: &str) -> Result<(), UnpackError> {
    let kind = Kind::of(verified.name());
    let beside = target.with_file_name(format!(".{}.new", verified.version()));
    remove_folder(&beside)?;
    let unpacked = archive::unpack_program(verified.rewind()?, kind, &beside, program).and_then(|root| {
        sync_folders(&root)?;
        remove_folder(target)?;
        fs_err::rename(&root, target)?;
        Ok(file::sync_folder(target)?)
    });
    // Still there after a failure, and as the shell of a folder that was the only one in it.
    remove_folder(&beside)?;
    unpacked
}

/// Makes durable which files are in a folder, and in the folders in it. The files themselves are durable already.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    file::sync_folder(&folder.join("any"))
}

/// Makes the previous version current again, or none, if there was none.
pub(super) fn roll_back(
    paths: &Paths,
    installation: &VersionFolders,
    previous: Option<&Version>,
) -> Result<(), io::Error> {
    let folder = folder(paths, installation);
    match previous {
        Some(previous) if is_there(paths, installation, previous) => {
            system::switch(&link(&folder), &version_folder(&folder, previous))
        }
        Some(previous) => {
            let text = format!("version {previous} is no longer in {}", folder.display());
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
        None => file::remove(&link(&folder)),
    }
}

/// Whether a version could be made current.
pub(super) fn is_there(paths: &Paths, installation: &VersionFolders, version: &Version) -> bool {
    let program = version_folder(&folder(paths, installation), version).join(&installation.program);
    fs_err::metadata(program).is_ok_and(|program| program.is_file())
}

/// Removes other versions than these. A version that cannot be removed does no harm.
pub(super) fn clean_up(paths: &Paths, installation: &VersionFolders, keep: &[Version]) {
    let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
    let Ok(entries) = fs_err::read_dir(folder(paths, installation).join("versions")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !keep.contains(&name)
            && let Err(error) = fs_err::remove_dir_all(entry.path())
        {
            tracing::warn!("an old version cannot be removed: {error}");
        }
    }
}

fn folder(paths: &Paths, installation: &VersionFolders) -> PathBuf {
    paths.under_root(Path::new(&installation.folder))
}

fn version_folder(folder: &Path, version: &Version) -> PathBuf {
    folder.join("versions").join(version.to_string())
}

fn link(folder: &Path) -> PathBuf {
    folder.join("current")
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
