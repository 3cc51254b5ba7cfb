//! Dialogs of the user's desktop.

mod ffi;

use std::io;
use std::os::windows::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::oneshot;
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW};

use crate::notification::{LATER, NOW, Notification};

/// A dialog that cannot be shown fails within this time.
const SHOWS: Duration = Duration::from_millis(500);

/// Shows a dialog. It disappears when what this gives is dropped.
///
/// # Errors
/// It cannot be shown.
pub async fn show(notification: &Notification) -> io::Result<Shown> {
    let Notification { title, text, about_button, urgent } = notification.clone();
    // It does not take the keyboard from what the user is doing.
    let text = format!("{text} {about_button}\n\nOK: {NOW}\nCancel: {LATER}");
    let (thread, begun) = oneshot::channel();
    let (answer, mut answered) = oneshot::channel();
    // Not one of a pool: closing the dialog ends the thread's message queue.
    std::thread::Builder::new().name("dialog".to_owned()).spawn(move || {
        // Nobody waits any more, if the user was quick.
        let _ = thread.send(ffi::current_thread());
        let _ = answer.send(ffi::message_box(&title, &text, urgent));
    })?;
    let thread = begun.await.map_err(io::Error::other)?;
    match tokio::time::timeout(SHOWS, &mut answered).await {
        Err(_) => Ok(Shown { thread, answer: Answer::Awaited(answered) }),
        Ok(answer) => Ok(Shown { thread, answer: Answer::Given(answer.map_err(io::Error::other)??) }),
    }
}

/// A dialog that is on the screen, by its thread.
pub struct Shown {
    thread: u32,
    answer: Answer,
}

enum Answer {
    Awaited(oneshot::Receiver<io::Result<bool>>),
    Given(bool),
}

impl Shown {
    /// Waits until the user has answered. Gives whether the user agrees.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn answer(mut self) -> io::Result<bool> {
        match &mut self.answer {
            Answer::Awaited(answer) => answer.await.map_err(io::Error::other)?,
            Answer::Given(answer) => Ok(*answer),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        ffi::end_message_loop(self.thread);
    }
}

/// Asks a process to close: `taskkill` without `/F` closes its windows (Microsoft, "taskkill").
pub(crate) fn ask_to_close(id: u32) {
    let mut command = Command::new("taskkill.exe");
    command.args(["/PID", &id.to_string()]).creation_flags(CREATE_NO_WINDOW);
    // One that has ended meanwhile is not there, and one without windows does not close: both are looked at again.
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The command that starts an app beside this process, and whether it becomes the app itself.
pub(crate) fn launch(program: &Path) -> (Command, bool) {
    let mut command = Command::new(program);
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    (command, true)
}
