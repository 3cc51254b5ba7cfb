//! The machine's policy: drop-in folders that only administrators can write to.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use policy_schema::raw::{RawPolicy, ReadError, ReadErrorKind};

use crate::directory::{self, Reading, is_drop_in};
use crate::paths::Paths;
use crate::watch::{FolderWatch, Hint};

/// What the source is called on this operating system, for messages.
pub const WHERE: &str = "a drop-in file in /etc/steward/policy.d/";

/// Whether the values of a source come and go one by one: here a file is replaced as a whole.
pub const VALUES_COME_ONE_BY_ONE: bool = false;

/// The policy in a key of the Windows registry that an administrator names; `None` if it is no name of a key.
#[must_use]
pub fn read_named_key(name: &str) -> Option<Result<RawPolicy, ReadError>> {
    crate::directory::key_below_machine(name)?;
    let message = "this device has no registry; export the key to a .reg file on Windows, and check that";
    Some(Err(ReadError::new(ReadErrorKind::Unreadable, message.to_owned())))
}

/// Reads every source.
#[must_use]
pub fn read(paths: &Paths) -> Reading {
    let boundary = paths.root().and_then(|root| fs_err::canonicalize(root).ok());
    directory::read(&paths.policy_folders(), boundary, &trust)
}

/// Reads one folder as a policy folder. Who may write to it counts only where the agent reads it.
#[must_use]
pub fn read_folder(paths: &Paths, folder: &Path) -> Reading {
    let boundary = paths.root().and_then(|root| fs_err::canonicalize(root).ok());
    let trust: directory::Trust<'_> = if is_policy_folder(paths, folder) { &trust } else { &|_, _| Ok(()) };
    directory::read(&[folder.to_owned()], boundary, trust)
}

/// Whether a file would be read from this folder: it is in a policy folder of the system.
#[must_use]
pub fn is_policy_folder(paths: &Paths, folder: &Path) -> bool {
    paths.policy_folders().iter().any(|known| {
        known == folder
            || fs_err::canonicalize(known)
                .is_ok_and(|known| fs_err::canonicalize(folder).is_ok_and(|folder| known == folder))
    })
}

/// Whether the place of a source that has vanished still exists, so that its settings were withdrawn rather than hidden for
/// a moment.
#[must_use]
pub fn place_exists(source: &str) -> bool {
    Path::new(source).parent().is_some_and(Path::is_dir)
}

/// A watch over every source, and over what links lead to.
///
/// Only finished changes count (a file that was closed after writing, a rename, a removal), so no half-written file is
/// read. Opening a file to read it is no change, so reading causes no hint.
pub struct Watch {
    watch: FolderWatch,
    /// The paths outside the policy folders that lead to policy.
    ways: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Watch {
    /// What to do where it fails.
    pub const HINT: &str = "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances";

    /// Makes a watch that calls `nudge` from a thread of its own. Nothing is watched before [`Watch::arm`].
    #[must_use]
    pub fn new(paths: &Paths, nudge: impl Fn(Hint) + Send + 'static) -> Self {
        let folders = paths.policy_folders();
        let ways = Arc::new(Mutex::new(BTreeSet::new()));
        let known = Arc::clone(&ways);
        let interpret = move |event: &notify::Event| {
            hint(event, &folders, &known.lock().unwrap_or_else(PoisonError::into_inner))
        };
        Self { watch: FolderWatch::new(interpret, nudge), ways }
    }

    /// Watches what exists now. Call it before each read that follows another hint than [`Hint::Changed`].
    pub fn arm(&mut self, paths: &Paths) {
        let ways = &self.ways;
        self.watch.arm(|| {
            let found = places(paths);
            *ways.lock().unwrap_or_else(PoisonError::into_inner) = found.ways;
            found.watched.into_iter().collect()
        });
    }

    /// Why changes are not noticed at once.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.watch.failure()
    }
}

/// What an event means: nothing, or that policy may have changed.
fn hint(event: &notify::Event, folders: &[PathBuf], ways: &BTreeSet<PathBuf>) -> Option<Hint> {
    if !is_finished_change(event) {
        return None;
    }
    let is_inside =
        |path: &Path| path.parent().is_some_and(|parent| folders.iter().any(|folder| folder == parent));
    // In a policy folder only drop-ins matter: what a tool writes beside one, before it renames it, does not.
    let matters = |path: &Path| ways.contains(path) || is_inside(path) && is_drop_in(path);
    if !event.paths.iter().any(|path| matters(path)) {
        return None;
    }
    let is_plain = |path: &Path| {
        is_inside(path)
            && fs_err::symlink_metadata(path)
                .is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
    };
    match event.kind {
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(Hint::Unsettled),
        _ if event.paths.iter().all(|path| !matters(path) || is_plain(path)) => Some(Hint::Changed),
        EventKind::Any
        | EventKind::Access(_)
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Other => Some(Hint::Rearranged),
    }
}

