//! Running an installer beside the agent.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use tokio::process::Command;
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW};

use crate::paths::Paths;

/// The command for it: a service that ends leaves its processes alone.
pub(crate) fn command(_: &Paths, _: &str, program: &OsStr, arguments: &[OsString], _: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).creation_flags(CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP);
    command
}
