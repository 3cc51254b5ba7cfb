//! The files of a package in one folder, as they lie on a device: both packages for Linux, and that for macOS.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use super::fresh;
use crate::tools::{files_of, output, repository, run};

/// What a package manager expects at different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// dpkg.
    Debian,
    /// rpm.
    Fedora,
    /// Installer of macOS.
    Mac,
}

/// Files of the repository: where from, where to.
const LINUX_FILES: [(&str, &str); 9] = [
    ("packaging/linux/steward-agent.service", "usr/lib/systemd/system/steward-agent.service"),
    ("packaging/linux/steward-update.service", "usr/lib/systemd/system/steward-update.service"),
    ("packaging/linux/steward-broker.socket", "usr/lib/systemd/user/steward-broker.socket"),
    ("packaging/linux/steward-broker.service", "usr/lib/systemd/user/steward-broker.service"),
    ("packaging/linux/system.preset", "usr/lib/systemd/system-preset/50-steward.preset"),
    ("packaging/linux/user.preset", "usr/lib/systemd/user-preset/50-steward.preset"),
    ("packaging/linux/steward.sysusers", "usr/lib/sysusers.d/steward.conf"),
    ("packaging/linux/steward.tmpfiles", "usr/lib/tmpfiles.d/steward.conf"),
    ("packaging/linux/dev.steward.sign-in.desktop", "etc/xdg/autostart/dev.steward.sign-in.desktop"),
];

/// The same for macOS. Nothing lies in `/usr/local`: that may belong to a user, who could then replace what runs as root.
const MAC_FILES: [(&str, &str); 4] = [
    // `/etc` is a link to it.
    ("packaging/macos/paths", "private/etc/paths.d/steward"),
    ("packaging/macos/dev.steward.agent.plist", "Library/LaunchDaemons/dev.steward.agent.plist"),
    ("packaging/macos/dev.steward.broker.plist", "Library/LaunchAgents/dev.steward.broker.plist"),
    ("packaging/macos/dev.steward.sign-in.plist", "Library/LaunchAgents/dev.steward.sign-in.plist"),
];

impl Family {
    fn program(self) -> &'static str {
        match self {
            Self::Debian | Self::Fedora => "usr/bin/steward",
            Self::Mac => "Library/Application Support/Steward/bin/steward",
        }
    }

    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Debian | Self::Fedora => &LINUX_FILES,
            Self::Mac => &MAC_FILES,
        }
    }

    /// What others share: manual pages, completions, documents.
    fn share(self) -> &'static str {
        match self {
            Self::Debian | Self::Fedora => "usr/share",
            Self::Mac => "Library/Application Support/Steward/share",
        }
    }

    /// Where completions lie in it.
    fn completions(self) -> [(&'static str, &'static str); 4] {
        let zsh = match self {
            Self::Debian => "zsh/vendor-completions/_steward",
            Self::Fedora | Self::Mac => "zsh/site-functions/_steward",
        };
        [
            ("bash", "bash-completion/completions/steward"),
            ("zsh", zsh),
            ("fish", "fish/vendor_completions.d/steward.fish"),
            // PowerShell has no folder for them; a profile runs it.
            ("powershell", "doc/steward/steward.ps1"),
        ]
    }
}

/// Lays the files of a package into a folder: the program, and what `native`, the program for this machine, writes itself, its
/// manual pages and completions.
pub(super) fn stage(program: &Path, native: &Path, family: Family, folder: &Path) -> anyhow::Result<()> {
    fresh(folder)?;
    place(program, &folder.join(family.program()), 0o755)?;
    for (source, target) in family.files() {
        place(&repository().join(source), &folder.join(target), 0o644)?;
    }
    let share = folder.join(family.share());
    let documents = share.join("doc/steward");
    for name in ["REFERENCE.md", "example.toml"] {
        place(&repository().join("mdm-profiles").join(name), &documents.join(name), 0o644)?;
    }
    for (shell, target) in family.completions() {
        let target = share.join(target);
        fs_err::create_dir_all(target.parent().unwrap_or(folder))?;
        fs_err::write(target, output(Command::new(native).args(["completions", shell]))? + "\n")?;
    }
    let licences = documents.join("third-party-licences");
    fs_err::write(&licences, super::supply::licences()?)?;
    compress(&licences)?;
    let manual = share.join("man/man1");
    ensure!(
        Command::new(native).args(["man", "--output"]).arg(&manual).output()?.status.success(),
        "no manual pages"
    );
    for page in files_of(&manual)? {
        compress(&page)?;
    }
    modes_of_folders(folder)
}

/// Copies a file, and makes the folders above it.
pub(super) fn place(source: &Path, target: &Path, mode: u32) -> anyhow::Result<()> {
    fs_err::create_dir_all(target.parent().unwrap_or(target))?;
    fs_err::copy(source, target)?;
    Ok(fs_err::set_permissions(target, Permissions::from_mode(mode))?)
}

/// Compresses a file, the same bytes each time.
pub(super) fn compress(file: &Path) -> anyhow::Result<()> {
    run(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(file))
}

/// Whatever umask this runs under.
pub(super) fn modes_of_folders(folder: &Path) -> anyhow::Result<()> {
    fs_err::set_permissions(folder, Permissions::from_mode(0o755))?;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            modes_of_folders(&entry.path())?;
        } else if entry.metadata()?.permissions().mode() & 0o111 == 0 {
            fs_err::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}
