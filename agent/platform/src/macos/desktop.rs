//! Dialogs of the user's desktop, through `AppleScript` (`osascript(1)`, Standard Additions, `display dialog`).

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::process::Child;

use crate::notification::{LATER, NOW, Notification};
pub(crate) use crate::unix::signal::ask_to_close;

/// A dialog that cannot be shown ends within this time.
const SHOWS: Duration = Duration::from_secs(1);
/// The texts are arguments, so nothing in them is part of the script.
const SCRIPT: &str = "on run {heading, body, later, agree}\n\
                      set answer to display dialog body with title heading buttons {later, agree} default button later\n\
                      return button returned of answer\n\
                      end run";

/// Shows a dialog. It disappears when what this gives is dropped.
///
/// # Errors
/// It cannot be shown.
pub async fn show(notification: &Notification) -> io::Result<Shown> {
    let text = format!("{} {}", notification.text, notification.about_button);
    let mut command = tokio::process::Command::new("/usr/bin/osascript");
    command.args(["-e", SCRIPT, "--", &notification.title, &text, LATER, NOW]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut dialog = command.spawn()?;
    match tokio::time::timeout(SHOWS, dialog.wait()).await {
        Err(_) => Ok(Shown(dialog)),
        Ok(Ok(status)) if status.success() => Ok(Shown(dialog)),
        Ok(status) => Err(io::Error::other(format!("osascript ended with {}", status?))),
    }
}

/// A dialog that is on the screen.
pub struct Shown(Child);

impl Shown {
    /// Waits until the user has answered. Gives whether the user agrees.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn answer(self) -> io::Result<bool> {
        let output = self.0.wait_with_output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim() == NOW)
    }
}

/// The command that starts an app beside this process, `open(1)` for a bundle, and whether it becomes the app itself.
pub(crate) fn launch(program: &Path) -> (Command, bool) {
    if program.extension().is_some_and(|ending| ending == "app") {
        let mut command = Command::new("/usr/bin/open");
        command.arg(program);
        return (command, false);
    }
    let mut command = Command::new(program);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    (command, true)
}
