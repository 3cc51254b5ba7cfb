//! Updates of the agent that are cut off. In each case it goes on when it starts again, or once there is room.
//!
//! | fault | where | scenario |
//! |---|---|---|
//! | kill -9 | every step of the journal and of what the watchdog keeps | [`kill_at_every_step_of_an_agent_update_still_leads_to_the_new_version`] |
//! | power loss | the same | [`power_loss_at_every_step_of_an_agent_update_still_leads_to_the_new_version`] |
//! | full disk | the same, and the new program | [`full_disk_at_every_write_of_an_agent_update_leaves_a_version_that_runs`] |
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::{Path, PathBuf};

use e2e::crash_point::CrashPoint;
use e2e::device::Device;
use e2e::disk::Disk;
use e2e::process::program;
use e2e::wait::until;

use super::agent_update::{Fleet, PACKAGED, script};

const JOURNAL: [&str; 2] = ["private/agent-update.json", "private/.agent-update.json.new"];
const VERSIONS: [&str; 2] = ["versions.json", ".versions.json.new"];

/// It says at once that it works, so that the watchdog has all its steps to go.
const WORKS: &str = "echo ready; echo proved; cat > /dev/null";

fn files(device: &Device, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| device.path(&format!("var/lib/steward/{name}"))).collect()
}

fn paths(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

#[tokio::test]
async fn kill_at_every_step_of_an_agent_update_still_leads_to_the_new_version() {
    let kills = interrupt_every_step(None).await;
    assert!(kills >= 10, "only {kills} steps: are these the right files?");
}

/// The same, and what was not synced is lost.
#[tokio::test]
async fn power_loss_at_every_step_of_an_agent_update_still_leads_to_the_new_version() {
    let losses = interrupt_every_step(Some(256)).await;
    assert!(losses >= 10, "only {losses} steps: are these the right files?");
}

/// Interrupts an update at each of its steps, and gives how many there were. `disk`: its size in MiB, where the power goes as well.
async fn interrupt_every_step(disk: Option<u64>) -> usize {
    let fleet = Fleet::new("").await;
    let device = fleet.device();
    let disk = disk.map(|mebibytes| Disk::new(mebibytes, &[device.path("var/lib/steward")]));
    let files = files(device, &[JOURNAL, VERSIONS].concat());
    let current = || fleet.kept().current.map(|version| version.to_string());
    let (mut interrupted, mut version) = (0, 1);
    for call in ["fsync", "rename"] {
        for when in 1..30 {
            version += 1;
            let new = format!("{version}.0.0");
            device.push("50.toml", "UpdateMode = \"off\"\n");
            let mut agent = device.start_agent().await;
            fleet.runs(PACKAGED).await;
            fleet.publish_quietly(&new, &script(&new, WORKS)).await;
            let crash_point =
                CrashPoint::set(agent.id(), call, when, &paths(&files)).await.expect("strace runs");
            device.push("50.toml", &fleet.policy);
            let ended = tokio::select! {
                () = agent.wait_for_exit() => true,
                () = until("the new version", async || {
                    if current().as_deref() == Some(&*new) { Ok(()) } else { Err(current()) }
                }) => false,
            };
            crash_point.remove().await.expect("it can be waited for");
            if ended {
                interrupted += 1;
                if let Some(disk) = &disk {
                    nothing_runs_of(device).await;
                    disk.lose_power();
                }
                agent = device.start(&program("steward"), &["--root", &device.root_text(), "agent"]);
                until("the new version after that", async || {
                    if current().as_deref() == Some(&*new) { Ok(()) } else { Err((call, when, current())) }
                })
                .await;
            }
            agent.stop().await;
            nothing_runs_of(device).await;
            for file in &files {
                drop(fs_err::remove_file(file));
            }
            if !ended {
                break;
            }
        }
    }
    interrupted
}

/// Waits until no version of the agent runs there any more: each ends with its watchdog.
async fn nothing_runs_of(device: &Device) {
    let versions = device.path("var/lib/steward/versions").display().to_string();
    until("the end of every version", async || {
        let processes = fs_err::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs_err::read(process.path().join("cmdline")).ok());
        let running = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
        let left: Vec<String> = running.filter(|line| line.contains(&versions)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// The disk is full at each of the files that an update of the agent writes. A version runs meanwhile, and the new one does once there is room.
#[tokio::test]
async fn full_disk_at_every_write_of_an_agent_update_leaves_a_version_that_runs() {
    let fleet = Fleet::new("").await;
    let device = fleet.device();
    let (mut failed, mut version) = (0, 1);
    for (call, names, when) in [
        ("write", JOURNAL.map(ToOwned::to_owned).to_vec(), 1),
        ("rename", JOURNAL.map(ToOwned::to_owned).to_vec(), 3),
        ("openat", vec!["versions/VERSION/steward".to_owned()], 1),
        ("write", vec!["versions/VERSION/steward".to_owned()], 1),
        ("fsync", vec!["versions/VERSION/steward".to_owned()], 1),
        // To arm it, to start it, and to keep that it works.
        ("write", VERSIONS.map(ToOwned::to_owned).to_vec(), 1),
        ("rename", VERSIONS.map(ToOwned::to_owned).to_vec(), 2),
        ("rename", VERSIONS.map(ToOwned::to_owned).to_vec(), 3),
    ] {
        version += 1;
        let new = format!("{version}.0.0");
        device.push("50.toml", "UpdateMode = \"off\"\n");
        let agent = device.start_agent().await;
        fleet.runs(PACKAGED).await;
        fleet.publish_quietly(&new, &script(&new, WORKS)).await;
        let names: Vec<String> = names.iter().map(|name| name.replace("VERSION", &new)).collect();
        let files = files(device, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let full = CrashPoint::fail(agent.id(), call, "ENOSPC", when, &paths(&files)).await.unwrap();
        device.push("50.toml", &fleet.policy);
        let is_new = || fleet.kept().current.is_some_and(|current| current.to_string() == new);
        let told = until("what comes of a full disk", async || {
            let log = agent.log();
            if is_new() || log.contains("No space left on device") { Ok(log) } else { Err(log) }
        })
        .await;
        failed += usize::from(told.contains("No space left on device"));
        let state = fs_err::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap_or_default();
        assert!(state.contains(") ") && !state.contains(") Z"), "{call} {when}: {state} {told}");
        full.remove().await.unwrap();
        fleet.look_again();
        until("the new version once there is room", async || {
            if is_new() { Ok(()) } else { Err((call, when, fleet.kept(), agent.log())) }
        })
        .await;
        assert!(fleet.kept().failed.is_empty(), "{call} {when}: {:?}", fleet.kept());
        agent.stop().await;
        nothing_runs_of(device).await;
        for file in [JOURNAL, VERSIONS].concat() {
            drop(fs_err::remove_file(device.path(&format!("var/lib/steward/{file}"))));
        }
    }
    assert!(failed >= 7, "only {failed} failed: are these the right files?");
}
