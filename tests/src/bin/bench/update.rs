//! A download of 100 MB on loopback, and a plan for 10,000 devices.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::device::Device;
use e2e::release_server::ReleaseServer;
use ring::digest::{SHA512, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::process::Command;
use tokio::time::Instant;

use super::{median, peak, row};

const BYTES: usize = 100_000_000;
const RUNS: usize = 5;
const DEVICES: &str = "10000";

/// Prints what is compared with `curl | tee | sha512sum`, which writes the file to the same disk and syncs it.
pub(super) async fn print() -> anyhow::Result<()> {
    let (server, device) = (ReleaseServer::start().await, Device::new());
    // The window is closed, so that nothing is installed: what is downloaded is no archive.
    let hour = |hours| {
        (platform::clock::now() + jiff::SignedDuration::from_hours(hours)).strftime("%H:00").to_string()
    };
    let policy = format!(
        "App = \"lab-notes\"\nProxyMode = \"direct\"\nUpdateMode = \"automatic\"\nUpdateFeed = \"{}/latest.yml\"\n\
         UpdateWindow = \"{}-{}\"\n",
        server.base(),
        hour(6),
        hour(8)
    );
    device.push("50.toml", &policy);
    // A version that is installed: a first installation does not wait for the window.
    let folder = device.path("opt/lab-notes");
    fs_err::create_dir_all(folder.join("versions/1.0.0/bin"))?;
    fs_err::write(folder.join("versions/1.0.0/bin/lab-notes"), "")?;
    fs_err::os::unix::fs::symlink(folder.join("versions/1.0.0"), folder.join("current"))?;
    let agent = device.start_agent().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = peak(agent.id())?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let mut bytes = vec![0; BYTES];
    for run in 0..RUNS {
        SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
        let (name, version) = (format!("app-{run}.tar.gz"), format!("2.0.{run}"));
        server.put(&name, bytes.clone());
        let hash = STANDARD.encode(digest(&SHA512, &bytes));
        let text =
            format!("version: {version}\nfiles:\n  - url: {name}\n    sha512: {hash}\n    size: {BYTES}\n");
        server.put("latest.yml", text.into_bytes());
        let begun = Instant::now();
        let printed = device.printed(&["update"]).await;
        ours.push(begun.elapsed());
        anyhow::ensure!(printed.contains("waits for the window"), "{printed}");
        let file = device.path("floor");
        let script = format!(
            "curl -sS {}/{name} | tee {file} | sha512sum && sync {file} && rm {file}",
            server.base(),
            file = file.display()
        );
        let begun = Instant::now();
        let status =
            Command::new("sh").args(["-c", &script]).stdout(std::process::Stdio::null()).status().await?;
        floor.push(begun.elapsed());
        anyhow::ensure!(status.success(), "curl: {status}");
    }
    row("100 MB downloaded and verified (floor: curl)", median(ours), median(floor), 1.3);
    let above = peak(agent.id())? - idle;
    println!("{:<44} {above:>6.1} MiB {:>33}", "agent: peak memory above idle, meanwhile", "16 MiB");
    let (policy, feed) = (device.path("planned.toml"), device.path("latest.yml"));
    fs_err::write(&policy, device_policy())?;
    fs_err::write(&feed, server.files().get("latest.yml").context("it was published")?)?;
    let (policy, feed) = (policy.display().to_string(), feed.display().to_string());
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        device
            .printed(&[
                "update",
                "plan",
                "--policy",
                &policy,
                "--feed",
                &feed,
                "--devices",
                DEVICES,
                "--installed",
                "1.0.0",
            ])
            .await;
        times.push(begun.elapsed());
    }
    println!(
        "{:<44} {:>7} ms {:>34}",
        format!("plan for {DEVICES} devices"),
        median(times).as_millis(),
        "1 s"
    );
    Ok(())
}

/// A policy with everything that takes time to decide.
fn device_policy() -> &'static str {
    "App = \"lab-notes\"\nUpdateMode = \"automatic\"\nUpdateFeed = \"http://127.0.0.1:9/latest.yml\"\n\
     UpdateWindow = \"Mon-Fri 22:00-05:00\"\nUpdateDeadlineHours = 72\nUpdateRolloutPercent = 60\n"
}
