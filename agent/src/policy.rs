//! Reads the places, resolves them and remembers the last good value of each setting.
//!
//! In: the layout of files and the time. Out: a [`Snapshot`] that everything else works from. Called by the main loop
//! when a watch or the slow poll nudges it, and by `steward policy check` for a file that is not installed.

use std::io;
use std::path::Path;

use agent_platform::file;
use agent_platform::paths::Paths;
use jiff::Timestamp;
use policy_schema::raw::Place;
use policy_schema::resolve::Origin;
use policy_schema::{Code, LastGood, Problem, Resolved, resolve};
use ring::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policy at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) resolved: Resolved,
    pub(crate) places: Vec<PlaceSummary>,
    pub(crate) hash: String,
    pub(crate) read_at: Timestamp,
    pub(crate) problems: Vec<Problem>,
    /// What was remembered when it was read.
    pub(crate) last_good: LastGood,
}

/// One place as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PlaceSummary {
    /// Path or registry key.
    pub(crate) name: String,
    /// How many values it holds; `null` if it could not be read.
    pub(crate) values: Option<usize>,
}

/// The places and what is remembered about them.
pub(crate) struct Store {
    paths: Paths,
    last_good: LastGood,
    unsaved: bool,
    damaged: Option<Problem>,
    /// The last look found nothing where there had been something.
    vanished: bool,
}

impl Store {
    /// Takes up what an earlier run remembered. A damaged memory is put aside, and said so.
    pub(crate) fn open(paths: Paths) -> Self {
        Self::take_up(paths, put_aside)
    }

    /// The same for a look that changes nothing.
    pub(crate) fn look(paths: Paths) -> Self {
        Self::take_up(paths, |path, error| {
            let message = format!("the memory of last good values is damaged: {error}");
            Problem::new(Code::AgentStateUnwritable, message).at(path.display().to_string())
        })
    }

    fn take_up(paths: Paths, damaged: impl Fn(&Path, &serde_json::Error) -> Problem) -> Self {
        let path = last_good_path(&paths);
        let (last_good, damaged) = match fs_err::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(last_good) => (last_good, None),
                Err(error) => (LastGood::default(), Some(damaged(&path, &error))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (LastGood::default(), None),
            Err(error) => (LastGood::default(), Some(unwritable(&path, &error))),
        };
        Self { paths, last_good, unsaved: false, damaged, vanished: false }
    }

    /// Reads everything anew. `None` if all policy has gone and this is the first look that says so: a refresh of
    /// Group Policy or an exchange of files can pass through such a moment, so look again before long.
    pub(crate) fn read(&mut self, now: Timestamp) -> Option<Snapshot> {
        let places = agent_platform::policy::read(&self.paths);
        let gone = places.is_empty() && !self.last_good.values.is_empty();
        if gone && !std::mem::replace(&mut self.vanished, gone) {
            return None;
        }
        self.vanished = false;
        let resolved = resolve(&places, &self.last_good);
        let remembered = resolved.remember(&self.last_good, now);
        if remembered != self.last_good {
            // Held in memory even if the disk is full: a later wrong value must find it.
            self.last_good = remembered;
            self.unsaved = true;
        }
        Some(self.snapshot(resolved, &places, now))
    }

    /// Makes durable what is remembered, after the app has its configuration: nobody waits for it. What a crash loses
    /// here, the next start reads again.
    pub(crate) fn save(&mut self) -> Option<Problem> {
        if !self.unsaved {
            return None;
        }
        let path = last_good_path(&self.paths);
        let saved = file::create_folder(&private_folder(&self.paths), file::Access::Private).and_then(|()| {
            let bytes = serde_json::to_vec_pretty(&self.last_good)?;
            file::replace(&path, &bytes, file::Access::Private)
        });
        match saved {
            Ok(()) => {
                self.unsaved = false;
                None
            }
            Err(error) => Some(unwritable(&path, &error)),
        }
    }

    /// What a read would give, without remembering anything.
    pub(crate) fn preview(&self, now: Timestamp) -> Snapshot {
        let places = agent_platform::policy::read(&self.paths);
        let resolved = resolve(&places, &self.last_good);
        self.snapshot(resolved, &places, now)
    }

    /// What is remembered.
    ///
    /// # Errors
    /// It cannot be read: only an administrator may.
    pub(crate) fn last_good(&self) -> Result<&LastGood, Problem> {
        self.damaged.clone().map_or(Ok(&self.last_good), Err)
    }

    fn snapshot(&self, resolved: Resolved, places: &[Place], now: Timestamp) -> Snapshot {
        let mut problems = resolved.problems.clone();
        problems.extend(self.damaged.clone());
        problems.extend(crate::http::unusable_certificates(&resolved.policy));
        if places.is_empty() {
            problems.push(
                Problem::new(Code::PolicyMissing, "no place holds any policy, so the defaults apply")
                    .hint(format!("put one into {}", agent_platform::policy::WHERE)),
            );
        }
        let places = places.iter().map(summarize).collect();
        Snapshot {
            hash: hash(&resolved),
            resolved,
            places,
            read_at: now,
            problems,
            last_good: self.last_good.clone(),
        }
    }
}

