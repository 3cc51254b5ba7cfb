//! Updates that are cut off. In each case the old version works or the new one does, and the agent goes on when it starts again.
//!
//! | fault | where | scenario |
//! |---|---|---|
//! | kill -9 | every step of the journal and of the switch | [`kill_at_every_step_of_an_update_leaves_a_working_version`] |
//! | power loss | the same | [`power_loss_at_every_step_of_an_update_leaves_a_working_version`] |
//! | full disk | every file that is written | [`full_disk_at_every_write_of_an_update_leaves_the_old_version`] |

use std::path::{Path, PathBuf};

use e2e::crash_point::CrashPoint;
use e2e::disk::Disk;

use super::update::{AUTOMATIC, UpdateDevice, update_device};
use super::update_faults::device_with;

/// What the agent writes in an update: its journal, and the link to the current version.
fn steps(fixture: &UpdateDevice) -> [(&'static str, [PathBuf; 2]); 6] {
    let path = |path: &str| fixture.device.path(path);
    let private = "var/lib/steward/private";
    let journal = || [path(&format!("{private}/update.json")), path(&format!("{private}/.update.json.new"))];
    let link = || [path("opt/lab-notes/current"), path("opt/lab-notes/current.new")];
    [
        ("openat", journal()),
        ("write", journal()),
        ("fsync", journal()),
        ("rename", journal()),
        ("symlink", link()),
        ("rename", link()),
    ]
}

/// The agent is killed at each single step of writing its journal and of switching, while it updates the app.
#[tokio::test]
async fn kill_at_every_step_of_an_update_leaves_a_working_version() {
    let kills = interrupt_every_step(20, None).await;
    assert!(kills >= 20, "only {kills} steps: are these the right files?");
}

/// The same, and what was not synced is lost.
#[tokio::test]
async fn power_loss_at_every_step_of_an_update_leaves_a_working_version() {
    let losses = interrupt_every_step(20, Some(512)).await;
    assert!(losses >= 20, "only {losses} steps: are these the right files?");
}

/// Interrupts an update at each of its steps, and gives how many there were. `disk`: its size in MiB, where the power goes as
/// well.
async fn interrupt_every_step(most: usize, disk: Option<u64>) -> usize {
    let mut fixture = update_device(AUTOMATIC).await;
    let disk = match disk {
        Some(mebibytes) => {
            fixture.stop().await;
            let folders = ["var/lib/steward", "opt"].map(|folder| fixture.device.path(folder));
            let disk = Disk::new(mebibytes, &folders);
            fixture.start().await;
            Some(disk)
        }
        None => None,
    };
    fixture.feed.publish("1.0.0");
    fixture.update().await;
    let (mut interrupted, mut version) = (0, 1);
    for (call, paths) in steps(&fixture) {
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        for when in 1..most {
            version += 1;
            let new = format!("{version}.0.0");
            fixture.feed.publish(&new);
            let crash_point =
                CrashPoint::set(fixture.agent.id(), call, when, &paths).await.expect("strace runs");
            let output = fixture.device.steward(&["update"]).await;
            crash_point.remove().await.expect("it can be waited for");
            if output.status.success() {
                assert_eq!(fixture.installed().as_deref(), Some(new.as_str()), "{call} {when}");
                break;
            }
            interrupted += 1;
            fixture.stop().await;
            if let Some(disk) = &disk {
                disk.lose_power();
            }
            assert!(fixture.app_starts().await, "{call} {when}: no version works");
            fixture.start().await;
            let status = fixture.installed_becomes(&new).await;
            assert!(status.update.quarantined.is_empty(), "{call} {when}: {status:#?}");
            assert!(fixture.app_starts().await && fixture.leftovers().is_empty(), "{call} {when}");
        }
    }
    fixture.stop().await;
    drop(disk);
    fixture.start().await;
    interrupted
}

/// The disk is full at each of the files that an update writes. The old version works, the status says why, and the update goes on
/// once there is room.
#[tokio::test]
async fn full_disk_at_every_write_of_an_update_leaves_the_old_version() {
    let fixture = device_with("1.0.0", "").await;
    let path = |path: &str| fixture.device.path(path);
    let [(_, journal), ..] = steps(&fixture);
    let mut failed = 0;
    for (number, (call, paths)) in [
        ("write", journal.to_vec()),
        ("rename", journal.to_vec()),
        ("openat", vec![DOWNLOAD.into()]),
        ("write", vec![DOWNLOAD.into()]),
        ("fdatasync", vec![DOWNLOAD.into()]),
        ("mkdir", Vec::new()),
        ("symlink", vec![path("opt/lab-notes/current.new")]),
        ("rename", vec![path("opt/lab-notes/current.new")]),
    ]
    .into_iter()
    .enumerate()
    {
        let version = format!("2.0.{number}");
        let before = fixture.installed();
        fixture.feed.publish(&version);
        let download = path("var/lib/steward/private/downloads/lab-notes").join(name_of_download(&fixture));
        let real =
            |path: &PathBuf| if path.as_os_str() == DOWNLOAD { download.clone() } else { path.clone() };
        let paths: Vec<PathBuf> = paths.iter().map(real).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let full = CrashPoint::fail(fixture.agent.id(), call, "ENOSPC", 1, &paths).await.unwrap();
        let output = fixture.device.steward(&["update"]).await;
        full.remove().await.unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            failed += 1;
            assert!(printed.contains("No space left on device"), "{call}: {printed}");
            assert_eq!(fixture.installed(), before, "{call}");
        }
        assert!(fixture.app_starts().await, "{call}: {printed}");
        let printed = fixture.update().await;
        assert_eq!(fixture.installed().as_deref(), Some(version.as_str()), "{call}: {printed}");
        assert!(fixture.leftovers().is_empty(), "{call}: {:?}", fixture.leftovers());
    }
    assert!(failed == 8, "only {failed} failed: are these the right files?");
}

/// Stands for the file that is being downloaded.
const DOWNLOAD: &str = "the download";

/// The hash in the feed names it.
fn name_of_download(fixture: &UpdateDevice) -> String {
    let feed = fixture.feed.server.files().remove("latest.yml").unwrap_or_default();
    let feed = String::from_utf8_lossy(&feed).into_owned();
    let hash = feed.lines().find_map(|line| line.strip_prefix("sha512: ")).unwrap_or_default();
    hash.chars().filter(char::is_ascii_alphanumeric).take(32).collect()
}
