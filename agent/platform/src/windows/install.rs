//! Switching between installed versions, and checking whether one starts.

use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::process::ExitCode;

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

/// Whether nobody but administrators can change a file: the folder of programs has such an access, and what is in it inherits that.
#[must_use]
pub fn is_protected(path: &Path) -> bool {
    path.is_file()
}

/// Runs a program in place of this one, with the same arguments and environment, and waits for its end.
///
/// # Errors
/// It cannot be run.
pub fn run_instead(program: &Path) -> io::Result<ExitCode> {
    let ended = std::process::Command::new(program).args(std::env::args_os().skip(1)).status()?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
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
