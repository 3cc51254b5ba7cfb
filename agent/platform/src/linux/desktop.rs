//! Notifications of the user's desktop: Desktop Notifications Specification 1.3, over D-Bus.

mod ffi;

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dbus::Message;
use dbus::arg::{PropMap, Variant};
use dbus::channel::{BusType, Channel};

use crate::notification::{LATER, NOW, Notification};
pub(crate) use crate::unix::signal::ask_to_close;

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";
/// The key of the button that agrees.
const AGREE: &str = "now";
/// How long the desktop may take to show it.
const LIMIT: Duration = Duration::from_secs(10);
/// So often is read at once what the bus has brought.
const READS: usize = 16;

/// What the service manager tells this process alone.
const OF_THE_SERVICE: [&str; 7] = [
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
];

/// Shows a notification. It disappears when what this gives is dropped.
///
/// # Errors
/// The user has no desktop, or it shows no notifications.
pub async fn show(notification: &Notification) -> io::Result<Shown> {
    let shown = notification.clone();
    tokio::task::spawn_blocking(move || Shown::new(&shown)).await.map_err(io::Error::other)?
}

/// A notification that is on the screen, on a connection of its own.
pub struct Shown {
    channel: Channel,
    fd: RawFd,
    id: u32,
}

impl Shown {
    /// Waits until the user has answered, or has closed it. Gives whether the user agrees.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn answer(self) -> io::Result<bool> {
        let bus = ffi::watch(self.fd)?;
        loop {
            // Before the first wait as well: what came with the reply is read already.
            for _ in 0..READS {
                if let Some(answer) = self.read() {
                    return Ok(answer);
                }
                let gone = || io::Error::new(io::ErrorKind::ConnectionAborted, "the session bus has ended");
                self.channel.read_write(Some(Duration::ZERO)).map_err(|()| gone())?;
            }
            bus.readable().await?.clear_ready();
        }
    }

    fn new(notification: &Notification) -> io::Result<Self> {
        let mut channel = Channel::get_private(BusType::Session).map_err(io::Error::other)?;
        let rule = format!("type='signal',interface='{NAME}',path='{PATH}'");
        let bus = call("org.freedesktop.DBus", "/org/freedesktop/DBus", "AddMatch")?.append1(rule);
        channel.send_with_reply_and_block(bus, LIMIT).map_err(io::Error::other)?;
        let capabilities = call(NAME, PATH, "GetCapabilities")?;
        let capabilities =
            channel.send_with_reply_and_block(capabilities, LIMIT).map_err(io::Error::other)?;
        let capabilities: Vec<String> = capabilities.read1().map_err(io::Error::other)?;
        let can = |what: &str| capabilities.iter().any(|capability| capability == what);
        let about_button = if can("actions") { &*notification.about_button } else { "" };
        let text = format!("{} {about_button}", notification.text);
        let text = if can("body-markup") { escaped(text.trim()) } else { text.trim().to_owned() };
        let actions = vec![AGREE, NOW, "later", LATER];
        let mut hints = PropMap::new();
        let urgency: u8 = if notification.urgent { 2 } else { 1 };
        hints.insert("urgency".to_owned(), Variant(Box::new(urgency)));
        // As long as the desktop likes; an urgent one until it was seen.
        let lasts: i32 = if notification.urgent { 0 } else { -1 };
        let message = call(NAME, PATH, "Notify")?
            .append3("Steward", 0u32, "software-update-available")
            .append3(&notification.title, text, actions)
            .append2(hints, lasts);
        let reply = channel.send_with_reply_and_block(message, LIMIT).map_err(io::Error::other)?;
        let id = reply.read1().map_err(io::Error::other)?;
        channel.set_watch_enabled(true);
        let fd = channel.watch().fd;
        Ok(Self { channel, fd, id })
    }

    /// What the user answered, if that has arrived.
    fn read(&self) -> Option<bool> {
        while let Some(message) = self.channel.pop_message() {
            let member = message.member();
            match member.as_deref() {
                Some("ActionInvoked") => match message.read2::<u32, &str>() {
                    Ok((id, action)) if id == self.id => return Some(action == AGREE),
                    Ok(_) | Err(_) => {}
                },
                Some("NotificationClosed") => match message.read2::<u32, u32>() {
                    Ok((id, _)) if id == self.id => return Some(false),
                    Ok(_) | Err(_) => {}
                },
                Some(_) | None => {}
            }
        }
        None
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Ok(message) = call(NAME, PATH, "CloseNotification") {
            // A desktop that has ended shows nothing any more.
            let _ = self.channel.send(message.append1(self.id));
            self.channel.flush();
        }
    }
}

fn call(name: &str, path: &str, method: &str) -> io::Result<Message> {
    let interface = name;
    Message::new_method_call(name, path, interface, method).map_err(io::Error::other)
}

/// The text of a notification is markup where the desktop reads that.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The command that starts an app beside this process, and whether it becomes the app itself.
pub(crate) fn launch(program: &Path) -> (Command, bool) {
    let mut command = Command::new(program);
    for name in OF_THE_SERVICE {
        command.env_remove(name);
    }
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    (command, true)
}
