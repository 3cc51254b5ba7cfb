//! The trees of /proc and /sys as kernels write them, with other names.

use super::disks::{MOUNTS, TABLE, UDEV};
use super::*;

struct Device {
    folder: tempfile::TempDir,
    paths: Paths,
}

impl Device {
    /// A device with these mounts.
    fn new(mounts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(folder.path().to_owned()));
        let device = Self { folder, paths };
        device.write(MOUNTS, mounts);
        device
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.paths.under_root(Path::new(path));
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    fn link(&self, from: &str, to: &str) {
        let from = self.folder.path().join(from);
        fs_err::create_dir_all(from.parent().unwrap()).unwrap();
        fs_err::os::unix::fs::symlink(self.folder.path().join(to), from).unwrap();
    }

    /// A disk with a partition.
    fn disk(&self, name: &str, partition: &str, number: &str, removable: &str) {
        let folder = format!("sys/devices/pci/{name}");
        self.write(&format!("{folder}/removable"), removable);
        self.write(&format!("{folder}/{partition}/partition"), "1\n");
        self.link(&format!("sys/dev/block/{number}"), &format!("{folder}/{partition}"));
        self.link(&format!("sys/class/block/{partition}"), &format!("{folder}/{partition}"));
    }

    /// A device of the device mapper that lies on others.
    fn mapped(&self, name: &str, number: &str, id: &str, on: &[&str]) {
        let folder = format!("sys/devices/virtual/block/{name}");
        self.write(&format!("{folder}/dm/uuid"), id);
        for below in on {
            let file = Path::new(below).file_name().unwrap().to_str().unwrap();
            self.link(&format!("{folder}/slaves/{file}"), below);
        }
        self.write(&format!("{folder}/dm/name"), format!("{name}-name\n"));
        self.link(&format!("sys/dev/block/{number}"), &folder);
        self.link(&format!("sys/class/block/{name}"), &folder);
    }

    fn encryption(&self) -> &'static str {
        kind(&disks::encryption(&self.paths, |_| false))
    }
}

fn kind(observation: &Observation) -> &'static str {
    match observation.finding {
        Finding::On(_) => "on",
        Finding::Off(_) => "off",
        Finding::Unknown(_) => "unknown",
    }
}

const ROOT: &str = "21 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw\n";
const BOOT: &str = "30 21 8:1 / /boot rw - ext4 /dev/sda1 rw\n22 21 0:5 / /proc rw - proc proc rw\n";

#[test]
fn disk_is_encrypted_if_dm_crypt_lies_below_everything_that_is_mounted_from_it() {
    let device = Device::new(&format!("{ROOT}{BOOT}"));
    device.disk("sda", "sda1", "8:1", "0\n");
    device.disk("sdb", "sdb2", "8:18", "0\n");
    assert_eq!(device.encryption(), "unknown", "nothing is known about /");
    // LVM on LUKS, as installers make it.
    device.mapped("dm-1", "253:1", "CRYPT-LUKS2-0123-vda3_crypt\n", &["sys/devices/pci/sdb/sdb2"]);
    device.mapped("dm-0", "253:0", "LVM-abc\n", &["sys/devices/virtual/block/dm-1"]);
    assert_eq!(device.encryption(), "on");

    // Another disk that is not.
    let more = "31 21 8:18 / /srv rw - xfs /dev/sdb2 rw\n";
    device.write(MOUNTS, format!("{ROOT}{BOOT}{more}"));
    assert_eq!(device.encryption(), "off");
    let Finding::Off(reason) = disk_encryption(&device.paths).finding else { panic!() };
    assert!(reason.ends_with("sdb2"), "{reason}");
}

#[test]
fn mirror_of_which_one_disk_is_not_encrypted_is_not() {
    let device = Device::new(ROOT);
    device.disk("sda", "sda3", "8:3", "0\n");
    device.disk("sdb", "sdb3", "8:19", "0\n");
    device.mapped("dm-1", "253:1", "CRYPT-PLAIN-a\n", &["sys/devices/pci/sda/sda3"]);
    let on = ["sys/devices/virtual/block/dm-1", "sys/devices/pci/sdb/sdb3"];
    device.mapped("dm-0", "253:0", "LVM-abc\n", &on);
    assert_eq!(device.encryption(), "off");
}

