//! Packages: what an administrator installs. In: the repository. Out: files in `dist` in the build folder, the same bytes for the
//! same commit. Called by `cargo xtask dist`, and by `ci`, which has them read back by tools of others.

mod intunewin;
mod linux;
mod macos;
mod msi_tables;
mod msi_writer;
mod pkg_writer;
mod sign;
mod stage;
mod supply;
mod windows;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use clap::ValueEnum;

pub(crate) use sign::Signer;

use linux::Processor;

use crate::cross;
use crate::tools::{self, cargo, output, repository, run, version_of_workspace};

/// Which packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// deb and rpm, for the processor of this machine.
    Linux,
    /// deb and rpm for ARM of 64 bits, built on Debian for x86-64.
    LinuxArm64,
    /// msi, and the intunewin of it.
    Windows,
    /// pkg.
    Macos,
    /// All of them but those for ARM of 64 bits.
    All,
}

impl System {
    /// Its name on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Programs that were built elsewhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Built {
    /// Package this program for Linux instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Package the programs for Windows in this folder instead of building them.
    #[arg(long, value_name = "FOLDER")]
    windows: Option<PathBuf>,
    /// Package this program for macOS instead of building one.
    #[arg(long, value_name = "FILE")]
    macos: Option<PathBuf>,
}

/// What a package for Linux or macOS is made of.
#[derive(Clone, Copy)]
struct Package<'a> {
    /// The program.
    program: &'a Path,
    /// The program for this machine, which writes completions and manual pages.
    native: &'a Path,
    version: &'a str,
    /// Where the package goes.
    folder: &'a Path,
    compression: Compression,
}

/// How small a package is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    /// For devices.
    Best,
    /// For scenarios, which only need the package soon.
    None,
}

/// The setting of Cargo that says whether a binary has the names of its functions.
const STRIP: &str = "CARGO_PROFILE_RELEASE_STRIP";

/// Builds the packages of a system and prints where they are. With `check`, tools of others read them.
pub(crate) fn dist(
    system: System,
    version: Option<String>,
    built: &Built,
    signer: &Signer,
    check: bool,
) -> anyhow::Result<()> {
    let version = version.map_or_else(version_of_workspace, Ok)?;
    let wanted = |one: System| system == one || system == System::All;
    let native = if let Some(binary) = &built.binary {
        fs_err::canonicalize(binary)?
    } else if wanted(System::Linux) {
        release()?;
        tools::target_folder()?.join("release/steward")
    } else {
        // Only what it writes itself goes into the package: completions and manual pages.
        run(cargo().args(["build", "--package", "agent", "--locked"]))?;
        tools::target_folder()?.join("debug/steward")
    };
    let folder = folder()?;
    let base = Package {
        program: &native,
        native: &native,
        version: &version,
        folder: &folder,
        compression: Compression::Best,
    };
    let mut packages = Vec::new();
    if wanted(System::Linux) || system == System::LinuxArm64 {
        let (program, processor) = if system == System::LinuxArm64 {
            (cross::build_for_arm64_release()?, Processor::Arm64)
        } else {
            (native.clone(), Processor::Own)
        };
        let package = Package { program: &program, ..base };
        packages.extend(if check {
            linux::check(&package, processor)?
        } else {
            linux::build(&package, processor)?
        });
    }
    if wanted(System::Windows) {
        let built = built.windows.clone().map_or_else(cross::build_for_windows_release, Ok)?;
        let programs = windows::Programs::in_folder(&built, native.clone()).signed(signer, &folder)?;
        let package = if check {
            windows::check(&programs, &version, &folder, Compression::Best)?
        } else {
            windows::build(&programs, &version, &folder, Compression::Best)?
        };
        signer.sign(&package)?;
        let container = intunewin::wrap(&package, &version, &folder)?;
        if check {
            intunewin::check(&container, &package, &folder)?;
        }
        packages.extend([package, container]);
    }
    if wanted(System::Macos) {
        let program = built.macos.clone().map_or_else(cross::build_for_macos_release, Ok)?;
        let program = signer.signed(&program, &folder.join("signed"))?;
        let package = Package { program: &program, ..base };
        let package = if check { macos::check(&package)? } else { macos::build(&package)? };
        signer.sign(&package)?;
        packages.push(package);
    }
    packages.extend(supply::write(&packages, &system.name(), &version, &folder)?);
    for package in packages {
        println!("{}", package.display());
    }
    Ok(())
}

/// The program for packages that are only tested: not laid out in order, which takes minutes.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    run(auditable()?.arg("build").args(AGENT))?;
    Ok(tools::target_folder()?.join("release/steward"))
}

/// What cargo builds for deployment.
const AGENT: [&str; 4] = ["--release", "--package", "agent", "--locked"];

/// Cargo, which also puts the list of libraries into the program (section `.dep-v0`), where scanners of others read it.
fn auditable() -> anyhow::Result<Command> {
    let mut command = Command::new(tools::cargo_tool("cargo-auditable")?);
    command.arg("auditable");
    Ok(command)
}

