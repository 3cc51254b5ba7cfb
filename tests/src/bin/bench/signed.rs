//! A signed repository: a check without news, and an update of the agent itself, as a whole file and by a patch.

use std::time::Duration;

use anyhow::Context as _;
use e2e::device::Device;
use e2e::process::program;
use e2e::publisher::Publisher;
use e2e::wait;
use tokio::process::Command;
use tokio::time::Instant;
use updates::versions::Versions;

use super::{in_turn, row};

const RUNS: usize = 3;

/// Prints a check without news beside `curl` of the only file that it needs, and how long updates of the agent take.
pub(super) async fn print() -> anyhow::Result<()> {
    check().await?;
    for by_patch in [false, true] {
        update(by_patch).await?;
    }
    Ok(())
}

async fn check() -> anyhow::Result<()> {
    let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
    let _agent = publisher.follow(&printed).await;
    publisher.add("1.0.0", &[]).await;
    let (installed, printed) = publisher.installs().await;
    anyhow::ensure!(installed == "1.0.0", "{printed}");
    let (root, url) =
        (publisher.device.root_text(), format!("{}/director/timestamp.json", publisher.server.base()));
    let before = publisher.server.asked().len();
    let command = |name: &'static str| {
        let root = root.clone();
        move || {
            let mut command = Command::new(program("steward"));
            command.args(["--root", &root, name]);
            command
        }
    };
    let (ours, floor) = in_turn(command("update"), || {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", &url]);
        command
    })
    .await?;
    let asked = publisher.server.asked().split_off(before);
    anyhow::ensure!(asked.iter().all(|name| name == "director/timestamp.json"), "{asked:?}");
    row("`steward update` without news (floor: curl)", ours, floor, 2.0);
    let (_, status) = in_turn(command("update"), command("status")).await?;
    println!(
        "{:<44} {:>7.1} ms {:>34}",
        "  above `steward status`",
        milliseconds(ours.saturating_sub(status)),
        "5 ms"
    );
    Ok(())
}

async fn update(by_patch: bool) -> anyhow::Result<()> {
    let (mut all, mut sent) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
        let roots = printed.lines().find_map(|line| line.strip_prefix("UpdateTrustedRoots = "));
        let policy = format!(
            "ProxyMode = \"direct\"\nUpdateMode = \"off\"\nAgentUpdateMode = \"automatic\"\nAgentUpdateFeed = \"{}\"\n\
             AgentUpdateTrustedRoots = {}\nReportUrl = \"http://127.0.0.1:9/\"\n",
            publisher.server.base(),
            roots.context("it printed them")?
        );
        let system = ["--system", "linux", "--architecture", std::env::consts::ARCH, "--app", "steward"];
        let add = async |file: &str, version: &str| {
            publisher.repo(&[&["add", file, "--version", version], &system[..]].concat()).await
        };
        if by_patch {
            add(&program("steward").display().to_string(), env!("CARGO_PKG_VERSION")).await;
        }
        let device = &publisher.device;
        device.push("50.toml", &policy);
        let _agent = device.start_agent().await;
        device.printed(&["update"]).await;
        let next = device.path("next");
        let strip = Command::new("strip").arg("-o").arg(&next).arg(program("examples/next-version")).status();
        anyhow::ensure!(strip.await?.success(), "strip");
        add(&next.display().to_string(), "2.0.0").await;
        let before = publisher.server.asked().len();
        publisher.serve();
        let begun = Instant::now();
        // Whatever policy says differently is a reason to check.
        device.push("50.toml", &format!("{policy}OrganizationName = \"now\"\n"));
        let what = "the next version runs";
        device.machine_status_where(what, |status| status.agent_version == "2.0.0").await;
        let runs = begun.elapsed();
        wait::until("it is kept", async || {
            let bytes = fs_err::read(device.path("var/lib/steward/versions.json")).unwrap_or_default();
            let kept: Option<Versions> = serde_json::from_slice(&bytes).ok();
            kept.filter(|kept| kept.current == Some(semver::Version::new(2, 0, 0))).ok_or(bytes)
        })
        .await;
        all.push((runs, begun.elapsed()));
        let asked = publisher.server.asked().split_off(before);
        let file = asked.iter().find(|name| name.contains("/targets/steward/2.0.0/"));
        let file = file.with_context(|| format!("nothing was downloaded: {asked:?}"))?;
        anyhow::ensure!(file.contains(".from-") == by_patch, "{asked:?}");
        sent = publisher.server.files().get(file).map_or(0, Vec::len);
    }
    all.sort();
    let (runs, kept) = all[RUNS / 2];
    let name = format!("agent's own update, {sent} bytes{}", if by_patch { " (patch)" } else { "" });
    println!("{name:<44} {:>7.0} ms {:>34}", milliseconds(runs), "2 s");
    println!("{:<44} {:>7.0} ms", "  until it is kept", milliseconds(kept));
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
