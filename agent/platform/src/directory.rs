//! Policy directories: drop-ins of several folders merged by name. Portable; who may have written a file is the
//! operating system's question ([`crate::policy`]).
//!
//! In: the folders, weakest first. Out: one place per file that counts. The same name in a stronger folder
//! replaces the weaker one; an empty file or a link to `/dev/null` masks; a later name is stronger than an earlier.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use policy_schema::raw::{Place, RawPolicy, ReadError, ReadErrorKind};
use policy_schema::read::{MAXIMUM_BYTES, drop_in};

/// Says whether only administrators could have written what lies at a path: `Err` names who else and what to do.
pub type Trust<'a> = &'a dyn Fn(&Path) -> Result<(), ReadError>;

/// Reads all drop-ins. Never fails: what cannot be read becomes a place with an error.
#[must_use]
pub fn read(folders: &[PathBuf], trust: Trust<'_>) -> Vec<Place> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    let mut places = Vec::new();
    for (folder, rank) in folders.iter().zip(u32::MAX - 100..) {
        match list(folder, trust) {
            Ok(found) => files.extend(found),
            // It could hold any name, so it counts as stronger than every file.
            Err(error) => {
                places.push(Place { rank, name: folder.display().to_string(), contents: Err(error) });
            }
        }
    }
    for (path, rank) in files.values().zip(1..) {
        if let Some(contents) = read_file(path, trust).transpose() {
            places.push(Place { rank, name: path.display().to_string(), contents });
        }
    }
    places
}

/// The drop-ins of one folder by name. A folder that does not exist has none.
fn list(folder: &Path, trust: Trust<'_>) -> Result<Vec<(OsString, PathBuf)>, ReadError> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    trust(folder)?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if Path::new(&name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
            && !text.starts_with('.')
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// The content of one drop-in, or `None` if it masks or has just gone.
fn read_file(path: &Path, trust: Trust<'_>) -> Result<Option<RawPolicy>, ReadError> {
    if fs_err::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Ok(None);
    }
    let metadata = match fs_err::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs_err::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(&error)),
    };
    if !metadata.is_file() {
        return Err(ReadError {
            kind: ReadErrorKind::Unreadable,
            message: "is not a file".to_owned(),
            hint: Some("a policy file is a regular file, or a link to one".to_owned()),
        });
    }
    trust(path)?;
    if metadata.len() > MAXIMUM_BYTES {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    fs_err::File::open(path)
        .and_then(|file| file.take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAXIMUM_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    drop_in::read(&bytes).map(Some)
}

fn unreadable(error: &io::Error) -> ReadError {
    // fs_err names the path, and so does the place: say it once.
    let reason = error
        .get_ref()
        .and_then(std::error::Error::source)
        .map_or_else(|| error.to_string(), ToString::to_string);
    ReadError { kind: ReadErrorKind::Unreadable, message: format!("cannot be read: {reason}"), hint: None }
}

fn too_large(bytes: u64) -> ReadError {
    ReadError {
        kind: ReadErrorKind::TooLarge,
        message: format!("has {bytes} bytes; a policy file has at most {MAXIMUM_BYTES}"),
        hint: Some("remove it from the policy folder".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::RawValue;

    use super::*;

    struct Folders {
        root: tempfile::TempDir,
        paths: Vec<PathBuf>,
    }

    impl Folders {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let paths: Vec<_> = ["usr", "run", "etc"].iter().map(|name| root.path().join(name)).collect();
            for path in &paths {
                fs_err::create_dir(path).unwrap();
            }
            Self { root, paths }
        }

        fn write(&self, file: &str, text: &str) {
            fs_err::write(self.root.path().join(file), text).unwrap();
        }

        fn names(&self) -> Vec<String> {
            self.read()
                .iter()
                .map(|place| {
                    let path = Path::new(&place.name);
                    path.strip_prefix(self.root.path()).unwrap().display().to_string().replace('\\', "/")
                })
                .collect()
        }

        fn read(&self) -> Vec<Place> {
            read(&self.paths, &|_| Ok(()))
        }
    }

    #[test]
    fn names_decide_the_order_across_all_folders() {
        let folders = Folders::new();
        folders.write("etc/10-a.toml", "UpdateMode = \"off\"");
        folders.write("usr/50-b.toml", "UpdateMode = \"notify\"");
        folders.write("run/20-c.toml", "UpdateMode = \"off\"");
        folders.write("etc/notes.txt", "no policy");
        folders.write("etc/.20-hidden.toml", "UpdateMode = \"off\"");
        assert_eq!(folders.names(), ["etc/10-a.toml", "run/20-c.toml", "usr/50-b.toml"]);
    }

    #[test]
    fn a_stronger_folder_replaces_the_same_name() {
        let folders = Folders::new();
        folders.write("usr/10-a.toml", "UpdateMode = \"off\"");
        folders.write("run/10-a.toml", "UpdateMode = \"off\"");
        folders.write("etc/10-a.toml", "UpdateMode = \"automatic\"");
        let places = folders.read();
        assert_eq!(places.len(), 1);
        let policy = places[0].contents.as_ref().unwrap();
        assert_eq!(policy.enforced["UpdateMode"].value, RawValue::Str("automatic".into()));
    }

    #[cfg(unix)]
    #[test]
    fn an_empty_file_and_a_link_to_dev_null_mask() {
        let folders = Folders::new();
        folders.write("usr/10-a.toml", "UpdateMode = \"off\"");
        folders.write("usr/20-b.toml", "UpdateMode = \"off\"");
        folders.write("etc/10-a.toml", "");
        fs_err::os::unix::fs::symlink("/dev/null", folders.root.path().join("etc/20-b.toml")).unwrap();
        assert!(folders.names().is_empty());
    }

    #[test]
    fn a_missing_folder_is_empty_and_a_strange_one_is_an_error() {
        let folders = Folders::new();
        fs_err::remove_dir(&folders.paths[0]).unwrap();
        assert!(folders.read().is_empty());
        fs_err::write(&folders.paths[0], "a file where a folder belongs").unwrap();
        let places = folders.read();
        assert_eq!(places[0].contents.as_ref().unwrap_err().kind, ReadErrorKind::Unreadable);
        assert!(places[0].rank > 1_000_000, "it could hold any name");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_or_too_large_is_refused_without_reading_it() {
        let folders = Folders::new();
        fs_err::create_dir(folders.root.path().join("etc/10-folder.toml")).unwrap();
        let huge = fs_err::File::create(folders.root.path().join("etc/20-huge.toml")).unwrap();
        huge.set_len(100_000_000).unwrap();
        fs_err::os::unix::fs::symlink("nowhere", folders.root.path().join("etc/30-dangling.toml")).unwrap();
        let kinds: Vec<_> =
            folders.read().iter().map(|place| place.contents.as_ref().unwrap_err().kind).collect();
        assert_eq!(kinds, [ReadErrorKind::Unreadable, ReadErrorKind::TooLarge, ReadErrorKind::Unreadable]);
    }

    #[test]
    fn a_file_that_is_not_trusted_is_not_believed() {
        let folders = Folders::new();
        folders.write("etc/10-a.toml", "UpdateMode = \"off\"");
        let places = read(&folders.paths, &|path| {
            if path.is_dir() {
                return Ok(());
            }
            Err(ReadError { kind: ReadErrorKind::Insecure, message: "belongs to 1000".into(), hint: None })
        });
        assert_eq!(places[0].contents.as_ref().unwrap_err().kind, ReadErrorKind::Insecure);
    }
}
