//! Dialogs of the user's desktop.

mod ffi;

use std::io;
use std::os::windows::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::sync::oneshot;
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW};

use crate::notification::{LATER, NOW, Notification};

/// Shows a notification, and waits until the user has answered, or has closed it. Gives whether the user agrees. It disappears when
/// the future is dropped.
///
/// # Errors
/// The user has no desktop, or it shows no notifications.
pub async fn ask(notification: &Notification) -> io::Result<bool> {
    let Notification { title, text, urgent } = notification.clone();
    // It does not take the keyboard from what the user is doing.
    let text = format!("{text}\n\nOK: {NOW}\nCancel: {LATER}");
    let (thread, begun) = oneshot::channel();
    let (answer, answered) = oneshot::channel();
    // Not one of a pool: closing the dialog ends the thread's message queue.
    std::thread::Builder::new().name("dialog".to_owned()).spawn(move || {
        // Nobody waits any more, if the user was quick.
        let _ = thread.send(ffi::current_thread());
        let _ = answer.send(ffi::message_box(&title, &text, urgent));
    })?;
    let _dialog = Dialog(begun.await.map_err(io::Error::other)?);
    answered.await.map_err(io::Error::other)?
}

/// A dialog that is on the screen, by its thread.
struct Dialog(u32);

impl Drop for Dialog {
    fn drop(&mut self) {
        ffi::end_message_loop(self.0);
    }
}

/// Asks a process to close: `taskkill` without `/F` closes its windows (Microsoft, "taskkill").
pub(crate) fn ask_to_close(id: u32) {
    let mut command = Command::new("taskkill.exe");
    command.args(["/PID", &id.to_string()]).creation_flags(CREATE_NO_WINDOW);
    // One that has ended meanwhile is not there, and one without windows does not close: both are looked at again.
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The command that starts an app beside this process.
pub(crate) fn launch(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    command
}
