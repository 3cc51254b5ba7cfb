//! Another program shares it (people and CI): all automation, `cargo xtask ...`.
//!
//! It installs what it needs and says what it installs. Caches live outside the repository, in
//! `~/.cache/steward` (or `$XDG_CACHE_HOME/steward`), and survive between runs.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it is a program for people and logs")]

mod cross;
mod generate;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Parser, Subcommand};

use tools::{cargo, run};

/// Everything that is automated around Steward.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// All checks and tests, as CI runs them.
    Ci,
    /// All tests; installs what they need. More arguments go to `cargo nextest run`.
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
    /// Write the generated files.
    Gen {
        /// Only compare, and fail if one is not current.
        #[arg(long)]
        check: bool,
    },
    /// The rules of the house that no compiler checks.
    Tidy,
    /// Sign a profile for macOS (CMS in DER), as the MDM's console or a Mac wants it.
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
    /// Feed foreign bytes to every reader of policy, beginning with `policy-schema/fuzz/seeds`, and to the broker's API.
    /// Needs a nightly compiler.
    Fuzz {
        /// How long for each, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measure against floors of the same run and against Debian's oidc-agent, and print tables. `oidc-agent` alone for the
    /// second.
    Bench {
        /// Nothing, or `oidc-agent`.
        part: Option<String>,
    },
    /// Build the binary for release into `target/dist`.
    Dist,
    /// Build the agent for Windows.
    Windows,
    /// Check the whole workspace for macOS.
    Macos,
    /// The whole product on loopback. `cargo demo` is short for it.
    Demo {
        /// `--keep` stays up afterwards to play with it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        more: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Ci => ci(),
        Task::Test { more } => test(&more),
        Task::Gen { check } => generate::generate(check),
        Task::Tidy => tidy::check(),
        Task::SignProfile { profile, certificate, chain, key, output } => {
            sign_profile(&profile, &certificate, chain.as_deref(), &key, &output)
        }
        Task::Fuzz { seconds } => fuzz(seconds),
        Task::Bench { part } => bench(part),
        Task::Dist => dist(),
        Task::Windows => {
            let folder = cross::build_for_windows(&["--package", "agent"])?;
            println!("{}", folder.join("steward.exe").display());
            Ok(())
        }
        Task::Macos => cross::check_for_macos(),
        Task::Demo { more } => demo(&more),
    }
}

