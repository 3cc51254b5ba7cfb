//! Versioned state files: the one way in which the agent keeps something between starts.
//!
//! A file is one JSON object with a `version` in it. It is replaced as a whole and durably. One that is damaged is
//! quarantined under another name, one that a newer version of the agent wrote is kept under a name with that version; both
//! are errors that say so. A file that cannot be read stays where it is. Fields that this version does not know survive
//! where the type keeps them ([`policy_schema::Extra`]).

use std::cmp::Ordering;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::os::file::{self, Access};
use crate::paths::folder_of;

/// Reads the content that an older version wrote; files of before versions have the version 0.
pub type ReadOlder<T> = fn(version: u32, content: Value) -> Result<T, serde_json::Error>;

/// One kind of state file: where it lies, who may read it, and what is in it (as JSON an object).
#[derive(Clone, Debug)]
pub struct StateFile<T> {
    path: PathBuf,
    access: Access,
    version: u32,
    read_older: ReadOlder<T>,
}

/// Why a state file gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is there and could not be read. It stays as it is, and must not be replaced.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no state file of its kind.
    #[error("{} is damaged{}", path.display(), moved(quarantined.as_deref()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it lies now, if it could be moved.
        quarantined: Option<PathBuf>,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A newer version of the agent wrote it, in a way that this one does not understand.
    #[error("{} was written by a newer version (format {version}){}", path.display(), moved(kept.as_deref()))]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        version: u32,
        /// Where it lies now, if it could be moved.
        kept: Option<PathBuf>,
    },
}

impl StateError {
    /// Whether the file is still in its place, so that nothing may be written over it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        match self {
            Self::Unreadable { .. } => true,
            Self::Damaged { quarantined, .. } => quarantined.is_none(),
            Self::Newer { kept, .. } => kept.is_none(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. } | Self::Damaged { path, .. } | Self::Newer { path, .. } => path,
        }
    }
}

fn moved(to: Option<&Path>) -> String {
    to.map_or_else(String::new, |to| format!("; it was kept as {}", to.display()))
}

impl<T: Serialize + DeserializeOwned> StateFile<T> {
    /// A state file of version 1, which has the form that files had before they carried versions.
    #[must_use]
    pub fn new(path: PathBuf, access: Access) -> Self {
        Self { path, access, version: 1, read_older: |_, content| serde_json::from_value(content) }
    }

    /// The same in another version. It grows when an older agent could misunderstand the file; new fields alone do not
    /// change it.
    #[must_use]
    pub fn of_version(self, version: u32, read_older: ReadOlder<T>) -> Self {
        Self { version, read_older, ..self }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Loads it; `None` if there is none. One that is damaged or newer is moved aside.
    ///
    /// # Errors
    /// It is there, and gave nothing.
    pub fn load(&self) -> Result<Option<T>, StateError> {
        self.peek().map_err(|error| match error {
            StateError::Damaged { path, source, .. } => {
                StateError::Damaged { quarantined: move_aside(&path, "damaged"), path, source }
            }
            StateError::Newer { path, version, .. } => {
                StateError::Newer { kept: move_aside(&path, &format!("v{version}")), path, version }
            }
            unreadable @ StateError::Unreadable { .. } => unreadable,
        })
    }

    /// Moves it aside because it is not what was written: as [`StateFile::load`] with one that is damaged.
    #[must_use]
    pub fn quarantine(&self, why: &str) -> StateError {
        StateError::Damaged {
            path: self.path.clone(),
            quarantined: move_aside(&self.path, "damaged"),
            source: serde::de::Error::custom(why),
        }
    }

    /// The same for whoever may change nothing.
    ///
    /// # Errors
    /// It is there, and gave nothing.
    pub fn peek(&self) -> Result<Option<T>, StateError> {
        let path = || self.path.clone();
        let bytes = match fs_err::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Unreadable { path: path(), source }),
        };
        let damaged = |source| StateError::Damaged { path: path(), quarantined: None, source };
        let mut content: Map<String, Value> = serde_json::from_slice(&bytes).map_err(damaged)?;
        let version = match content.remove("version") {
            None => 0,
            Some(version) => serde_json::from_value(version).map_err(damaged)?,
        };
        let content = Value::Object(content);
        let read = match version.cmp(&self.version) {
            Ordering::Greater => return Err(StateError::Newer { path: path(), version, kept: None }),
            Ordering::Equal => serde_json::from_value(content),
            Ordering::Less => (self.read_older)(version, content),
        };
        read.map(Some).map_err(damaged)
    }

    /// Replaces it, durably, and makes its folder if there is none.
    ///
    /// # Errors
    /// The system refused; what was there before is then still there.
    pub fn save(&self, value: &T) -> io::Result<()> {
        file::create_folder(folder_of(&self.path), self.access)?;
        file::replace(&self.path, &self.to_bytes(value)?, self.access)
    }

    /// The same, if it would be another file than the one that is there. Whether it was written.
    ///
    /// # Errors
    /// The system refused; what was there before is then still there.
    pub fn save_if_changed(&self, value: &T) -> io::Result<bool> {
        let bytes = self.to_bytes(value)?;
        if fs_err::read(&self.path).is_ok_and(|before| before == bytes) {
            return Ok(false);
        }
        self.save(value).map(|()| true)
    }

    /// What it is on disk with this content.
    ///
    /// # Errors
    /// The content is no object of JSON.
    pub fn to_bytes(&self, value: &T) -> io::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Envelope<'v, T> {
            version: u32,
            #[serde(flatten)]
            content: &'v T,
        }
        Ok(serde_json::to_vec_pretty(&Envelope { version: self.version, content: value })?)
    }
}

