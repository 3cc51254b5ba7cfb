//! What protects a device with Linux.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dbus::Message;
use dbus::arg::Variant;
use dbus::channel::{BusType, Channel};

use crate::finding::{Finding, Observation, output};
use crate::paths::Paths;

mod disks;
mod nftables;

/// Where distributions have it; users have another `PATH` than root.
const NFT: [&str; 2] = ["/usr/sbin/nft", "/sbin/nft"];
const IPV6: &str = "/proc/net/if_inet6";
const EFI: &str = "/sys/firmware/efi";
/// The variable of the firmware: four bytes of attributes, then 1 or 0 (UEFI 2.10, 3.3).
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const FIREWALLD: &str = "org.fedoraproject.FirewallD1";
/// How long the system bus may take to answer.
const BUS_LIMIT: Duration = Duration::from_secs(2);
const UFW: &str = "/etc/ufw/ufw.conf";
/// Lists the tables of the older interface of the kernel, if anything uses it.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";
/// Debian and what comes from it create it when a restart is needed.
const RESTART: &str = "/run/reboot-required";
/// What does so: one of them is installed, or nobody does.
const RESTART_HOOKS: [&str; 2] =
    ["/usr/share/update-notifier/notify-reboot-required", "/etc/kernel/postinst.d/unattended-upgrades"];

/// What is mounted from the disks of this device.
pub(crate) fn disk_encryption(paths: &Paths) -> Observation {
    let bus = SystemBus::of(paths);
    disks::encryption(paths, |unit| bus.is_active(unit))
}

/// The rules of the kernel, if this process may see them (`CAP_NET_ADMIN`); else a firewall that Steward knows, if one runs. Without
/// either nothing is known: rules can come from anywhere.
pub(crate) fn firewall(paths: &Paths) -> Observation {
    let nft = NFT.iter().find(|nft| Path::new(nft).exists());
    let rules = match nft {
        Some(nft) => output(Command::new(nft).args(["--json", "list", "ruleset"])),
        None => Err("`nft` is not installed".to_owned()),
    };
    let hidden = match rules {
        Ok(rules) => {
            let finding = nftables::finding(&rules, has_ipv6(paths));
            if !matches!(finding, Finding::Off(_)) || !uses_legacy_tables(paths) {
                return Observation::new(finding, "nft --json list ruleset");
            }
            "rules of iptables-legacy are in use, which `nft` does not list".to_owned()
        }
        Err(error)
            if ["Operation not permitted", "not supported by protocol"]
                .iter()
                .any(|one| error.contains(one)) =>
        {
            "the kernel shows its rules only to processes that may change them (`CAP_NET_ADMIN`)".to_owned()
        }
        Err(error) => format!("the rules of the kernel cannot be read: {error}"),
    };
    let bus = SystemBus::of(paths);
    known_firewall(paths, &hidden, |unit| bus.is_active(unit), || bus.default_zone())
}

/// A firewall that runs, where the rules of the kernel are hidden. Its configuration alone says nothing: it may have been switched off
/// since.
fn known_firewall(
    paths: &Paths,
    hidden: &str,
    is_active: impl Fn(&str) -> bool,
    default_zone: impl Fn() -> Option<String>,
) -> Observation {
    match default_zone() {
        // It accepts everything (firewalld.zones(5)).
        Some(zone) if zone == "trusted" => {
            return Observation::new(
                Finding::Off("the default zone of firewalld is `trusted`".to_owned()),
                FIREWALLD,
            );
        }
        Some(zone) => {
            let found = format!("firewalld runs with the default zone `{zone}`");
            return Observation::new(Finding::On(found), FIREWALLD);
        }
        None => {}
    }
    // The switch that `ufw enable` writes and that it reads when it starts (ufw-framework(8)).
    let ufw = fs_err::read_to_string(paths.under_root(Path::new(UFW)));
    let is_enabled =
        ufw.is_ok_and(|configuration| configuration.lines().any(|line| line.trim() == "ENABLED=yes"));
    if is_enabled && is_active("ufw.service") {
        return Observation::new(Finding::On("ufw is on, and its service is active".to_owned()), UFW);
    }
    Observation::unknown(format!("{hidden}; neither firewalld nor ufw is on"), format!("{FIREWALLD}, {UFW}"))
}

/// The bus of the system, unless this process looks at another root.
struct SystemBus(Option<Channel>);

impl SystemBus {
    fn of(paths: &Paths) -> Self {
        Self(paths.root().is_none().then(|| Channel::get_private(BusType::System).ok()).flatten())
    }

