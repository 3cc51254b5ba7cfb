//! What protects a device with Windows: its registry tells all of it, in the same words in every language.

use std::io;

use windows_registry::LOCAL_MACHINE;

use super::registry::is_absent;
use crate::finding::{Finding, Observation};
use crate::paths::Paths;

/// Set when the volume that Windows started from is protected by `BitLocker`.
const BITLOCKER: &str = r"SYSTEM\CurrentControlSet\Control\BitLockerStatus";
const SECURE_BOOT: &str = r"SYSTEM\CurrentControlSet\Control\SecureBoot\State";
/// The firewall's own settings, and above them those of Group Policy (Microsoft, [MS-GPFAS]).
const FIREWALL: &str = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy";
const FIREWALL_POLICY: &str = r"SOFTWARE\Policies\Microsoft\WindowsFirewall";
const SYSTEM_POLICY: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System";
/// Keys that exist while a restart is pending: of servicing, and of Windows Update.
const RESTART: [&str; 2] = [
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
];
const VERSION: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";

/// The profiles of the firewall: their key, their key in Group Policy, their name.
const PROFILES: [(&str, &str, &str); 3] = [
    ("DomainProfile", "DomainProfile", "domain"),
    ("StandardProfile", "PrivateProfile", "private"),
    ("PublicProfile", "PublicProfile", "public"),
];

pub(crate) fn disk_encryption(paths: &Paths) -> Observation {
    let finding = match number(paths, BITLOCKER, "BootStatus") {
        Ok(Some(1)) => Finding::On("BitLocker protected the system's volume at the last start".to_owned()),
        Ok(Some(0)) => {
            Finding::Off("BitLocker did not protect the system's volume at the last start".to_owned())
        }
        Ok(Some(other)) => Finding::Unknown(format!("`BootStatus` is {other}, which has no known meaning")),
        Ok(None) => Finding::Unknown("this Windows keeps no state of BitLocker there".to_owned()),
        Err(error) => Finding::Unknown(error.to_string()),
    };
    Observation::new(finding, format!(r"HKLM\{BITLOCKER}"))
}

/// The service of Windows Firewall, and what `Start` says of one that is switched off.
const FIREWALL_SERVICE: &str = r"SYSTEM\CurrentControlSet\Services\mpssvc";
const DISABLED: u32 = 4;

/// Windows Firewall, which is on only if it is on for every kind of network. That of another maker is not seen here.
pub(crate) fn firewall(paths: &Paths) -> Observation {
    let source = format!(r"HKLM\{FIREWALL}");
    if matches!(number(paths, FIREWALL_SERVICE, "Start"), Ok(Some(DISABLED))) {
        let found = Finding::Off("the service of Windows Firewall is disabled".to_owned());
        return Observation::new(found, format!(r"HKLM\{FIREWALL_SERVICE}"));
    }
    let (mut off, mut unknown) = (Vec::new(), Vec::new());
    for (profile, of_policy, name) in PROFILES {
        let policy = number(paths, &format!(r"{FIREWALL_POLICY}\{of_policy}"), "EnableFirewall");
        let policy = policy.and_then(|policy| match (policy, profile) {
            // The name before Windows Vista.
            (None, "StandardProfile") => {
                number(paths, &format!(r"{FIREWALL_POLICY}\{profile}"), "EnableFirewall")
            }
            (policy, _) => Ok(policy),
        });
        let set = policy.and_then(|policy| match policy {
            Some(policy) => Ok(Some(policy)),
            None => number(paths, &format!(r"{FIREWALL}\{profile}"), "EnableFirewall"),
        });
        match set {
            Ok(Some(0)) => off.push(name),
            Ok(Some(_)) => {}
            Ok(None) => unknown.push(format!("nothing says whether it is on for {name} networks")),
            Err(error) => unknown.push(error.to_string()),
        }
    }
    let finding = if !off.is_empty() {
        Finding::Off(format!("Windows Firewall is off for {} networks", off.join(" and ")))
    } else if let Some(reason) = unknown.into_iter().next() {
        Finding::Unknown(reason)
    } else {
        Finding::On("Windows Firewall is on for all networks".to_owned())
    };
    Observation::new(finding, source)
}

pub(crate) fn secure_boot(paths: &Paths) -> Observation {
    let finding = match number(paths, SECURE_BOOT, "UEFISecureBootEnabled") {
        Ok(Some(0)) => Finding::Off("Secure Boot is off".to_owned()),
        Ok(Some(_)) => Finding::On("Secure Boot is on".to_owned()),
        Ok(None) => Finding::Unknown("the firmware told Windows nothing about Secure Boot".to_owned()),
        Err(error) => Finding::Unknown(error.to_string()),
    };
    Observation::new(finding, format!(r"HKLM\{SECURE_BOOT}"))
}

/// Only what is set for the machine is known ("Interactive logon: Machine inactivity limit"): what users set is theirs.
pub(crate) fn screen_lock(paths: &Paths) -> Observation {
    let finding = match number(paths, SYSTEM_POLICY, "InactivityTimeoutSecs") {
        Ok(Some(seconds)) if seconds > 0 => Finding::On(format!("it locks after {seconds} s without input")),
        Ok(_) => Finding::Unknown("nothing is set for the machine; each user decides".to_owned()),
        Err(error) => Finding::Unknown(error.to_string()),
    };
    Observation::new(finding, format!(r"HKLM\{SYSTEM_POLICY}"))
}

/// Files that an installer wants to have replaced at the next start are not looked at: some installers leave such at all times.
pub(crate) fn pending_restart(paths: &Paths) -> Observation {
    for key in RESTART {
        let source = format!(r"HKLM\{key}");
        match LOCAL_MACHINE.open(paths.key(key)) {
            Ok(_) => return Observation::new(Finding::On("Windows waits for a restart".to_owned()), source),
            Err(error) if is_absent(error.code().0) => {}
            Err(error) => return Observation::unknown(error.to_string(), source),
        }
    }
    let finding = Finding::Off("neither servicing nor Windows Update waits for a restart".to_owned());
    Observation::new(finding, format!(r"HKLM\{}, HKLM\{}", RESTART[0], RESTART[1]))
}

/// The build with its revision, such as `22631.4317`.
#[must_use]
pub fn build() -> Option<String> {
    let key = LOCAL_MACHINE.open(VERSION).ok()?;
    let build = key.get_string("CurrentBuildNumber").ok()?;
    Some(match key.get_u32("UBR") {
        Ok(revision) => format!("{build}.{revision}"),
        Err(_) => build,
    })
}

/// A number in the registry; `None` if there is none.
fn number(paths: &Paths, key: &str, name: &str) -> io::Result<Option<u32>> {
    let key = match LOCAL_MACHINE.open(paths.key(key)) {
        Ok(key) => key,
        Err(error) if is_absent(error.code().0) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match key.get_u32(name) {
        Ok(number) => Ok(Some(number)),
        Err(error) if is_absent(error.code().0) => Ok(None),
        Err(error) => Err(io::Error::other(format!("`{name}`: {error}"))),
    }
}