#[test]
fn stick_and_mounted_file_do_not_count_and_name_no_user() {
    let mounts = format!(
        "{ROOT}32 21 8:33 / /media/alice/My\\040Stick rw - ext4 /dev/sdc1 rw\n33 21 7:1 / /snap/x ro - squashfs /dev/loop1 ro\n\
         34 21 0:50 / /home/alice/mnt rw - fuse.x /dev/sda3 rw\n"
    );
    let device = Device::new(&mounts);
    // A hard disk says that it cannot be taken out, also at this bus.
    device.disk("usb2/2-1/sdc", "sdc1", "8:33", "0\n");
    device.write("sys/devices/virtual/block/loop1/loop/backing_file", "/x.snap");
    device.link("sys/dev/block/7:1", "sys/devices/virtual/block/loop1");
    device.disk("sda", "sda3", "8:3", "0\n");
    device.mapped("dm-0", "253:0", "CRYPT-LUKS1-a\n", &["sys/devices/pci/sda/sda3"]);
    assert_eq!(disk_encryption(&device.paths).finding, Finding::On("dm-crypt encrypts dm-0".to_owned()));
}

/// Found by review: disks of `NVMe` with several paths have virtual folders, and counted as memory.
#[test]
fn disk_in_a_virtual_folder_counts_and_a_partition_lies_on_what_its_disk_lies_on() {
    let device = Device::new(&format!("{ROOT}35 21 259:2 / /srv rw - xfs /dev/nvme0n1p2 rw\n"));
    device.disk("sda", "sda3", "8:3", "0\n");
    device.mapped("dm-0", "253:0", "CRYPT-LUKS2-a\n", &["sys/devices/pci/sda/sda3"]);
    let disk = "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
    device.write(&format!("{disk}/nvme0n1p2/partition"), "2\n");
    device.link("sys/dev/block/259:2", &format!("{disk}/nvme0n1p2"));
    assert_eq!(device.encryption(), "off");
    // The same as a partition of an encrypted mirror.
    device.link(&format!("{disk}/slaves/dm-0"), "sys/devices/virtual/block/dm-0");
    assert_eq!(device.encryption(), "on");
}

#[test]
fn every_disk_of_a_btrfs_counts_and_a_file_system_that_names_none_is_unknown() {
    let device = Device::new("21 1 0:30 /@ / rw - btrfs /dev/mapper/dm-0-name rw,subvol=/@\n");
    device.disk("sda", "sda3", "8:3", "0\n");
    device.disk("sdb", "sdb1", "8:17", "0\n");
    device.mapped("dm-0", "253:0", "CRYPT-LUKS2-a\n", &["sys/devices/pci/sda/sda3"]);
    assert_eq!(device.encryption(), "on");
    for (name, folder) in [("dm-0", "sys/devices/virtual/block/dm-0"), ("sdb1", "sys/devices/pci/sdb/sdb1")] {
        device.link(&format!("sys/fs/btrfs/0123/devices/{name}"), folder);
    }
    assert_eq!(device.encryption(), "off");
    for kind in ["zfs rpool/home", "bcachefs /dev/sda:/dev/sdb"] {
        let device = Device::new(&format!("{ROOT}36 21 0:60 / /home rw - {kind} rw\n"));
        device.disk("sda", "sda3", "8:3", "0\n");
        device.mapped("dm-0", "253:0", "CRYPT-LUKS2-a\n", &["sys/devices/pci/sda/sda3"]);
        assert_eq!(device.encryption(), "unknown", "{kind}");
    }
}

