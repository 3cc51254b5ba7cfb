//! A plain folder per version, a link to the current one, the previous one kept until the new one has shown that it
//! starts.
//!
//! `versions/2.1.0/` is complete before the link leads to it. A switch is noted before it happens, so that a crash
//! in between ends in a version that starts.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use agent_platform::paths::Paths;
use agent_platform::{file, install as system};
use flate2::read::GzDecoder;
use policy_schema::{Code, Problem};
use semver::Version;
use tar::EntryType;

use super::download::Verified;
use super::{Memory, Probation, save};
use crate::app::descriptor::Installation;

/// The most bytes and files that an archive may unpack to.
const MAXIMUM_UNPACKED: u64 = 8 * 1024 * 1024 * 1024;
const MAXIMUM_ENTRIES: usize = 200_000;

/// The version that the link leads to.
pub(crate) fn installed_version(paths: &Paths, installation: &Installation) -> Option<Version> {
    let target = fs_err::read_link(folder(paths, installation).join("current")).ok()?;
    target.file_name()?.to_str()?.parse().ok()
}

/// Unpacks a verified archive, switches to it, and switches back if it does not start.
pub(super) async fn install(
    paths: &Paths,
    installation: &Installation,
    verified: Verified,
    memory: &mut Memory,
) -> Result<(), Problem> {
    let folder = folder(paths, installation);
    let version = verified.version().clone();
    let previous = installed_version(paths, installation);
    let failed = |error: &io::Error| {
        Problem::new(Code::UpdateInstallFailed, format!("version {version}: {error}"))
            .at(folder.display().to_string())
            .using("the version before")
    };

    let target = folder.join("versions").join(version.to_string());
    let program = installation.program.clone();
    let unpacked = tokio::task::spawn_blocking({
        let target = target.clone();
        move || unpack(verified, &target, &program)
    });
    unpacked.await.map_err(io::Error::other).and_then(|result| result).map_err(|error| failed(&error))?;

    let probation = Probation { version: version.clone(), previous };
    memory.probation = Some(probation.clone());
    save(paths, memory)?;
    system::switch(&folder.join("current"), &target).map_err(|error| failed(&error))?;
    prove(paths, installation, &probation, memory).await?;
    clean_up(&folder, &probation);
    Ok(())
}

/// Ends a probation: the version starts and stays, or the previous one is put back and the version is held.
pub(super) async fn prove(
    paths: &Paths,
    installation: &Installation,
    probation: &Probation,
    memory: &mut Memory,
) -> Result<(), Problem> {
    let folder = folder(paths, installation);
    let program = folder.join("current").join(&installation.program);
    let Err(error) = system::try_start(&program, &installation.self_check).await else {
        memory.probation = None;
        return save(paths, memory);
    };

    let link = folder.join("current");
    let (put_back, now) = match &probation.previous {
        Some(previous) => {
            let target = folder.join("versions").join(previous.to_string());
            (system::switch(&link, &target), format!("{previous} again"))
        }
        None => (file::remove(&link), "no version: there was none before".to_owned()),
    };
    memory.held.insert(probation.version.clone());
    if put_back.is_ok() {
        memory.probation = None;
    }
    save(paths, memory)?;
    let version = &probation.version;
    Err(Problem::new(Code::UpdateRolledBack, format!("version {version} does not start: {error}"))
        .at(program.display().to_string())
        .using(put_back.map_or_else(|error| format!("still {version}: {error}"), |()| now))
        .hint(format!("publish a corrected version; {version} is held on this device")))
}

/// Removes versions that are neither current nor previous. What cannot be removed does no harm.
fn clean_up(folder: &Path, probation: &Probation) {
    let keep = [Some(probation.version.to_string()), probation.previous.as_ref().map(ToString::to_string)];
    let Ok(entries) = fs_err::read_dir(folder.join("versions")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !keep.contains(&Some(name))
            && let Err(error) = fs_err::remove_dir_all(entry.path())
        {
            tracing::warn!("an old version stays behind: {error}");
        }
    }
}

fn folder(paths: &Paths, installation: &Installation) -> PathBuf {
    paths.under_root(Path::new(&installation.folder))
}

fn unpack(mut verified: Verified, target: &Path, program: &str) -> io::Result<()> {
    let beside = target.with_file_name(format!(".{}.new", verified.version()));
    remove_folder(&beside)?;
    let archive = verified.rewind()?;
    let unpacked = unpack_into(archive, &beside).and_then(|()| {
        let metadata = fs_err::metadata(beside.join(program))?;
        if !metadata.is_file() {
            return Err(io::Error::other(format!("the archive has no program {program}")));
        }
        remove_folder(target)?;
        fs_err::rename(&beside, target)?;
        file::sync_folder(target)
    });
    if unpacked.is_err() {
        remove_folder(&beside)?;
    }
    unpacked
}

/// Unpacks regular files and folders, and nothing else, below a folder, and nowhere else.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of the library are not exhaustive")]
fn unpack_into(archive: impl Read, folder: &Path) -> io::Result<()> {
    file::create_folder(folder, file::Access::Public)?;
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut budget = MAXIMUM_UNPACKED;
    for (number, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if number >= MAXIMUM_ENTRIES {
            return Err(io::Error::other(format!("the archive has more than {MAXIMUM_ENTRIES} entries")));
        }
        let name = entry.path()?.into_owned();
        if !name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(io::Error::other(format!(
                "the archive wants to write outside its folder: {}",
                name.display()
            )));
        }
        let path = folder.join(&name);
        match entry.header().entry_type() {
            EntryType::Directory => file::create_folder(&path, file::Access::Public)?,
            EntryType::Regular => {
                budget = budget
                    .checked_sub(entry.size())
                    .ok_or_else(|| io::Error::other("the archive unpacks to too many bytes"))?;
                if let Some(parent) = path.parent() {
                    file::create_folder(parent, file::Access::Public)?;
                }
                let executable = entry.header().mode()? & 0o111 != 0;
                let mut unpacked = file::create_program(&path, executable)?;
                io::copy(&mut entry, &mut unpacked)?;
                unpacked.sync_all()?;
            }
            EntryType::XGlobalHeader => {}
            kind => {
                return Err(io::Error::other(format!(
                    "the archive holds {}, which is neither file nor folder ({kind:?})",
                    name.display()
                )));
            }
        }
    }
    Ok(())
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
        // Past the builder's own checks: hostile archives are not made with it.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    }

    #[test]
    fn hostile_archives_write_nothing_outside_and_no_links() {
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
    fn programs_are_executable_and_nothing_is_more_than_that() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = tempfile::tempdir().unwrap();
        let bytes = archive(|builder| entry(builder, EntryType::Regular, "bin/program", ""));
        unpack_into(bytes.as_slice(), outer.path()).unwrap();
        let mode = fs_err::metadata(outer.path().join("bin/program")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "no set-user-ID, not writable by others");
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let outer = tempfile::tempdir().unwrap();
        let bytes = archive(|builder| entry(builder, EntryType::Regular, "a", ""));
        assert!(unpack_into(&bytes[..bytes.len() / 2], outer.path()).is_err());
    }
}
