//! A user's own preferences: those of the domain `dev.steward.agent`, as `defaults write` leaves them.

use std::path::Path;

use policy_schema::raw::{RawPolicy, ReadError};
use policy_schema::read::property_list;

use crate::environment;
use crate::paths::Paths;
use crate::unix::preferences::read_file;

/// The preferences, and where they are; `None` if there are none.
pub(crate) fn read(paths: &Paths) -> Option<(String, Result<RawPolicy, ReadError>)> {
    let home = environment::directory("HOME")?;
    let path = paths.under_root(&home).join(Path::new("Library/Preferences/dev.steward.agent.plist"));
    let contents = read_file(&path)?;
    Some((path.display().to_string(), contents.and_then(|bytes| property_list::read(&bytes))))
}