/// Packages of this version, which tools of others read, of an older and of a newer one; gives their folder. `windows` is the
/// folder of the programs for Windows, `macos` the program for macOS.
pub(crate) fn packages_of_versions(binary: &Path, windows: &Path, macos: &Path) -> anyhow::Result<PathBuf> {
    let folder = tools::target_folder()?.join("dist-versions");
    fresh(&folder)?;
    let programs = || windows::Programs::in_folder(windows, binary.to_owned());
    let own = version_of_workspace()?;
    let base = Package {
        program: binary,
        native: binary,
        version: &own,
        folder: &folder,
        compression: Compression::Best,
    };
    let mut packages = linux::check(&base, Processor::Own)?;
    // What is tested there is large and compresses slowly.
    let msi = windows::check(&programs(), &own, &folder, Compression::None)?;
    let container = intunewin::wrap(&msi, &own, &folder)?;
    intunewin::check(&container, &msi, &folder)?;
    let pkg = macos::check(&Package { program: macos, compression: Compression::None, ..base })?;
    packages.extend([msi, container, pkg]);
    supply::write(&packages, "all", &own, &folder)?;
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "--quiet"]).arg(format!("steward-{own}-all.sha256"));
    run(sums.current_dir(&folder))?;
    for version in ["0.0.9", "99.0.0"] {
        linux::build(&Package { version, compression: Compression::None, ..base }, Processor::Own)?;
        windows::build(&programs(), version, &folder, Compression::None)?;
    }
    let rehearsal = folder.join("signed");
    let signer = sign::throw_away(&rehearsal)?;
    let programs = programs().signed(&signer, &rehearsal)?;
    let signed_msi = windows::build(&programs, &own, &rehearsal, Compression::None)?;
    let program = signer.signed(macos, &rehearsal.join("macos"))?;
    let signed_pkg = macos::build(&Package {
        program: &program,
        folder: &rehearsal,
        compression: Compression::None,
        ..base
    })?;
    let unsigned = [windows.join("steward.exe"), macos.to_owned(), signed_msi.clone(), signed_pkg.clone()];
    sign::refuses_others(&signer, &unsigned, &[])?;
    signer.sign(&signed_msi)?;
    signer.sign(&signed_pkg)?;
    sign::refuses_others(&signer, &[], &[programs.steward, program, signed_msi, signed_pkg])?;
    Ok(folder)
}

/// Installs the package on a copy of a small Debian and purges it: nothing may be left.
pub(crate) fn piuparts(packages: &Path, root: &Path) -> anyhow::Result<()> {
    tools::debian_packages(&[("piuparts", "piuparts")])?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let package = packages.join(format!("steward_{}_{architecture}.deb", version_of_workspace()?));
    let mut command = Command::new("piuparts");
    command
        .args(["--distribution", "bookworm", "--no-eatmydata", "--existing-chroot"])
        .arg(root)
        .arg(package);
    let output = command.output()?;
    let log = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "piuparts: {log}");
    println!("{}", log.lines().rev().nth(1).unwrap_or_default());
    Ok(())
}

/// Where packages go.
fn folder() -> anyhow::Result<PathBuf> {
    let folder = tools::target_folder()?.join("dist");
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}

/// The time of the last commit, in seconds of Unix time: files in packages have it, so that the same commit gives the same bytes.
fn source_date() -> anyhow::Result<String> {
    output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(repository()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Removes a folder, if it is there, and makes it again.
fn fresh(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs_err::remove_dir_all(folder)?;
    }
    Ok(fs_err::create_dir_all(folder)?)
}

/// Builds the binary that is deployed. On Linux it is linked twice: the first one runs, to see which functions the services
/// need, and in the second one these lie together. The system keeps 64 KiB around each function that runs in memory, so
/// this saves a third of it. It needs the linker that Rust brings for x86-64 (LLD).
pub(crate) fn release() -> anyhow::Result<()> {
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return run(auditable()?.arg("build").args(AGENT));
    }
    // Each by itself: built together, the agent would get features of libraries that only the lab asks for.
    run(auditable()?.arg("build").args(AGENT).env(STRIP, "none"))?;
    crate::lab()?;
    tools::debian_packages(&[("valgrind", "valgrind")])?;
    let folder = tools::target_folder()?.join("release");
    let order = folder.join("order.txt");
    let mut command = Command::new(folder.join("bench"));
    command.arg("order").stdout(fs_err::File::create(&order)?.into_parts().0);
    run(tools::without_proxies(&mut command))?;
    let ordered = format!("-Clink-arg=-Wl,--symbol-ordering-file={}", order.display());
    // Functions with the same code are one function.
    let once = "-Clink-arg=-Wl,--icf=all";
    let options = ["-Cstrip=symbols", &ordered, once, "-Clink-arg=-Wl,--no-warn-symbol-ordering"];
    let mut command = auditable()?;
    command.arg("rustc").args(AGENT).args(["--bin", "steward", "--"]).args(options);
    run(command.env(STRIP, "none"))
}
