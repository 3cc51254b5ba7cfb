//! The policies that an app reads from the operating system itself. Linux has none: apps have files.

use std::collections::BTreeMap;
use std::io;

use policy_schema::raw::RawValue;

use crate::paths::Paths;
pub use crate::watch::FileWatch as Watch;

/// Values by name.
pub type Values = BTreeMap<String, RawValue>;

/// The values at a location.
///
/// # Errors
/// Always: Linux has no such location.
pub fn read(_: &Paths, location: &str) -> io::Result<Values> {
    Err(absent(location))
}

/// Sets and removes values at a location.
///
/// # Errors
/// Always: Linux has no such location.
pub fn write(_: &Paths, location: &str, _: &Values, _: &[String]) -> io::Result<()> {
    Err(absent(location))
}

fn absent(location: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("Linux has no location like {location}"))
}