/// Found by review: the service does not see what is mounted at `/home`, nor `/dev`.
#[test]
fn disk_in_fstab_that_is_hidden_from_the_service_counts() {
    let mounts = format!("{ROOT}{BOOT}40 21 0:70 / /home ro - tmpfs tmpfs ro\n");
    let device = Device::new(&mounts);
    device.disk("sda", "sda3", "8:3", "0\n");
    device.disk("sdb", "sdb1", "8:17", "0\n");
    device.mapped("dm-0", "253:0", "CRYPT-LUKS2-a\n", &["sys/devices/pci/sda/sda3"]);
    let with = |line: &str| {
        device.write(
            TABLE,
            format!("# <file system>\n/dev/mapper/dm-0-name / ext4 errors=remount-ro 0 1\n{line}\n"),
        );
        device.encryption()
    };
    assert_eq!(with("tmpfs /tmp tmpfs rw 0 0\nserver:/x /mnt nfs rw 0 0\nUUID=none none swap sw 0 0"), "on");
    assert_eq!(with("UUID=ab-12 /home ext4 defaults 0 2"), "unknown", "no such disk is there");
    assert_eq!(with("UUID=ab-12 /home ext4 nofail 0 2"), "on", "one that may be missing is");
    device.write(
        &format!("{UDEV}/b8:17"),
        "S:disk/by-uuid/ab-12\nS:disk/by-label/my\\x20home\nS:disk/by-id/ata-x\nE:ID_FS_UUID=ab-12\n",
    );
    for source in ["UUID=ab-12", "UUID=\"AB-12\"", "LABEL=my\\040home", "/dev/disk/by-id/ata-x", "/dev/sdb1"]
    {
        assert_eq!(with(&format!("{source} /home ext4 defaults 0 2")), "off", "{source}");
    }
    assert_eq!(with("/dev/mapper/dm-0-name /home ext4 defaults 0 2"), "on");
    assert_eq!(with("UUID=ab-12 /home ext4 noauto 0 2"), "on");
    assert_eq!(with("/dev/../net/host/x /home ext4 nofail 0 2"), "unknown", "nothing outside is looked at");
    assert_eq!(
        with("NEW=ab-12 /home ext4 nofail 0 2"),
        "unknown",
        "a name that is not understood may be there"
    );
    // Found by review: a stick with the ID of the disk hid the disk, and so did what waits for the first access.
    device.disk("usb1/1-1/sdc", "sdc1", "8:33", "1\n");
    device.write(&format!("{UDEV}/b8:33"), "S:disk/by-uuid/ab-12\n");
    assert_eq!(with("UUID=ab-12 /home ext4 defaults 0 2"), "off");
    device.write(MOUNTS, format!("{mounts}41 21 0:71 / /data rw - autofs systemd-1 rw\n"));
    assert_eq!(with("/dev/sdb1 /data ext4 x-systemd.automount 0 2"), "off");
    // A logical volume under its own name.
    device.mapped("dm-7", "253:7", "LVM-x\n", &["sys/devices/pci/sdb/sdb1"]);
    device.write("sys/devices/virtual/block/dm-7/dm/name", "vg0-my--home\n");
    assert_eq!(with("/dev/vg0/my-home /home ext4 nofail 0 2"), "off");
}

#[test]
fn hidden_home_that_fstab_does_not_name_is_unknown() {
    let device = Device::new(&format!("{ROOT}40 21 0:70 / /home ro - tmpfs tmpfs ro\n"));
    device.disk("sda", "sda3", "8:3", "0\n");
    device.mapped("dm-0", "253:0", "CRYPT-LUKS2-a\n", &["sys/devices/pci/sda/sda3"]);
    let with =
        |mounted: bool| kind(&disks::encryption(&device.paths, |unit| mounted && unit == "home.mount"));
    assert_eq!((with(false), with(true)), ("on", "unknown"));
}

