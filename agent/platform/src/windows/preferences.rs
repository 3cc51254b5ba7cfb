//! A user's own preferences: a key of the user's part of the registry.

use policy_schema::raw::{RawPolicy, ReadError, ReadErrorKind};
use windows_registry::CURRENT_USER;

use super::policy::read_key;
use crate::paths::Paths;

/// The preferences, and where they are; `None` if there are none.
pub(crate) fn read(paths: &Paths) -> Option<(String, Result<RawPolicy, ReadError>)> {
    let key = paths.key(r"SOFTWARE\Steward");
    let contents = match read_key(CURRENT_USER, &key) {
        Ok(contents) => contents.map(Ok)?,
        Err(error) => Err(ReadError::new(ReadErrorKind::Unreadable, format!("cannot be read: {error}"))),
    };
    Some((format!(r"HKCU\{key}"), contents))
}
