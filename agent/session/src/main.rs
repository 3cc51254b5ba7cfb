//! Another process runs it: Windows starts this program when a user logs on to the device. It starts the user's broker without a
//! window, and again when that ends unexpectedly. Elsewhere systemd and launchd do so.
#![forbid(unsafe_code)]
#![windows_subsystem = "windows"]

use std::process::ExitCode;

fn main() -> ExitCode {
    match platform::session::keep_broker() {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody sees a message: there is no window, and the broker has a log of its own.
        Err(_) => ExitCode::FAILURE,
    }
}
