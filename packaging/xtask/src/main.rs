//! Another process runs it: all automation, `cargo xtask ...`, for developers and CI.
//!
//! It installs what it needs and says what it installs. Caches live outside the repository, in
//! `~/.cache/steward` (or `$XDG_CACHE_HOME/steward`), and survive between runs.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its output is for a terminal or a log")]

mod ci;
mod cross;
mod dist;
mod generate;
mod steps;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use steps::Steps;
use tools::{cargo, run};

/// Builds, checks, tests and measures Steward.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run all checks and tests, as CI does. Prints at the end what each step took.
    Ci,
    /// Run all tests; installs what they need. More arguments go to `cargo nextest run`.
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
    /// Write the generated files.
    Gen {
        /// Compare only; fail if a file is not current.
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of the repository that no compiler checks: arrows between crates, circles of modules, links ...
    Tidy,
    /// Sign a profile for macOS (CMS in DER), as consoles of MDMs and Macs expect it.
    SignProfile {
        /// The profile that `steward export` wrote.
        profile: PathBuf,
        /// The certificate in PEM.
        #[arg(long)]
        certificate: PathBuf,
        /// The certificates above it in PEM.
        #[arg(long)]
        chain: Option<PathBuf>,
        /// Its private key in PEM.
        #[arg(long)]
        key: PathBuf,
        /// Where the signed profile goes.
        #[arg(long)]
        output: PathBuf,
    },
    /// Feed foreign bytes to every reader of policy, to what applies patches and verifies repositories, and to the broker's API.
    /// Needs a nightly compiler.
    Fuzz {
        /// How long to feed each, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measure against floors of the same run and against Debian's oidc-agent, and print tables.
    Bench {
        /// Measures that only: `health`, `update` or `oidc-agent`.
        part: Option<String>,
    },
    /// Simulate a fleet of devices that report, with a compressed clock, and print its arrivals (`fleet --help`).
    #[command(disable_help_flag = true)]
    Fleet {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
    /// Build packages into `dist` in the build folder.
    Dist {
        /// For which systems.
        #[arg(value_enum, default_value = "all")]
        system: dist::System,
        /// The version of the packages, instead of that of the workspace.
        #[arg(long)]
        version: Option<String>,
        #[command(flatten)]
        built: dist::Built,
        #[command(flatten)]
        signer: dist::Signer,
        /// Have the packages read by other tools, and build them twice: the bytes must be the same.
        #[arg(long)]
        check: bool,
    },
    /// Build the agent, and the platform crate's tests, for Windows. Clippy's findings are errors.
    Windows,
    /// Check the whole workspace for macOS, and link the agent for tests of the package, as far as that goes without a Mac. Clippy's
    /// findings are errors.
    Macos,
    /// Run the whole product on loopback. `cargo demo` is short for it.
    Demo {
        /// `--keep`: stay up afterwards, to try things.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Ci => ci::ci(&task_names()),
        Task::Test { more } => ci::test(&more),
        Task::Gen { check } => generate::generate(check),
        Task::Tidy => tidy::check(&task_names()),
        Task::SignProfile { profile, certificate, chain, key, output } => {
            sign_profile(&profile, &certificate, chain.as_deref(), &key, &output)
        }
        Task::Fuzz { seconds } => fuzz(seconds),
        Task::Bench { part } => bench(part),
        Task::Fleet { more } => fleet(&more),
        Task::Dist { system, version, built, signer, check } => {
            dist::dist(system, version, &built, &signer, check)
        }
        Task::Windows => {
            cross::build_tests_for_windows()?;
            println!("{}", cross::build_for_windows()?.join("steward.exe").display());
            Ok(())
        }
        Task::Macos => {
            cross::check_for_macos()?;
            println!("{}", cross::build_for_macos()?.display());
            Ok(())
        }
        Task::Demo { more } => demo(&more),
    }
}

/// The names that may follow `cargo xtask`.
fn task_names() -> Vec<String> {
    let tasks = Arguments::command();
    tasks.get_subcommands().map(|task| task.get_name().to_owned()).chain(["help".to_owned()]).collect()
}

fn sign_profile(
    profile: &Path,
    certificate: &Path,
    chain: Option<&Path>,
    key: &Path,
    output: &Path,
) -> anyhow::Result<()> {
    let mut command = Command::new("openssl");
    command.args(["cms", "-sign", "-binary", "-nodetach", "-outform", "der", "-md", "sha256"]);
    command.arg("-in").arg(profile).arg("-signer").arg(certificate).arg("-inkey").arg(key);
    if let Some(chain) = chain {
        command.arg("-certfile").arg(chain);
    }
    // Paths are those of the caller.
    run(command.arg("-out").arg(output).current_dir(std::env::current_dir()?))
}

fn fuzz(seconds: u32) -> anyhow::Result<()> {
    let cargo_fuzz = tools::cargo_tool("cargo-fuzz")?;
    let cache = tools::cache()?.join("fuzz");
    let mut steps = Steps::new();
    let policy =
        ["drop_in", "property_list", "registry", "registry_pol"].map(|reader| ("policy-schema/fuzz", reader));
    for (folder, reader) in policy
        .into_iter()
        .chain(["make_patch", "metadata", "patch"].map(|reader| ("agent/updates/fuzz", reader)))
    {
        steps.begin(&format!("{reader}, {seconds} seconds"));
        let corpus = cache.join("corpus").join(reader);
        fs_err::create_dir_all(&corpus)?;
        // What it finds is left in its folder `artifacts` and named at the end of its output.
        run(Command::new(&cargo_fuzz)
            .args(["fuzz", "run", "--fuzz-dir", folder, "--target-dir"])
            .arg(cache.join("target"))
            .arg(reader)
            .arg(corpus)
            .arg(format!("{folder}/seeds/{reader}"))
            .args(["--", "-max_len=65536", "-timeout=10"])
            .arg(format!("-max_total_time={seconds}"))
            .env("RUSTUP_TOOLCHAIN", "nightly"))?;
    }
    steps.begin(&format!("the broker's API, {seconds} seconds"));
    run(cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let scenario = ["test", "--package", "e2e", "--test", "scenarios", "--locked", "--", "--nocapture"];
    let mut command = cargo();
    command.args(scenario).arg("random_bytes_do_not_harm_the_broker");
    run(tools::without_proxies(command.env("STEWARD_NOISE_SECONDS", seconds.to_string())))?;
    steps.end();
    Ok(())
}

/// Builds the programs that measure.
fn lab() -> anyhow::Result<()> {
    let programs = ["--package", "e2e", "--bin", "scripted-browser", "--bin", "lab-notes", "--bin", "bench"];
    run(cargo().args(["build", "--release", "--locked"]).args(programs))?;
    run(cargo().args(["build", "--release", "--locked", "--package", "agent", "--example", "next-version"]))
}

fn bench(part: Option<String>) -> anyhow::Result<()> {
    if part.as_deref() != Some("patch") {
        dist::release()?;
    }
    lab()?;
    tools::debian_packages(&[
        ("oidc-agent", "oidc-agent-cli"),
        ("python3", "python3"),
        ("strace", "strace"),
    ])?;
    tools::debian_libraries(&["python3-venv", "faketime"])?;
    let python = tools::python_packages()?;
    let mut command = Command::new(tools::target_folder()?.join("release/bench"));
    if part.as_deref() == Some("patch") {
        tools::debian_packages(&[("time", "time"), ("xdelta3", "xdelta3"), ("zstd", "zstd")])?;
        command.env("STEWARD_PAIRS", pairs()?);
    }
    run(tools::without_proxies(command.args(part).env("STEWARD_PYTHON", python)))
}

/// Two consecutive versions of real programs, from npm: in Go, in Rust, and in Rust for Windows.
fn pairs() -> anyhow::Result<PathBuf> {
    let folder = tools::cache()?.join("pairs");
    for (name, package, program, versions) in [
        ("esbuild", "@esbuild/linux-x64", "bin/esbuild", ["0.28.1", "0.28.2"]),
        ("biome", "@biomejs/cli-linux-x64", "biome", ["2.6.7", "2.6.8"]),
        ("swc", "@swc/core-win32-x64-msvc", "swc.win32-x64-msvc.node", ["1.15.11", "1.15.13"]),
    ] {
        let pair = folder.join(name);
        fs_err::create_dir_all(&pair)?;
        for (file, version) in ["old", "new"].into_iter().zip(versions) {
            let to = pair.join(file);
            if to.exists() {
                continue;
            }
            let unpacked = tools::cache()?.join("pairs.new");
            // One of a run that was interrupted.
            if unpacked.exists() {
                fs_err::remove_dir_all(&unpacked)?;
            }
            fs_err::create_dir(&unpacked)?;
            let mut npm = Command::new("npm");
            npm.args(["pack", "--silent", &format!("{package}@{version}"), "--pack-destination"]);
            run(npm.arg(&unpacked))?;
            let archive = fs_err::read_dir(&unpacked)?.next().context("npm has packed nothing")??.path();
            run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&unpacked))?;
            fs_err::rename(unpacked.join("package").join(program), to)?;
            fs_err::remove_dir_all(&unpacked)?;
        }
    }
    Ok(folder)
}

fn fleet(more: &[String]) -> anyhow::Result<()> {
    let program = ["--package", "e2e", "--bin", "fleet", "--release", "--locked", "--quiet"];
    run(cargo().arg("run").args(program).arg("--").args(more))
}

fn demo(more: &[String]) -> anyhow::Result<()> {
    println!("Building (the first time takes some minutes) ...");
    run(cargo().args(["build", "--quiet", "--package", "agent", "--package", "e2e", "--bins", "--locked"]))?;
    let mut command = Command::new(tools::target_folder()?.join("debug/demo"));
    command.args(more);
    run(tools::without_proxies(&mut command))
}
