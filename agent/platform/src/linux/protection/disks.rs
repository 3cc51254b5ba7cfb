//! Whether the disks of a device are encrypted, by what the kernel and udev say: the table of mounts, `/etc/fstab`, sysfs. No device is
//! opened, and no path that a user chose is looked at.
//!
//! The service has a view of its own: it does not see what is mounted at `/home`, nor `/dev`. So what `/etc/fstab` mounts counts as well,
//! and devices are found by name in sysfs, or by their ID in the database of udev. Users' mount points are in no answer: only the
//! kernel's names of devices are.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::finding::{Finding, Observation};
use crate::paths::Paths;

pub(super) const MOUNTS: &str = "/proc/self/mountinfo";
pub(super) const TABLE: &str = "/etc/fstab";
const HOME: &str = "/home";
const BY_NUMBER: &str = "/sys/dev/block";
const BY_NAME: &str = "/sys/class/block";
const BTRFS: &str = "/sys/fs/btrfs";
pub(super) const UDEV: &str = "/run/udev/data";
/// Devices may lie upon each other this deep.
const MAXIMUM_DEPTH: usize = 16;
/// File systems on disks whose mounts have no number of a device.
const WITHOUT_NUMBER: [&str; 3] = ["btrfs", "zfs", "bcachefs"];
/// How the IDs of devices begin that dm-crypt encrypts (cryptsetup(8)). Those of veritysetup and integritysetup begin with `CRYPT-` too.
const ENCRYPTED: [&str; 7] = [
    "CRYPT-LUKS1-",
    "CRYPT-LUKS2-",
    "CRYPT-PLAIN-",
    "CRYPT-TCRYPT-",
    "CRYPT-LOOPAES-",
    "CRYPT-BITLK-",
    "CRYPT-FVAULT2-",
];
/// How names of devices begin that are no disk: memory, and files that are mounted.
const NO_DISKS: [&str; 5] = ["ram", "zram", "loop", "sr", "fd"];
/// Parts of the path of a device in sysfs that say that it can be taken out.
const OUTSIDE: [&str; 4] = ["usb", "mmc", "firewire", "thunderbolt"];

/// Whether everything that is mounted from a disk of this device lies on a device that dm-crypt encrypts. What starts the device
/// (`/boot`) cannot, and what can be taken out is somebody else's. `is_mounted` says whether a unit of systemd for a mount is active.
pub(super) fn encryption(paths: &Paths, is_mounted: impl Fn(&str) -> bool) -> Observation {
    let source = format!("{MOUNTS}, {TABLE}, {BY_NAME}");
    // The name of a mount point is any bytes.
    let mounts = match fs_err::read(paths.under_root(Path::new(MOUNTS))) {
        Ok(mounts) => String::from_utf8_lossy(&mounts).into_owned(),
        Err(error) => return Observation::unknown(error.to_string(), source),
    };
    let mut seen = Seen::default();
    let mut points = BTreeSet::new();
    let mut has_other_home = false;
    for mount in mounts.lines().filter_map(Mount::read) {
        if !matches!(mount.device, Device::None) {
            points.insert(mount.point.clone());
        }
        has_other_home |= mount.point == HOME && mount.kind == "tmpfs";
        seen.add(paths, &mount);
    }
    let table = fs_err::read(paths.under_root(Path::new(TABLE))).unwrap_or_default();
    for mount in String::from_utf8_lossy(&table).lines().filter_map(Mount::of_table) {
        // What the service sees in its place is memory, or waits for the first access.
        if points.insert(mount.point.clone()) {
            seen.add(paths, &mount);
        }
    }
    if has_other_home && !points.contains(HOME) && is_mounted("home.mount") {
        seen.unknown.push(format!("{HOME} is mounted in a way that the service does not see"));
    }
    Observation::new(seen.finding(), source)
}

/// A line of the table of mounts (`proc_pid_mountinfo(5)`), or of the table of file systems (`fstab(5)`).
struct Mount {
    point: String,
    kind: String,
    device: Device,
}

/// How a table names the device of a mount.
enum Device {
    /// By its number.
    Number(String),
    /// By its path, an ID or a label.
    Name(String),
    /// In the same way, but where it may be missing.
    Optional(String),
    /// Not at all: what it says in that place may come from a user.
    None,
}

impl Mount {
    fn read(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (number, _, point) = (mount.next()?, mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, source) = (file_system.next()?, file_system.next()?);
        let device = if !number.starts_with("0:") {
            Device::Number(number.to_owned())
        } else if WITHOUT_NUMBER.contains(&kind) {
            Device::Name(unescaped(source))
        } else {
            Device::None
        };
        Some(Self { point: unescaped(point), kind: kind.to_owned(), device })
    }

