//! What protects a device with Linux.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dbus::Message;
use dbus::channel::{BusType, Channel};

use crate::finding::{Finding, Observation, output};
use crate::paths::Paths;

mod nftables;

const MOUNTS: &str = "/proc/self/mountinfo";
const BLOCK_DEVICES: &str = "/sys/dev/block";
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
/// Devices may lie upon each other this deep.
const MAXIMUM_DEPTH: usize = 16;

/// Whether everything that is mounted from a disk of this device lies on a device that dm-crypt encrypts. What starts the device
/// (`/boot`) cannot, and what can be taken out is somebody else's.
pub(crate) fn disk_encryption(paths: &Paths) -> Observation {
    let table = match fs_err::read_to_string(paths.under_root(Path::new(MOUNTS))) {
        Ok(table) => table,
        Err(error) => return Observation::unknown(error.to_string(), MOUNTS),
    };
    let (mut encrypted, mut open, mut unknown) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for mount in table.lines().filter_map(Mount::read) {
        let is_root = mount.point == "/";
        if !is_root && (mount.point == "/boot" || mount.point.starts_with("/boot/") || mount.point == "/efi")
        {
            continue;
        }
        match device(paths, &mount) {
            Some(device) => match is_encrypted(&device, 0) {
                Ok(Some(true)) => drop(encrypted.insert(mount.point.to_owned())),
                Ok(Some(false)) => drop(open.insert(mount.point.to_owned())),
                Ok(None) => {}
                Err(error) => unknown.push(format!("{}: {error}", mount.point)),
            },
            None if is_root => {
                unknown
                    .push(format!("nothing tells which disk the file system `{}` of / lies on", mount.kind));
            }
            None => {}
        }
    }
    let list = |points: BTreeSet<String>| points.into_iter().collect::<Vec<_>>().join(", ");
    let finding = if !open.is_empty() {
        Finding::Off(format!("dm-crypt does not encrypt {}", list(open)))
    } else if let Some(reason) = unknown.into_iter().next() {
        Finding::Unknown(reason)
    } else if encrypted.contains("/") {
        Finding::On(format!("dm-crypt encrypts {}", list(encrypted)))
    } else {
        Finding::Unknown("nothing tells which disk / lies on".to_owned())
    };
    Observation::new(finding, format!("{MOUNTS}, {BLOCK_DEVICES}"))
}

/// A line of the table of mounts (`proc_pid_mountinfo(5)`).
struct Mount<'l> {
    number: &'l str,
    point: &'l str,
    kind: &'l str,
    source: &'l str,
}

impl<'l> Mount<'l> {
    fn read(line: &'l str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (number, _, point) = (mount.next()?, mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        Some(Self { number, point, kind: file_system.next()?, source: file_system.next()? })
    }
}

/// The block device of a mount, as a folder of sysfs. Some file systems have numbers of their own, but name their device.
fn device(paths: &Paths, mount: &Mount<'_>) -> Option<PathBuf> {
    let folder = paths.under_root(Path::new(BLOCK_DEVICES));
    let named = || {
        let file = mount.source.starts_with("/dev/").then(|| paths.under_root(Path::new(mount.source)))?;
        let number = nix::sys::stat::stat(&file).ok()?.st_rdev;
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        Some(folder.join(format!("{major}:{minor}")))
    };
    let numbered = folder.join(mount.number);
    let device = if mount.number.starts_with("0:") { named()? } else { numbered };
    device.exists().then_some(device)
}

/// Whether dm-crypt is somewhere on each way from a device down to its disks (LUKS and plain dm-crypt alike). `None` if it is no disk
/// of this device: a file that is mounted, memory, or a disk that can be taken out.
fn is_encrypted(device: &Path, depth: usize) -> io::Result<Option<bool>> {
    if depth > MAXIMUM_DEPTH {
        return Err(io::Error::other("devices lie on each other without end"));
    }
    let read = |name: &str| match fs_err::read_to_string(device.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    if read("dm/uuid")?.is_some_and(|id| id.starts_with("CRYPT-")) {
        return Ok(Some(true));
    }
    let below = match fs_err::read_dir(device.join("slaves")) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if below.is_empty() {
        // A partition lies in the folder of its disk.
        let disk = if device.join("partition").exists() { device.join("..") } else { device.to_owned() };
        let is_removable =
            fs_err::read_to_string(disk.join("removable")).is_ok_and(|text| text.trim() == "1");
        let is_file = device.join("loop").exists() || disk.join("loop").exists();
        let name = fs_err::canonicalize(device)?;
        let is_memory = name.components().any(|part| part.as_os_str() == "virtual");
        return Ok(if is_removable || is_file || is_memory { None } else { Some(false) });
    }
    let mut all = None;
    for entry in below {
        match is_encrypted(&entry.path(), depth + 1)? {
            Some(false) => return Ok(Some(false)),
            Some(true) => all = Some(true),
            None => {}
        }
    }
    Ok(all)
}

/// The rules of the kernel, if this process may see them (`CAP_NET_ADMIN`); else a firewall that Steward knows, if one runs. Without
/// either nothing is known: rules can come from anywhere.
pub(crate) fn firewall(paths: &Paths) -> Observation {
    let hidden = match output(Command::new("nft").args(["--json", "list", "ruleset"])) {
        Ok(rules) => {
            let finding = nftables::finding(&rules);
            if !matches!(finding, Finding::Off(_)) || !uses_legacy_tables(paths) {
                return Observation::new(finding, "nft --json list ruleset");
            }
            "rules of iptables-legacy are in use, which `nft` does not list".to_owned()
        }
        Err(error) if error.contains("Operation not permitted") => {
            "the kernel shows its rules only to processes that may change them (`CAP_NET_ADMIN`)".to_owned()
        }
        Err(error) => format!("the rules of the kernel cannot be read: nft: {error}"),
    };
    known_firewall(paths, &hidden)
}

/// A firewall that runs, where the rules of the kernel are hidden.
fn known_firewall(paths: &Paths, hidden: &str) -> Observation {
    if firewalld_runs(paths) {
        return Observation::new(Finding::On("firewalld runs".to_owned()), FIREWALLD);
    }
    // The switch that `ufw enable` writes and that it reads at every start (ufw-framework(8)).
    let ufw = fs_err::read_to_string(paths.under_root(Path::new(UFW)));
    if ufw.is_ok_and(|configuration| configuration.lines().any(|line| line.trim() == "ENABLED=yes")) {
        return Observation::new(Finding::On("ufw is on".to_owned()), UFW);
    }
    Observation::unknown(format!("{hidden}; neither firewalld nor ufw is on"), format!("{FIREWALLD}, {UFW}"))
}

fn uses_legacy_tables(paths: &Paths) -> bool {
    let tables = fs_err::read_to_string(paths.under_root(Path::new(LEGACY_TABLES)));
    tables.is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}

/// Whether firewalld has its name on the system bus (firewalld.dbus(5)).
fn firewalld_runs(paths: &Paths) -> bool {
    let ask = || {
        // The bus is the system's own.
        let bus = if paths.root().is_none() { Channel::get_private(BusType::System) } else { return None };
        let (name, path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
        let question = Message::new_method_call(name, path, name, "NameHasOwner").ok()?.append1(FIREWALLD);
        bus.ok()?.send_with_reply_and_block(question, BUS_LIMIT).ok()?.read1::<bool>().ok()
    };
    ask().unwrap_or(false)
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