/// Moves a file aside under its own name with another ending; `None` if that failed. One that lay there goes.
#[must_use]
pub fn move_aside(path: &Path, ending: &str) -> Option<PathBuf> {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(".");
    name.push(ending);
    let aside = path.with_file_name(name);
    file::rename(path, &aside).ok()?;
    Some(aside)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: String,
        #[serde(flatten)]
        extra: policy_schema::Extra,
    }

    /// The form of version 0, as it was released.
    #[derive(Deserialize)]
    struct Version0 {
        title: String,
    }

    fn read_older(version: u32, content: Value) -> Result<Sample, serde_json::Error> {
        if version > 0 {
            return serde_json::from_value(content);
        }
        let Version0 { title } = serde_json::from_value(content)?;
        Ok(Sample { name: title, extra: policy_schema::Extra::default() })
    }

    fn written(text: &str) -> (tempfile::TempDir, StateFile<Sample>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.json");
        fs_err::write(&path, text).unwrap();
        (folder, StateFile::new(path, Access::Private).of_version(2, read_older))
    }

    fn json(file: &StateFile<Sample>) -> Value {
        serde_json::from_slice(&fs_err::read(file.path()).unwrap()).unwrap()
    }

    #[test]
    fn saved_file_is_loaded_and_carries_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new folder/sample.json");
        let file = StateFile::new(path, Access::Private).of_version(2, read_older);
        let sample = Sample { name: "ada".to_owned(), extra: policy_schema::Extra::default() };
        assert!(file.save_if_changed(&sample).unwrap() && !file.save_if_changed(&sample).unwrap());
        assert_eq!(json(&file), serde_json::json!({ "version": 2, "name": "ada" }));
        assert_eq!(file.load().unwrap(), Some(sample));
    }

    #[test]
    fn file_of_older_version_is_read_by_its_frozen_reader() {
        let (_folder, file) = written("{\"title\": \"ada\"}");
        assert_eq!(file.load().unwrap().unwrap().name, "ada");
        let (_folder, file) = written("{\"version\": 1, \"name\": \"grace\"}");
        assert_eq!(file.load().unwrap().unwrap().name, "grace");
    }

    #[test]
    fn field_of_newer_version_survives_load_and_save() {
        let (_folder, file) = written("{\"version\": 2, \"name\": \"ada\", \"mood\": [1]}");
        let sample = file.load().unwrap().unwrap();
        file.save(&sample).unwrap();
        assert_eq!(json(&file)["mood"], serde_json::json!([1]));
    }

    #[test]
    fn file_of_newer_version_is_kept_under_its_version() {
        let text = "{\"version\": 7, \"something\": \"else\"}";
        let (_folder, file) = written(text);
        assert!(matches!(file.peek(), Err(StateError::Newer { version: 7, kept: None, .. })));
        let error = file.load().unwrap_err();
        assert!(!error.is_in_place() && error.to_string().contains("sample.v7"), "{error}");
        assert_eq!(fs_err::read_to_string(file.path().with_extension("v7")).unwrap(), text);
        assert_eq!(file.load().unwrap(), None);
    }

    #[test]
    fn damaged_file_is_quarantined_and_only_by_load() {
        for text in ["", "{", "[]", "{\"name\": 1}", "{\"version\": \"x\"}", "\u{0}\u{0}"] {
            let (_folder, file) = written(text);
            assert!(matches!(file.peek(), Err(StateError::Damaged { quarantined: None, .. })));
            assert!(file.path().exists());
            assert!(matches!(file.load(), Err(StateError::Damaged { quarantined: Some(_), .. })));
            assert!(!file.path().exists() && file.path().with_extension("damaged").exists(), "{text:?}");
        }
    }

    #[test]
    fn unreadable_file_is_not_absent_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| StateFile::<Sample>::new(folder.path().join(name), Access::Private);
        let error = file("").load().unwrap_err();
        assert!(matches!(error, StateError::Unreadable { .. }) && error.is_in_place(), "{error}");
        assert!(matches!(file("none.json").load(), Ok(None)));
    }
}
