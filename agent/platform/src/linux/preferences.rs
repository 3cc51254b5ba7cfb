//! A user's own preferences: a file in the form of a policy drop-in.

use std::path::Path;

use policy_schema::raw::{RawPolicy, ReadError};
use policy_schema::read::drop_in;

use crate::environment;
use crate::paths::Paths;
use crate::unix::preferences::read_file;

/// The preferences, and where they are; `None` if there are none.
pub(crate) fn read(paths: &Paths) -> Option<(String, Result<RawPolicy, ReadError>)> {
    let configuration = environment::directory("XDG_CONFIG_HOME")
        .or_else(|| environment::directory("HOME").map(|home| home.join(".config")))?;
    let folder = match paths.root() {
        None => configuration,
        Some(root) => root.join(format!("home/{}/.config", nix::unistd::geteuid())),
    };
    let path = folder.join(Path::new("steward/preferences.toml"));
    let contents = read_file(&path)?;
    Some((path.display().to_string(), contents.and_then(|bytes| drop_in::read(&bytes))))
}
