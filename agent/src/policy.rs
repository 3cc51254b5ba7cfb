//! Reads the sources of policy, resolves them and remembers the last good value of each setting.
//!
//! In: the layout of files and the time. Out: a [`Snapshot`] that everything else works from. Called by the machine service
//! when a watch or the slow poll nudges it, and by the command line for a preview.

use std::collections::BTreeSet;

use jiff::Timestamp;
use platform::directory::Reading;
use platform::file::Access;
use platform::paths::Paths;
use platform::policy::VALUES_COME_ONE_BY_ONE;
use platform::random::hex;
use platform::state::{StateError, StateFile};
use policy_schema::raw::Source;
use policy_schema::resolve::source_of;
use policy_schema::settings::find;
use policy_schema::{Code, Extra, LastGood, Problem, Resolved, SETTINGS, resolve};
use protocol::status::SourceStatus;
use ring::digest;

use crate::state::{private_folder, unreadable, unwritable};

/// The policy at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) resolved: Resolved,
    pub(crate) sources: Vec<SourceStatus>,
    pub(crate) hash: String,
    pub(crate) read_at: Timestamp,
    pub(crate) problems: Vec<Problem>,
    /// What was remembered when it was read.
    pub(crate) last_good: LastGood,
}

/// The sources and what is remembered about them.
pub(crate) struct Store {
    paths: Paths,
    file: StateFile<LastGood>,
    last_good: LastGood,
    unsaved: bool,
    /// Why nothing is remembered of before.
    lost: Option<StateError>,
    /// The sources that the last read did not find any more, and the settings that it did not find in theirs.
    vanished: BTreeSet<(String, Option<&'static str>)>,
}

/// What a read of all sources gives.
pub(crate) enum Read {
    /// The policy.
    Policy(Box<Snapshot>),
    /// Something has vanished, and this is the first read that says so. A refresh of Group Policy or an exchange of files
    /// can pass through such a moment, so read again before long.
    Vanished(Vanished),
}

/// What has vanished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vanished {
    /// A source.
    Source,
    /// Settings of a source whose values come and go one by one.
    Values,
    /// A source, with the folder or key that it was in.
    Place,
}

impl Store {
    /// Takes up what an earlier run remembered. A damaged memory is quarantined and reported.
    pub(crate) fn open(paths: Paths) -> Self {
        Self::take_up(paths, StateFile::load)
    }

    /// The same for callers that change nothing.
    pub(crate) fn read_only(paths: Paths) -> Self {
        Self::take_up(paths, StateFile::peek)
    }

    fn take_up(
        paths: Paths,
        load: impl Fn(&StateFile<LastGood>) -> Result<Option<LastGood>, StateError>,
    ) -> Self {
        let file = last_good_file(&paths);
        let (last_good, lost) = match load(&file) {
            Ok(last_good) => (last_good.unwrap_or_default(), None),
            Err(error) => (LastGood::default(), Some(error)),
        };
        Self { paths, file, last_good, unsaved: false, lost, vanished: BTreeSet::new() }
    }

    /// Reads everything again.
    pub(crate) fn read(&mut self, now: Timestamp) -> Read {
        let reading = platform::policy::read(&self.paths);
        let vanished: BTreeSet<_> = vanished(&reading, &self.last_good, VALUES_COME_ONE_BY_ONE).collect();
        let is_news = !vanished.is_subset(&self.vanished);
        self.vanished.clone_from(&vanished);
        if is_news {
            let sources = || vanished.iter().filter(|(_, setting)| setting.is_none()).map(|(name, _)| name);
            return Read::Vanished(if sources().next().is_none() {
                Vanished::Values
            } else if sources().all(|name| platform::policy::place_exists(name)) {
                Vanished::Source
            } else {
                Vanished::Place
            });
        }
        self.vanished.clear();
        let resolved = resolve(&reading.sources, &self.last_good);
        let remembered = resolved.remember(&self.last_good, now);
        if remembered != self.last_good {
            // Kept in memory even if the disk is full: a later wrong value must find it.
            self.last_good = remembered;
            self.unsaved = true;
        }
        Read::Policy(Box::new(self.snapshot(resolved, &reading, now)))
    }