fn is_finished_change(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(CreateKind::Folder | CreateKind::Other | CreateKind::Any)
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_))
        | EventKind::Remove(_) => true,
        // A link is finished when it is made, also a hard link; a file is not before it is closed.
        EventKind::Create(CreateKind::File) => event.paths.iter().any(|path| {
            fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
        }),
        EventKind::Access(_)
        | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_) | ModifyKind::Other)
        | EventKind::Any
        | EventKind::Other => false,
    }
}

/// Where policy comes from at the moment.
#[derive(Default)]
struct Places {
    /// What to watch: folders, and files that have another name elsewhere.
    watched: BTreeSet<PathBuf>,
    /// The paths whose change may change policy: the folders themselves, links, and what they lead to.
    ways: BTreeSet<PathBuf>,
}

fn places(paths: &Paths) -> Places {
    let mut places = Places::default();
    for folder in paths.policy_folders() {
        // While it does not exist, the nearest one above it is watched.
        let Some(nearest) = folder.ancestors().find(|path| path.is_dir()) else { continue };
        places.ways.extend(folder.ancestors().take_while(|above| *above != nearest).map(Path::to_owned));
        places.ways.insert(nearest.to_owned());
        places.watched.insert(nearest.to_owned());
        if nearest != folder {
            continue;
        }
        places.watched.extend(folder.parent().map(Path::to_owned));
        places.follow(&folder);
        for entry in fs_err::read_dir(&folder).into_iter().flatten().flatten().take(MAXIMUM_DROP_INS) {
            let path = entry.path();
            let Ok(metadata) =
                fs_err::symlink_metadata(&path).map(|metadata| (metadata.is_symlink(), metadata.nlink()))
            else {
                continue;
            };
            match metadata {
                _ if !is_drop_in(&path) => {}
                (true, _) => places.follow(&path),
                // A change under its other name is none of this folder.
                (false, 2..) => drop(places.watched.insert(path)),
                (false, _) => {}
            }
        }
    }
    places
}

/// The number of files of a folder that are looked at for links.
const MAXIMUM_DROP_INS: usize = 1000;
/// The number of links that are followed, as the kernel does (`path_resolution(7)`).
const MAXIMUM_LINKS: usize = 40;

impl Places {
    /// Adds the links that a path leads through, and what it leads to.
    fn follow(&mut self, path: &Path) {
        let mut rest: VecDeque<PathBuf> =
            path.components().map(|part| PathBuf::from(part.as_os_str())).collect();
        let (mut here, mut links) = (PathBuf::new(), 0);
        while let Some(part) = rest.pop_front() {
            if part.components().next() == Some(Component::ParentDir) {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            let Ok(target) = fs_err::read_link(&next) else {
                here = next;
                continue;
            };
            links += 1;
            if links > MAXIMUM_LINKS {
                return;
            }
            self.watched.extend(next.parent().map(Path::to_owned));
            self.ways.insert(next);
            for part in target.components().rev().filter(|part| *part != Component::CurDir) {
                rest.push_front(PathBuf::from(part.as_os_str()));
            }
            if target.is_absolute() {
                here = PathBuf::new();
            }
        }
        if links > 0 {
            self.watched.extend(here.parent().filter(|parent| parent.is_dir()).map(Path::to_owned));
            self.ways.insert(here);
        }
    }
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
            let message = if height == 0 {
                format!("it belongs to user {owner}, not to root")
            } else {
                format!("{} belongs to user {owner}, not to root", part.display())
            };
            return Err(insecure(message).hint(correction("chown root:root", part, height)));
        }
        // In a sticky folder no user can replace the files of another, but every user can add some: so the folder of the
        // drop-ins cannot be one, while a file that a link leads to may lie in one, as in the store of Nix.
        let sticky = height >= 1 && metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o022 != 0 && !sticky {
            let mode = metadata.mode() & 0o7777;
            let message = if height == 0 && !metadata.is_dir() {
                format!("other users can write to this file (mode {mode:04o})")
            } else {
                format!("other users can write to {} (mode {mode:04o})", part.display())
            };
            return Err(insecure(message).hint(correction("chmod go-w", part, height)));
        }
    }
    Ok(())
}

/// What to do about a file or folder that others can write. Folders that are not Steward's own may have to be so.
fn correction(command: &str, part: &Path, height: usize) -> String {
    let name = part.file_name().unwrap_or_default();
    if height == 0 || name == "policy.d" || name == "steward" {
        format!("{command} {}", part.display())
    } else {
        "move the policy to a folder that only root can write, such as /etc/steward/policy.d".to_owned()
    }
}

