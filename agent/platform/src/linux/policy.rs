//! The machine's policy: drop-in folders that only administrators can write to.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use policy_schema::raw::{ReadError, ReadErrorKind, Source};

use crate::directory;
use crate::paths::Paths;
use crate::watch::{FolderWatch, Hint};

/// What the source is called on this operating system, for messages.
pub const WHERE: &str = "a drop-in file in /etc/steward/policy.d/";

/// Reads every source.
#[must_use]
pub fn read(paths: &Paths) -> Vec<Source> {
    let boundary = paths.root().and_then(|root| fs_err::canonicalize(root).ok());
    directory::read(&paths.policy_folders(), boundary, &trust)
}

/// A watch over every source.
///
/// Only finished changes count (a file that was closed after writing, a rename, a removal), so no half-written file is
/// read. Opening a file to read it is no change, so reading causes no hint.
pub struct Watch(FolderWatch);

impl Watch {
    /// What to do where it fails.
    pub const HINT: &str = "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances";

    /// Makes a watch that calls `nudge` from a thread of its own. Nothing is watched before [`Watch::arm`].
    #[must_use]
    pub fn new(paths: &Paths, nudge: impl Fn(Hint) + Send + 'static) -> Self {
        let folders = paths.policy_folders();
        Self(FolderWatch::new(move |event| hint(event, &folders), nudge))
    }

    /// Watches what exists now. Call it before each read.
    pub fn arm(&mut self, paths: &Paths) {
        self.0.arm(|| watched(paths));
    }

    /// Why changes are not noticed at once.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.0.failure()
    }
}

fn hint(event: &notify::Event, folders: &[PathBuf]) -> Option<Hint> {
    if !is_finished_change(event) || !may_matter(event, folders) {
        return None;
    }
    match event.kind {
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(Hint::Unsettled),
        EventKind::Any
        | EventKind::Access(_)
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Other => Some(Hint::Changed),
    }
}

/// In a policy folder only drop-ins matter: what a tool writes beside one, before it renames it, does not.
fn may_matter(event: &notify::Event, folders: &[PathBuf]) -> bool {
    event.paths.iter().any(|path| {
        let inside = path.parent().is_some_and(|parent| folders.iter().any(|folder| folder == parent));
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let drop_in =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) && !hidden;
        !inside || drop_in
    })
}

fn is_finished_change(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(CreateKind::Folder | CreateKind::Other | CreateKind::Any)
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_))
        | EventKind::Remove(_) => true,
        // A link is finished when it is made; a file is not before it is closed.
        EventKind::Create(CreateKind::File) => event.paths.iter().any(|path| path.is_symlink()),
        EventKind::Access(_)
        | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_) | ModifyKind::Other)
        | EventKind::Any
        | EventKind::Other => false,
    }
}

/// What to watch for changes: each folder and the one above it, or, while they do not exist, the nearest above.
fn watched(paths: &Paths) -> Vec<PathBuf> {
    let mut watched: Vec<PathBuf> = paths
        .policy_folders()
        .iter()
        .flat_map(|folder| {
            let nearest = folder.ancestors().find(|path| path.is_dir());
            let above = folder.parent().filter(|_| nearest == Some(folder));
            [nearest.map(Path::to_owned), above.map(Path::to_owned)]
        })
        .flatten()
        .collect();
    watched.sort();
    watched.dedup();
    watched
}

/// Checks that only root, or the user who runs this process, can have written a path without links: it and every folder
/// above it, up to one that is trusted.
fn trust(path: &Path, trusted: &[PathBuf]) -> Result<(), ReadError> {
    for (height, part) in path.ancestors().enumerate() {
        if trusted.iter().any(|trusted| trusted == part) {
            break;
        }
        let metadata =
            fs_err::metadata(part).map_err(|error| insecure(format!("cannot be examined: {error}")))?;
        let owner = metadata.uid();
        if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
            return Err(insecure_with(
                format!("{} belongs to user {owner}, not to root, so it is not trusted", part.display()),
                format!("chown root:root {}", part.display()),
            ));
        }
        // In a sticky folder no user can replace the files of another, but every user can add some: so it may be above
        // the folder of the drop-ins, but not that folder.
        let sticky = height >= 2 && metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o022 != 0 && !sticky {
            return Err(insecure_with(
                format!(
                    "{} may be written by others (mode {:04o}), so it is not trusted",
                    part.display(),
                    metadata.mode() & 0o7777
                ),
                format!("chmod go-w {}", part.display()),
            ));
        }
    }
    Ok(())
}

fn insecure(message: String) -> ReadError {
    ReadError { kind: ReadErrorKind::Insecure, message, hint: None }
}

fn insecure_with(message: String, hint: String) -> ReadError {
    ReadError { hint: Some(hint), ..insecure(message) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn root_with(folder: &str) -> (tempfile::TempDir, Paths, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(folder);
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join("10-a.toml"), "UpdateMode = \"off\"").unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        (root, paths, folder)
    }

    #[test]
    fn path_that_others_can_write_is_insecure() {
        let (_root, paths, folder) = root_with("etc/steward/policy.d");
        assert!(read(&paths)[0].contents.is_ok());
        for (path, open, closed) in [
            (folder.join("10-a.toml"), 0o666, 0o644),
            (folder.clone(), 0o775, 0o755),
            (folder.clone(), 0o1777, 0o755),
            (folder.join("../.."), 0o757, 0o755),
        ] {
            mode(&path, open);
            let sources = read(&paths);
            assert_eq!(sources[0].contents.as_ref().unwrap_err().kind, ReadErrorKind::Insecure, "{path:?}");
            mode(&path, closed);
            assert!(read(&paths)[0].contents.is_ok(), "{path:?}");
        }
    }

    #[test]
    fn link_to_insecure_folder_is_insecure() {
        let (root, paths, folder) = root_with("etc/steward/policy.d");
        let elsewhere = root.path().join("elsewhere");
        fs_err::create_dir(&elsewhere).unwrap();
        fs_err::write(elsewhere.join("x"), "UpdateMode = \"off\"").unwrap();
        fs_err::os::unix::fs::symlink(elsewhere.join("x"), folder.join("20-b.toml")).unwrap();
        assert!(read(&paths)[1].contents.is_ok());
        mode(&elsewhere, 0o777);
        assert_eq!(read(&paths)[1].contents.as_ref().unwrap_err().kind, ReadErrorKind::Insecure);
    }

    #[test]
    fn nearest_parent_is_watched_while_folder_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        fs_err::create_dir_all(root.path().join("etc")).unwrap();
        assert_eq!(watched(&paths), [root.path().to_owned(), root.path().join("etc")]);
        fs_err::create_dir_all(root.path().join("etc/steward/policy.d")).unwrap();
        assert!(watched(&paths).contains(&root.path().join("etc/steward/policy.d")));
    }
}
