//! Must not depend on what it guards: starts the agent's own versions, and goes back to one that works.
//!
//! In: what is kept of the versions ([`updates::versions`]), and how the one that runs is doing. Out: the version that runs. The program
//! that the package installed calls it first of all ([`launch`]); it runs itself, or supervises a later version ([`supervise()`]), which
//! says through a pipe how it is doing ([`child`]). Programs of users run the version that has proved itself ([`newer`]).
//!
//! `versions/2.1.0/steward` is complete before `versions.json` names it.
#![forbid(unsafe_code)]

pub mod child;
mod supervise;

use std::io;
use std::path::PathBuf;

use platform::file::Access;
use platform::paths::{Paths, folder_of};
use platform::state::StateFile;
use platform::{clock, install};
use semver::Version;
use updates::versions::{Launch, Versions};

pub use supervise::{Ended, supervise};

/// Where what is kept of the versions lies.
#[must_use]
pub fn file(paths: &Paths) -> StateFile<Versions> {
    StateFile::new(paths.state().join("versions.json"), Access::Public)
}

/// The program of a version.
#[must_use]
pub fn program(paths: &Paths, version: &Version) -> PathBuf {
    let name = format!("steward{}", std::env::consts::EXE_SUFFIX);
    paths.versions().join(version.to_string()).join(name)
}

/// Where the last output of a version that failed is kept, for support.
#[must_use]
pub fn log_of_failed(paths: &Paths) -> PathBuf {
    paths.state().join("private").join("failed-version.log")
}

/// What is kept; nothing, if that is damaged.
#[must_use]
pub fn load(paths: &Paths) -> Versions {
    file(paths).peek().ok().flatten().unwrap_or_default()
}

/// Changes what is kept, durably. Gives what is kept then.
///
/// # Errors
/// It cannot be read or written, and is as it was before.
pub fn change(paths: &Paths, change: impl FnOnce(Versions) -> Versions) -> io::Result<Versions> {
    let file = file(paths);
    let before = match file.load() {
        Err(error) if error.is_in_place() => return Err(io::Error::other(error)),
        // What was damaged was moved aside: the version of the package is the right one then.
        Err(error) => {
            tracing::warn!("{error}");
            None
        }
        Ok(before) => before,
    };
    let after = change(before.unwrap_or_default());
    file.save_if_changed(&after)?;
    Ok(after)
}

/// Says which version is to run now, in a process of the version `packaged`, and counts the start. Where starts cannot be counted,
/// nothing that has not proved itself is started, and the number of
/// starts is 0.
#[must_use]
pub fn launch(paths: &Paths, packaged: &Version) -> Launch {
    loop {
        let mut launch = Launch { version: None, on_probation: false, starts: 1 };
        let now = clock::now();
        let counted = change(paths, |versions| {
            let (mut versions, next) = versions.launch(packaged, now);
            launch = next;
            versions.program = own_program().map(|program| program.display().to_string());
            versions
        });
        if let Err(error) = counted {
            tracing::warn!("a start of the agent cannot be counted: {error}");
            let current = load(paths).current.filter(|version| version > packaged);
            let version = current.filter(|version| install::is_protected(&program(paths, version)));
            return Launch { version, on_probation: false, starts: 0 };
        }
        let Some(version) = &launch.version else { return launch };
        let program = program(paths, version);
        if install::is_protected(&program) {
            return launch;
        }
        let reason = format!("{} is not there, or others can change it", program.display());
        tracing::error!("version {version} is not started: {reason}");
        if change(paths, |versions| versions.give_up(version, reason, now)).is_err() {
            return Launch { version: None, on_probation: false, starts: 0 };
        }
    }
}

/// The program of the version that has proved itself, if it is newer than `running`, and this is the program that the service starts with:
/// one that somebody copied stays what it is.
#[must_use]
pub fn newer(paths: &Paths, running: &Version) -> Option<PathBuf> {
    let versions = load(paths);
    let version = versions.current.as_ref().filter(|version| *version > running)?;
    let is_own = is_own_program(&versions) && own_program().is_some();
    Some(program(paths, version)).filter(|program| is_own && install::is_protected(program))
}

/// Whether this is a program of the service: the one that starts the versions, or a version.
#[must_use]
pub fn is_of_service(paths: &Paths) -> bool {
    let is_inside = |own: &PathBuf| own.starts_with(paths.versions()) || *own == paths.packaged_program();
    own_program().as_ref().is_some_and(is_inside) || is_own_program(&load(paths))
}

