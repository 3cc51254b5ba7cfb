//! Switching between installed versions, and trying whether one starts.

use std::io;
use std::path::Path;

use tokio::process::Command;

use super::file;
use crate::trial;

/// The user that a program is tried as when the agent is root.
const NOBODY: u32 = 65534;

/// Points a link at another target in one step: at every moment it leads to the old or to the new one.
///
/// # Errors
/// The system refused; the link is then unchanged.
pub fn switch(link: &Path, target: &Path) -> io::Result<()> {
    let beside = link.with_extension("new");
    file::remove(&beside)?;
    fs_err::os::unix::fs::symlink(target, &beside)?;
    fs_err::rename(&beside, link)?;
    file::sync_folder(link)
}

/// Runs a program that checks itself, without privileges, with an empty environment.
///
/// # Errors
/// It could not be started, did not end in time, or ended with something else than success.
pub async fn try_start(program: &Path, arguments: &[String]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    trial::ends_well(command).await
}

/// How many bytes an ordinary write may still take where a folder lies.
///
/// # Errors
/// The system does not say.
pub fn free_space(folder: &Path) -> io::Result<u64> {
    let facts = nix::sys::statvfs::statvfs(folder)?;
    #[expect(clippy::useless_conversion, reason = "macOS counts blocks in 32 bits")]
    let blocks = u64::from(facts.blocks_available());
    Ok(blocks.saturating_mul(facts.fragment_size()))
}
