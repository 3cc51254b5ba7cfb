//! Writes and removes what the app finds. Each function gives the ownership record that it leaves.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use platform::file::{self, Access};
use platform::native::{self, Values};
use platform::paths::Paths;

use super::ownership::{self, OwnershipRecord};

/// A change of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// To set.
    pub(crate) set: Values,
    /// To remove.
    pub(crate) gone: Vec<String>,
    /// What is the agent's afterwards.
    pub(crate) ours: Values,
}

/// Writes a managed configuration, after recording where, so that it is found again even if this is the last step. When it
/// changed is recorded afterwards: the app does not wait for that. `before` is the record so far.
///
/// # Errors
/// The system refused; the old configuration is then still there.
pub(crate) fn write(
    paths: &Paths,
    path: &Path,
    bytes: &[u8],
    before: Option<&OwnershipRecord>,
    now: Timestamp,
) -> io::Result<OwnershipRecord> {
    let location = path.display().to_string();
    if before.is_none_or(|record| record.location != location) {
        ownership::save(
            paths,
            &OwnershipRecord { location: location.clone(), ..OwnershipRecord::default() },
        )?;
    }
    match (file::replace(path, bytes, Access::Public), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            file::create_folder(folder, Access::Public)?;
            file::replace(path, bytes, Access::Public)?;
        }
        (written, _) => written?,
    }
    record(paths, OwnershipRecord { location, changed_at: Some(now), ..OwnershipRecord::default() })
}

/// Removes a managed configuration that the agent wrote.
///
/// # Errors
/// The system refused.
pub(crate) fn remove(paths: &Paths, path: &Path, now: Timestamp) -> io::Result<OwnershipRecord> {
    file::remove(path)?;
    record(paths, OwnershipRecord { changed_at: Some(now), ..OwnershipRecord::default() })
}

/// Sets and removes values. Before that, both what was and what will be the agent's is recorded: whatever is left by a
/// crash, or by a system that refuses, is then known to be the agent's own and put right in the next round.
///
/// # Errors
/// The system refused.
pub(crate) fn write_values(
    paths: &Paths,
    location: &str,
    change: &Change,
    recorded: Option<&OwnershipRecord>,
    now: Timestamp,
) -> io::Result<OwnershipRecord> {
    let mut before = Values::new();
    if let Some(recorded) = recorded.filter(|record| record.location == location && !record.observed_only) {
        before.extend(recorded.before.clone().unwrap_or_default());
        before.extend(recorded.values.clone().unwrap_or_default());
    }
    let after = OwnershipRecord {
        location: location.to_owned(),
        values: Some(change.ours.clone()),
        changed_at: Some(now),
        ..OwnershipRecord::default()
    };
    ownership::save(paths, &OwnershipRecord { before: Some(before), ..after.clone() })?;
    native::write(paths, location, &change.set, &change.gone)?;
    record(paths, after)
}

/// Remembers a record.
///
/// # Errors
/// The system refused.
pub(crate) fn record(paths: &Paths, record: OwnershipRecord) -> io::Result<OwnershipRecord> {
    ownership::save(paths, &record)?;
    Ok(record)
}
