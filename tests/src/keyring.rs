//! A real Secret Service: a session bus, and gnome-keyring on it.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::device::Device;
use crate::session_bus;

/// A bus and a keyring; both end when this is dropped.
pub struct Keyring {
    _bus: Child,
    daemon: Child,
}

impl Keyring {
    /// Starts both, unlocked, and gives the bus to the device's later processes.
    ///
    /// # Panics
    /// `gnome-keyring-daemon` is not installed (`cargo xtask ci` installs them).
    pub async fn start(device: &mut Device) -> Self {
        let (bus, address) = session_bus::start(device).await;
        let runtime = device.path("keyring");
        fs_err::create_dir_all(&runtime).expect("room for temporary files");
        let mut daemon = Command::new("gnome-keyring-daemon")
            .args(["--unlock", "--foreground", "--components=secrets"])
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("HOME", device.path("home"))
            .env("XDG_DATA_HOME", device.path("home/.local/share"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("gnome-keyring-daemon is installed");
        let mut password = daemon.stdin.take().expect("it is piped");
        password.write_all(b"lab password").await.expect("it reads its password");
        drop(password);

        let keyring = Self { _bus: bus, daemon };
        session_bus::wait_for(&address, "org.freedesktop.secrets").await;
        keyring
    }

    /// Stops the keyring; the bus stays.
    ///
    /// # Panics
    /// It has ended already.
    pub async fn stop(mut self) {
        self.daemon.kill().await.expect("it runs");
    }
}
