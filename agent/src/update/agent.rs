//! The agent's own versions: each in a folder beside the program that the package installed, on probation at first.
//!
//! In: a [`Verified`] program. Out: that it is there, and what came of its probation, which the crate `watchdog` decides. Called by
//! [`super::target`] as the journal says, so each step can be done once more after a crash.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use platform::file::{self, Access};
use platform::paths::{Paths, folder_of};
use semver::Version;
use tokio::process::Command;
use updates::versions::Standing;

use super::download::Verified;
use crate::version;

/// A program has so long to say which version it is.
const LIMIT: Duration = Duration::from_mins(1);

/// Why a version is not installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error("the program cannot be put into its folder")]
    Write(#[source] io::Error),
    #[error("the program does not run on this device")]
    Run(#[source] io::Error),
    #[error("the program says that it is {said:?}, not version {version}")]
    OtherVersion { version: Version, said: String },
}

impl AgentError {
    /// Whether the same file would fail again.
    pub(super) fn is_lasting(&self) -> bool {
        use io::ErrorKind::{ExecutableFileBusy, OutOfMemory, ResourceBusy, TimedOut, WouldBlock};
        match self {
            Self::OtherVersion { .. } => true,
            // What passes says nothing about the file.
            Self::Run(error) => !matches!(
                error.kind(),
                ExecutableFileBusy | OutOfMemory | ResourceBusy | TimedOut | WouldBlock
            ),
            Self::Write(_) => false,
        }
    }
}

/// Puts a verified program into its folder, and lets it say which version it is.
pub(super) async fn install(paths: &Paths, verified: Verified) -> Result<(), AgentError> {
    let version = verified.version().clone();
    let copying = tokio::task::spawn_blocking({
        let paths = paths.clone();
        move || copy(&paths, verified)
    });
    copying.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(AgentError::Write)?;
    let tried = try_program(&watchdog::program(paths, &version), &version).await;
    if tried.is_err() {
        remove(paths, &version);
    }
    tried
}

fn copy(paths: &Paths, mut verified: Verified) -> io::Result<()> {
    let program = watchdog::program(paths, verified.version());
    let folder = folder_of(&program);
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    for folder in [paths.versions().as_path(), folder] {
        file::create_folder(folder, Access::Public)?;
        file::sync_folder(folder)?;
    }
    let mut to = file::create_program(&program, true)?;
    io::copy(verified.rewind()?, &mut to)?;
    to.sync_all()?;
    file::sync_folder(&program)
}

/// Lets a program say which version it is.
async fn try_program(program: &Path, version: &Version) -> Result<(), AgentError> {
    let mut command = Command::new(program);
    command.arg("version").env_clear().stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", LIMIT.as_secs()));
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| Err(late())).map_err(AgentError::Run)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(AgentError::Run(io::Error::other(format!("it ended with {}: {text}", output.status))));
    }
    if said == format!("steward {version}") {
        return Ok(());
    }
    Err(AgentError::OtherVersion { version: version.clone(), said: said.chars().take(100).collect() })
}

/// The same, for a program that is no version of the agent.
///
/// # Errors
/// It does not run, or is another version.
pub(crate) async fn try_version(program: &Path, version: &Version) -> anyhow::Result<()> {
    Ok(try_program(program, version).await?)
}

fn remove(paths: &Paths, version: &Version) {
    if let Err(error) = fs_err::remove_dir_all(folder_of(&watchdog::program(paths, version))) {
        tracing::warn!("a version of the agent that does not run cannot be removed: {error}");
    }
}

/// Whether a version that was installed has proved itself; an error if it failed. One that was not started yet is started next.
pub(super) fn confirm(paths: &Paths, version: &Version) -> io::Result<bool> {
    match watchdog::load(paths).standing(version, version::own()) {
        Standing::Proved => Ok(true),
        Standing::OnProbation => Ok(false),
        Standing::Failed(reason) => Err(io::Error::other(reason)),
        Standing::Untried => {
            watchdog::change(paths, |versions| versions.arm(version.clone()))?;
            Ok(false)
        }
    }
}

/// Whether a version waits to be started.
pub(crate) fn waits_for_restart(paths: &Paths) -> bool {
    let versions = watchdog::load(paths);
    versions.probation.is_some_and(|version| version != *version::own())
}
