//! Other systems and processors on Debian: building for Windows and for Linux on ARM, checking and linking for macOS, all with Clippy,
//! and Wine to run what was built for Windows.
//!
//! The toolchain of this repository has a standard library for Linux only. Debian's Rust brings the source of its own,
//! so that is built with Debian's matching compiler. Everything lies in the cache; the first time takes minutes.

mod apple_stubs;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::tools::{self, run};

/// The Windows that programs are built for.
const WINDOWS: &str = "x86_64-pc-windows-gnu";
/// The other processor that programs for Linux are built for.
const ARM64: &str = "aarch64-unknown-linux-gnu";
/// The macOS that programs are checked for, and linked for tests of the package.
const MACOS: &str = "aarch64-apple-darwin";

/// The folder of what stands for Apple's SDK, in the cache.
const STUBS: &str = "apple-stubs";

/// The crate whose unit tests are for every system.
const PLATFORM: &str = "agent/platform/Cargo.toml";
const PLATFORM_TESTS: [&str; 4] = ["--quiet", "--manifest-path", PLATFORM, "--lib"];

/// The packages of Debian's compiler. Installed they would be in rustup's way; unpacked they are not.
const COMPILER: [&str; 5] =
    ["rustc-web", "libstd-rust-web-1.96", "libstd-rust-web-dev", "rust-web-src", "rust-web-clippy"];

/// The linker and the headers for Windows, by a program that they bring.
const MINGW: (&str, &str) = ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-win32");

/// What Wine 8 lacks and every current Rust program imports: one function that fills a buffer with random bytes.
const RANDOM: &str = "#include <windows.h>\n\
    BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);\n\
    __declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {\n\
    return SystemFunction036(buffer, (ULONG)length);\n}\n";

/// Builds the programs for Windows and gives the folder that they lie in. Clippy's findings are errors.
pub(crate) fn build_for_windows() -> anyhow::Result<PathBuf> {
    let mut newer = windows("rustc")?;
    run(newer.args(["--package", "agent", "--example", "next-version"]))?;
    programs_for_windows(&[], "debug")
}

/// Builds the programs for Windows as they are deployed.
pub(crate) fn build_for_windows_release() -> anyhow::Result<PathBuf> {
    programs_for_windows(&["--release"], "release")
}

fn programs_for_windows(profile: &[&str], folder_of_profile: &str) -> anyhow::Result<PathBuf> {
    for (package, program, description) in [
        ("agent", "steward", "Steward fleet agent"),
        ("session", "steward-session", "Steward in the session of the user"),
    ] {
        let resources = resources(program, description)?;
        let mut command = windows("rustc")?;
        command.args(profile).args(["--package", package, "--bin", program, "--"]);
        run(command.arg(format!("-Clink-arg={}", resources.display())))?;
    }
    Ok(folder()?.join("target-windows").join(WINDOWS).join(folder_of_profile))
}

