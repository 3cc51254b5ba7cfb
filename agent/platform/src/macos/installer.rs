//! Running an installer beside the agent.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use tokio::process::Command;

use crate::paths::Paths;

/// The command for it: in a process group of its own, because launchd ends the group of a job with it (launchd.plist(5),
/// `AbandonProcessGroup`).
pub(crate) fn command(_: &Paths, _: &str, program: &OsStr, arguments: &[OsString], _: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command
}
