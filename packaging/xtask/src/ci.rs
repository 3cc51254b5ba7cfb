//! All checks and tests, one step after the other. `cargo xtask ci` runs them all, `cargo xtask test` the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::Steps;
use crate::tools::{self, cargo, run};
use crate::{cross, dist, generate, tidy};

/// Runs every check and every test; stops at the first that fails. At the end it prints what each step took, also after
/// a failure. `tasks` are the names that follow `cargo xtask`.
pub(crate) fn ci(tasks: &[String]) -> anyhow::Result<()> {
    let mut steps = Steps::new();
    let result = checks(&mut steps, tasks).and_then(|()| tests(&mut steps, &[]));
    steps.end();
    result
}

/// Runs every test. `more` goes to `cargo nextest run`.
pub(crate) fn test(more: &[String]) -> anyhow::Result<()> {
    let mut steps = Steps::new();
    let result = tests(&mut steps, more);
    steps.end();
    result
}

fn checks(steps: &mut Steps, tasks: &[String]) -> anyhow::Result<()> {
    steps.begin("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    steps.begin("tidy");
    tidy::check(tasks)?;
    steps.begin("licences, bans, sources");
    run(Command::new(tools::cargo_tool("cargo-deny")?).args([
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))?;
    steps.begin("advisories");
    advisories()?;
    steps.begin("clippy for Linux");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    steps.begin("build and clippy for Windows");
    cross::build_for_windows()?;
    cross::build_tests_for_windows()?;
    steps.begin("check and clippy for macOS");
    cross::check_for_macos()?;
    steps.begin("generated files");
    generate::generate(true)?;
    steps.begin("administrative templates");
    templates()
}

/// Looks for known vulnerabilities in the dependencies (`RustSec`). Where the database cannot be fetched nothing is known,
/// which is said.
fn advisories() -> anyhow::Result<()> {
    let deny = tools::cargo_tool("cargo-deny")?;
    let mut fetch = Command::new(&deny);
    // Less than a kilobyte per second for half a minute is no connection.
    fetch.args(["fetch", "db"]).env("GIT_HTTP_LOW_SPEED_LIMIT", "1000").env("GIT_HTTP_LOW_SPEED_TIME", "30");
    if !fetch.output()?.status.success() {
        println!(
            "SKIPPED: the database of advisories cannot be fetched from GitHub, so the dependencies are not compared with it"
        );
        return Ok(());
    }
    run(Command::new(deny).args(["--all-features", "check", "--hide-inclusion-graph", "advisories"]))
}

/// Compares the administrative templates with Microsoft's schema. Its licence forbids passing it on, so it lies beside
/// the repository, if at all.
fn templates() -> anyhow::Result<()> {
    let schema = tools::repository().join("../shared/validators/admx/patched/PolicyDefinitionFiles.xsd");
    if !schema.is_file() {
        println!(
            "SKIPPED: {} does not exist, so the ADMX and ADML files are not checked against it",
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

fn tests(steps: &mut Steps, more: &[String]) -> anyhow::Result<()> {
    steps.begin("programs that tests need");
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
        ("mkfs.ext4", "e2fsprogs"),
        ("xfs_io", "xfsprogs"),
        ("rpmbuild", "rpm"),
        ("makensis", "nsis"),
        ("wixl", "wixl"),
        ("osslsigncode", "osslsigncode"),
        ("dunst", "dunst"),
        ("nft", "nftables"),
        ("promtool", "prometheus"),
        ("prometheus-node-exporter", "prometheus-node-exporter"),
        ("xmllint", "libxml2-utils"),
        ("Xvfb", "xvfb"),
    ])?;
    tools::debian_libraries(&["python3-samba", "python3-venv", "faketime"])?;
    let node = tools::node_packages()?;
    let python = tools::python_packages()?;
    let nextest = tools::cargo_tool("cargo-nextest")?;
    steps.begin("build for Linux");
    run(cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    run(cargo().args(["build", "--package", "agent", "--example", "next-version", "--locked"]))?;
    steps.begin("build for Windows");
    let windows = cross::build_for_windows()?;
    steps.begin("Wine");
    let wine = cross::wine()?;
    steps.begin("tests of the platform crate on Windows");
    cross::test_on_windows(&wine)?;
    steps.begin("packages");
    let (windows_programs, macos) = (cross::stripped_for_windows(&windows)?, cross::build_for_macos()?);
    let packages = dist::packages_of_versions(&dist::binary()?, &windows_programs, &macos)?;
    let wine_packages = cross::wine_for_packages()?;
    steps.begin("container");
    let container = container(&packages)?;
    steps.begin("all other tests");
    let tests = |arguments: &[&str]| {
        let mut command = Command::new(&nextest);
        command.args(["nextest", "run", "--workspace", "--all-features", "--locked"]).args(arguments);
        command.env("STEWARD_NODE", &node).env("STEWARD_PYTHON", &python);
        command.env("STEWARD_WINDOWS", &windows).env("STEWARD_WINE", &wine);
        command.env("STEWARD_PACKAGES", &packages).env("STEWARD_WINE_PACKAGES", &wine_packages);
        if let Some(root) = &container {
            command.env("STEWARD_CONTAINER", root);
        }
        tools::without_proxies(&mut command);
        command
    };
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    run(&mut tests(&more))?;
    if more.is_empty() {
        steps.begin("scenarios of the agent, with updates switched off");
        let filter = with_updates_off();
        run(tests(&["--filterset", &filter]).env("STEWARD_UPDATES", "off"))?;
    }
    Ok(())
}

/// The scenarios that are run again on devices whose policy has `UpdateMode = "off"`.
fn with_updates_off() -> String {
    // They are about updates, about other devices than those, or about the broker, which knows nothing of updates.
    let others = "agent_update.*|callers|certified_provider|exports|external_provider|mac_package|packages|packages_agent_update|patches|\
                  platforms|providers|renewal|repo|session|setup|sign_in|signed_updates|token_formats|token_response|update.*|vault|\
                  watchdog.*|windows.*";
    // They want no policy at all, or print all of it.
    let without_policy = [
        "frozen::ownership_record_of_an_earlier_version_decides_what_is_removed",
        "policy::policy_change_reaches_app_and_status_while_agent_runs",
        "policy_view::policy_explain_shows_sources_last_good_value_and_overridden_values",
    ];
    let without_policy = without_policy.map(|name| format!(" and not test(={name})")).concat();
    format!("package(e2e) and binary(scenarios) and not test(/^({others})::/){without_policy}")
}

/// Prepares a device with Linux to install packages on, and has a tool of others install one. `None` where containers cannot run;
/// that is printed.
fn container(packages: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !tools::is_root()? {
        println!("SKIPPED: containers need root, so the packages for Linux are not installed");
        return Ok(None);
    }
    let root = tools::debian_root()?;
    if let Some(reason) = tools::no_containers(&root)? {
        println!("SKIPPED: no container runs here, so the packages for Linux are not installed: {reason}");
        return Ok(None);
    }
    dist::piuparts(packages, &root)?;
    Ok(Some(root))
}
