//! The files of a package in one folder, as they lie on a device. Both packages for Linux are made of one list.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use super::{fresh, output};
use crate::tools::{repository, run};

/// What a package manager expects at different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// dpkg.
    Debian,
    /// rpm.
    Fedora,
}

/// Files of the repository: where from, where to.
const FILES: [(&str, &str); 11] = [
    ("packaging/linux/steward-agent.service", "usr/lib/systemd/system/steward-agent.service"),
    ("packaging/linux/steward-update.service", "usr/lib/systemd/system/steward-update.service"),
    ("packaging/linux/steward-broker.socket", "usr/lib/systemd/user/steward-broker.socket"),
    ("packaging/linux/steward-broker.service", "usr/lib/systemd/user/steward-broker.service"),
    ("packaging/linux/system.preset", "usr/lib/systemd/system-preset/50-steward.preset"),
    ("packaging/linux/user.preset", "usr/lib/systemd/user-preset/50-steward.preset"),
    ("packaging/linux/steward.sysusers", "usr/lib/sysusers.d/steward.conf"),
    ("packaging/linux/steward.tmpfiles", "usr/lib/tmpfiles.d/steward.conf"),
    ("packaging/linux/dev.steward.sign-in.desktop", "etc/xdg/autostart/dev.steward.sign-in.desktop"),
    ("mdm-profiles/REFERENCE.md", "usr/share/doc/steward/REFERENCE.md"),
    ("mdm-profiles/example.toml", "usr/share/doc/steward/example.toml"),
];

/// Lays the files of a package into a folder. `binary` is the program; it writes its manual pages and completions itself.
pub(super) fn stage(binary: &Path, family: Family, folder: &Path) -> anyhow::Result<()> {
    fresh(folder)?;
    let place = |source: &Path, target: &str, mode: u32| -> anyhow::Result<()> {
        let target = folder.join(target);
        fs_err::create_dir_all(target.parent().unwrap_or(folder))?;
        fs_err::copy(source, &target)?;
        Ok(fs_err::set_permissions(target, Permissions::from_mode(mode))?)
    };
    place(binary, "usr/bin/steward", 0o755)?;
    for (source, target) in FILES {
        place(&repository().join(source), target, 0o644)?;
    }
    for (shell, target) in completions(family) {
        let target = folder.join(target);
        fs_err::create_dir_all(target.parent().unwrap_or(folder))?;
        fs_err::write(target, output(Command::new(binary).args(["completions", shell]))? + "\n")?;
    }
    let licences = folder.join("usr/share/doc/steward/third-party-licences");
    fs_err::write(&licences, super::supply::licences()?)?;
    compress(&licences)?;
    let manual = folder.join("usr/share/man/man1");
    ensure!(
        Command::new(binary).args(["man", "--output"]).arg(&manual).output()?.status.success(),
        "no manual pages"
    );
    for page in files_of(&manual)? {
        compress(&page)?;
    }
    modes_of_folders(folder)
}

/// Compresses a file, the same bytes each time.
pub(super) fn compress(file: &Path) -> anyhow::Result<()> {
    run(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(file))
}

fn completions(family: Family) -> [(&'static str, &'static str); 4] {
    let zsh = match family {
        Family::Debian => "usr/share/zsh/vendor-completions/_steward",
        Family::Fedora => "usr/share/zsh/site-functions/_steward",
    };
    [
        ("bash", "usr/share/bash-completion/completions/steward"),
        ("zsh", zsh),
        ("fish", "usr/share/fish/vendor_completions.d/steward.fish"),
        // PowerShell has no folder for them; a profile runs it.
        ("powershell", "usr/share/doc/steward/steward.ps1"),
    ]
}

/// Every file below a folder, in the order of the paths.
pub(super) fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Whatever umask this runs under.
fn modes_of_folders(folder: &Path) -> anyhow::Result<()> {
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