/// What Windows shows of a program and how it treats it (Microsoft, "VERSIONINFO resource", "Application manifests"), as an object to
/// link.
fn resources(program: &str, description: &str) -> anyhow::Result<PathBuf> {
    let version = tools::version_of_workspace()?;
    let numbers = version.split(['.', '-', '+']).take(3).collect::<Vec<_>>().join(",");
    let manifest = "<assembly xmlns=\"\"urn:schemas-microsoft-com:asm.v1\"\" manifestVersion=\"\"1.0\"\">\
        <trustInfo xmlns=\"\"urn:schemas-microsoft-com:asm.v3\"\"><security><requestedPrivileges>\
        <requestedExecutionLevel level=\"\"asInvoker\"\" uiAccess=\"\"false\"\"/></requestedPrivileges></security></trustInfo>\
        <compatibility xmlns=\"\"urn:schemas-microsoft-com:compatibility.v1\"\"><application>\
        <supportedOS Id=\"\"{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}\"\"/></application></compatibility></assembly>";
    let text = |name: &str, value: &str| format!("VALUE \"{name}\", \"{value}\\0\"\n");
    let texts = [
        text("CompanyName", "The Steward developers"),
        text("FileDescription", description),
        text("FileVersion", &version),
        text("InternalName", program),
        text("LegalCopyright", "MIT or Apache-2.0"),
        text("OriginalFilename", &format!("{program}.exe")),
        text("ProductName", "Steward"),
        text("ProductVersion", &version),
    ]
    .concat();
    // English (United States), Unicode.
    let script = format!(
        "1 VERSIONINFO\nFILEVERSION {numbers},0\nPRODUCTVERSION {numbers},0\nFILEOS 0x40004\nFILETYPE 1\nBEGIN\n\
         BLOCK \"StringFileInfo\"\nBEGIN\nBLOCK \"040904b0\"\nBEGIN\n{texts}END\nEND\n\
         BLOCK \"VarFileInfo\"\nBEGIN\nVALUE \"Translation\", 0x409, 1200\nEND\nEND\n1 24\nBEGIN\n\"{manifest}\"\nEND\n"
    );
    let source = folder()?.join(format!("{program}.rc"));
    let object = folder()?.join(format!("{program}-{version}.o"));
    // An object that is newer than the program would have it linked again.
    if object.exists() && fs_err::read_to_string(&source).is_ok_and(|before| before == script) {
        return Ok(object);
    }
    // An old object must not pass for the new one if this fails.
    if object.exists() {
        fs_err::remove_file(&object)?;
    }
    fs_err::write(&source, script)?;
    tools::debian_packages(&[MINGW])?;
    run(Command::new("x86_64-w64-mingw32-windres").arg(source).arg(&object))?;
    Ok(object)
}

/// Builds the program for Linux on ARM of 64 bits as it is deployed, and runs it once, in an emulator of that processor.
pub(crate) fn build_for_arm64_release() -> anyhow::Result<PathBuf> {
    const COMPILER: &str = "aarch64-linux-gnu-gcc";
    tools::debian_packages(&[
        (COMPILER, "gcc-aarch64-linux-gnu"),
        ("qemu-aarch64-static", "qemu-user-static"),
    ])?;
    tools::debian_libraries(&["libc6-dev-arm64-cross"])?;
    let mut command = build(ARM64, "target-arm64", "build")?;
    command.env("CC_aarch64_unknown_linux_gnu", COMPILER);
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER);
    run(command.args(["--release", "--package", "agent"]))?;
    let program = folder()?.join("target-arm64").join(ARM64).join("release/steward");
    let mut emulator = Command::new("qemu-aarch64-static");
    emulator.args(["-L", "/usr/aarch64-linux-gnu"]).arg(&program).arg("--version");
    println!("{} on ARM of 64 bits", tools::output(&mut emulator)?);
    Ok(program)
}

/// Builds the platform crate's unit tests as Windows programs. Clippy's findings are errors.
pub(crate) fn build_tests_for_windows() -> anyhow::Result<()> {
    run(windows("test")?.args(PLATFORM_TESTS).arg("--no-run"))
}

