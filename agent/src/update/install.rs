//! Installs a verified archive: one plain folder per version, a link to the current one, and the previous one kept
//! until the new one has started.
//!
//! In: a [`Verified`] file and the record of updates. Out: the version that is current, or why it did not change.
//! Called by [`super::run`], and by [`super::recover`] after a crash.
//!
//! `versions/2.1.0/` is complete before the link leads to it. A switch is recorded before it happens, so a crash in
//! between still leads to a version that starts.

use std::io;
use std::path::{Path, PathBuf};

use platform::paths::Paths;
use platform::{file, install as system};
use semver::Version;

use super::archive::{self, UnpackError};
use super::download::Verified;
use super::record::{Probation, RecordError, UpdateRecord};
use crate::app::descriptor::Installation;

/// Why a version is not the current one.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstallError {
    #[error("version {version} cannot be unpacked")]
    Unpack { version: Version, folder: PathBuf, source: UnpackError },
    #[error("the link to the current version cannot lead to version {version}")]
    Switch { version: Version, folder: PathBuf, source: io::Error },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("version {version} does not start")]
    DoesNotStart { version: Version, program: PathBuf, rollback: Rollback, source: io::Error },
}

/// What is current after a version did not start.
#[derive(Debug)]
pub(super) enum Rollback {
    /// The previous version.
    Previous(Version),
    /// No version, because there was none before.
    Nothing,
    /// Still the version that does not start, because the link cannot be changed.
    Failed(io::Error),
}

/// The version that the link leads to.
pub(crate) fn installed_version(paths: &Paths, installation: &Installation) -> Option<Version> {
    let target = fs_err::read_link(link(&folder(paths, installation))).ok()?;
    target.file_name()?.to_str()?.parse().ok()
}

/// Unpacks a verified archive, switches to it, and switches back if it does not start.
pub(super) async fn install(
    paths: &Paths,
    installation: &Installation,
    verified: Verified,
    record: &mut UpdateRecord,
) -> Result<(), InstallError> {
    let folder = folder(paths, installation);
    let version = verified.version().clone();
    let previous = installed_version(paths, installation);
    let target = version_folder(&folder, &version);
    let unpacking = tokio::task::spawn_blocking({
        let (target, program) = (target.clone(), installation.program.clone());
        move || unpack(verified, &target, &program)
    });
    unpacking.await.unwrap_or_else(|error| Err(io::Error::other(error).into())).map_err(|source| {
        InstallError::Unpack { version: version.clone(), folder: folder.clone(), source }
    })?;

    let probation = Probation { version: version.clone(), previous };
    record.probation = Some(probation.clone());
    record.save(paths)?;
    system::switch(&link(&folder), &target).map_err(|source| InstallError::Switch {
        version,
        folder: folder.clone(),
        source,
    })?;
    confirm(paths, installation, &probation, record).await?;
    clean_up(&folder, &probation);
    Ok(())
}

/// Lets the link lead to the version of a probation, if a crash came before that: what was never tried must not be
/// judged.
pub(super) fn finish_switch(
    paths: &Paths,
    installation: &Installation,
    probation: &Probation,
) -> Result<(), InstallError> {
    let (folder, version) = (folder(paths, installation), &probation.version);
    if installed_version(paths, installation).as_ref() == Some(version) {
        return Ok(());
    }
    system::switch(&link(&folder), &version_folder(&folder, version)).map_err(|source| InstallError::Switch {
        version: version.clone(),
        folder,
        source,
    })
}

/// Ends a probation. A version that starts stays. Else the previous one is current again, and the version is
/// quarantined.
pub(super) async fn confirm(
    paths: &Paths,
    installation: &Installation,
    probation: &Probation,
    record: &mut UpdateRecord,
) -> Result<(), InstallError> {
    let folder = folder(paths, installation);
    let program = link(&folder).join(&installation.program);
    let Err(source) = system::try_start(&program, &installation.self_check).await else {
        record.probation = None;
        return Ok(record.save(paths)?);
    };
    let version = probation.version.clone();
    let rollback = roll_back(&folder, probation.previous.as_ref());
    record.quarantined.insert(version.clone());
    match &rollback {
        Rollback::Previous(_) | Rollback::Nothing => record.probation = None,
        // The next start of the agent tries again.
        Rollback::Failed(_) => {}
    }
    record.save(paths)?;
    Err(InstallError::DoesNotStart { version, program, rollback, source })
}

fn unpack(mut verified: Verified, target: &Path, program: &str) -> Result<(), UnpackError> {
    let beside = target.with_file_name(format!(".{}.new", verified.version()));
    remove_folder(&beside)?;
    let unpacked = archive::unpack_program(verified.rewind()?, &beside, program).and_then(|root| {
        remove_folder(target)?;
        fs_err::rename(&root, target)?;
        Ok(file::sync_folder(target)?)
    });
    // Still there after a failure, and as the shell of a folder that was the only one in it.
    remove_folder(&beside)?;
    unpacked
}

/// Makes the previous version current again.
fn roll_back(folder: &Path, previous: Option<&Version>) -> Rollback {
    let link = link(folder);
    let (result, rollback) = match previous {
        Some(previous) => {
            let target = version_folder(folder, previous);
            (system::switch(&link, &target), Rollback::Previous(previous.clone()))
        }
        None => (file::remove(&link), Rollback::Nothing),
    };
    result.map_or_else(Rollback::Failed, |()| rollback)
}

/// Removes versions that are neither current nor previous. A version that cannot be removed does no harm.
fn clean_up(folder: &Path, probation: &Probation) {
    let keep = [Some(probation.version.to_string()), probation.previous.as_ref().map(ToString::to_string)];
    let Ok(entries) = fs_err::read_dir(folder.join("versions")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !keep.contains(&Some(name))
            && let Err(error) = fs_err::remove_dir_all(entry.path())
        {
            tracing::warn!("an old version cannot be removed: {error}");
        }
    }
}

fn folder(paths: &Paths, installation: &Installation) -> PathBuf {
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
