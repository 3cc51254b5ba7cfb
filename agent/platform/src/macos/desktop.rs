//! Dialogs of the user's desktop, through `AppleScript` (`osascript(1)`, Standard Additions, `display dialog`).

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::notification::{LATER, NOW, Notification};
pub(crate) use crate::unix::signal::ask_to_close;

/// The texts are arguments, so nothing in them is part of the script.
const SCRIPT: &str = "on run {heading, body, later, agree}\n\
                      set answer to display dialog body with title heading buttons {later, agree} default button later\n\
                      return button returned of answer\n\
                      end run";

/// Shows a notification, and waits until the user has answered, or has closed it. Gives whether the user agrees. It disappears when
/// the future is dropped.
///
/// # Errors
/// The user has no desktop, or it shows no notifications.
pub async fn ask(notification: &Notification) -> io::Result<bool> {
    let mut command = tokio::process::Command::new("/usr/bin/osascript");
    command.args(["-e", SCRIPT, "--", &notification.title, &notification.text, LATER, NOW]);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("osascript ended with {}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim() == NOW)
}

/// The command that starts an app beside this process: `open(1)` for a bundle.
pub(crate) fn launch(program: &Path) -> Command {
    if program.extension().is_some_and(|ending| ending == "app") {
        let mut command = Command::new("/usr/bin/open");
        command.arg(program);
        return command;
    }
    let mut command = Command::new(program);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}
