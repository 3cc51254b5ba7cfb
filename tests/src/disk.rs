//! A disk of a device that loses power: ext4 on a loop device. What was synced stays, everything else is gone.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk. It needs root.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    /// Folders of the device that lie on it.
    folders: Vec<PathBuf>,
    _files: tempfile::TempDir,
}

impl Disk {
    /// Makes an empty disk of so many MiB, and lets these folders of a device lie on it.
    ///
    /// # Panics
    /// It is not root, or a program is missing (e2fsprogs, util-linux, xfsprogs).
    #[must_use]
    pub fn new(mebibytes: u64, folders: &[PathBuf]) -> Self {
        let files = tempfile::tempdir().expect("the disk has room");
        // Others run programs that lie on it.
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs_err::set_permissions(files.path(), mode).expect("it is ours");
        let (image, mount) = (files.path().join("image"), files.path().join("mount"));
        let file = fs_err::File::create(&image).expect("the disk has room");
        file.set_len(mebibytes * 1024 * 1024).expect("the disk has room");
        fs_err::create_dir(&mount).expect("the disk has room");
        run("mkfs.ext4", &["-q", "-F"], &[&image]);
        let disk = Self { image, mount, folders: folders.to_vec(), _files: files };
        run("mount", &["-o", "loop"], &[&disk.image, &disk.mount]);
        for number in 0..disk.folders.len() {
            fs_err::create_dir(disk.mount.join(number.to_string())).expect("it is empty");
        }
        run("sync", &[], &[&disk.mount]);
        disk.bind();
        disk
    }

    /// The power goes, and comes back. No process may use the disk.
    ///
    /// # Panics
    /// A program failed.
    pub fn lose_power(&self) {
        run("xfs_io", &["-x", "-c", "shutdown"], &[&self.mount]);
        self.unmount();
        run("mount", &["-o", "loop"], &[&self.image, &self.mount]);
        self.bind();
    }

    /// Lets everybody write to it, or nobody.
    ///
    /// # Panics
    /// `mount` failed.
    pub fn set_writable(&self, writable: bool) {
        let options = if writable { "remount,rw" } else { "remount,ro" };
        run("mount", &["-o", options], &[&self.mount]);
    }

    fn bind(&self) {
        for (number, folder) in self.folders.iter().enumerate() {
            fs_err::create_dir_all(folder).expect("the disk has room");
            run("mount", &["--bind"], &[&self.mount.join(number.to_string()), folder]);
        }
    }

    fn unmount(&self) {
        for mounted in self.folders.iter().chain([&self.mount]) {
            run("umount", &[], &[mounted]);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mounted in self.folders.iter().chain([&self.mount]) {
            // It is removed once no process uses it any more.
            let unmounted = Command::new("umount").arg("--lazy").arg(mounted).status();
            assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
        }
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) {
    let output = Command::new(program).args(arguments).args(paths).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} {paths:?}: {errors}; this needs root");
}
