//! Which program a process runs. What counts is the file, not its name: a copy, or a file that has replaced the running
//! one, is another program. Portable; how the system tells which file a process runs is in the folders.

use std::io;
use std::path::{Path, PathBuf};

use crate::file::{self, FileId};
use crate::paths::Paths;

/// The program that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path as that process sees it: in a mount namespace of its own (Linux), that may be another file than here.
    pub path: PathBuf,
    /// The file that runs; `None` if it has been removed since it was started.
    file: Option<FileId>,
}

impl Program {
    pub(crate) fn new(path: PathBuf, file: Option<FileId>) -> Self {
        Self { path, file }
    }

    /// Whether it is the file at a path here and now. Links are followed. `false` if that file cannot be examined.
    #[must_use]
    pub fn is(&self, path: &Path) -> bool {
        self.file.is_some() && file::id(path).ok() == self.file
    }

    /// Whether its own path leads into a folder, and to the file that runs. Links are followed. `false` if either
    /// cannot be examined.
    #[must_use]
    pub fn is_inside(&self, folder: &Path) -> bool {
        match (file::locate(folder), file::locate(&self.path)) {
            (Ok((folder, _)), Ok((own, file))) => self.file == Some(file) && own.starts_with(folder),
            (_, _) => false,
        }
    }

    /// Whether it is Steward's own, of any of its versions: only administrators can write where they lie.
    #[must_use]
    pub fn is_stewards(&self, paths: &Paths) -> bool {
        self.is(&paths.packaged_program()) || self.is_inside(&paths.versions())
    }

    /// Whether its file has been removed since it was started.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.file.is_none()
    }

    /// Whether its file has been removed, moved or replaced since it was started.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        match file::id(&self.path) {
            Ok(file) => self.file != Some(file),
            Err(error) => self.is_removed() || error.kind() == io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a file, and the program that a process which runs that file has.
    fn started(name: &str) -> (tempfile::TempDir, Program) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, "program").unwrap();
        let file = file::id(&path).unwrap();
        (folder, Program::new(path, Some(file)))
    }

    #[test]
    fn hard_link_is_the_program_and_copy_is_not() {
        let (folder, program) = started("quick.exe");
        let (link, copy) = (folder.path().join("link.exe"), folder.path().join("copy.exe"));
        fs_err::hard_link(&program.path, &link).unwrap();
        fs_err::copy(&program.path, &copy).unwrap();
        assert!(program.is(&program.path) && program.is(&link));
        assert!(!program.is(&copy) && !program.is(folder.path()) && !program.is(Path::new("missing")));
        assert!(!program.is_replaced());
    }

    #[test]
    fn program_is_inside_every_folder_above_it_and_no_other() {
        let (folder, program) = started("app/bin/quick.exe");
        fs_err::create_dir(folder.path().join("app/bi")).unwrap();
        for (name, inside) in [("app/bin", true), ("app", true), ("app/bi", false), ("missing", false)] {
            assert_eq!(program.is_inside(&folder.path().join(name)), inside, "{name}");
        }
    }

    #[test]
    fn program_whose_file_was_replaced_is_neither_the_new_file_nor_inside_its_folder() {
        let (folder, program) = started("app/quick.exe");
        fs_err::rename(&program.path, folder.path().join("moved.exe")).unwrap();
        assert!(program.is_replaced() && !program.is_inside(folder.path()));
        fs_err::write(&program.path, "program").unwrap();
        assert!(program.is_replaced() && !program.is_removed());
        assert!(!program.is(&program.path) && !program.is_inside(folder.path()));
        assert!(program.is(&folder.path().join("moved.exe")));
    }

    #[test]
    fn removed_program_is_no_file() {
        let (folder, program) = started("quick.exe");
        let removed = Program::new(program.path, None);
        assert!(removed.is_removed() && removed.is_replaced());
        assert!(!removed.is(&removed.path) && !removed.is_inside(folder.path()));
        assert!(!removed.is(Path::new("missing")));
    }
}
