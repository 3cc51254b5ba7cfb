//! The journals of all apps, in one state file of the agent's private folder.
//!
//! In: events of the app that is being updated. Out: what to do next, once the journal that follows is durable. Used by
//! [`super::run`], [`super::recover`] and the observation of the device.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use net::chain;
use platform::clock;
use platform::file::Access;
use platform::paths::Paths;
use platform::state::{StateError, StateFile};
use policy_schema::Extra;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use updates::Journal;
use updates::journal::{Action, Event, Quarantine, State};

use super::AGENT;
use crate::state::private_folder;

/// The content of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Journals {
    /// By the name of the app. The journal that an older version kept without one has the name [`UNNAMED`].
    apps: BTreeMap<String, Journal>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    extra: Extra,
}

/// Until version 2 there was one app and no name.
const UNNAMED: &str = "";

/// A journal cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the journal of updates cannot be written")]
pub(super) struct JournalError {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// The journal of one app, with the file that it lies in.
pub(super) struct JournalFile {
    file: StateFile<Journals>,
    all: Journals,
    app: String,
}

impl JournalFile {
    /// Loads the journal of an app. If it is lost, a version that failed is tried once more, which does no harm. One that is there
    /// and cannot be read is an error: it must not be replaced.
    pub(super) fn load(paths: &Paths, app: &str) -> Result<Self, StateError> {
        let file = file(paths, app);
        let all = match file.load() {
            Err(error) if error.is_in_place() => return Err(error),
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                None
            }
            Ok(all) => all,
        };
        let mut all = all.unwrap_or_default();
        if let Some(unnamed) = all.apps.remove(UNNAMED) {
            all.apps.entry(app.to_owned()).or_insert(unnamed);
        }
        all.apps.entry(app.to_owned()).or_default();
        Ok(Self { file, all, app: app.to_owned() })
    }

    /// The name of the app.
    pub(super) fn app(&self) -> &str {
        &self.app
    }

    pub(super) fn journal(&self) -> &Journal {
        // It is put there when the file is loaded, and never taken out.
        &self.all.apps[&self.app]
    }

    /// What follows from an event, once it is durable.
    pub(super) fn step(&mut self, event: Event<'_>) -> Result<Vec<Action>, JournalError> {
        let journal = self.all.apps.remove(&self.app).unwrap_or_default();
        let (journal, actions) = journal.step(event, clock::now());
        self.all.apps.insert(self.app.clone(), journal);
        let saved = self.file.save_if_changed(&self.all);
        saved.map_err(|source| JournalError { path: self.file.path().to_owned(), source })?;
        Ok(actions)
    }
}

/// Takes up the journals of an earlier run. A file that is damaged or newer is moved aside, which the error says.
pub(super) fn take_up(paths: &Paths) -> Result<(), StateError> {
    file(paths, UNNAMED).load().map(drop)
}

/// Reads the journal of an app, without moving a damaged file aside.
pub(super) fn peek(paths: &Paths, app: &str) -> Result<Journal, StateError> {
    let mut all = file(paths, app).peek()?.unwrap_or_default();
    Ok(all.apps.remove(app).or_else(|| all.apps.remove(UNNAMED)).unwrap_or_default())
}

/// The agent itself has a file of its own: another process than that of the app's updates may write it at the same time.
fn file(paths: &Paths, app: &str) -> StateFile<Journals> {
    let name = if app == AGENT { "agent-update.json" } else { "update.json" };
    let path = private_folder(paths).join(name);
    StateFile::new(path, Access::Private).of_version(2, read_older)
}

/// The record that version 1 was: versions that did not start, and a switch that was not finished.
fn read_older(_: u32, content: Value) -> Result<Journals, serde_json::Error> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "held")]
        quarantined: BTreeSet<Version>,
        probation: Option<Probation>,
    }
    #[derive(Deserialize)]
    struct Probation {
        version: Version,
        previous: Option<Version>,
    }
    let Record { quarantined, probation } = serde_json::from_value(content)?;
    let reason = "it did not start on this device".to_owned();
    let quarantine = |version| Quarantine { version, at: None, reason: reason.clone() };
    let confirming = |Probation { version, previous }| State::Confirming { version, previous };
    let journal = Journal {
        quarantined: quarantined.into_iter().map(quarantine).collect(),
        state: probation.map_or(State::Idle, confirming),
        ..Journal::default()
    };
    Ok(Journals { apps: BTreeMap::from([(UNNAMED.to_owned(), journal)]), extra: Extra::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (tempfile::TempDir, Paths, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        let path = file(&paths, UNNAMED).path().to_owned();
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        (root, paths, path)
    }

    #[test]
    fn journal_that_cannot_be_read_is_not_replaced() {
        let (_root, paths, path) = device();
        fs_err::create_dir(&path).unwrap();
        assert!(JournalFile::load(&paths, "app").is_err_and(|error| error.is_in_place()));
        assert!(path.is_dir());
    }

    #[test]
    fn record_of_version_1_becomes_the_journal_of_the_app() {
        let (_root, paths, path) = device();
        let record = "{\"version\": 1, \"held\": [\"2.0.0\"], \"probation\": {\"version\": \"2.1.0\", \"previous\": \"1.0.0\"}}";
        fs_err::write(&path, record).unwrap();
        let journal = peek(&paths, "app").unwrap();
        assert!(journal.is_committed_to_finish() && journal.quarantine(&Version::new(2, 0, 0)).is_some());
        let mut file = JournalFile::load(&paths, "app").unwrap();
        assert_eq!(file.journal(), &journal);
        let actions = file.step(Event::Resumed).unwrap();
        assert_eq!(actions, [Action::Confirm { version: Version::new(2, 1, 0) }]);
        drop(file.step(Event::Confirmed).unwrap());
        let again = JournalFile::load(&paths, "app").unwrap();
        assert_eq!(again.journal().previous, Some(Version::new(1, 0, 0)));
    }
}
