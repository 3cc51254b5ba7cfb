//! Switching between installed versions, and checking whether one starts.

use std::fs::Metadata;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;

use tokio::process::Command;

use super::file;
use crate::trial;

/// The user that runs a program for its check when the agent is root: the package's own, which owns nothing.
const CHECK_USER: &str = "steward-check";
/// Where the package is not installed (`nobody`).
const NOBODY: u32 = 65534;

/// Points a link at another target in one step: it always leads to the old or to the new one.
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

/// Makes a symbolic link.
///
/// # Errors
/// Something has its name, or the system refused.
pub fn create_link(link: &Path, target: &Path) -> io::Result<()> {
    fs_err::os::unix::fs::symlink(target, link)
}

/// Whether somebody may run a file.
#[must_use]
pub fn is_executable(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0
}

/// Whether nobody but the administrator, and the user of this process, can change a file or take its place in its folder.
#[must_use]
pub fn is_protected(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let own = nix::unistd::geteuid().as_raw();
    let is_safe = |path: &Path| {
        fs_err::symlink_metadata(path).is_ok_and(|found| {
            (found.uid() == 0 || found.uid() == own) && found.mode() & 0o022 == 0 && !found.is_symlink()
        })
    };
    is_safe(path) && is_safe(crate::paths::folder_of(path))
}

/// Runs a program in place of this one, with the same arguments and environment.
///
/// # Errors
/// It cannot be run.
pub fn run_instead(program: &Path) -> io::Result<ExitCode> {
    let mut command = std::process::Command::new(program);
    Err(command.args(std::env::args_os().skip(1)).exec())
}

/// Runs a program that checks itself, without privileges, with an empty environment.
///
/// # Errors
/// It could not be started, did not end in time, or ended with something else than success.
pub async fn try_start(program: &Path, arguments: &[String]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/");
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name(CHECK_USER).ok().flatten();
        let (user, group) = user.map_or((NOBODY, NOBODY), |user| (user.uid.as_raw(), user.gid.as_raw()));
        command.uid(user).gid(group);
    }
    trial::run_to_success(command).await
}

/// How many bytes an ordinary process may still write to the disk of a folder.
///
/// # Errors
/// The system does not say.
pub fn free_space(folder: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(folder)?;
    // The systems count in 32 or in 64 bits.
    let bytes = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
    Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
}
