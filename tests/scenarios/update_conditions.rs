//! Updates on devices whose clock, disk or network is not as it should be. In each case the old version works or the new one does,
//! the status tells the truth, and the next check goes on.
//!
//! | what | scenario |
//! |---|---|
//! | a clock that is ten years ahead, and then ten years behind | [`clock_that_is_years_off_keeps_no_update_away`] |
//! | a week without a network, in the middle of a download | [`download_goes_on_after_a_week_without_network`] |
//! | a folder of the app that nobody can write to | [`read_only_folder_of_the_app_costs_no_attempt`] |
//! | updates that are switched off in the middle of one | [`updates_that_are_switched_off_leave_nothing_behind`] |

use e2e::disk::Disk;
use e2e::release_server::Serving;
use policy_schema::{Code, Severity};
use protocol::health::{ComponentName, State};
use protocol::update::Stage;

use super::update::{AUTOMATIC, UpdateDevice, update_device};
use super::update_faults::device_with;

pub(super) const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Starts the agent again, and from then on every program of the device, at another time.
async fn move_clock(fixture: &mut UpdateDevice, offset: &str) {
    fixture.stop().await;
    assert!(std::path::Path::new(FAKETIME).exists(), "the Debian package faketime is missing");
    fixture.device.set("LD_PRELOAD", FAKETIME);
    fixture.device.set("FAKETIME", offset);
    // What has to pass still passes.
    fixture.device.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    fixture.start().await;
}

#[tokio::test]
async fn clock_that_is_years_off_keeps_no_update_away() {
    let mut fixture = device_with("1.0.0", "UpdateDeadlineHours = 24\n").await;
    for (number, offset) in ["+3650d", "-3650d", "+0"].into_iter().enumerate() {
        move_clock(&mut fixture, offset).await;
        let version = format!("2.0.{number}");
        fixture.feed.publish(&version);
        let printed = fixture.update().await;
        assert_eq!(fixture.installed().as_deref(), Some(version.as_str()), "{offset}: {printed}");
        assert!(fixture.app_starts().await && fixture.leftovers().is_empty(), "{offset}");
        let update = fixture.device.machine_status().await.update;
        let wait = update.next.unwrap().duration_since(update.checked_at.unwrap());
        assert!((0..24 * 60 * 60).contains(&wait.as_secs()), "{offset}: the next check is in {wait}");
        let history = fixture.device.printed(&["update", "history"]).await;
        assert!(history.contains(&format!("version {version} was installed")), "{history}");
    }
}

#[tokio::test]
async fn download_goes_on_after_a_week_without_network() {
    let mut fixture = device_with("1.0.0", "").await;
    fixture.feed.publish("2.0.0");
    fixture.feed.server.serve(Serving::DropsAfter(100_000));
    fixture.update().await;
    let arrived = fixture.device.machine_status().await.update.progress.unwrap().downloaded;
    assert!(arrived > 0);
    // Nobody is there any more.
    let feed = fixture.device.path("etc/steward/policy.d/60.toml");
    fixture.device.push("60.toml", "UpdateFeed = \"http://127.0.0.1:9/latest.yml\"\n");
    for offset in ["+1d", "+7d"] {
        move_clock(&mut fixture, offset).await;
        let printed = fixture.update().await;
        assert!(printed.contains("update.feed-unreachable"), "{printed}");
        assert_eq!(fixture.installed().as_deref(), Some("1.0.0"));
        let status = fixture.device.machine_status().await;
        assert_eq!(
            status.update.progress.and_then(|progress| progress.stage.known()),
            Some(Stage::Downloading)
        );
    }
    // Before the feed is checked again, which the change of policy leads to.
    fixture.feed.server.serve(Serving::Well);
    fs_err::remove_file(feed).unwrap();
    fixture.device.printed(&["policy", "reload"]).await;
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("2.0.0"), "{printed}");
    let requests = fixture.feed.server.requests();
    let last = requests.last().unwrap();
    assert!(last.from.is_some_and(|from| from > 0), "the download began again: {requests:?}");
}

#[tokio::test]
async fn read_only_folder_of_the_app_costs_no_attempt() {
    let mut fixture = update_device(AUTOMATIC).await;
    fixture.stop().await;
    let disk = Disk::new(512, &[fixture.device.path("opt")]);
    fixture.start().await;
    fixture.feed.publish("1.0.0");
    fixture.update().await;
    fixture.feed.publish("2.0.0");
    disk.set_writable(false);
    for _ in 0..4 {
        let printed = fixture.update().await;
        assert!(printed.contains("Read-only file system"), "{printed}");
        assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{printed}");
        assert!(fixture.app_starts().await);
    }
    assert_eq!(fixture.device.problem(Code::UpdateInstallFailed).await.severity, Severity::Error);
    disk.set_writable(true);
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("2.0.0"), "{printed}");
    fixture.stop().await;
    drop(disk);
    fixture.start().await;
}

#[tokio::test]
async fn updates_that_are_switched_off_leave_nothing_behind() {
    let fixture = device_with("1.0.0", "").await;
    fixture.feed.publish("2.0.0");
    fixture.feed.server.serve(Serving::DropsAfter(100_000));
    fixture.update().await;
    assert!(!fixture.leftovers().is_empty());
    fixture.device.push("60.toml", "UpdateMode = \"off\"\n");
    e2e::wait::until("rest", async || {
        let status = fixture.device.machine_status().await;
        let leftovers = fixture.leftovers();
        let stage = status.update.progress.and_then(|progress| progress.stage.known());
        if leftovers.is_empty() && stage.is_none() { Ok(()) } else { Err((leftovers, stage)) }
    })
    .await;
    assert!(fixture.app_starts().await);
    let printed = fixture.update().await;
    assert_eq!(printed, "Updates are not managed on this device; see `UpdateMode` and `UpdateFeed`.\n");
    let health = fixture.device.status().await.health;
    let updates = health.components.iter().find(|component| component.name == ComponentName::Update);
    assert_eq!(updates.and_then(|updates| updates.state.known()), Some(State::NotApplicable));
}
