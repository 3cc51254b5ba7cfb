//! Where everything lies. `--root DIR` puts the whole layout below a folder, for tests and the demo. What lies where is
//! the operating system's question; each adds its own.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// The layout of an operating system.
#[derive(Clone, Debug)]
pub struct Paths {
    root: Option<PathBuf>,
}

impl Paths {
    /// The system's own layout, or the same below `root`.
    #[must_use]
    pub fn new(root: Option<PathBuf>) -> Self {
        // Windows writes an absolute path with `\\?\` before it, which means the same.
        let plain = |root: PathBuf| match root.to_string_lossy().strip_prefix(r"\\?\") {
            Some(rest) if !rest.starts_with("UNC") => PathBuf::from(rest),
            Some(_) | None => root,
        };
        Self { root: root.map(plain) }
    }

    /// An absolute path of the system, below the root if there is one.
    #[must_use]
    pub fn under_root(&self, path: &Path) -> PathBuf {
        let Some(root) = &self.root else { return path.to_owned() };
        root.join(path.components().filter(|part| matches!(part, Component::Normal(_))).collect::<PathBuf>())
    }

    /// A path in a user's own folders as documentation writes it: `~/Library/Logs`, `%APPDATA%\QuickWork`. The environment says
    /// where these are, also where there is another root.
    #[must_use]
    pub fn of_user(&self, text: &str) -> PathBuf {
        let (name, rest) = match (text.strip_prefix("~/"), text.strip_prefix('%')) {
            (Some(rest), _) => ("HOME", rest),
            (None, Some(text)) => text.split_once('%').unwrap_or(("", text)),
            (None, None) => return self.under_root(Path::new(text)),
        };
        let folder = crate::environment::directory(name).unwrap_or_default();
        folder.join(rest.trim_start_matches(['/', '\\']))
    }

    /// The folder that `--root` named.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }
}

/// The name under which a file is written before it takes the place of another.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}
