//! A session bus.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::device::Device;

/// Starts one, and gives it to the device's later processes. It ends when the process is dropped.
pub(crate) async fn start(device: &mut Device) -> (Child, String) {
    let mut bus = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address=1"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("dbus-daemon is installed");
    let address = first_line(&mut bus).await;
    device.set("DBUS_SESSION_BUS_ADDRESS", &address);
    (bus, address)
}

/// The first line that a process prints.
pub(crate) async fn first_line(process: &mut Child) -> String {
    let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    lines.next_line().await.expect("it starts").expect("it prints a line")
}

/// Waits until somebody has a name on the bus.
pub(crate) async fn wait_for(address: &str, name: &str) {
    crate::wait::until(name, async || {
        let found = Command::new("dbus-send")
            .args(["--session", "--dest=org.freedesktop.DBus", "--type=method_call", "--print-reply"])
            .args(["/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner"])
            .arg(format!("string:{name}"))
            .env("DBUS_SESSION_BUS_ADDRESS", address)
            .output()
            .await
            .map_err(|error| error.to_string())?;
        let printed = String::from_utf8_lossy(&found.stdout).into_owned();
        if printed.contains("true") { Ok(()) } else { Err(printed) }
    })
    .await;
}
