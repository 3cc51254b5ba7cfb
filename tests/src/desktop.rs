//! The desktop of a user: a screen, and a real notification daemon on it (dunst).

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::device::Device;
use crate::session_bus::{self, first_line};

/// A desktop, which ends when this is dropped.
pub struct Desktop {
    _screen: Child,
    _bus: Child,
    _dunst: Child,
    address: String,
    log: std::path::PathBuf,
    choice: std::path::PathBuf,
}

impl Desktop {
    /// Starts it, and gives it to the device's later processes.
    ///
    /// # Panics
    /// `Xvfb` or `dunst` is not installed (`cargo xtask ci` installs them).
    pub async fn start(device: &mut Device) -> Self {
        let mut screen = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "800x600x24"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Xvfb is installed");
        let display = format!(":{}", first_line(&mut screen).await);
        let (bus, address) = session_bus::start(device).await;
        let (folder, log) = (device.path("desktop"), device.path("notifications.log"));
        fs_err::create_dir_all(&folder).expect("the disk has room");
        let choice = folder.join("choice");
        // The menu of a notification's actions: the line that was chosen beforehand.
        let menu = folder.join("menu");
        fs_err::write(&menu, format!("#!/bin/sh\ngrep --fixed-strings --file={}\n", choice.display()))
            .expect("the disk has room");
        fs_err::set_permissions(&menu, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("it is ours");
        let configuration = folder.join("dunstrc");
        fs_err::write(&configuration, format!("[global]\ndmenu = {}\n", menu.display()))
            .expect("the disk has room");
        let dunst = Command::new("dunst")
            .arg("-conf")
            .arg(&configuration)
            .arg("-print")
            .env("DISPLAY", &display)
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .stdout(fs_err::File::create(&log).expect("the disk has room").into_file())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("dunst is installed");
        session_bus::wait_for(&address, "org.freedesktop.Notifications").await;
        Self { _screen: screen, _bus: bus, _dunst: dunst, address, log, choice }
    }

    /// Everything that was shown so far, as dunst prints it.
    ///
    /// # Panics
    /// It was removed.
    #[must_use]
    pub fn shown(&self) -> String {
        fs_err::read_to_string(&self.log).expect("it is there")
    }

    /// How many notifications are on the screen.
    pub async fn count(&self) -> String {
        self.control(&["count", "displayed"]).await.trim().to_owned()
    }

    /// Presses a button of the notification that is on the screen.
    ///
    /// # Panics
    /// The disk is full.
    pub async fn press(&self, button: &str) {
        fs_err::write(&self.choice, format!("{button}\n")).expect("the disk has room");
        self.control(&["context"]).await;
    }

    /// Closes the notification that is on the screen.
    pub async fn close(&self) {
        self.control(&["close"]).await;
    }

    async fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("dunstctl");
        command.args(arguments).env("DBUS_SESSION_BUS_ADDRESS", &self.address).stdin(Stdio::null());
        let output = command.output().await.expect("dunstctl comes with dunst");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}
