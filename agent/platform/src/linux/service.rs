//! What the service manager wants to hear (systemd, `Type=notify`). Without one, nothing happens.

use sd_notify::NotifyState;

pub use crate::unix::signal::{StopSignal, clear_umask};

/// How an administrator starts the machine service.
pub const START: &str = "systemctl start steward";

/// The service is ready; the text is shown by `systemctl status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service is about to end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    // Nobody to tell is the usual case outside systemd, and there is nothing to do about the others.
    drop(sd_notify::notify(states));
}
