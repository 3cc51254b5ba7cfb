//! What a user sees of Steward besides the browser: a notification with two buttons. And the user's app, which is started again.
//! Used by the broker; each operating system has its own way.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::app_processes::AppProcesses;
use crate::os::desktop;

/// An app that runs so long after its start has survived it.
const SURVIVES: Duration = Duration::from_secs(10);

/// Something that the user decides, with the buttons "Update now" and "Later".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// One line.
    pub title: String,
    /// A few sentences.
    pub text: String,
    /// It stays until the user has seen it.
    pub urgent: bool,
}

/// What the button says that agrees.
pub(crate) const NOW: &str = "Update now";
/// What the other one says.
pub(crate) const LATER: &str = "Later";

/// Shows a notification, and waits until the user has answered, or has closed it. Gives whether the user agrees. It disappears when
/// the future is dropped.
///
/// # Errors
/// The user has no desktop, or it shows no notifications.
pub async fn ask(notification: &Notification) -> io::Result<bool> {
    desktop::ask(notification).await
}

/// Starts an app for the user who runs this process. Gives how it ended, if it failed within some seconds.
///
/// # Errors
/// It cannot be started.
pub async fn start(program: &Path, processes: &AppProcesses) -> io::Result<Option<String>> {
    let mut command: Command = desktop::launch(program).into();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let Ok(ended) = tokio::time::timeout(SURVIVES, child.wait()).await else { return Ok(None) };
    let status = ended?;
    // It may have left its work to another process, or the user has closed it.
    let failed = !status.success() && !processes.run_as_own_user();
    Ok(failed.then(|| format!("it ended with {status} right after its start")))
}
