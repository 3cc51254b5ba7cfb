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

/// The variable that names the folder of the user's data is missing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn no_user_folder(variable: &str) -> std::io::Error {
    let message = format!(
        "the environment variable {variable} is not set, or is no absolute path, so there is no folder for sessions; \
         log on to the device as the user, or set it"
    );
    std::io::Error::new(std::io::ErrorKind::NotFound, message)
}

/// The folder that a path lies in: the current one for a bare name, and the root itself for the root.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
    }
}

/// The name under which a file is written before it takes the place of another.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_of_a_bare_name_is_the_current_one() {
        for (path, folder) in
            [("name", "."), ("a/name", "a"), ("./name", "."), ("../name", ".."), ("/", "/"), ("/a", "/")]
        {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
        }
    }

    /// Found by trial: `steward setup` could not make its own default folder on Windows.
    #[test]
    fn folders_and_files_with_relative_paths_are_made() {
        use crate::os::file::{Access, create_folder, replace};
        use crate::reserve::Reserve;
        let folder = tempfile::tempdir().unwrap();
        // No other test uses the current folder, and each runs in a process of its own.
        std::env::set_current_dir(folder.path()).unwrap();
        for (name, access) in [("a", Access::Public), ("b/c/d", Access::Private), ("./e", Access::Public)] {
            create_folder(Path::new(name), access).unwrap();
            create_folder(Path::new(name), access).unwrap();
            assert!(folder.path().join(name).is_dir(), "{name}");
        }
        for name in ["file", "./file", "a/file"] {
            for text in ["one", "two"] {
                replace(Path::new(name), text.as_bytes(), Access::Private).unwrap();
                assert_eq!(fs_err::read_to_string(folder.path().join(name)).unwrap(), text);
            }
            Reserve::take(Path::new(name), 10).unwrap().fill(b"three").unwrap();
            crate::os::file::remove(Path::new(name)).unwrap();
        }
        crate::lock::Lock::only_one(Path::new("lock"), Access::Private).unwrap();
        std::env::set_current_dir(std::env::temp_dir()).unwrap();
    }
}
