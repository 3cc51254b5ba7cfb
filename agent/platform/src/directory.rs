//! Policy directories: drop-ins of several folders, merged by name. Portable; each operating system decides who may
//! have written a file ([`crate::policy`]).
//!
//! In: the folders, weakest first. Out: one source per effective file. A file in a stronger folder replaces one of the
//! same name in a weaker folder. An empty one masks it; one that masks nothing is a fault, since a full disk or an
//! interrupted write leaves such files. A link to `/dev/null` always masks. A later name is stronger than an earlier one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use policy_schema::raw::{RawPolicy, ReadError, ReadErrorKind, Source};
use policy_schema::read::{MAXIMUM_BYTES, drop_in};
use policy_schema::{Code, Problem};

/// Checks that only administrators can have written the file or folder at a path without links, up to a folder that is
/// trusted already: `Err` names who else could, and what to do.
pub type Trust<'a> = &'a dyn Fn(&Path, &[PathBuf]) -> Result<(), ReadError>;

/// What the policy folders hold.
#[derive(Debug, Default)]
pub struct Reading {
    /// One source for each effective file. A file or folder that cannot be read is a source with an error.
    pub sources: Vec<Source>,
    /// Files that look like policy and are not read.
    pub passed_over: Vec<Problem>,
}

/// The number of files that are named although they are not read.
const MAXIMUM_PASSED_OVER: usize = 10;

/// Reads all drop-ins. Never fails. What is at and above `boundary` is trusted.
#[must_use]
pub fn read(folders: &[PathBuf], boundary: Option<PathBuf>, trust: Trust<'_>) -> Reading {
    let mut trusted = Vec::from_iter(boundary);
    let mut files: BTreeMap<OsString, DropIn> = BTreeMap::new();
    let mut reading = Reading::default();
    for (folder, rank) in folders.iter().zip(u32::MAX - 100..) {
        match list(folder, &mut trusted, trust, &mut reading.passed_over) {
            Ok(found) => {
                for (name, mut drop_in) in found {
                    drop_in.masks = files.contains_key(&name);
                    files.insert(name, drop_in);
                }
            }
            // It could hold any name, so it counts as stronger than every file.
            Err(error) => {
                reading.sources.push(Source {
                    rank,
                    name: folder.display().to_string(),
                    contents: Err(error),
                });
            }
        }
    }
    for (drop_in, rank) in files.values().zip(1..) {
        if let Some(contents) = read_file(drop_in, &trusted, trust).transpose() {
            reading.sources.push(Source { rank, name: drop_in.path.display().to_string(), contents });
        }
    }
    reading.passed_over.truncate(MAXIMUM_PASSED_OVER);
    reading
}

/// A drop-in as it was found.
struct DropIn {
    path: PathBuf,
    /// The same with the links of its folder followed.
    real: PathBuf,
    /// A weaker folder has one of the same name.
    masks: bool,
}

/// Whether a name is that of a drop-in.
#[must_use]
pub fn is_drop_in(name: &Path) -> bool {
    let hidden = name.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    name.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) && !hidden
}

/// Why a file in a policy folder, or beside it, is not read although it looks like policy. Copies that editors and
/// package managers leave are none.
fn passed_over(path: &Path, is_folder: bool) -> Option<Problem> {
    const FORMATS: [&str; 12] =
        ["conf", "cfg", "ini", "json", "yaml", "yml", "txt", "xml", "plist", "mobileconfig", "reg", "pol"];
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let problem = |message: &str, hint: &str| {
        let problem = Problem::new(Code::PolicyPassedOver, message).at(path.display().to_string());
        Some(problem.hint(hint.to_owned()))
    };
    if is_folder {
        let inside = fs_err::read_dir(path).ok()?.filter_map(Result::ok).take(100);
        let holds = inside.into_iter().any(|entry| is_drop_in(Path::new(&entry.file_name())));
        let hint = "move its files one folder up";
        return holds.then(|| problem("a folder in the policy folder is not read", hint)).flatten();
    }
    let extension = Path::new(&name).extension()?.to_string_lossy().into_owned();
    let looks_like = FORMATS.contains(&extension.as_str());
    let is_note = name.starts_with("readme") || name.starts_with("license") || name.starts_with('.');
    if !looks_like || is_note {
        return None;
    }
    problem(
        "not read: the name of a policy file ends in .toml",
        "rename it, or move it out of the policy folder",
    )
}

