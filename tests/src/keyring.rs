//! A real Secret Service: a session bus, and gnome-keyring on it.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::device::Device;

/// A bus and a keyring; both end when this is dropped.
pub struct Keyring {
    _bus: Child,
    daemon: Child,
}

impl Keyring {
    /// Starts both, unlocked, and gives the bus to the device's later processes.
    ///
    /// # Panics
    /// `dbus-daemon` or `gnome-keyring-daemon` is not installed (`cargo xtask ci` installs them).
    pub async fn start(device: &mut Device) -> Self {
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("dbus-daemon is installed");
        let mut lines = BufReader::new(bus.stdout.take().expect("it is piped")).lines();
        let address = lines.next_line().await.expect("the bus starts").expect("it prints its address");
        device.set("DBUS_SESSION_BUS_ADDRESS", &address);

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
        crate::wait::until("a keyring on the bus", async || {
            let found = Command::new("dbus-send")
                .args(["--session", "--dest=org.freedesktop.DBus", "--type=method_call", "--print-reply"])
                .args(["/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner"])
                .arg("string:org.freedesktop.secrets")
                .env("DBUS_SESSION_BUS_ADDRESS", &address)
                .output()
                .await
                .map_err(|error| error.to_string())?;
            let printed = String::from_utf8_lossy(&found.stdout).into_owned();
            if printed.contains("true") { Ok(()) } else { Err(printed) }
        })
        .await;
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
