//! Policy where the operating system keeps it by itself and not in files: Windows and macOS.

use std::path::Path;

use policy_schema::raw::{RawPolicy, ReadError, Source};

use crate::directory::{self, Reading};
use crate::paths::Paths;

/// The only source, if it is there.
pub(crate) fn only(name: String, contents: Option<Result<RawPolicy, ReadError>>) -> Reading {
    let sources = contents.map(|contents| Source { rank: 1, name, contents }).into_iter().collect();
    Reading { sources, passed_over: Vec::new() }
}

/// Reads one folder of drop-ins. The agent reads none here, so anybody may write to it.
#[must_use]
pub fn read_folder(_: &Paths, folder: &Path) -> Reading {
    directory::read(&[folder.to_owned()], None, &|_, _| Ok(()))
}

/// Whether files of this folder are policy: here they never are.
#[must_use]
pub fn is_policy_folder(_: &Paths, _: &Path) -> bool {
    false
}

/// Whether the place of a source that has vanished still exists. A refresh of Group Policy, or the exchange of a profile,
/// removes the only source for a moment, so it does not.
#[must_use]
pub fn place_exists(_: &str) -> bool {
    false
}
