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
    /// Measure against floors of the same run, and print a table.
    Bench,
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
        Task::Bench => bench(),
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
    tools::step("tests");
    test(&[])
}

fn test(more: &[String]) -> anyhow::Result<()> {
    tools::debian_packages(&[
        ("dbus-daemon", "dbus"),
        ("gnome-keyring-daemon", "gnome-keyring"),
        ("chromium", "chromium"),
        ("node", "nodejs"),
        ("npm", "npm"),
        ("setpriv", "util-linux"),
    ])?;
    let node = tools::node_packages()?;
    let nextest = tools::cargo_tool("cargo-nextest")?;
    run(cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let windows = cross::build_for_windows(&["--package", "agent"])?;
    let wine = cross::wine()?;
    let mut command = Command::new(nextest);
    command
        .args(["nextest", "run", "--workspace", "--all-features", "--locked"])
        .args(more)
        .env("STEWARD_NODE", node)
        .env("STEWARD_WINDOWS", windows)
        .env("STEWARD_WINE", wine);
    run(tools::without_proxies(&mut command))
}

fn bench() -> anyhow::Result<()> {
    let programs = ["--bin", "steward", "--bin", "person", "--bin", "bench"];
    run(cargo()
        .args(["build", "--release", "--package", "agent", "--package", "e2e", "--locked"])
        .args(programs))?;
    run(&mut Command::new(tools::target_folder()?.join("release/bench")))
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