/// What the agent keeps for itself: last good values with their secrets, downloads, unsent reports.
pub(crate) fn private_folder(paths: &Paths) -> std::path::PathBuf {
    paths.state().join("private")
}

fn last_good_path(paths: &Paths) -> std::path::PathBuf {
    private_folder(paths).join("last-good.json")
}

fn summarize(place: &Place) -> PlaceSummary {
    let values = place.contents.as_ref().ok().map(|policy| policy.enforced.len() + policy.recommended.len());
    PlaceSummary { name: place.name.clone(), values }
}

/// Tells whether two devices have the same policy: SHA-256 over all values that policy sets, secrets as `(set)`.
fn hash(resolved: &Resolved) -> String {
    let values: std::collections::BTreeMap<_, _> = resolved
        .settings
        .iter()
        .filter(|setting| !matches!(setting.origin, Origin::Default | Origin::Unset))
        .map(|setting| (setting.key, &setting.value))
        .collect();
    let bytes = serde_json::to_vec(&values).unwrap_or_default();
    hex(&digest::digest(&digest::SHA256, &bytes).as_ref()[..8])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn put_aside(path: &Path, error: &serde_json::Error) -> Problem {
    let aside = path.with_extension("damaged");
    let kept = fs_err::rename(path, &aside).is_ok();
    Problem::new(Code::AgentStateUnwritable, format!("the memory of last good values is damaged: {error}"))
        .at(path.display().to_string())
        .using("the values that policy has now")
        .hint(kept.then(|| format!("it was put aside as {}", aside.display())))
}

pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(Code::AgentStateUnwritable, error.to_string()).at(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        for folder in paths.policy_folders() {
            fs_err::create_dir_all(folder).unwrap();
        }
        (root, paths)
    }

    fn write(paths: &Paths, text: &str) {
        fs_err::write(paths.policy_folders()[2].join("50.toml"), text).unwrap();
    }

    #[test]
    fn last_good_values_survive_a_restart_and_stay_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_root, paths) = store();
        write(&paths, "UpdateMode = \"off\"\nClientSecret = \"canary\"");
        let mut store = Store::open(paths.clone());
        assert!(!store.read("2026-11-20T08:00:00Z".parse().unwrap()).unwrap().hash.is_empty());
        assert_eq!(store.save(), None);
        let mode = fs_err::metadata(last_good_path(&paths)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        write(&paths, "UpdateMode = \"of\"");
        let second = Store::open(paths).read(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(second.resolved.policy.update_mode.as_str(), "off");
    }

    #[test]
    fn policy_that_has_gone_altogether_is_believed_to_be_at_the_second_look() {
        let (_root, paths) = store();
        let mut store = Store::open(paths.clone());
        assert!(store.read(Timestamp::UNIX_EPOCH).is_some(), "there never was any");
        write(&paths, "UpdateMode = \"off\"");
        let mode = |store: &mut Store| {
            store.read(Timestamp::UNIX_EPOCH).map(|snapshot| snapshot.resolved.policy.update_mode.as_str())
        };
        assert_eq!(mode(&mut store), Some("off"));
        let file = paths.policy_folders()[2].join("50.toml");
        fs_err::remove_file(&file).unwrap();
        assert_eq!(mode(&mut store), None);
        write(&paths, "UpdateMode = \"off\"");
        assert_eq!(mode(&mut store), Some("off"), "it was only a moment");
        fs_err::remove_file(&file).unwrap();
        assert_eq!(mode(&mut store), None);
        assert_eq!(mode(&mut store), Some("notify"));
        assert_eq!(mode(&mut store), Some("notify"));
    }

    #[test]
    fn a_damaged_memory_is_put_aside_and_said() {
        let (_root, paths) = store();
        write(&paths, "UpdateMode = \"off\"");
        let path = last_good_path(&paths);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, "{").unwrap();
        let snapshot = Store::open(paths).read(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(snapshot.problems[0].code, Code::AgentStateUnwritable);
        assert!(path.with_extension("damaged").exists());
    }

    #[test]
    fn the_hash_tells_values_apart_and_nothing_else() {
        let (_root, paths) = store();
        let hash = |text: &str| {
            write(&paths, text);
            Store::open(paths.clone()).read(Timestamp::UNIX_EPOCH).unwrap().hash
        };
        let off = hash("UpdateMode = \"off\"");
        assert_eq!(off, hash("# same\nUpdateMode = 'off'"));
        assert_ne!(off, hash("UpdateMode = \"notify\""));
    }
}
