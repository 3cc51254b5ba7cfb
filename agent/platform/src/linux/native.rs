//! The policies that an app reads from the operating system itself. Linux has no place of that kind: apps have files.

use std::collections::BTreeMap;
use std::io;

use policy_schema::raw::RawValue;

use crate::paths::Paths;

/// Values by name.
pub type Values = BTreeMap<String, RawValue>;

/// The values that lie at a place.
///
/// # Errors
/// Always: there is no such place here.
pub fn read(_: &Paths, place: &str) -> io::Result<Values> {
    Err(absent(place))
}

/// Sets and removes values at a place.
///
/// # Errors
/// Always: there is no such place here.
pub fn write(_: &Paths, place: &str, _: &Values, _: &[String]) -> io::Result<()> {
    Err(absent(place))
}

fn absent(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("Linux has no place like {place}"))
}