    /// Makes durable what is remembered, after the app has its configuration: nobody waits for it. What a crash loses
    /// here, the next start reads again.
    pub(crate) fn save(&mut self) -> Option<Problem> {
        // What cannot be read may be readable again tomorrow: it is not written over.
        if !self.unsaved || self.lost.as_ref().is_some_and(StateError::is_in_place) {
            return None;
        }
        match self.file.save(&self.last_good) {
            Ok(()) => {
                self.unsaved = false;
                None
            }
            Err(error) => Some(unwritable(self.file.path(), &error)),
        }
    }

    /// What a read would give, without remembering anything.
    pub(crate) fn preview(&self, now: Timestamp) -> Snapshot {
        let reading = platform::policy::read(&self.paths);
        let resolved = resolve(&reading.sources, &self.last_good);
        self.snapshot(resolved, &reading, now)
    }

    /// What is remembered.
    ///
    /// # Errors
    /// It cannot be read: only an administrator may.
    pub(crate) fn last_good(&self) -> Result<&LastGood, Problem> {
        self.problem().map_or(Ok(&self.last_good), Err)
    }

    fn problem(&self) -> Option<Problem> {
        let lost = self.lost.as_ref()?;
        Some(unreadable("the last good values", lost).using("the values that policy has now"))
    }

    fn snapshot(&self, resolved: Resolved, reading: &Reading, now: Timestamp) -> Snapshot {
        let sources = &reading.sources;
        let mut problems = resolved.problems.clone();
        problems.extend(reading.passed_over.iter().cloned());
        problems.extend(self.problem());
        problems.extend(net::http::unusable_certificates(&resolved.policy));
        if sources.is_empty() {
            problems.push(
                Problem::new(Code::PolicyMissing, "no source has any policy, so the defaults apply")
                    .hint(format!("put one into {}", platform::policy::WHERE)),
            );
        }
        Snapshot {
            hash: hash(&resolved),
            resolved,
            sources: sources.iter().map(summarize).collect(),
            read_at: now,
            problems,
            last_good: self.last_good.clone(),
        }
    }
}

/// The sources that are not there any more, and where values come and go one by one, the settings that are not in their
/// source any more.
fn vanished(
    reading: &Reading,
    last_good: &LastGood,
    one_by_one: bool,
) -> impl Iterator<Item = (String, Option<&'static str>)> {
    last_good.values.iter().filter_map(move |(key, remembered)| {
        let name = source_of(&remembered.source);
        let Some(source) = reading.sources.iter().find(|source| source.name == name) else {
            return Some((name.to_owned(), None));
        };
        // What cannot be read is another matter.
        let policy = source.contents.as_ref().ok().filter(|_| one_by_one)?;
        let (setting, _) = find(SETTINGS, key)?;
        let mut keys = policy.enforced.keys().chain(policy.recommended.keys());
        let is_there = keys.any(|key| find(SETTINGS, key).is_some_and(|(found, _)| found.key == setting.key));
        (!is_there).then(|| (name.to_owned(), Some(setting.key)))
    })
}

fn last_good_file(paths: &Paths) -> StateFile<LastGood> {
    StateFile::new(private_folder(paths).join("last-good.json"), Access::Private)
}

fn summarize(source: &Source) -> SourceStatus {
    let values = source.contents.as_ref().ok().map(|policy| policy.enforced.len() + policy.recommended.len());
    SourceStatus { name: source.name.clone(), values, extra: Extra::default() }
}

