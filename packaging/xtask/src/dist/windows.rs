//! The package for Windows: the machine service, the program that keeps the broker running, and no policy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::msi_tables::tables;
use super::msi_writer::{File, cabinet, write};
use super::{Compression, Signer, fresh, source_date};
use crate::tools::{debian_packages, files_of, output, run, version_of_workspace};

/// What a package for Windows is made of.
pub(crate) struct Programs {
    /// `steward.exe`.
    pub(crate) steward: PathBuf,
    /// `steward-session.exe`.
    pub(crate) session: PathBuf,
    /// `steward` of this machine, which writes the completions.
    pub(crate) native: PathBuf,
}

impl Programs {
    /// Those that a build left in a folder.
    pub(super) fn in_folder(folder: &Path, native: PathBuf) -> Self {
        Self { steward: folder.join("steward.exe"), session: folder.join("steward-session.exe"), native }
    }

    /// Copies of them that are signed.
    pub(super) fn signed(self, signer: &Signer, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("signed");
        let (steward, session) =
            (signer.signed(&self.steward, &folder)?, signer.signed(&self.session, &folder)?);
        Ok(Self { steward, session, ..self })
    }
}

/// Builds the package of a version into a folder and gives its path.
pub(super) fn build(
    programs: &Programs,
    version: &str,
    folder: &Path,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    let completions = folder.join("steward.ps1");
    fs_err::write(
        &completions,
        output(Command::new(&programs.native).args(["completions", "powershell"]))? + "\n",
    )?;
    let licences = folder.join("licences.txt");
    // As Notepad reads it on every Windows.
    fs_err::write(&licences, super::supply::licences()?.replace('\n', "\r\n"))?;
    // That of the resources of the programs, which packages of other versions for tests have in them too.
    let own = Some(format!("{}.0", version_of_workspace()?));
    let file = |key, short_name, name, component, version: &Option<String>, source: &Path| File {
        key,
        short_name,
        name,
        component,
        version: version.clone(),
        source: source.to_owned(),
    };
    let files = [
        file("steward.exe", "steward.exe", "steward.exe", "Program", &own, &programs.steward),
        file("session.exe", "STEWAR~1.EXE", "steward-session.exe", "Session", &own, &programs.session),
        file("steward.ps1", "steward.ps1", "steward.ps1", "Completions", &None, &completions),
        file("licences.txt", "licences.txt", "licences.txt", "Licences", &None, &licences),
    ];
    let numbers: Vec<&str> = version.split('.').collect();
    let is_number = |text: &&str| text.parse::<u16>().is_ok();
    ensure!(
        numbers.len() == 3 && numbers.iter().all(is_number),
        "Windows Installer knows versions of three numbers only, such as 1.4.2, and this is {version}"
    );
    let package = folder.join(format!("steward-{version}-x64.msi"));
    let title = format!("Steward {version}");
    let created = source_date()?.parse()?;
    let method = match compression {
        Compression::Best => cab::CompressionType::MsZip,
        Compression::None => cab::CompressionType::None,
    };
    let cabinet = cabinet(&files, method, created)?;
    write(&package, &title, tables(version, &files)?, &cabinet, created)?;
    fs_err::remove_file(completions)?;
    fs_err::remove_file(licences)?;
    Ok(package)
}

/// Builds the package and has it read by tools of others: msitools and 7-Zip. The bytes have to be the same when it is built again.
pub(super) fn check(
    programs: &Programs,
    version: &str,
    folder: &Path,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    debian_packages(&[("msiinfo", "msitools"), ("7z", "p7zip-full")])?;
    let package = build(programs, version, folder, compression)?;
    let first = fs_err::read(&package)?;
    build(programs, version, folder, compression)?;
    ensure!(fs_err::read(&package)? == first, "{} has other bytes when it is built again", package.display());
    let summary = output(Command::new("msiinfo").arg("suminfo").arg(&package))?;
    ensure!(summary.contains("Template: x64;1033"), "{summary}");
    let table = |name: &str| output(Command::new("msiinfo").arg("export").arg(&package).arg(name));
    // What Wine does not act on is right in the tables at least.
    for (name, expected) in [
        ("ServiceInstall", "\tservice\tProgram\t"),
        ("MsiServiceConfig", "Delayed\tSteward\t5\t3\t1\tProgram"),
        ("MsiServiceConfigFailureActions", "1[~]1[~]1\t5000[~]30000[~]120000\tProgram"),
        ("MsiLockPermissionsEx", "(A;OICI;0x1200a9;;;BU)"),
        ("Upgrade", "NEWERFOUND"),
        ("LaunchCondition", "A newer version of Steward is installed."),
    ] {
        let table = table(name)?;
        ensure!(table.contains(expected), "table {name}: {table}");
    }
    let policies = table("Registry")?;
    ensure!(!policies.contains("Policies"), "the installer writes policy: {policies}");
    let unpacked = folder.join("unpacked");
    fresh(&unpacked)?;
    run(Command::new("msiextract").arg("--directory").arg(&unpacked).arg(&package).stdout(Stdio::null()))?;
    for (name, source) in [("steward.exe", &programs.steward), ("steward-session.exe", &programs.session)] {
        let file = files_of(&unpacked)?.into_iter().find(|file| file.ends_with(name)).context(name)?;
        ensure!(fs_err::read(&file)? == fs_err::read(source)?, "{name} in the package is another");
        let mut command = Command::new("7z");
        // In UTF-16.
        let resources =
            output(command.args(["x", "-so"]).arg(&file).arg(".rsrc/version.txt"))?.replace('\0', "");
        let version = version_of_workspace()?;
        ensure!(resources.contains(&version), "the resources of {name} do not have {version}: {resources}");
    }
    fs_err::remove_dir_all(unpacked)?;
    run(Command::new("7z").arg("t").arg(&package).stdout(Stdio::null()))?;
    Ok(package)
}
