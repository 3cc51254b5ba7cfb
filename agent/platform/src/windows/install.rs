//! Switching between installed versions, and checking whether one starts.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use tokio::process::Command;

use super::file;
use crate::trial;

/// Points a link at another target. Windows cannot put one link to a folder over another, so there is a moment without
/// one; a switch that ends there is finished when the agent starts again.
///
/// # Errors
/// The system refused.
pub fn switch(link: &Path, target: &Path) -> io::Result<()> {
    match fs_err::remove_dir(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs_err::os::windows::fs::symlink_dir(target, link)
}

/// Makes no symbolic link: on Windows it says whether it leads to a file or to a folder, which an archive does not.
///
/// # Errors
/// Always.
pub fn create_link(link: &Path, _target: &Path) -> io::Result<()> {
    let text = format!("links in archives, such as {}, are not made on Windows", link.display());
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// Whether a file may be run, which Windows decides by its name.
#[must_use]
pub const fn is_executable(_metadata: &Metadata) -> bool {
    false
}

/// Runs a program that checks itself, with an empty environment.
///
/// # Errors
/// It could not be started, did not end in time, or ended with something else than success.
pub async fn try_start(program: &Path, arguments: &[String]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    trial::run_to_success(command).await
}

/// How many bytes an ordinary process may still write to the disk of a folder.
///
/// # Errors
/// The system does not say.
pub fn free_space(folder: &Path) -> io::Result<u64> {
    file::free_space(folder)
}