/// The drop-ins of one folder by name. A folder that does not exist has none; one that does is then trusted.
fn list(
    folder: &Path,
    trusted: &mut Vec<PathBuf>,
    trust: Trust<'_>,
    beside: &mut Vec<Problem>,
) -> Result<Vec<(OsString, DropIn)>, ReadError> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let real = fs_err::canonicalize(folder).map_err(|error| unreadable(&error))?;
    trust(&real, trusted)?;
    trusted.push(real.clone());
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let name = entry.file_name();
        if is_drop_in(Path::new(&name)) {
            let drop_in = DropIn { path: entry.path(), real: real.join(&name), masks: false };
            found.push((name, drop_in));
        } else if beside.len() < MAXIMUM_PASSED_OVER {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            beside.extend(passed_over(&entry.path(), is_folder));
        }
    }
    // A policy file in the folder above is a usual mistake.
    for entry in folder
        .parent()
        .and_then(|above| fs_err::read_dir(above).ok())
        .into_iter()
        .flatten()
        .flatten()
        .take(100)
    {
        if is_drop_in(Path::new(&entry.file_name())) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let message = "not read: policy files belong in the folder below";
            let problem =
                Problem::new(Code::PolicyPassedOver, message).at(entry.path().display().to_string());
            beside.push(problem.hint(format!("move it into {}", folder.display())));
        }
    }
    Ok(found)
}

