//! Programs that tasks need: found on the path, or installed with a line that says so. And where things lie: the
//! repository, the build folder, the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// The repository that this is run in. Not the one that it was built in: two checkouts may share a build folder, and
/// a program that was built for one would then silently work on the other.
pub(crate) fn repository() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let found = here.ancestors().find(|folder| folder.join("packaging/xtask/Cargo.toml").is_file());
    found.unwrap_or(Path::new(".")).to_owned()
}

/// Runs a command in the repository.
///
/// # Errors
/// It cannot be started, or it does not end with 0; the error shows the command.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    if command.get_current_dir().is_none() {
        command.current_dir(repository());
    }
    let status = command.status().with_context(|| shown.clone())?;
    ensure!(status.success(), "{status}: {shown}");
    Ok(())
}

/// Runs a command and gives what it prints, without white space around.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
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

/// The cargo that started this program.
pub(crate) fn cargo() -> Command {
    Command::new(variable("CARGO").unwrap_or_else(|| "cargo".to_owned()))
}

/// The version that the workspace has.
pub(crate) fn version_of_workspace() -> anyhow::Result<String> {
    let manifest = fs_err::read_to_string(repository().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    Ok(line.and_then(|line| line.split('"').next()).context("Cargo.toml has no version")?.to_owned())
}

/// The folder that cargo builds in.
pub(crate) fn target_folder() -> anyhow::Result<PathBuf> {
    // This program lies there itself: target/debug/xtask.
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(2).context("it runs from the build folder")?.to_owned())
}

/// Hides the machine's proxy from a command: tests use loopback only.
pub(crate) fn without_proxies(command: &mut Command) -> &mut Command {
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// A tool of crates.io: the one on the path, else one that is installed into the cache.
pub(crate) fn cargo_tool(name: &str) -> anyhow::Result<PathBuf> {
    if on_path(name) {
        return Ok(name.into());
    }
    let tools = cache()?.join("tools");
    let program = tools.join("bin").join(name);
    if !program.is_file() {
        println!("installing {name} from crates.io into {}", tools.display());
        run(cargo().args(["install", "--quiet", "--locked", name, "--root"]).arg(&tools))?;
    }
    Ok(program)
}

/// A tool of others that reads or signs what is for macOS, built in the cache from `packaging/apple-tools`.
pub(crate) fn apple_tool(name: &str) -> anyhow::Result<PathBuf> {
    let target = cache()?.join("apple-tools");
    if !target.exists() {
        println!("building tools for packages for macOS into {}", target.display());
    }
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--manifest-path", "packaging/apple-tools/Cargo.toml"]);
    run(command.arg("--target-dir").arg(&target))?;
    Ok(target.join("debug").join(name))
}

/// Installs Debian packages that are missing. Each is named behind a program that it brings.
pub(crate) fn debian_packages(wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Installs Debian packages that are missing and bring no program.
pub(crate) fn debian_libraries(wanted: &[&str]) -> anyhow::Result<()> {
    let installed = |package: &&str| {
        Command::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}", package])
            .output()
            .is_ok_and(|output| output.stdout == b"installed")
    };
    let missing: Vec<&str> = wanted.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn install(missing: &[&str]) -> anyhow::Result<()> {
    println!("installing Debian packages: {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "DPkg::Lock::Timeout=600"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        run(&mut command)
    };
    let install = [&["install", "-y", "--no-install-recommends"], missing].concat();
    apt(&["update"]).and_then(|()| apt(&install)).with_context(|| {
        format!("install these by hand if you are not root or not on Debian: {}", missing.join(" "))
    })
}

/// Installs the npm packages of `tests/node` and gives their folder in the cache. The scripts lie beside them.
pub(crate) fn node_packages() -> anyhow::Result<PathBuf> {
    let source = repository().join("tests/node");
    let folder = cache()?.join("node");
    fs_err::create_dir_all(&folder)?;
    let lock = fs_err::read(source.join("package-lock.json"))?;
    let current = fs_err::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == lock)
        && folder.join("node_modules").is_dir();
    for entry in fs_err::read_dir(&source)? {
        let entry = entry?;
        if entry.file_name() != "package-lock.json" {
            fs_err::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    if !current {
        println!("installing the npm packages of tests/node into {}", folder.display());
        fs_err::write(folder.join("package-lock.json"), &lock)?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(&folder);
        if let Err(error) = run(&mut npm) {
            // Half an installation must not pass for a whole one next time.
            fs_err::remove_file(folder.join("package-lock.json"))?;
            return Err(error);
        }
    }
    Ok(folder)
}

/// Installs the packages of `tests/python` into a virtual environment and gives its folder in the cache.
pub(crate) fn python_packages() -> anyhow::Result<PathBuf> {
    let source = repository().join("tests/python");
    let folder = cache()?.join("python");
    let wanted = fs_err::read(source.join("requirements.txt"))?;
    let installed = folder.join("requirements.txt");
    if fs_err::read(&installed).is_ok_and(|installed| installed == wanted)
        && folder.join("bin/python").exists()
    {
        return Ok(folder);
    }
    println!("installing the Python packages of tests/python into {}", folder.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(folder.join("bin/python")).args(pip).arg(source.join("requirements.txt")))?;
    // Last: half an installation must not pass for a whole one next time.
    fs_err::write(installed, wanted)?;
    Ok(folder)
}

/// Every file below a folder, in the order of the paths.
pub(crate) fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
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

/// Whether this runs as root.
pub(crate) fn is_root() -> anyhow::Result<bool> {
    Ok(Command::new("id").arg("-u").output()?.stdout == b"0\n")
}

/// A small Debian with systemd, to install packages on. Scenarios change it in memory only.
pub(crate) fn debian_root() -> anyhow::Result<PathBuf> {
    let root = cache()?.join("debian");
    let include = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,procps,python3-minimal,rpm,nftables,ca-certificates";
    let made_with = root.join("made-with");
    if fs_err::read_to_string(&made_with).is_ok_and(|made_with| made_with == include) {
        return Ok(root);
    }
    debian_packages(&[("mmdebstrap", "mmdebstrap"), ("systemd-nspawn", "systemd-container")])?;
    println!("making a small Debian in {}", root.display());
    if root.exists() {
        fs_err::remove_dir_all(&root)?;
    }
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", &format!("--include={include}"), "bookworm"]);
    run(command.arg(&root))?;
    // Last: half an installation must not pass for a whole one next time.
    fs_err::write(made_with, include)?;
    Ok(root)
}

/// Why no container runs on this machine, if that is so.
pub(crate) fn no_containers(root: &Path) -> anyhow::Result<Option<String>> {
    debian_packages(&[("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")])?;
    let mut command = Command::new("systemd-nspawn");
    command.args(["--quiet", "--volatile=overlay", "--register=no", "--keep-unit", "--private-network"]);
    let output = command.arg("--directory").arg(root).arg("/bin/true").stdin(Stdio::null()).output()?;
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((!output.status.success()).then_some(reason))
}

/// The folder that survives between runs, outside the repository.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let base = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(base.join("steward"))
}

fn on_path(program: &str) -> bool {
    let path = variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only function of this program that reads the environment"
    )]
    let value = std::env::var(name);
    value.ok().filter(|value| !value.is_empty())
}
