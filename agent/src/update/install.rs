//! Installs a verified archive: one plain folder per version, a link to the current one, and the previous one kept
//! until the new one has started.
//!
//! In: a [`Verified`] file and the record of updates. Out: the version that is current, or why it did not change.
//! Called by [`super::run`], and by [`super::recover`] after a crash.
//!
//! `versions/2.1.0/` is complete before the link leads to it. A switch is recorded before it happens, so a crash in
//! between still leads to a version that starts.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use platform::paths::Paths;
use platform::{file, install as system};
use semver::Version;
use tar::EntryType;

use super::download::Verified;
use super::record::{Probation, RecordError, UpdateRecord};
use crate::app::descriptor::Installation;

/// An archive may unpack to this many bytes.
const MAXIMUM_UNPACKED: u64 = 8 * 1024 * 1024 * 1024;
/// An archive may have this many entries.
const MAXIMUM_ENTRIES: usize = 200_000;

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

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("the archive has no program {0}")]
    NoProgram(String),
    #[error("the archive has more than {MAXIMUM_ENTRIES} entries")]
    TooManyEntries,
    #[error("the archive unpacks to more than {MAXIMUM_UNPACKED} bytes")]
    TooLarge,
    #[error("the archive has an entry outside its folder: {}", .0.display())]
    Outside(PathBuf),
    #[error("the archive has {}, which is neither file nor folder ({kind:?})", name.display())]
    Kind { name: PathBuf, kind: EntryType },
    #[error(transparent)]
    Io(#[from] io::Error),
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
    let unpacked = unpack_program(verified.rewind()?, &beside, program).and_then(|()| {
        remove_folder(target)?;
        fs_err::rename(&beside, target)?;
        Ok(file::sync_folder(target)?)
    });
    if unpacked.is_err() {
        remove_folder(&beside)?;
    }
    unpacked
}

/// Unpacks an archive that must have the program in it.
fn unpack_program(archive: impl Read, folder: &Path, program: &str) -> Result<(), UnpackError> {
    unpack_into(archive, folder)?;
    let metadata = fs_err::metadata(folder.join(program))?;
    if metadata.is_file() { Ok(()) } else { Err(UnpackError::NoProgram(program.to_owned())) }
}

/// Unpacks regular files and folders, and nothing else. Everything lies below the folder.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of the library are not exhaustive")]
fn unpack_into(archive: impl Read, folder: &Path) -> Result<(), UnpackError> {
    file::create_folder(folder, file::Access::Public)?;
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut budget = MAXIMUM_UNPACKED;
    for (number, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if number >= MAXIMUM_ENTRIES {
            return Err(UnpackError::TooManyEntries);
        }
        let name = entry.path()?.into_owned();
        if !name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(UnpackError::Outside(name));
        }
        let path = folder.join(&name);
        match entry.header().entry_type() {
            EntryType::Directory => file::create_folder(&path, file::Access::Public)?,
            EntryType::Regular => {
                budget = budget.checked_sub(entry.size()).ok_or(UnpackError::TooLarge)?;
                if let Some(parent) = path.parent() {
                    file::create_folder(parent, file::Access::Public)?;
                }
                let executable = entry.header().mode()? & 0o111 != 0;
                let mut unpacked = file::create_program(&path, executable)?;
                io::copy(&mut entry, &mut unpacked)?;
                unpacked.sync_all()?;
            }
            EntryType::XGlobalHeader => {}
            kind => return Err(UnpackError::Kind { name, kind }),
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn archive(add: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        add(&mut builder);
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn entry(builder: &mut tar::Builder<GzEncoder<Vec<u8>>>, kind: EntryType, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4777);
        header.set_size(0);
        // The builder's own checks would refuse these names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    }

    #[test]
    fn hostile_archive_is_refused_and_writes_nothing_outside_its_folder() {
        let cases = [
            (EntryType::Regular, "../escaped", "", "outside its folder"),
            (EntryType::Regular, "/tmp/escaped-by-steward-test", "", "outside its folder"),
            (EntryType::Symlink, "link", "/etc/passwd", "neither file nor folder"),
            (EntryType::Link, "link", "/etc/passwd", "neither file nor folder"),
            (EntryType::Fifo, "pipe", "", "neither file nor folder"),
            (EntryType::Char, "device", "", "neither file nor folder"),
        ];
        for (kind, name, target, expected) in cases {
            let outer = tempfile::tempdir().unwrap();
            let bytes = archive(|builder| entry(builder, kind, name, target));
            let error = unpack_into(bytes.as_slice(), &outer.path().join("in")).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
            assert!(!outer.path().join("escaped").exists());
        }
    }

    #[test]
    fn unpacked_program_is_executable_without_set_user_id() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = tempfile::tempdir().unwrap();
        let bytes = archive(|builder| entry(builder, EntryType::Regular, "bin/program", ""));
        unpack_into(bytes.as_slice(), outer.path()).unwrap();
        let mode = fs_err::metadata(outer.path().join("bin/program")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "no set-user-ID, not writable by others");
    }

    #[test]
    fn truncated_archive_is_an_error() {
        let outer = tempfile::tempdir().unwrap();
        let bytes = archive(|builder| entry(builder, EntryType::Regular, "a", ""));
        assert!(unpack_into(&bytes[..bytes.len() / 2], outer.path()).is_err());
    }
}
