//! Packages: what an administrator installs. In: the repository. Out: files in `dist` in the build folder, the same bytes for the
//! same commit. Called by `cargo xtask dist`, and by `ci`, which has them read back by tools of others.

mod linux;
mod msi_tables;
mod msi_writer;
mod stage;
mod supply;
mod windows;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::cross;
use crate::tools::{self, cargo, repository, run};

/// Which packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// deb and rpm.
    Linux,
    /// msi.
    Windows,
    /// All of them.
    All,
}

/// Programs that were built elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Built {
    /// `steward` for this machine.
    pub(crate) binary: Option<PathBuf>,
    /// The folder of the programs for Windows.
    pub(crate) windows: Option<PathBuf>,
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
    check: bool,
) -> anyhow::Result<()> {
    let version = version.map_or_else(version_of_workspace, Ok)?;
    let native = if let Some(binary) = &built.binary {
        fs_err::canonicalize(binary)?
    } else if system == System::Windows {
        // Only its completions go into the package.
        run(cargo().args(["build", "--package", "agent", "--locked"]))?;
        tools::target_folder()?.join("debug/steward")
    } else {
        release()?;
        tools::target_folder()?.join("release/steward")
    };
    let folder = folder()?;
    let mut packages = Vec::new();
    if system != System::Windows {
        packages.extend(if check {
            linux::check(&native, &version, &folder)?
        } else {
            linux::build(&native, &version, &folder, Compression::Best)?
        });
    }
    if system != System::Linux {
        let built = built.windows.clone().map_or_else(cross::build_for_windows_release, Ok)?;
        let programs = windows::Programs::in_folder(&built, native);
        packages.push(if check {
            windows::check(&programs, &version, &folder, Compression::Best)?
        } else {
            windows::build(&programs, &version, &folder, Compression::Best)?
        });
    }
    packages.extend(supply::write(&packages, &version, &folder)?);
    for package in packages {
        println!("{}", package.display());
    }
    Ok(())
}

/// The program for packages that are only tested: not laid out in order, which takes minutes.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    run(cargo().args(["build", "--release", "--package", "agent", "--locked"]))?;
    Ok(tools::target_folder()?.join("release/steward"))
}

/// Packages of this version, which tools of others read, of an older and of a newer one; gives their folder. `windows` is the
/// folder of the programs for Windows.
pub(crate) fn packages_of_versions(binary: &Path, windows: &Path) -> anyhow::Result<PathBuf> {
    let folder = tools::target_folder()?.join("dist-versions");
    fresh(&folder)?;
    let programs = windows::Programs::in_folder(windows, binary.to_owned());
    let own = version_of_workspace()?;
    let mut packages = linux::check(binary, &own, &folder)?;
    // What is tested there is large and compresses slowly.
    packages.push(windows::check(&programs, &own, &folder, Compression::None)?);
    supply::write(&packages, &own, &folder)?;
    run(Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(&folder))?;
    for version in ["0.0.9", "99.0.0"] {
        linux::build(binary, version, &folder, Compression::None)?;
        windows::build(&programs, version, &folder, Compression::None)?;
    }
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

/// The version that the workspace has.
pub(crate) fn version_of_workspace() -> anyhow::Result<String> {
    let manifest = fs_err::read_to_string(repository().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    Ok(line.and_then(|line| line.split('"').next()).context("Cargo.toml has no version")?.to_owned())
}

/// The time of the last commit, in seconds of Unix time: files in packages have it, so that the same commit gives the same bytes.
fn source_date() -> anyhow::Result<String> {
    output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(repository()))
}

/// Runs a command and gives what it prints, without white space around.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| shown.clone())?;
    ensure!(
        output.status.success(),
        "{}: {shown}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
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
    let agent = ["--release", "--package", "agent", "--locked"];
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return run(cargo().arg("build").args(agent));
    }
    // Each by itself: built together, the agent would get features of libraries that only the lab asks for.
    run(cargo().arg("build").args(agent).env(STRIP, "none"))?;
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
    let mut command = cargo();
    command.arg("rustc").args(agent).args(["--bin", "steward", "--"]).args(options);
    run(command.env(STRIP, "none"))
}