    fn call(&self, message: Result<Message, String>) -> Option<Message> {
        self.0.as_ref()?.send_with_reply_and_block(message.ok()?, BUS_LIMIT).ok()
    }

    /// Whether a unit is active (`org.freedesktop.systemd1(5)`). One that is not loaded is not.
    fn is_active(&self, unit: &str) -> bool {
        let (name, manager) = ("org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager");
        let path = Message::new_method_call(name, "/org/freedesktop/systemd1", manager, "GetUnit");
        let state = || {
            let path: dbus::Path<'static> = self.call(path.map(|call| call.append1(unit)))?.read1().ok()?;
            let properties = "org.freedesktop.DBus.Properties";
            let state = Message::new_method_call(name, path, properties, "Get");
            let state = state.map(|call| call.append2("org.freedesktop.systemd1.Unit", "ActiveState"));
            self.call(state)?.read1::<Variant<String>>().ok()
        };
        state().is_some_and(|state| state.0 == "active")
    }

    /// The default zone of firewalld, if it runs (firewalld.dbus(5)).
    fn default_zone(&self) -> Option<String> {
        let path = "/org/fedoraproject/FirewallD1";
        // Asked for by its name, it would be started.
        let bus = "org.freedesktop.DBus";
        let question = Message::new_method_call(bus, "/org/freedesktop/DBus", bus, "NameHasOwner");
        let runs: bool = self.call(question.map(|call| call.append1(FIREWALLD)))?.read1().ok()?;
        let zone = Message::new_method_call(FIREWALLD, path, FIREWALLD, "getDefaultZone");
        if runs { self.call(zone)?.read1().ok() } else { None }
    }
}

/// Whether anything but the device itself could connect over IPv6.
fn has_ipv6(paths: &Paths) -> bool {
    let interfaces = fs_err::read_to_string(paths.under_root(Path::new(IPV6)));
    interfaces.map_or(true, |text| text.lines().any(|line| !line.ends_with(" lo")))
}

fn uses_legacy_tables(paths: &Paths) -> bool {
    let tables = fs_err::read_to_string(paths.under_root(Path::new(LEGACY_TABLES)));
    tables.is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}

pub(crate) fn secure_boot(paths: &Paths) -> Observation {
    let there = |path: &str| paths.under_root(Path::new(path)).exists();
    let finding = match fs_err::read(paths.under_root(Path::new(SECURE_BOOT))) {
        Ok(bytes) => match bytes.as_slice() {
            [_, _, _, _, 1] => Finding::On("Secure Boot is on".to_owned()),
            [_, _, _, _, 0] => Finding::Off("Secure Boot is off".to_owned()),
            _ => Finding::Unknown("the variable of the firmware has an unknown content".to_owned()),
        },
        Err(error) if error.kind() != io::ErrorKind::NotFound => Finding::Unknown(error.to_string()),
        Err(_) if there(EFI) => Finding::Unknown("the firmware has no variable about Secure Boot".to_owned()),
        // Without anything of the firmware, this may be a container.
        Err(_) if there("/sys/firmware/acpi") || there("/sys/firmware/devicetree") => {
            Finding::Off("the device did not start by UEFI, which alone has Secure Boot".to_owned())
        }
        Err(_) => Finding::Unknown("the firmware is not visible here".to_owned()),
    };
    Observation::new(finding, SECURE_BOOT)
}

pub(crate) fn screen_lock(_: &Paths) -> Observation {
    Observation::unknown("every desktop keeps its own setting for each user", "none")
}

pub(crate) fn pending_restart(paths: &Paths) -> Observation {
    let there = |path: &str| paths.under_root(Path::new(path)).exists();
    let finding = if there(RESTART) {
        Finding::On("the operating system waits for a restart".to_owned())
    } else if RESTART_HOOKS.iter().any(|hook| there(hook)) {
        Finding::Off("no package waits for a restart".to_owned())
    } else {
        Finding::Unknown("nothing on this system notes that a restart is needed".to_owned())
    };
    Observation::new(finding, RESTART)
}

/// Distributions count no builds, but some name one (os-release(5), `BUILD_ID`).
#[must_use]
pub fn build() -> Option<String> {
    let text = fs_err::read_to_string("/etc/os-release").ok()?;
    let build = text.lines().find_map(|line| line.strip_prefix("BUILD_ID="))?;
    Some(build.trim_matches(['"', '\'']).to_owned()).filter(|build| !build.is_empty())
}

#[cfg(test)]
mod tests;