/// Tells whether two devices have the same policy: SHA-256 over all values that policy sets, secrets as `(set)`.
fn hash(resolved: &Resolved) -> String {
    let values: std::collections::BTreeMap<_, _> =
        resolved.set_by_policy().map(|setting| (setting.key, &setting.value)).collect();
    let bytes = serde_json::to_vec(&values).unwrap_or_default();
    hex(&digest::digest(&digest::SHA256, &bytes).as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use policy_schema::read::drop_in;

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

    fn read(store: &mut Store) -> Option<Snapshot> {
        match store.read("2026-11-20T08:00:00Z".parse().unwrap()) {
            Read::Policy(snapshot) => Some(*snapshot),
            Read::Vanished(_) => None,
        }
    }

    #[test]
    fn last_good_values_survive_restart_and_stay_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_root, paths) = store();
        write(&paths, "UpdateMode = \"off\"\nClientSecret = \"canary\"");
        let mut store = Store::open(paths.clone());
        assert!(!read(&mut store).unwrap().hash.is_empty());
        assert_eq!(store.save(), None);
        let mode = fs_err::metadata(last_good_file(&paths).path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for damaged in ["UpdateMode = \"of\"", "UpdateMode = off", "", "\n", "# nothing\n"] {
            write(&paths, damaged);
            let second = read(&mut Store::open(paths.clone())).unwrap();
            assert_eq!(second.resolved.policy.update_mode.as_str(), "off", "{damaged:?}");
            assert!(second.problems.iter().any(|problem| problem.severity.is_error()), "{damaged:?}");
        }
    }

    #[test]
    fn vanished_policy_is_accepted_at_the_second_read() {
        let (_root, paths) = store();
        let mut store = Store::open(paths.clone());
        assert!(read(&mut store).is_some(), "there never was any");
        write(&paths, "UpdateMode = \"off\"");
        let mode =
            |store: &mut Store| read(store).map(|snapshot| snapshot.resolved.policy.update_mode.as_str());
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

    /// Found by trial: while another source was left, one that was away for a moment lost its settings.
    #[test]
    fn each_vanished_source_has_a_second_read_and_its_place_counts() {
        let (_root, paths) = store();
        let folders = paths.policy_folders();
        fs_err::write(folders[0].join("90.toml"), "LogLevel = \"debug\"").unwrap();
        write(&paths, "UpdateMode = \"off\"");
        let mut store = Store::open(paths.clone());
        assert!(read(&mut store).is_some());
        let away = folders[2].with_extension("away");
        fs_err::rename(&folders[2], &away).unwrap();
        assert!(matches!(store.read(Timestamp::UNIX_EPOCH), Read::Vanished(Vanished::Place)));
        fs_err::rename(&away, &folders[2]).unwrap();
        assert_eq!(read(&mut store).unwrap().resolved.policy.update_mode.as_str(), "off");
        fs_err::remove_file(folders[2].join("50.toml")).unwrap();
        assert!(matches!(store.read(Timestamp::UNIX_EPOCH), Read::Vanished(Vanished::Source)));
        let snapshot = read(&mut store).unwrap();
        assert_eq!(snapshot.resolved.policy.update_mode.as_str(), "notify");
        assert_eq!(snapshot.resolved.policy.log_level.as_str(), "debug");
    }

    /// A refresh of Group Policy removes every value and writes it again.
    #[test]
    fn setting_that_has_vanished_from_its_source_is_news_where_values_come_one_by_one() {
        let source =
            |text: &str| Source { rank: 1, name: "key".to_owned(), contents: drop_in::read(text.as_bytes()) };
        let reading = |text: &str| Reading { sources: vec![source(text)], passed_over: Vec::new() };
        let before = "UpdateMode = \"off\"\nLogLevel = \"debug\"";
        let resolved = resolve(&reading(before).sources, &LastGood::default());
        let last_good = resolved.remember(&LastGood::default(), Timestamp::UNIX_EPOCH);
        let gone = |text: &str, one_by_one: bool| -> Vec<_> {
            vanished(&reading(text), &last_good, one_by_one).map(|(_, setting)| setting).collect()
        };
        assert_eq!(gone(before, true), []);
        assert_eq!(gone("UPDATEMODE = \"of\"\nLogLevel = 5", true), [], "wrong values are there");
        assert_eq!(gone("LogLevel = \"debug\"", true), [Some("UpdateMode")]);
        assert_eq!(gone("LogLevel = \"debug\"", false), [], "a file is replaced as a whole");
        let none = Reading { sources: Vec::new(), passed_over: Vec::new() };
        assert!(vanished(&none, &last_good, true).all(|(_, setting)| setting.is_none()));
    }

    #[test]
    fn damaged_last_good_values_are_quarantined_and_reported() {
        let (_root, paths) = store();
        write(&paths, "UpdateMode = \"off\"");
        let path = last_good_file(&paths).path().to_owned();
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, "{").unwrap();
        let snapshot = read(&mut Store::open(paths)).unwrap();
        assert_eq!(snapshot.problems[0].code, Code::AgentStateUnreadable);
        assert!(path.with_extension("damaged").exists());
    }

    #[test]
    fn hash_depends_on_values_and_nothing_else() {
        let (_root, paths) = store();
        let hash = |text: &str| {
            write(&paths, text);
            read(&mut Store::open(paths.clone())).unwrap().hash
        };
        let off = hash("UpdateMode = \"off\"");
        assert_eq!(off, hash("# same\nUpdateMode = 'off'"));
        assert_ne!(off, hash("UpdateMode = \"notify\""));
    }
}