fn insecure(message: String) -> ReadError {
    ReadError::new(ReadErrorKind::Insecure, message)
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
        assert!(read(&paths).sources[0].contents.is_ok());
        for (path, open, closed) in [
            (folder.join("10-a.toml"), 0o666, 0o644),
            (folder.clone(), 0o775, 0o755),
            (folder.clone(), 0o1777, 0o755),
            (folder.join("../.."), 0o757, 0o755),
        ] {
            mode(&path, open);
            let sources = read(&paths).sources;
            assert_eq!(sources[0].contents.as_ref().unwrap_err().kind, ReadErrorKind::Insecure, "{path:?}");
            mode(&path, closed);
            assert!(read(&paths).sources[0].contents.is_ok(), "{path:?}");
        }
    }

    #[test]
    fn link_to_insecure_folder_is_insecure() {
        let (root, paths, folder) = root_with("etc/steward/policy.d");
        let elsewhere = root.path().join("elsewhere");
        fs_err::create_dir(&elsewhere).unwrap();
        fs_err::write(elsewhere.join("x"), "UpdateMode = \"off\"").unwrap();
        fs_err::os::unix::fs::symlink(elsewhere.join("x"), folder.join("20-b.toml")).unwrap();
        assert!(read(&paths).sources[1].contents.is_ok());
        mode(&elsewhere, 0o777);
        assert_eq!(read(&paths).sources[1].contents.as_ref().unwrap_err().kind, ReadErrorKind::Insecure);
    }

    /// Found by trial: a file in the store of Nix was refused, with a hint that would have broken the store.
    #[test]
    fn link_into_sticky_store_is_trusted_and_no_hint_changes_foreign_folders() {
        let (root, paths, folder) = root_with("etc/steward/policy.d");
        let store = root.path().join("store");
        fs_err::create_dir(&store).unwrap();
        fs_err::write(store.join("abc-50.toml"), "UpdateMode = \"off\"").unwrap();
        fs_err::os::unix::fs::symlink(store.join("abc-50.toml"), folder.join("50.toml")).unwrap();
        mode(&store, 0o1775);
        assert!(read(&paths).sources[1].contents.is_ok());
        mode(&store, 0o775);
        let sources = read(&paths).sources;
        let error = sources[1].contents.as_ref().unwrap_err();
        assert!(!error.hint.as_deref().unwrap().contains("chmod"), "{error:?}");
        // The whole folder as such a link.
        mode(&store, 0o1775);
        let linked = store.join("def-policy.d");
        fs_err::rename(&folder, &linked).unwrap();
        fs_err::os::unix::fs::symlink(&linked, &folder).unwrap();
        assert!(read(&paths).sources.iter().all(|source| source.contents.is_ok()));
        mode(&linked, 0o1777);
        assert!(read(&paths).sources[0].contents.is_err(), "everybody could add a drop-in");
    }

    #[test]
    fn links_of_drop_ins_and_folders_are_watched_where_they_change() {
        use fs_err::os::unix::fs::symlink;
        let (root, paths, folder) = root_with("etc/steward/policy.d");
        let root = root.path();
        fs_err::create_dir(folder.join("..v1")).unwrap();
        fs_err::write(folder.join("..v1/50.toml"), "UpdateMode = \"off\"").unwrap();
        symlink("..v1", folder.join("..data")).unwrap();
        symlink("..data/50.toml", folder.join("50.toml")).unwrap();
        fs_err::write(root.join("elsewhere.toml"), "UpdateMode = \"off\"").unwrap();
        fs_err::hard_link(root.join("elsewhere.toml"), folder.join("60.toml")).unwrap();
        let found = places(&paths);
        for way in ["50.toml", "..data", "..v1/50.toml"] {
            assert!(found.ways.contains(&folder.join(way)), "{way}: {:?}", found.ways);
        }
        assert!(
            found.watched.contains(&folder.join("..v1")) && found.watched.contains(&folder.join("60.toml"))
        );
        let static_folder = root.join("etc/static");
        fs_err::rename(root.join("etc/steward"), &static_folder).unwrap();
        symlink("static", root.join("etc/steward")).unwrap();
        let found = places(&paths);
        assert!(found.ways.contains(&root.join("etc/steward")) && found.watched.contains(&root.join("etc")));
        symlink("loop", root.join("etc/static/policy.d/loop")).unwrap();
        symlink("loop", root.join("etc/static/policy.d/70.toml")).unwrap();
        assert!(!places(&paths).watched.is_empty());
    }

    #[test]
    fn nearest_parent_is_watched_while_folder_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        fs_err::create_dir_all(root.path().join("etc")).unwrap();
        let watched = places(&paths).watched;
        assert!(watched.contains(root.path()) && watched.contains(&root.path().join("etc")));
        fs_err::create_dir_all(root.path().join("etc/steward/policy.d")).unwrap();
        assert!(places(&paths).watched.contains(&root.path().join("etc/steward/policy.d")));
    }
}