/// Found by review: what is only signed or summed counted as encrypted.
#[test]
fn device_of_verity_or_integrity_is_as_what_it_lies_on() {
    let device = Device::new(ROOT);
    device.disk("sda", "sda3", "8:3", "0\n");
    for id in ["CRYPT-VERITY-0123-root\n", "CRYPT-INTEGRITY-root\n", "CRYPT-SUBDEV-x\n"] {
        device.mapped("dm-0", "253:0", id, &[]);
        device.write("sys/devices/virtual/block/dm-0/slaves/.keep", "");
        fs_err::remove_file(device.folder.path().join("sys/devices/virtual/block/dm-0/slaves/.keep"))
            .unwrap();
        device.link("sys/devices/virtual/block/dm-0/slaves/sda3", "sys/devices/pci/sda/sda3");
        assert_eq!(device.encryption(), "off", "{id}");
        fs_err::remove_dir_all(device.folder.path().join("sys/devices/virtual")).unwrap();
        for link in ["sys/dev/block/253:0", "sys/class/block/dm-0"] {
            fs_err::remove_file(device.folder.path().join(link)).unwrap();
        }
    }
}

#[test]
fn mount_point_of_any_bytes_hides_nothing() {
    let device = Device::new("");
    device.disk("sda", "sda3", "8:3", "0\n");
    let mounts =
        [&b"50 21 0:80 / /var/tmp/\xff rw - fuse.x x rw\n21 1 8:3 / / rw - ext4 /dev/sda3 rw\n"[..]].concat();
    device.write(MOUNTS, mounts);
    assert_eq!(device.encryption(), "off");
}

#[test]
fn file_system_that_names_no_disk_and_devices_in_a_circle_are_unknown() {
    let device = Device::new("21 1 0:35 / / rw - overlay overlay rw\n");
    assert_eq!(device.encryption(), "unknown");
    let device = Device::new(ROOT);
    device.mapped("dm-0", "253:0", "LVM-a\n", &["sys/devices/virtual/block/dm-0"]);
    assert_eq!(device.encryption(), "unknown");
    assert_eq!(Device::new("nonsense\n\n - \n").encryption(), "unknown");
}

#[test]
fn secure_boot_is_what_the_firmware_says() {
    let device = Device::new("");
    let state = || kind(&secure_boot(&device.paths));
    assert_eq!(state(), "unknown", "a container");
    device.write("/sys/firmware/acpi/tables", "");
    assert_eq!(state(), "off", "a device that did not start by UEFI");
    device.write("/sys/firmware/efi/fw_platform_size", "64");
    assert_eq!(state(), "unknown");
    for (content, expected) in [
        (vec![6, 0, 0, 0, 1], "on"),
        (vec![6, 0, 0, 0, 0], "off"),
        (vec![6, 0, 0, 0], "unknown"),
        (vec![], "unknown"),
    ] {
        device.write(SECURE_BOOT, &content);
        assert_eq!(state(), expected, "{content:?}");
    }
}

#[test]
fn restart_is_pending_only_where_something_notes_it() {
    let device = Device::new("");
    let state = || kind(&pending_restart(&device.paths));
    assert_eq!(state(), "unknown");
    device.write(RESTART_HOOKS[1], "#!/bin/sh\n");
    assert_eq!(state(), "off");
    device.write(RESTART, "*** System restart required ***\n");
    assert_eq!(state(), "on");
}

#[test]
fn firewall_whose_rules_are_hidden_is_on_only_if_it_runs() {
    let device = Device::new("");
    let state = |active: bool, zone: Option<&str>| {
        let zone = || zone.map(ToOwned::to_owned);
        kind(&known_firewall(&device.paths, "hidden", |unit| active && unit == "ufw.service", zone))
    };
    assert_eq!(state(true, None), "unknown");
    device.write(UFW, "# ENABLED=yes\nENABLED=no\n");
    assert_eq!(state(true, None), "unknown");
    device.write(UFW, "# /etc/ufw/ufw.conf\nENABLED=yes\nLOGLEVEL=low\n");
    assert_eq!((state(true, None), state(false, None)), ("on", "unknown"));
    assert_eq!((state(false, Some("public")), state(false, Some("trusted"))), ("on", "off"));
}
