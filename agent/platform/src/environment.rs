//! The one place that reads the process environment.
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::path::PathBuf;

/// A variable that is set, not empty and UTF-8.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that holds an absolute path, as the XDG base directory specification demands.
#[must_use]
pub fn directory(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
}