    fn of_table(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (source, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        let options: Vec<&str> = fields.next().unwrap_or_default().split(',').collect();
        let has = |option: &str| options.contains(&option);
        let is_mounted = !has("noauto") && !has("bind") && !has("rbind");
        let is_disk = source.starts_with("/dev/") || source.contains('=') || WITHOUT_NUMBER.contains(&kind);
        let source_name = unescaped(source);
        let device = if has("nofail") { Device::Optional(source_name) } else { Device::Name(source_name) };
        (!source.starts_with('#') && is_mounted && is_disk && point.starts_with('/')).then(|| Self {
            point: unescaped(point),
            kind: kind.to_owned(),
            device,
        })
    }

    fn starts_the_device(&self) -> bool {
        let point = self.point.as_str();
        point == "/boot" || point.starts_with("/boot/") || point == "/efi"
    }
}

/// Spaces, tabs, line ends and backslashes are octal numbers in both tables.
fn unescaped(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

/// What the devices of mounts are, by their names.
#[derive(Default)]
struct Seen {
    encrypted: BTreeSet<String>,
    open: BTreeSet<String>,
    unknown: Vec<String>,
    root: bool,
}

impl Seen {
    fn add(&mut self, paths: &Paths, mount: &Mount) {
        if mount.starts_the_device() {
            return;
        }
        let is_root = mount.point == "/";
        let found = match &mount.device {
            Device::Number(number) => {
                Found::Devices(vec![paths.under_root(Path::new(BY_NUMBER)).join(number)])
            }
            Device::Name(name) | Device::Optional(name) => named(paths, name),
            Device::None => Found::Absent,
        };
        let devices = match found {
            Found::Devices(devices) if mount.kind == "btrfs" => {
                devices.iter().flat_map(|device| btrfs(paths, device)).collect()
            }
            Found::Devices(devices) => devices,
            Found::Absent if !is_root && matches!(mount.device, Device::None | Device::Optional(_)) => return,
            Found::Absent | Found::NotUnderstood => Vec::new(),
        };
        let devices: Vec<PathBuf> =
            devices.iter().filter_map(|path| fs_err::canonicalize(path).ok()).collect();
        if devices.is_empty() {
            self.unknown.push(format!("nothing tells which disk a file system of `{}` lies on", mount.kind));
            return;
        }
        self.root |= is_root;
        for device in devices {
            let name = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match is_encrypted(&device, 0) {
                Ok(Some(true)) => drop(self.encrypted.insert(name)),
                Ok(Some(false)) => drop(self.open.insert(name)),
                Ok(None) if is_root => {
                    self.unknown.push(format!("/ lies on {name}, which can be taken out or is no disk"));
                }
                Ok(None) => {}
                Err(error) => self.unknown.push(format!("{name}: {error}")),
            }
        }
    }

    fn finding(self) -> Finding {
        let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
        if !self.open.is_empty() {
            Finding::Off(format!("dm-crypt does not encrypt {}", list(self.open)))
        } else if let Some(reason) = self.unknown.into_iter().next() {
            Finding::Unknown(reason)
        } else if self.root {
            Finding::On(format!("dm-crypt encrypts {}", list(self.encrypted)))
        } else {
            Finding::Unknown("nothing tells which disk / lies on".to_owned())
        }
    }
}

/// What a name of a device leads to.
enum Found {
    /// These; several, if several have the same ID or label.
    Devices(Vec<PathBuf>),
    /// No device has it now.
    Absent,
    /// This is no kind of name that is known here.
    NotUnderstood,
}

impl Found {
    fn of(devices: Vec<PathBuf>) -> Self {
        if devices.is_empty() { Self::Absent } else { Self::Devices(devices) }
    }
}

/// The device that a table names: by its path, by the name of a device of the device mapper or of a logical volume, or by what udev
/// knows of it: its links, its ID or its label.
fn named(paths: &Paths, source: &str) -> Found {
    let folder = paths.under_root(Path::new(BY_NAME));
    let is_name = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    let mapped = |name: &str| {
        let is_it = |device: &PathBuf| read(&device.join("dm/name")).is_some_and(|own| own.trim() == name);
        Found::of(list(&folder).into_iter().filter(is_it).collect())
    };
    let in_udev = |is_it: &dyn Fn(&str) -> bool| {
        let records = list(&paths.under_root(Path::new(UDEV))).into_iter();
        // Those of block devices are named `b` and the number.
        let numbers = records.filter_map(|record| {
            let number = record.file_name()?.to_str()?.strip_prefix('b')?.to_owned();
            read(&record)?.lines().any(is_it).then_some(number)
        });
        Found::of(numbers.map(|number| paths.under_root(Path::new(BY_NUMBER)).join(number)).collect())
    };
    if let Some(name) = source.strip_prefix("/dev/mapper/").filter(|name| is_name(name)) {
        return mapped(name);
    }
    if let Some(link) = source.strip_prefix("/dev/disk/") {
        let line = format!("S:disk/{link}");
        return in_udev(&|own| own == line);
    }
    if let Some(name) = source.strip_prefix("/dev/").filter(|name| is_name(name)) {
        return Found::of([folder.join(name)].into_iter().filter(|device| device.exists()).collect());
    }
    let volume = source.strip_prefix("/dev/").and_then(|rest| rest.split_once('/'));
    if let Some((group, volume)) = volume.filter(|(group, volume)| is_name(group) && is_name(volume)) {
        // As LVM names it in the device mapper (lvm(8), "VALID NAMES").
        return mapped(&format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--")));
    }
    let kinds = [
        ("UUID=", "by-uuid"),
        ("LABEL=", "by-label"),
        ("PARTUUID=", "by-partuuid"),
        ("PARTLABEL=", "by-partlabel"),
    ];
    let Some((value, kind)) =
        kinds.iter().find_map(|(prefix, kind)| Some((source.strip_prefix(prefix)?, kind)))
    else {
        return Found::NotUnderstood;
    };
    let link = format!("S:disk/{kind}/{}", in_link(value.trim_matches('"')));
    in_udev(&|own| own.eq_ignore_ascii_case(&link))
}

/// A label as udev writes it in the name of a link: what is neither plain nor UTF-8 beyond ASCII is `\x` and two digits.
fn in_link(label: &str) -> String {
    let plain =
        |letter: char| letter.is_ascii_alphanumeric() || "#+-.:=@_".contains(letter) || !letter.is_ascii();
    label
        .chars()
        .map(
            |letter| if plain(letter) { letter.to_string() } else { format!("\\x{:02x}", u32::from(letter)) },
        )
        .collect()
}

/// All devices of the btrfs that has this one among them.
fn btrfs(paths: &Paths, device: &Path) -> Vec<PathBuf> {
    let Ok(real) = fs_err::canonicalize(device) else { return Vec::new() };
    for file_system in list(&paths.under_root(Path::new(BTRFS))) {
        let devices = list(&file_system.join("devices"));
        if devices.iter().any(|one| fs_err::canonicalize(one).is_ok_and(|one| one == real)) {
            return devices;
        }
    }
    vec![device.to_owned()]
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn read(file: &Path) -> Option<String> {
    fs_err::read_to_string(file).ok()
}

/// Whether dm-crypt is somewhere on each way from a device, a folder of sysfs, down to its disks (LUKS and plain dm-crypt alike). `None`
/// if it is no disk of this device: memory, a file that is mounted, or what can be taken out.
fn is_encrypted(device: &Path, depth: usize) -> io::Result<Option<bool>> {
    if depth > MAXIMUM_DEPTH {
        return Err(io::Error::other("devices lie on each other without end"));
    }
    match fs_err::read_to_string(device.join("dm/uuid")) {
        Ok(id) if ENCRYPTED.iter().any(|start| id.starts_with(start)) => return Ok(Some(true)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let below = match fs_err::read_dir(device.join("slaves")) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut all = None;
    for entry in &below {
        match is_encrypted(&fs_err::canonicalize(entry.path())?, depth + 1)? {
            Some(false) => return Ok(Some(false)),
            Some(true) => all = Some(true),
            None => {}
        }
    }
    if !below.is_empty() {
        return Ok(all);
    }
    // A partition lies in the folder of its disk, which may lie on others.
    let disk = device.parent().filter(|_| device.join("partition").exists());
    if let Some(disk) = disk {
        return is_encrypted(disk, depth + 1);
    }
    let name = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_removable = read(&device.join("removable")).is_some_and(|text| text.trim() == "1");
    let is_outside = device.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        OUTSIDE.iter().any(|bus| part.starts_with(bus)) && !is_soldered(device)
    });
    let is_no_disk = NO_DISKS.iter().any(|start| name.starts_with(start));
    Ok(if is_removable || is_outside || is_no_disk { None } else { Some(false) })
}

/// Memory cards can be taken out; a chip of the same bus cannot.
fn is_soldered(device: &Path) -> bool {
    read(&device.join("device/type")).is_some_and(|kind| kind.trim() == "MMC")
}