/// The content of one drop-in, or `None` if it masks or was just removed.
fn read_file(
    drop_in: &DropIn,
    trusted: &[PathBuf],
    trust: Trust<'_>,
) -> Result<Option<RawPolicy>, ReadError> {
    let metadata = match fs_err::symlink_metadata(&drop_in.real) {
        Ok(metadata) => metadata,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let (path, metadata) = if metadata.is_symlink() {
        let target = fs_err::canonicalize(&drop_in.real).map_err(|error| unreadable(&error))?;
        if target == Path::new("/dev/null") {
            return Ok(None);
        }
        let metadata = fs_err::metadata(&target).map_err(|error| unreadable(&error))?;
        (target, metadata)
    } else {
        (drop_in.real.clone(), metadata)
    };
    if !metadata.is_file() {
        return Err(ReadError::new(ReadErrorKind::Unreadable, "is not a file")
            .hint("a policy file is a regular file, or a link to one"));
    }
    trust(&path, trusted)?;
    if metadata.len() > MAXIMUM_BYTES {
        return Err(too_large(metadata.len()));
    }
    // One byte of room more than it has, so that one read gets all of it.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
    fs_err::File::open(&path)
        .and_then(|file| file.take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAXIMUM_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    if bytes.trim_ascii().is_empty() && drop_in.masks {
        return Ok(None);
    }
    drop_in::read(&bytes).map(Some)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn unreadable(error: &io::Error) -> ReadError {
    // Both fs_err and the source name the path: name it once.
    let reason = error
        .get_ref()
        .and_then(std::error::Error::source)
        .map_or_else(|| error.to_string(), ToString::to_string);
    ReadError::new(ReadErrorKind::Unreadable, format!("cannot be read: {reason}"))
}

fn too_large(bytes: u64) -> ReadError {
    let message = format!("has {bytes} bytes; a policy file has at most {MAXIMUM_BYTES}");
    ReadError::new(ReadErrorKind::TooLarge, message).hint("remove it from the policy folder")
}

/// The name of a key below `HKEY_LOCAL_MACHINE`, from the name that administrators use.
pub(crate) fn key_below_machine(name: &str) -> Option<&str> {
    [r"HKLM\", r"HKEY_LOCAL_MACHINE\", r"HKLM:\"].iter().find_map(|hive| {
        let start = name.get(..hive.len())?;
        start.eq_ignore_ascii_case(hive).then(|| &name[hive.len()..])
    })
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
                .map(|source| {
                    let path = Path::new(&source.name);
                    path.strip_prefix(self.root.path()).unwrap().display().to_string().replace('\\', "/")
                })
                .collect()
        }

        fn read(&self) -> Vec<Source> {
            read(&self.paths, None, &|_, _| Ok(())).sources
        }
    }

    #[test]
    fn drop_ins_of_all_folders_are_ordered_by_name() {
        let folders = Folders::new();
        folders.write("etc/10-a.toml", "UpdateMode = \"off\"");
        folders.write("usr/50-b.toml", "UpdateMode = \"notify\"");
        folders.write("run/20-c.toml", "UpdateMode = \"off\"");
        folders.write("etc/notes.txt", "no policy");
        folders.write("etc/.20-hidden.toml", "UpdateMode = \"off\"");
        assert_eq!(folders.names(), ["etc/10-a.toml", "run/20-c.toml", "usr/50-b.toml"]);
    }

    #[test]
    fn drop_in_of_stronger_folder_replaces_one_of_the_same_name() {
        let folders = Folders::new();
        folders.write("usr/10-a.toml", "UpdateMode = \"off\"");
        folders.write("run/10-a.toml", "UpdateMode = \"off\"");
        folders.write("etc/10-a.toml", "UpdateMode = \"automatic\"");
        let sources = folders.read();
        assert_eq!(sources.len(), 1);
        let policy = sources[0].contents.as_ref().unwrap();
        assert_eq!(policy.enforced["UpdateMode"].value, RawValue::Str("automatic".into()));
    }

    #[cfg(unix)]
    #[test]
    fn empty_file_and_link_to_dev_null_mask_weaker_drop_in() {
        let folders = Folders::new();
        folders.write("usr/10-a.toml", "UpdateMode = \"off\"");
        folders.write("usr/20-b.toml", "UpdateMode = \"off\"");
        folders.write("etc/10-a.toml", "");
        fs_err::os::unix::fs::symlink("/dev/null", folders.root.path().join("etc/20-b.toml")).unwrap();
        assert!(folders.names().is_empty());
        folders.write("etc/10-a.toml", "\n");
        assert!(folders.names().is_empty());
    }

    /// Found by trial: a full disk left an empty file, which withdrew its settings.
    #[test]
    fn empty_file_that_masks_nothing_is_error() {
        let folders = Folders::new();
        for nothing in ["", " \n"] {
            folders.write("etc/10-a.toml", nothing);
            assert_eq!(folders.read()[0].contents.as_ref().unwrap_err().kind, ReadErrorKind::Empty);
        }
    }

    /// Found by trial: with only such files, a device had no policy and its health was fine.
    #[test]
    fn file_that_looks_like_policy_and_is_not_read_is_named() {
        let folders = Folders::new();
        fs_err::create_dir(folders.root.path().join("etc/site")).unwrap();
        for name in [
            "etc/50-acme.conf",
            "etc/50-acme.toml.txt",
            "etc/policies.json",
            "etc/site/50.toml",
            "policy.toml",
        ] {
            folders.write(name, "UpdateMode = \"off\"");
        }
        for name in
            ["etc/README.txt", "etc/50.toml~", "etc/50.toml.dpkg-old", "etc/.50.toml.swp", "etc/50.toml.bak"]
        {
            folders.write(name, "UpdateMode = \"off\"");
        }
        let reading = read(&folders.paths[2..], None, &|_, _| Ok(()));
        let mut named: Vec<_> = reading
            .passed_over
            .iter()
            .map(|problem| {
                Path::new(problem.place.as_deref().unwrap()).file_name().unwrap().to_str().unwrap()
            })
            .collect();
        named.sort_unstable();
        assert_eq!(named, ["50-acme.conf", "50-acme.toml.txt", "policies.json", "policy.toml", "site"]);
        assert!(reading.sources.is_empty());
    }

    #[test]
    fn missing_folder_has_no_drop_ins_and_file_in_its_place_is_an_error() {
        let folders = Folders::new();
        fs_err::remove_dir(&folders.paths[0]).unwrap();
        assert!(folders.read().is_empty());
        fs_err::write(&folders.paths[0], "a file where a folder belongs").unwrap();
        let sources = folders.read();
        assert_eq!(sources[0].contents.as_ref().unwrap_err().kind, ReadErrorKind::Unreadable);
        assert!(sources[0].rank > 1_000_000, "it could hold any name");
    }

    #[cfg(unix)]
    #[test]
    fn folder_huge_file_and_dangling_link_are_refused_unread() {
        let folders = Folders::new();
        fs_err::create_dir(folders.root.path().join("etc/10-folder.toml")).unwrap();
        let huge = fs_err::File::create(folders.root.path().join("etc/20-huge.toml")).unwrap();
        huge.set_len(100_000_000).unwrap();
        fs_err::os::unix::fs::symlink("nowhere", folders.root.path().join("etc/30-dangling.toml")).unwrap();
        let kinds: Vec<_> =
            folders.read().iter().map(|source| source.contents.as_ref().unwrap_err().kind).collect();
        assert_eq!(kinds, [ReadErrorKind::Unreadable, ReadErrorKind::TooLarge, ReadErrorKind::Unreadable]);
    }

    #[test]
    fn untrusted_file_is_insecure() {
        let folders = Folders::new();
        folders.write("etc/10-a.toml", "UpdateMode = \"off\"");
        let sources = read(&folders.paths, None, &|path, _| {
            if path.is_dir() {
                return Ok(());
            }
            Err(ReadError::new(ReadErrorKind::Insecure, "belongs to 1000"))
        })
        .sources;
        assert_eq!(sources[0].contents.as_ref().unwrap_err().kind, ReadErrorKind::Insecure);
    }
}