/// Runs the platform crate's unit tests as Windows programs.
pub(crate) fn test_on_windows(wine: &Path) -> anyhow::Result<()> {
    let mut command = windows("test")?;
    run(command.args(PLATFORM_TESTS).env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", wine))
}

/// Checks the whole workspace for macOS. Clippy's findings are errors.
pub(crate) fn check_for_macos() -> anyhow::Result<()> {
    // Unit tests of other crates may rely on Linux; those of the platform crate are for every system.
    let scopes: [&[&str]; 2] =
        [&["--workspace", "--all-features"], &["--manifest-path", PLATFORM, "--all-targets"]];
    for scope in scopes {
        run(macos("check")?.args(scope))?;
    }
    Ok(())
}

/// Builds the program for macOS as it is deployed: on a Mac for both processors. Elsewhere it is linked against stubs of Apple's
/// frameworks, and good for tests of the package only.
pub(crate) fn build_for_macos_release() -> anyhow::Result<PathBuf> {
    if std::env::consts::OS != "macos" {
        println!(
            "On this system the program for macOS is not tested: do not deploy it. A Mac builds releases."
        );
        return link_for_macos(&["--release"], "release");
    }
    let folder = tools::target_folder()?;
    let mut programs = Vec::new();
    for target in ["aarch64-apple-darwin", "x86_64-apple-darwin"] {
        run(tools::cargo().args([
            "build",
            "--release",
            "--package",
            "agent",
            "--locked",
            "--target",
            target,
        ]))?;
        programs.push(folder.join(target).join("release/steward"));
    }
    let universal = folder.join("release/steward-universal/steward");
    fs_err::create_dir_all(universal.parent().context("it lies in a folder")?)?;
    run(Command::new("lipo").arg("-create").args(programs).arg("-output").arg(&universal))?;
    Ok(universal)
}

/// Builds the program for macOS as far as that goes elsewhere, for tests of the package.
pub(crate) fn build_for_macos() -> anyhow::Result<PathBuf> {
    link_for_macos(&[], "debug")
}

fn link_for_macos(profile: &[&str], folder_of_profile: &str) -> anyhow::Result<PathBuf> {
    let mut command = macos("rustc")?;
    let stubs = folder()?.join(STUBS);
    apple_stubs::write(&stubs)?;
    command.args(profile).args(["--package", "agent", "--bin", "steward", "--", "-Cstrip=none"]);
    // The linker strips: the compiler would want a tool for it that is not there.
    command.arg("-Clink-arg=-s");
    let linker = folder()?.join("zig-wrappers/cc");
    let (frameworks, libraries) = (stubs.join("frameworks"), stubs.join("lib"));
    for (option, path) in [("-Clinker=", linker), ("-Clink-arg=-F", frameworks), ("-Clink-arg=-L", libraries)]
    {
        command.arg(format!("{option}{}", path.display()));
    }
    run(&mut command)?;
    Ok(folder()?.join("target-macos").join(MACOS).join(folder_of_profile).join("steward"))
}

/// Cargo for macOS. Zig compiles what is written in C, and links; it brings Apple's headers.
fn macos(verb: &str) -> anyhow::Result<Command> {
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
    let mut command = build(MACOS, "target-macos", verb)?;
    command.env("CC_aarch64_apple_darwin", &compiler).env("AR_aarch64_apple_darwin", &archiver);
    // Nobody debugs it here.
    command.env("CARGO_PROFILE_DEV_DEBUG", "false");
    // In place of Apple's SDK.
    command.env("SDKROOT", folder()?.join(STUBS));
    Ok(command)
}

/// Prepares Wine with a prefix of its own, and gives the script that runs a Windows program in it.
pub(crate) fn wine() -> anyhow::Result<PathBuf> {
    wine_with_prefix("wine")
}

/// The same with another prefix: a package has one service and one place in the registry, which other scenarios must not meet.
pub(crate) fn wine_for_packages() -> anyhow::Result<PathBuf> {
    wine_with_prefix("wine-packages")
}

fn wine_with_prefix(name: &str) -> anyhow::Result<PathBuf> {
    tools::debian_packages(&[("wine", "wine"), MINGW])?;
    let prefix = folder()?.join(name);
    let runner = folder()?.join(format!("{name}.sh"));
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
        let mut compiler = Command::new(MINGW.0);
        compiler.args(["-shared", "-O2", "-o"]).arg(&library).arg(&source).arg("-ladvapi32");
        run(&mut compiler)?;
        run(Command::new(&runner).args(["winecfg", "-v", "win10"]))?;
    }
    // Programs have windows and dialogs, which nobody sees. What runs already has none. The file of a new prefix is written by a
    // server that still runs, some time later.
    let settings = prefix.join("user.reg");
    let settings = if settings.exists() { fs_err::read_to_string(&settings)? } else { String::new() };
    if !settings.contains("\"Graphics\"=\"null\"") {
        let key = r"HKCU\Software\Wine\Drivers";
        run(Command::new(&runner).args(["reg", "add", key, "/v", "Graphics", "/d", "null", "/f"]))?;
        // One that has ended by itself is no fault.
        Command::new("wineserver").arg("--kill").env("WINEPREFIX", &prefix).status()?;
    }
    Ok(runner)
}