fn is_own_program(versions: &Versions) -> bool {
    versions.program.as_deref() == own_program().map(|program| program.display().to_string()).as_deref()
}

fn own_program() -> Option<PathBuf> {
    std::env::current_exe().and_then(fs_err::canonicalize).ok()
}

/// Removes the folders of versions that are not needed any more.
pub fn clean_up(paths: &Paths) {
    let needed: Vec<String> = load(paths).needed().map(ToString::to_string).collect();
    let Ok(entries) = fs_err::read_dir(paths.versions()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder
            && !needed.contains(&name)
            && let Err(error) = fs_err::remove_dir_all(entry.path())
        {
            tracing::warn!("an old version of the agent cannot be removed: {error}");
        }
    }
}

/// Keeps the last output of a version that failed.
fn keep_log(paths: &Paths, text: &[u8]) {
    let file = log_of_failed(paths);
    let kept = platform::file::create_folder(folder_of(&file), Access::Private)
        .and_then(|()| platform::file::replace(&file, text, Access::Private));
    if let Err(error) = kept {
        tracing::warn!("the output of a version that failed cannot be kept: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        (root, paths)
    }

    fn install(paths: &Paths, version: &str) -> Version {
        let version: Version = version.parse().unwrap();
        let program = program(paths, &version);
        fs_err::create_dir_all(folder_of(&program)).unwrap();
        platform::file::create_program(&program, true).unwrap();
        version
    }

    #[test]
    fn version_is_followed_once_it_has_proved_itself() {
        let (_root, paths) = device();
        let (old, new) = (Version::new(1, 0, 0), install(&paths, "2.0.0"));
        change(&paths, |versions| versions.arm(new.clone())).unwrap();
        assert_eq!(newer(&paths, &old), None);
        assert_eq!(launch(&paths, &old).version, Some(new.clone()));
        change(&paths, |versions| versions.proved(&new)).unwrap();
        assert_eq!(newer(&paths, &old), Some(program(&paths, &new)));
        // That program itself goes on.
        assert_eq!(newer(&paths, &new), None);
    }

    #[test]
    fn program_that_is_gone_is_given_up() {
        let (_root, paths) = device();
        let (old, new) = (Version::new(1, 0, 0), install(&paths, "2.0.0"));
        change(&paths, |versions| versions.arm(new.clone()).proved(&new)).unwrap();
        assert_eq!(newer(&paths, &old), None, "only the program of the service follows");
        assert_eq!(launch(&paths, &old).version, Some(new.clone()));
        assert!(newer(&paths, &old).is_some());
        fs_err::remove_file(program(&paths, &new)).unwrap();
        assert_eq!(newer(&paths, &old), None);
        assert_eq!(launch(&paths, &old).version, None);
        assert!(load(&paths).failed[0].reason.contains("is not there"));
    }

    #[test]
    fn nothing_new_is_started_where_starts_cannot_be_counted() {
        let (_root, paths) = device();
        let (old, proved) = (Version::new(1, 0, 0), install(&paths, "2.0.0"));
        let new = install(&paths, "3.0.0");
        change(&paths, |versions| versions.arm(proved.clone()).proved(&proved).arm(new)).unwrap();
        // A folder in the place of the file beside it makes every write fail.
        fs_err::create_dir(paths.state().join(".versions.json.new")).unwrap();
        let launch = launch(&paths, &old);
        assert_eq!((launch.version, launch.on_probation), (Some(proved), false));
    }

    #[test]
    fn damaged_record_leads_to_the_version_of_the_package() {
        let (_root, paths) = device();
        install(&paths, "2.0.0");
        fs_err::write(paths.state().join("versions.json"), [0; 100]).unwrap();
        assert_eq!(newer(&paths, &Version::new(1, 0, 0)), None);
        assert_eq!(launch(&paths, &Version::new(1, 0, 0)).version, None);
    }

    #[test]
    fn folders_of_versions_that_are_not_needed_are_removed() {
        let (_root, paths) = device();
        let versions: Vec<Version> = ["1.1.0", "1.2.0", "1.3.0"].map(|text| install(&paths, text)).into();
        for version in &versions {
            change(&paths, |known| known.arm(version.clone()).proved(version)).unwrap();
        }
        clean_up(&paths);
        let there = |version: &Version| program(&paths, version).exists();
        assert_eq!(versions.iter().map(there).collect::<Vec<_>>(), [false, true, true]);
    }
}
