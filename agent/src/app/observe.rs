//! What the app finds. Read-only.

use std::io;

use jiff::Timestamp;
use platform::native::{self, Values};
use platform::paths::Paths;
use policy_schema::Problem;

use super::descriptor::{Configuration, Descriptor, Format};
use super::ownership::{self, OwnershipRecord};
use crate::state;

/// What an app finds, and what the agent knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Where: a path, a registry key, a preference domain. `None` if the app has no configuration here.
    pub(crate) location: Option<String>,
    /// What lies there.
    pub(crate) found: Found,
    /// What the agent recorded about the location that it last wrote to or observed.
    pub(crate) ownership: Option<OwnershipRecord>,
    /// What lies at the recorded location, if that is another one of values.
    pub(crate) left: Values,
    /// Since when the app has been running, where that matters.
    pub(crate) running_since: Option<Timestamp>,
    /// What is wrong with the agent's own record.
    pub(crate) problem: Option<Problem>,
    /// The record was moved aside just now: the next observation finds none and nothing wrong.
    pub(crate) lost: bool,
}

/// What lies at a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The content of a file, if there is one.
    File(Option<Vec<u8>>),
    /// Values that the agent may write.
    Registry(Values),
    /// Values that only the MDM writes.
    ManagedPreferences(Values),
    /// The system refused.
    Unreadable(String),
}

impl Default for Found {
    fn default() -> Self {
        Self::File(None)
    }
}

/// Observes what the app finds. `unsaved` is the record that could not be saved so far, if there is one. `update_waits`: an
/// update waits until the app is closed.
pub(crate) fn observe(
    paths: &Paths,
    descriptor: Option<&Descriptor>,
    unsaved: Option<&OwnershipRecord>,
    update_waits: bool,
) -> Observed {
    let system = descriptor.and_then(Descriptor::system);
    let configuration = system.and_then(|system| system.configuration.as_ref());
    let mut lost = false;
    let loaded = unsaved.map_or_else(|| ownership::load(paths), |record| Ok(Some(record.clone())));
    let (ownership, problem) = match loaded {
        Ok(ownership) => (ownership, None),
        Err(error) => {
            lost = !error.is_in_place();
            let problem = state::unreadable("the record of what the agent wrote for the app", &error);
            (None, Some(problem.using("none; the agent changes no configuration that it did not write")))
        }
    };
    let (location, found) = match configuration {
        None => (None, Found::File(None)),
        Some(Configuration { format: Format::Json, path, .. }) => {
            let path = paths.under_root(path.as_ref());
            let found = match fs_err::read(&path) {
                Ok(bytes) => Found::File(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Found::File(None),
                Err(error) => Found::Unreadable(error.to_string()),
            };
            (Some(path.display().to_string()), found)
        }
        Some(Configuration { format, path, values }) => {
            (Some(path.clone()), read_values(paths, *format, path, values.keys()))
        }
    };
    let elsewhere = |record: &&OwnershipRecord| {
        record.values.is_some() && !record.observed_only && Some(&record.location) != location.as_ref()
    };
    let left = ownership
        .as_ref()
        .filter(elsewhere)
        .and_then(|record| native::read(paths, &record.location).ok())
        .unwrap_or_default();
    let waits = ownership.as_ref().is_some_and(|record| record.changed_at.is_some());
    let running_since = system
        .filter(|_| waits || update_waits)
        .and_then(|system| system.app_processes(paths).running_since());
    Observed { location, found, ownership, left, running_since, problem, lost }
}

fn read_values<'a>(
    paths: &Paths,
    format: Format,
    location: &str,
    names: impl Iterator<Item = &'a String>,
) -> Found {
    let mut all = match native::read(paths, location) {
        Ok(all) => all,
        Err(error) => return Found::Unreadable(error.to_string()),
    };
    let ours = names.filter_map(|name| {
        let key = all.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone();
        Some((name.clone(), all.remove(&key)?))
    });
    let ours: Values = ours.collect();
    if format == Format::ManagedPreferences { Found::ManagedPreferences(ours) } else { Found::Registry(ours) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::descriptor;

    /// Found by trial: a folder with the name of the app's file counted as no file at all.
    #[test]
    fn configuration_that_cannot_be_read_is_not_absent() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        let app = descriptor::find("lab-notes").unwrap();
        let Some(configuration) = app.system().and_then(|system| system.configuration.as_ref()) else {
            return;
        };
        assert_eq!(observe(&paths, Some(app), None, false).found, Found::File(None));
        fs_err::create_dir_all(paths.under_root(configuration.path.as_ref())).unwrap();
        assert!(matches!(observe(&paths, Some(app), None, false).found, Found::Unreadable(_)));
    }

    #[test]
    fn damaged_record_is_told_and_owns_nothing() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        fs_err::create_dir_all(paths.state().join("private")).unwrap();
        fs_err::write(ownership::file(&paths).path(), "{").unwrap();
        let observed = observe(&paths, descriptor::find("lab-notes"), None, false);
        assert_eq!(observed.ownership, None);
        assert_eq!(observed.problem.unwrap().code, policy_schema::Code::AgentStateUnreadable);
    }
}
