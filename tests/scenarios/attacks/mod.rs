//! What other users of the same device, a hostile feed and a hostile network tried, and what comes of it.

mod feeds;
mod strangers;

use std::path::Path;
use std::process::Output;

use e2e::device::Device;
use e2e::process::Process;

/// Becomes a user who has nothing to do with the device's.
const OTHER_USER: [&str; 3] = ["--reuid=65533", "--regid=65533", "--clear-groups"];

/// Runs a program as another user, to its end.
async fn as_other_user(device: &Device, arguments: &[&str]) -> Output {
    check_rights();
    device.run(Path::new("/usr/bin/setpriv"), &[&OTHER_USER, arguments].concat()).await
}

/// Starts a script for Python as another user. It prints a line when it has done what it is there for, and stays.
fn start_as_other_user(device: &Device, script: &str) -> Process {
    check_rights();
    // The log has what goes to standard error.
    let script = format!("import sys\nsys.stdout = sys.stderr\n{script}");
    let arguments = [&OTHER_USER[..], &["/usr/bin/python3", "-c", &script]].concat();
    device.start(Path::new("/usr/bin/setpriv"), &arguments)
}

fn check_rights() {
    assert!(nix::unistd::geteuid().is_root(), "this scenario becomes another user, which only root can");
}
