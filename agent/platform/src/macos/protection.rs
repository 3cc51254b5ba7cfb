//! What protects a Mac.

use std::path::Path;
use std::process::Command;

use policy_schema::raw::RawValue;
use policy_schema::read::{MAXIMUM_BYTES, property_list};

use crate::finding::{Finding, Observation, application_firewall, file_vault, output};
use crate::paths::Paths;

const FDESETUP: &str = "/usr/bin/fdesetup";
const SOCKETFILTERFW: &str = "/usr/libexec/ApplicationFirewall/socketfilterfw";
/// What a profile says about the screen saver (Apple, "Screensaver" payload).
const SCREEN_SAVER: &str = "/Library/Managed Preferences/com.apple.screensaver.plist";

/// `FileVault` (fdesetup(8)). Its exit code is 1 if it is off.
pub(crate) fn disk_encryption(_: &Paths) -> Observation {
    let source = format!("{FDESETUP} isactive");
    match Command::new(FDESETUP).arg("isactive").output() {
        Ok(output) => Observation::new(file_vault(&String::from_utf8_lossy(&output.stdout)), source),
        Err(error) => Observation::unknown(error.to_string(), source),
    }
}

/// The application firewall. macOS 15 keeps it in no property list any more.
pub(crate) fn firewall(_: &Paths) -> Observation {
    let source = format!("{SOCKETFILTERFW} --getglobalstate");
    match output(Command::new(SOCKETFILTERFW).arg("--getglobalstate")) {
        Ok(said) => Observation::new(application_firewall(&said), source),
        Err(error) => Observation::unknown(error, source),
    }
}

pub(crate) fn secure_boot(_: &Paths) -> Observation {
    Observation::unknown("macOS shows its startup security in the recovery system only", "none")
}

/// Only what a profile enforces is known: what users set is theirs.
pub(crate) fn screen_lock(paths: &Paths) -> Observation {
    let file = paths.under_root(Path::new(SCREEN_SAVER));
    let read = || {
        let length = fs_err::metadata(&file).ok()?.len();
        let bytes = fs_err::read(&file).ok().filter(|_| length <= MAXIMUM_BYTES)?;
        let values = property_list::read(&bytes).ok()?.enforced;
        Some(matches!(values.get("askForPassword")?.value, RawValue::Bool(true) | RawValue::Int(1)))
    };
    let finding = match read() {
        Some(true) => Finding::On("a profile asks for the password after the screen saver".to_owned()),
        Some(false) => Finding::Off("a profile lets the screen saver end without a password".to_owned()),
        None => Finding::Unknown("no profile says; each user decides".to_owned()),
    };
    Observation::new(finding, SCREEN_SAVER)
}

pub(crate) fn pending_restart(_: &Paths) -> Observation {
    Observation::unknown("macOS does not say whether it waits for a restart", "none")
}

/// The number of the build (`sw_vers -buildVersion`), as the kernel has it.
#[must_use]
pub fn build() -> Option<String> {
    super::ffi::kernel_text(c"kern.osversion")
}