/// The programs that were built for Windows, without what only a debugger needs; gives their folder.
pub(crate) fn stripped_for_windows(built: &Path) -> anyhow::Result<PathBuf> {
    let stripped = built.join("stripped");
    fs_err::create_dir_all(&stripped)?;
    for program in ["steward.exe", "steward-session.exe"] {
        let mut strip = Command::new("x86_64-w64-mingw32-strip");
        run(strip.arg("-o").arg(stripped.join(program)).arg(built.join(program)))?;
    }
    Ok(stripped)
}

fn windows(verb: &str) -> anyhow::Result<Command> {
    tools::debian_packages(&[MINGW])?;
    build(WINDOWS, "target-windows", verb)
}

/// Cargo with Debian's compiler, and with Clippy in its place for the crates of this repository. Clippy's driver is that
/// compiler with more warnings, so a program is built and examined at once, which takes no longer than to build it.
/// Not by `cargo clippy`: that is the toolchain's own, which cannot read what Debian's compiler writes.
fn build(target: &str, target_folder: &str, verb: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(real_cargo()?);
    command
        .args([verb, "--locked", "-Zbuild-std=std,panic_unwind,panic_abort,test", "--target", target])
        .args(["-Zwarnings", "--config", "build.warnings = 'deny'"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", debian_rust("rustc")?)
        .env("RUSTC_WORKSPACE_WRAPPER", debian_rust("clippy-driver")?)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_TARGET_DIR", folder()?.join(target_folder));
    Ok(command)
}

/// A program of Debian's Rust, unpacked, behind a script that finds its libraries.
fn debian_rust(program: &str) -> anyhow::Result<PathBuf> {
    const PROGRAMS: [&str; 2] = ["rustc", "clippy-driver"];
    let packages = folder()?.join("packages");
    let unpacked = folder()?.join("rust");
    let wrapper = |program: &str| anyhow::Ok(folder()?.join(format!("{program}.sh")));
    let wanted = wrapper(program)?;
    if wanted.is_file() {
        return Ok(wanted);
    }
    tools::debian_libraries(&["libllvm22"])?;
    println!("unpacking Debian's Rust, with the source of its standard library, into {}", unpacked.display());
    // All afresh and of one version: Clippy fits only the compiler that it was built with.
    let fresh = folder()?.join("rust.new");
    for folder in [&packages, &fresh].into_iter().filter(|folder| folder.exists()) {
        fs_err::remove_dir_all(folder)?;
    }
    fs_err::create_dir_all(&packages)?;
    run(Command::new("apt-get").args(["-q", "download"]).args(COMPILER).current_dir(&packages))?;
    for package in fs_err::read_dir(&packages)? {
        run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&fresh))?;
    }
    // Another run may be compiling with the one that is there: it is replaced at once, and deleted afterwards.
    let old = folder()?.join("rust.old");
    if unpacked.exists() {
        fs_err::rename(&unpacked, &old)?;
    }
    fs_err::rename(&fresh, &unpacked)?;
    if old.exists() {
        fs_err::remove_dir_all(&old)?;
    }
    let root = unpacked.display();
    for program in PROGRAMS {
        script(
            &wrapper(program)?,
            &format!(
                "export LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu:{root}/usr/lib\n\
                 exec {root}/usr/bin/{program} \"$@\"\n"
            ),
        )?;
    }
    Ok(wanted)
}

/// The cargo of the toolchain itself: rustup's proxy would choose the compiler.
fn real_cargo() -> anyhow::Result<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().context("rustc")?;
    Ok(Path::new(String::from_utf8_lossy(&sysroot.stdout).trim()).join("bin/cargo"))
}

/// A Python that has Zig, in a virtual environment.
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