fn ci() -> anyhow::Result<()> {
    tools::step("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    tools::step("tidy");
    tidy::check()?;
    tools::step("licences, bans, sources");
    run(Command::new(tools::cargo_tool("cargo-deny")?).args([
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))?;
    tools::step("clippy");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    tools::step("generated files");
    generate::generate(true)?;
    tools::step("administrative templates");
    templates()?;
    tools::step("macOS");
    cross::check_for_macos()?;
    tools::step("tests");
    test(&[])
}

/// Microsoft's schema of administrative templates. It may not be given away, so it lies beside the repository.
fn templates() -> anyhow::Result<()> {
    let schema = tools::repository().join("../shared/validators/admx/patched/PolicyDefinitionFiles.xsd");
    if !schema.is_file() {
        println!(
            "SKIPPED: {} is not here, so the ADMX and ADML files are not checked against it",
            schema.display()
        );
        return Ok(());
    }
    tools::debian_packages(&[("xmllint", "libxml2-utils")])?;
    run(Command::new("xmllint")
        .args(["--noout", "--nonet", "--schema"])
        .arg(schema)
        .args(["mdm-profiles/admx/Steward.admx", "mdm-profiles/admx/en-US/Steward.adml"]))
}

fn test(more: &[String]) -> anyhow::Result<()> {
    tools::debian_packages(&[
        ("dbus-daemon", "dbus"),
        ("gnome-keyring-daemon", "gnome-keyring"),
        ("chromium", "chromium"),
        ("node", "nodejs"),
        ("npm", "npm"),
        ("setpriv", "util-linux"),
        ("openssl", "openssl"),
        ("plistutil", "libplist-utils"),
        ("curl", "curl"),
        ("git", "git"),
        ("python3", "python3"),
        ("unshare", "util-linux"),
        ("strace", "strace"),
    ])?;
    tools::debian_libraries(&["python3-samba", "python3-venv"])?;
    let node = tools::node_packages()?;
    let python = tools::python_packages()?;
    let nextest = tools::cargo_tool("cargo-nextest")?;
    run(cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let windows = cross::build_for_windows(&["--package", "agent"])?;
    let wine = cross::wine()?;
    tools::step("the platform crate on Windows");
    cross::test_on_windows(&wine)?;
    tools::step("everything else");
    let mut command = Command::new(nextest);
    command
        .args(["nextest", "run", "--workspace", "--all-features", "--locked"])
        .args(more)
        .env("STEWARD_NODE", node)
        .env("STEWARD_PYTHON", python)
        .env("STEWARD_WINDOWS", windows)
        .env("STEWARD_WINE", wine);
    run(tools::without_proxies(&mut command))
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
    for reader in ["drop_in", "property_list", "registry", "registry_pol"] {
        tools::step(&format!("{reader}, {seconds} seconds"));
        let corpus = cache.join("corpus").join(reader);
        fs_err::create_dir_all(&corpus)?;
        // What it finds is left in policy-schema/fuzz/artifacts and named at the end of its output.
        run(Command::new(&cargo_fuzz)
            .args(["fuzz", "run", "--fuzz-dir", "policy-schema/fuzz", "--target-dir"])
            .arg(cache.join("target"))
            .arg(reader)
            .arg(corpus)
            .arg(format!("policy-schema/fuzz/seeds/{reader}"))
            .args(["--", "-max_len=65536", "-timeout=10"])
            .arg(format!("-max_total_time={seconds}"))
            .env("RUSTUP_TOOLCHAIN", "nightly"))?;
    }
    tools::step(&format!("the broker's API, {seconds} seconds"));
    run(cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let scenario = ["test", "--package", "e2e", "--test", "scenarios", "--locked", "--", "--nocapture"];
    let mut command = cargo();
    command.args(scenario).arg("foreign_bytes_do_the_broker_no_harm");
    run(tools::without_proxies(command.env("STEWARD_NOISE_SECONDS", seconds.to_string())))
}

fn bench(part: Option<String>) -> anyhow::Result<()> {
    // Each by itself: built together, the agent would get features of libraries that only the lab asks for.
    run(cargo().args(["build", "--release", "--package", "agent", "--locked"]))?;
    let lab = ["--package", "e2e", "--bin", "person", "--bin", "bench"];
    run(cargo().args(["build", "--release", "--locked"]).args(lab))?;
    tools::debian_packages(&[
        ("oidc-agent", "oidc-agent-cli"),
        ("python3", "python3"),
        ("strace", "strace"),
    ])?;
    tools::debian_libraries(&["python3-venv"])?;
    let python = tools::python_packages()?;
    let mut command = Command::new(tools::target_folder()?.join("release/bench"));
    run(tools::without_proxies(command.args(part).env("STEWARD_PYTHON", python)))
}

fn dist() -> anyhow::Result<()> {
    run(cargo().args(["build", "--release", "--package", "agent", "--locked"]))?;
    let target = tools::target_folder()?;
    let folder = target.join("dist");
    fs_err::create_dir_all(&folder)?;
    fs_err::copy(target.join("release/steward"), folder.join("steward"))?;
    println!("{}", folder.join("steward").display());
    Ok(())
}

fn demo(more: &[String]) -> anyhow::Result<()> {
    println!("Building (the first time takes some minutes) ...");
    run(cargo().args(["build", "--quiet", "--package", "agent", "--package", "e2e", "--bins", "--locked"]))?;
    let mut command = Command::new(tools::target_folder()?.join("debug/demo"));
    command.args(more);
    run(tools::without_proxies(&mut command))
}
