//! The nudge: a hint that a place of policy may have changed. The slow poll of the main loop covers what it misses.
//!
//! Only finished changes count (a file that was closed after writing, a rename, a removal), so a file that is still
//! being written is not read half. Reading opens files, which is no change and wakes nobody.

use std::path::PathBuf;

use agent_platform::file::{self, Identity};
use agent_platform::paths::Paths;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use policy_schema::{Code, Problem};

/// What may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Something is there that was not, or is another.
    Changed,
    /// Something has gone; it may come back in a moment.
    Gone,
}

/// A watch over the places of policy.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    armed: Vec<(PathBuf, Option<Identity>)>,
    failure: Option<String>,
}

impl Watch {
    /// Makes a watch that calls `nudge` from a thread of its own. Nothing is watched before [`Watch::arm`].
    pub(crate) fn new(paths: &Paths, nudge: impl Fn(Hint) + Send + 'static) -> Self {
        let folders = paths.policy_folders();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error (for example an overflow of the queue) means that something was missed.
            match event {
                Ok(event) if event.need_rescan() => nudge(Hint::Changed),
                Ok(event) if is_finished_change(&event) && may_matter(&event, &folders) => {
                    nudge(hint(&event));
                }
                Ok(_) => {}
                Err(_) => nudge(Hint::Changed),
            }
        });
        match watcher {
            Ok(watcher) => Self { watcher: Some(watcher), armed: Vec::new(), failure: None },
            Err(error) => Self { watcher: None, armed: Vec::new(), failure: Some(error.to_string()) },
        }
    }

    /// Watches what exists now. Call it before each read: folders come, go and are replaced by others of the same
    /// name, and a change between arming and reading is then noticed twice rather than never.
    pub(crate) fn arm(&mut self, paths: &Paths) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: Vec<(PathBuf, Option<Identity>)> = agent_platform::policy::watched(paths)
            .into_iter()
            .map(|path| {
                let identity = file::identity(&path);
                (path, identity)
            })
            .collect();
        // A folder of which the system does not tell the identity is never known to be the same.
        if wanted == self.armed && wanted.iter().all(|(_, identity)| identity.is_some()) {
            return;
        }
        self.failure = None;
        for (path, _) in self.armed.drain(..) {
            // A folder that has gone took its watch along.
            drop(watcher.unwatch(&path));
        }
        for (path, identity) in wanted {
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => self.armed.push((path, identity)),
                Err(error) => self.failure = Some(format!("{}: {error}", path.display())),
            }
        }
    }

    /// What is wrong with it.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let failure = self.failure.as_ref()?;
        Some(
            Problem::new(Code::PolicyWatchFailed, format!("changes are not noticed at once: {failure}"))
                .using("a look every 15 minutes")
                .hint("raise fs.inotify.max_user_watches or fs.inotify.max_user_instances".to_owned()),
        )
    }
}

fn hint(event: &notify::Event) -> Hint {
    match event.kind {
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Hint::Gone,
        EventKind::Any
        | EventKind::Access(_)
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Other => Hint::Changed,
    }
}

/// In a policy folder only drop-ins matter: what a tool writes beside one, before it renames it, does not.
fn may_matter(event: &notify::Event, folders: &[PathBuf]) -> bool {
    event.paths.iter().any(|path| {
        let inside = path.parent().is_some_and(|parent| folders.iter().any(|folder| folder == parent));
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let drop_in = path.extension().is_some_and(|extension| extension == "toml") && !hidden;
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
