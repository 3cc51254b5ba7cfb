//! The policies that an app reads from the operating system itself: managed preferences. They belong to the MDM, so
//! they are read and never written; the profile that sets them is exported.

use std::collections::BTreeMap;
use std::io;

use policy_schema::raw::RawValue;

use super::policy;
use crate::paths::Paths;
pub use crate::watch::FileWatch as Watch;

/// Values by name.
pub type Values = BTreeMap<String, RawValue>;

/// The forced values of a preference domain.
///
/// # Errors
/// They cannot be read.
pub fn read(paths: &Paths, domain: &str) -> io::Result<Values> {
    let Some(contents) = policy::managed(paths, domain) else { return Ok(Values::new()) };
    let contents = contents.map_err(|error| io::Error::other(error.message))?;
    Ok(contents.enforced.into_iter().map(|(key, entry)| (key, entry.value)).collect())
}

/// Sets and removes values of a preference domain.
///
/// # Errors
/// Always: only the MDM may.
pub fn write(_: &Paths, domain: &str, _: &Values, _: &[String]) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the managed preferences of {domain} belong to the MDM; deploy them as a profile"),
    ))
}
