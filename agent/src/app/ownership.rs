//! The ownership record: what the agent wrote for an app, so that it never touches what somebody else wrote, and removes
//! its own one day. A state file that only administrators can open: whoever can open a file can keep it from being replaced
//! (Windows).
//!
//! It is saved before a change, so that what a crash leaves is known to be the agent's. Enforcement does not depend on that:
//! where it cannot be saved, the agent keeps it in memory and tries again.

use std::io;

use jiff::Timestamp;
use platform::file::Access;
use platform::native::Values;
use platform::paths::Paths;
use platform::state::{StateError, StateFile};
use policy_schema::Extra;
use policy_schema::raw::RawValue;
use serde::{Deserialize, Serialize};

use super::descriptor;
use crate::state::private_folder;

const NAME: &str = "managed-configuration.json";

/// What the agent remembers of what it wrote or observed last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnershipRecord {
    /// Where: a path, a registry key, a preference domain; empty if nothing of the agent's lies anywhere.
    #[serde(rename = "place")]
    pub(crate) location: String,
    /// The values that the agent wrote, or observed where it may not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Values>,
    /// The values that were the agent's before a change that may not have been finished: they still are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Values>,
    /// The values were only observed.
    #[serde(rename = "seen", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) observed_only: bool,
    /// When the app's configuration changed, until the app has been started since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changed_at: Option<Timestamp>,
    /// The app was open when that happened, and has not been seen started since: closing it does not undo what it may have begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) was_open: bool,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub(crate) extra: Extra,
}

impl OwnershipRecord {
    /// Before a file is written at a location for the first time.
    pub(crate) fn of_file(location: &str) -> Self {
        Self { location: location.to_owned(), ..Self::default() }
    }

    /// Before values change: both what was the agent's and what will be. Whatever is left by a crash, or by a system that
    /// refuses, is then known to be the agent's own and put right in the next round.
    pub(crate) fn before_change(
        recorded: Option<&Self>,
        location: &str,
        ours: &Values,
        now: Timestamp,
    ) -> Self {
        let mut before = Values::new();
        if let Some(recorded) = recorded.filter(|record| record.location == location && !record.observed_only)
        {
            before.extend(recorded.before.clone().unwrap_or_default());
            before.extend(recorded.values.clone().unwrap_or_default());
        }
        Self { before: Some(before), ..Self::after_change(location, ours, now) }
    }

    /// After values have changed.
    pub(crate) fn after_change(location: &str, ours: &Values, now: Timestamp) -> Self {
        Self { values: Some(ours.clone()), changed_at: Some(now), ..Self::of_file(location) }
    }
}

/// Where it lies.
pub(crate) fn file(paths: &Paths) -> StateFile<OwnershipRecord> {
    StateFile::new(private_folder(paths).join(NAME), Access::Private)
}

/// Where it lay in the folder that every user can read.
fn old_file(paths: &Paths) -> StateFile<OwnershipRecord> {
    StateFile::new(paths.state().join(NAME), Access::Public)
}

/// The record of before; `None` if the agent has written nothing yet.
///
/// # Errors
/// It is there and gave nothing: then nobody knows what is the agent's.
pub(crate) fn load(paths: &Paths) -> Result<Option<OwnershipRecord>, StateError> {
    read(paths, StateFile::load)
}

/// The same; one that gives nothing stays where it is.
///
/// # Errors
/// As for [`load`].
pub(crate) fn peek(paths: &Paths) -> Result<Option<OwnershipRecord>, StateError> {
    read(paths, StateFile::peek)
}

fn read(
    paths: &Paths,
    load: impl Fn(&StateFile<OwnershipRecord>) -> Result<Option<OwnershipRecord>, StateError>,
) -> Result<Option<OwnershipRecord>, StateError> {
    let record = match load(&file(paths))? {
        Some(record) => Some(record),
        None => load(&old_file(paths))?,
    };
    // What is recorded is removed one day: nothing but the locations of apps.
    let known = |record: &OwnershipRecord| {
        record.location.is_empty() || descriptor::locations(paths).any(|location| location == record.location)
    };
    Ok(record.filter(known))
}

/// Remembers it.
///
/// # Errors
/// The system refused.
pub(crate) fn save(paths: &Paths, record: &OwnershipRecord) -> io::Result<()> {
    file(paths).save(record)?;
    let old = old_file(paths);
    // It is not read any more; where it cannot be removed it does no harm.
    if old.path().exists() {
        drop(platform::file::remove(old.path()));
    }
    Ok(())
}

/// Whether the agent may write a value: nothing lies there, or what it wrote itself.
pub(crate) fn is_ours(name: &str, found: Option<&RawValue>, record: Option<&OwnershipRecord>) -> bool {
    let written = record.into_iter().flat_map(|record| [&record.values, &record.before]).flatten();
    found.is_none_or(|found| {
        written.filter_map(|values| values.get(name)).any(|written| means_the_same(written, found))
    })
}

/// Whether two values mean the same to an app: where there are no booleans, they are 0 and 1.
pub(crate) fn means_the_same(left: &RawValue, right: &RawValue) -> bool {
    let number = |value: &RawValue| match value {
        RawValue::Bool(value) => Some(i64::from(*value)),
        RawValue::Int(number) => Some(*number),
        RawValue::Str(_) | RawValue::List(_) | RawValue::Table(_) | RawValue::Other(_) => None,
    };
    left == right || number(left).is_some_and(|value| number(right) == Some(value))
}

/// Values in a form that can be recorded: of a type that no setting has, only its name.
pub(crate) fn recordable(values: &Values) -> Values {
    let recorded = |value: &RawValue| match value {
        RawValue::Table(_) | RawValue::Other(_) => RawValue::Str(format!("({})", value.kind_name())),
        RawValue::Bool(_) | RawValue::Int(_) | RawValue::Str(_) | RawValue::List(_) => value.clone(),
    };
    values.iter().map(|(name, value)| (name.clone(), recorded(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_owned_only_if_it_was_written_as_it_is() {
        let one = RawValue::Int(1);
        let record = OwnershipRecord {
            values: Some(Values::from([("A".to_owned(), one.clone())])),
            ..OwnershipRecord::default()
        };
        assert!(is_ours("A", None, None));
        assert!(is_ours("A", Some(&one), Some(&record)));
        assert!(!is_ours("A", Some(&RawValue::Int(0)), Some(&record)));
        assert!(!is_ours("A", Some(&one), None));
        assert!(!is_ours("B", Some(&one), Some(&record)));
        // A change from 1 to 2 that a crash may have cut off: either is the agent's.
        let cut_off = OwnershipRecord {
            values: Some(Values::from([("A".to_owned(), RawValue::Int(2))])),
            before: record.values.clone(),
            ..OwnershipRecord::default()
        };
        assert!(
            is_ours("A", Some(&one), Some(&cut_off)) && is_ours("A", Some(&RawValue::Int(2)), Some(&cut_off))
        );
        assert!(!is_ours("A", Some(&RawValue::Int(3)), Some(&cut_off)));
    }

    #[test]
    fn record_of_unknown_location_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        let planted = OwnershipRecord { location: "/etc/passwd".to_owned(), ..OwnershipRecord::default() };
        save(&paths, &planted).unwrap();
        assert_eq!(load(&paths).unwrap(), None);
    }
}
