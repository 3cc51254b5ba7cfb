//! Hints that a source of policy may have changed. Portable; what an event of a folder means differs between operating
//! systems, so each interprets it itself. The caller polls slowly as well, which covers what a watch misses.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::file::{self, Identity};
use crate::paths::Paths;

/// What may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A change of values that is finished; what is watched still fits.
    Changed,
    /// A change that is finished; something else may have to be watched now.
    Rearranged,
    /// Something was removed that may be back in a moment, or one of several changes has come.
    Unsettled,
}

/// A watch over one file, for apps whose configuration is a file. It calls `nudge` when the file may have changed.
pub struct FileWatch {
    folders: FolderWatch,
    file: Arc<Mutex<PathBuf>>,
}

impl FileWatch {
    /// Makes a watch that calls `nudge` from a thread of its own. Nothing is watched before [`FileWatch::arm`].
    #[must_use]
    pub fn new(nudge: impl Fn() + Send + 'static) -> Self {
        let file = Arc::<Mutex<PathBuf>>::default();
        let watched = Arc::clone(&file);
        let interpret = move |event: &notify::Event| {
            let file = watched.lock().unwrap_or_else(PoisonError::into_inner);
            // Its folder may have gone.
            let concerns = event.paths.iter().any(|path| file.starts_with(path));
            (concerns && !event.kind.is_access()).then_some(Hint::Changed)
        };
        Self { folders: FolderWatch::new(interpret, move |_| nudge()), file }
    }

    /// Watches the file at a path; a location that is no path is not watched. Call it before each look at the file.
    pub fn arm(&mut self, _: &Paths, location: Option<&str>) {
        let file = location.map(PathBuf::from).filter(|file| file.is_absolute()).unwrap_or_default();
        // Not the folders above: in `/etc`, something happens all the time.
        let folder =
            || file.parent().filter(|folder| folder.is_dir()).map(Path::to_owned).into_iter().collect();
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&file);
        self.folders.arm(folder);
    }
}

/// Folders that come and go all the time are watched as they are after so many rounds.
const MAXIMUM_ROUNDS: usize = 5;

/// A watch over folders.
pub struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    armed: Vec<(PathBuf, Option<Identity>)>,
    failure: Option<String>,
}

impl FolderWatch {
    /// Makes a watch that calls `nudge` from a thread of its own with the hint that `interpret` finds in each event.
    /// Nothing is watched before [`FolderWatch::arm`].
    #[must_use]
    pub fn new(
        interpret: impl Fn(&notify::Event) -> Option<Hint> + Send + 'static,
        nudge: impl Fn(Hint) + Send + 'static,
    ) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error (for example an overflow of the queue) means that something was missed.
            let hint = match event {
                Ok(event) if event.need_rescan() => Some(Hint::Rearranged),
                Ok(event) => interpret(&event),
                Err(_) => Some(Hint::Rearranged),
            };
            if let Some(hint) = hint {
                nudge(hint);
            }
        });
        match watcher {
            Ok(watcher) => Self { watcher: Some(watcher), armed: Vec::new(), failure: None },
            Err(error) => Self { watcher: None, armed: Vec::new(), failure: Some(error.to_string()) },
        }
    }

    /// Watches these folders. Call it before each read, unless it follows [`Hint::Changed`]: folders come, go and are
    /// replaced by others of the same name, and a change between arming and reading is then noticed twice rather than never. `folders` tells which there
    /// are: it is called again after each change of watches, since a folder that came before the one above it was watched
    /// caused no event.
    pub fn arm(&mut self, folders: impl Fn() -> Vec<PathBuf>) {
        for _ in 0..MAXIMUM_ROUNDS {
            if !self.arm_once(folders()) {
                return;
            }
        }
    }

    /// Whether it changed what is watched.
    fn arm_once(&mut self, folders: Vec<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: Vec<(PathBuf, Option<Identity>)> = folders
            .into_iter()
            .map(|path| {
                let identity = file::identity(&path);
                (path, identity)
            })
            .collect();
        // A folder whose identity the system does not tell may be another each time.
        if wanted == self.armed && wanted.iter().all(|(_, identity)| identity.is_some()) {
            return false;
        }
        self.failure = None;
        for (path, _) in self.armed.drain(..) {
            // This fails for a folder that was removed: its watch ended with it.
            drop(watcher.unwatch(&path));
        }
        for (path, identity) in wanted {
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => self.armed.push((path, identity)),
                Err(error) => self.failure = Some(format!("{}: {error}", path.display())),
            }
        }
        true
    }

    /// Why changes are not noticed at once.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}
