//! Building for Windows and checking for macOS on Debian, and Wine to run what was built.
//!
//! The toolchain of this repository has a standard library for Linux only. Debian's Rust brings the source of its own,
//! so that is built with Debian's matching compiler. Everything lies in the cache; the first time takes minutes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::tools::{self, run};

/// The Windows that is built for.
pub(crate) const WINDOWS: &str = "x86_64-pc-windows-gnu";
/// The macOS that is checked for.
const MACOS: &str = "aarch64-apple-darwin";

/// The packages of Debian's compiler. Installed they would be in rustup's way; unpacked they are not.
const COMPILER: [&str; 4] = ["rustc-web", "libstd-rust-web-1.96", "libstd-rust-web-dev", "rust-web-src"];

/// What Wine 8 lacks and every current Rust program imports: one function that fills a buffer with random bytes.
const RANDOM: &str = "#include <windows.h>\n\
    BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);\n\
    __declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {\n\
    return SystemFunction036(buffer, (ULONG)length);\n}\n";

/// Builds programs for Windows and gives the folder that they lie in.
pub(crate) fn build_for_windows(arguments: &[&str]) -> anyhow::Result<PathBuf> {
    let target = folder()?.join("target-windows");
    tools::debian_packages(&[("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-win32")])?;
    run(build(WINDOWS, &target, "build")?.args(arguments))?;
    Ok(target.join(WINDOWS).join("debug"))
}

/// Runs the platform crate's own tests as Windows programs.
pub(crate) fn test_on_windows(wine: &Path) -> anyhow::Result<()> {
    let target = folder()?.join("target-windows");
    let mut command = build(WINDOWS, &target, "test")?;
    command.args(["--quiet", "--package", "agent-platform", "--lib"]);
    run(command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", wine))
}

/// Checks the whole workspace for macOS. C code is compiled by Zig, which brings Apple's headers.
pub(crate) fn check_for_macos() -> anyhow::Result<()> {
    let python = zig()?;
    let wrappers = folder()?.join("zig-wrappers");
    fs_err::create_dir_all(&wrappers)?;
    let compiler = wrappers.join("cc");
    let python = python.display();
    script(
        &compiler,
        &format!(
            "declare -a kept\nwhile [ $# -gt 0 ]; do\n  case \"$1\" in\n    -arch|-isysroot) shift ;;\n    \
             --target=*|-mmacosx-version-min=*) ;;\n    *) kept+=(\"$1\") ;;\n  esac\n  shift\ndone\n\
             exec {python} -m ziglang cc -target aarch64-macos \"${{kept[@]}}\"\n"
        ),
    )?;
    let archiver = wrappers.join("ar");
    script(&archiver, &format!("exec {python} -m ziglang ar \"$@\"\n"))?;
    let target = folder()?.join("target-macos");
    let mut command = build(MACOS, &target, "check")?;
    command.args(["--workspace", "--all-features"]);
    command.env("CC_aarch64_apple_darwin", compiler).env("AR_aarch64_apple_darwin", archiver);
    run(command.env("SDKROOT", "/"))
}

/// Wine with a prefix of its own: the script that runs a Windows program in it.
pub(crate) fn wine() -> anyhow::Result<PathBuf> {
    tools::debian_packages(&[("wine", "wine"), ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-win32")])?;
    let prefix = folder()?.join("wine");
    let runner = folder()?.join("wine.sh");
    script(
        &runner,
        &format!(
            "export WINEDEBUG=-all WINEPREFIX={} WINEDLLOVERRIDES='mscoree,mshtml='\nunset DISPLAY\nexec wine \"$@\"\n",
            prefix.display()
        ),
    )?;
    let library = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
    if !library.is_file() {
        println!("making a Wine prefix in {}", prefix.display());
        run(Command::new(&runner).args(["wineboot", "--init"]))?;
        let source = folder()?.join("random.c");
        fs_err::write(&source, RANDOM)?;
        let mut compiler = Command::new("x86_64-w64-mingw32-gcc");
        compiler.args(["-shared", "-O2", "-o"]).arg(&library).arg(&source).arg("-ladvapi32");
        run(&mut compiler)?;
        run(Command::new(&runner).args(["winecfg", "-v", "win10"]))?;
    }
    Ok(runner)
}

fn build(target: &str, folder: &Path, verb: &str) -> anyhow::Result<Command> {
    let compiler = compiler()?;
    let mut command = Command::new(real_cargo()?);
    command
        .args([verb, "--locked", "-Zbuild-std=std,panic_unwind,test", "--target", target])
        // Clippy does not see what is for another system; at least the compiler's own warnings count.
        .args(["-Zwarnings", "--config", "build.warnings = 'deny'"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", compiler)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_TARGET_DIR", folder);
    Ok(command)
}

/// Debian's compiler, unpacked, behind a script that finds its libraries.
fn compiler() -> anyhow::Result<PathBuf> {
    let packages = folder()?.join("packages");
    let unpacked = folder()?.join("rust");
    let wrapper = folder()?.join("rustc.sh");
    if wrapper.is_file() {
        return Ok(wrapper);
    }
    tools::debian_libraries(&["libllvm22"])?;
    println!("unpacking Debian's Rust, with the source of its standard library, into {}", unpacked.display());
    fs_err::create_dir_all(&packages)?;
    run(Command::new("apt-get").args(["-q", "download"]).args(COMPILER).current_dir(&packages))?;
    for package in fs_err::read_dir(&packages)? {
        run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&unpacked))?;
    }
    let root = unpacked.display();
    script(
        &wrapper,
        &format!(
            "export LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu:{root}/usr/lib\nexec {root}/usr/bin/rustc \"$@\"\n"
        ),
    )?;
    Ok(wrapper)
}

/// The cargo of the toolchain itself: rustup's proxy would choose the compiler.
fn real_cargo() -> anyhow::Result<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().context("rustc")?;
    Ok(Path::new(String::from_utf8_lossy(&sysroot.stdout).trim()).join("bin/cargo"))
}

/// A Python that has Zig.
fn zig() -> anyhow::Result<PathBuf> {
    let environment = folder()?.join("zig");
    let python = environment.join("bin/python");
    let ready =
        Command::new(&python).args(["-c", "import ziglang"]).status().is_ok_and(|status| status.success());
    if !ready {
        tools::debian_packages(&[("python3", "python3")])?;
        tools::debian_libraries(&["python3-venv"])?;
        println!("installing ziglang from PyPI into {}", environment.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "ziglang==0.17.1"]))?;
    }
    Ok(python)
}

fn script(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::write(path, format!("#!/bin/bash\n{text}"))?;
    Ok(fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

fn folder() -> anyhow::Result<PathBuf> {
    let folder = tools::cache()?.join("cross");
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}
