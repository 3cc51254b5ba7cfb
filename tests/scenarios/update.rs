//! New versions of the app: which are installed, which are refused, and which are rolled back.

use e2e::device::Device;
use e2e::feed::{Fault, Feed};
use e2e::process::Process;
use policy_schema::{Code, Severity};
use protocol::health::State;

/// A device with a release feed and a running agent.
pub(super) struct UpdateDevice {
    pub(super) agent: Process,
    pub(super) feed: Feed,
    pub(super) device: Device,
}

pub(super) const AUTOMATIC: &str = "UpdateMode = \"automatic\"\n";

pub(super) async fn update_device(more: &str) -> UpdateDevice {
    let feed = Feed::start().await;
    let device = Device::new();
    let policy =
        format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nUpdateFeed = \"{}\"\n{more}", feed.url());
    device.push("50.toml", &policy);
    let agent = device.start_agent().await;
    UpdateDevice { agent, feed, device }
}

impl UpdateDevice {
    /// `steward update`; gives what it printed.
    pub(super) async fn update(&self) -> String {
        self.device.printed(&["update"]).await
    }

    /// Ends the agent, if it runs.
    pub(super) async fn stop(&mut self) {
        self.agent.signal(nix::sys::signal::Signal::SIGKILL);
        self.agent.wait_for_exit().await;
    }

    /// Starts the agent again.
    pub(super) async fn start(&mut self) {
        self.agent = self.device.start_agent().await;
    }

    /// The installed version.
    pub(super) fn installed(&self) -> Option<String> {
        let target = fs_err::read_link(self.device.path("opt/lab-notes/current")).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Whether the installed app starts.
    pub(super) async fn app_starts(&self) -> bool {
        let program = self.device.path("opt/lab-notes/current/bin/lab-notes");
        self.device.run(&program, &["--self-check"]).await.status.success()
    }

    /// Downloads, and unfinished versions.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let list = |path: &str| -> Vec<String> {
            let Ok(entries) = fs_err::read_dir(self.device.path(path)) else { return Vec::new() };
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let mut found = list("var/lib/steward/private/downloads/lab-notes");
        found.extend(list("opt/lab-notes/versions").into_iter().filter(|name| name.starts_with('.')));
        found
    }
}

/// As electron-builder packs an app for Linux.
#[tokio::test]
async fn archive_with_one_folder_and_a_link_is_installed() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish_in_folder("1.0.0");
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{printed}");
    assert!(fixture.app_starts().await);
    let link = fixture.device.path("opt/lab-notes/current/start");
    assert!(fixture.device.run(&link, &["--self-check"]).await.status.success());
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
}

/// Before it is pushed: a policy that asks for a version and excludes it as well.
#[tokio::test]
async fn version_that_policy_asks_for_and_excludes_is_refused_at_policy_check() {
    let device = Device::new();
    let file = device.path("planned.toml");
    for (text, expected) in [
        (
            "UpdatePinnedVersion = \"2.0\"\nUpdateMinimumVersion = \"2.1.0\"\n",
            "2.0 is below `UpdateMinimumVersion` 2.1.0",
        ),
        (
            "UpdatePinnedVersion = \"2.0.0-beta.1\"\nUpdateChannel = \"stable\"\n",
            "not in the channel `stable`",
        ),
        ("UpdateDowngrades = [\"2.1 to 2.1.0\"]\n", "never happens"),
    ] {
        fs_err::write(&file, format!("AppSelfUpdate = \"none\"\n{text}")).unwrap();
        let output = device.steward(&["policy", "check", &file.display().to_string()]).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("policy.unreachable-version") && printed.contains(expected), "{printed}");
    }
}

/// What is not packed as a tar.gz.
#[tokio::test]
async fn zip_and_program_that_is_everything_itself_are_installed() {
    let fixture = update_device(AUTOMATIC).await;
    for (version, ending) in [("1.0.0", ".zip"), ("1.1.0", ".AppImage"), ("1.2.0", ".zip")] {
        fixture.feed.publish_as(version, ending);
        let printed = fixture.update().await;
        assert_eq!(fixture.installed().as_deref(), Some(version), "{printed}");
        assert!(fixture.app_starts().await && fixture.leftovers().is_empty(), "{ending}");
    }
}

/// The vendor rolls a version out to a part of all devices, or to some systems, and holds it back by a member that is not
/// known yet.
#[tokio::test]
async fn brakes_of_the_vendor_hold_an_update() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish("0.9.0");
    fixture.update().await;
    for (brake, expected) in [
        ("stagingPercentage: 0\n", "0 %"),
        ("stagingPercentage: many\n", "0 %"),
        ("minimumSystemVersion: '999.0'\n", "999.0"),
    ] {
        fixture.feed.publish_with("1.0.0", brake);
        let printed = fixture.update().await;
        assert_eq!(fixture.installed().as_deref(), Some("0.9.0"), "{brake}: {printed}");
        assert!(printed.contains(expected), "{brake}: {printed}");
    }
    fixture.feed.publish_with("1.0.0", "stagingPercentage: 100\nminimumSystemVersion: '2.0'\n");
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{printed}");
}

#[tokio::test]
async fn new_version_is_installed_and_shown() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish("1.0.0");
    let printed = fixture.update().await;
    assert!(printed.contains("version 1.0.0 was installed"), "{printed}");
    assert!(fixture.app_starts().await);
    fixture.feed.publish("1.1.0");
    let printed = fixture.update().await;
    assert!(printed.contains("version 1.1.0 was installed, 1.0.0 before"), "{printed}");
    assert_eq!(fixture.update().await, "1.1.0 is up to date\n");
    let overview = fixture.device.status().await;
    assert_eq!(overview.status.unwrap().app.version.unwrap().to_string(), "1.1.0");
    assert_eq!(overview.health.state, State::Pass);
    assert!(fixture.device.path("opt/lab-notes/versions/1.0.0").exists(), "the previous version is kept");
    fixture.feed.publish("1.2.0");
    fixture.update().await;
    assert!(!fixture.device.path("opt/lab-notes/versions/1.0.0").exists(), "the one before that is not");
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
}

#[tokio::test]
async fn faulty_release_is_not_installed() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish("1.0.0");
    fixture.update().await;
    let cases = [
        (Fault::OtherContent, Code::UpdateHashMismatch),
        (Fault::Truncated, Code::UpdateSizeMismatch),
        (Fault::TooLong, Code::UpdateSizeMismatch),
        (Fault::NoProgram, Code::UpdateInstallFailed),
    ];
    for (number, (fault, code)) in cases.into_iter().enumerate() {
        fixture.feed.publish_faulty(&format!("2.0.{number}"), fault);
        let printed = fixture.update().await;
        assert!(printed.contains(code.as_str()), "{fault:?}: {printed}");
        assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{fault:?}");
        assert!(fixture.leftovers().is_empty(), "{fault:?}: {:?}", fixture.leftovers());
        assert_eq!(fixture.device.problem(code).await.severity, Severity::Error);
    }
    fixture.feed.write("<html>Please accept the terms of this hotel.</html>");
    let printed = fixture.update().await;
    assert!(printed.contains("update.feed-invalid"), "{printed}");
    fixture.feed.publish("2.1.0");
    let printed = fixture.update().await;
    assert!(printed.contains("version 2.1.0 was installed"), "{printed}");
    assert!(fixture.app_starts().await);
}

#[tokio::test]
async fn version_that_does_not_start_is_rolled_back_and_quarantined() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish("1.0.0");
    fixture.update().await;
    fixture.feed.publish_faulty("2.0.0", Fault::DoesNotStart);
    let printed = fixture.update().await;
    assert!(
        printed.contains("update.rolled-back") && printed.contains("a library that it needs is missing"),
        "{printed}"
    );
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"));
    assert!(fixture.app_starts().await);
    let printed = fixture.update().await;
    assert!(printed.contains("2.0.0 is quarantined"), "it is not tried again: {printed}");
    let quarantined = fixture.device.machine_status().await.update.quarantined;
    assert_eq!(quarantined.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2.0.0"]);
    fixture.feed.publish("2.0.1");
    let printed = fixture.update().await;
    assert!(printed.contains("version 2.0.1 was installed"), "{printed}");
}

#[tokio::test]
async fn update_mode_and_pin_decide_whether_version_is_installed() {
    use policy_schema::settings::UpdateMode;
    let fixture = update_device("UpdateMode = \"notify\"\n").await;
    fixture.feed.publish("1.0.0");
    let printed = fixture.update().await;
    assert!(printed.contains("version 1.0.0 is available"), "{printed}");
    assert_eq!(fixture.installed(), None);
    assert_eq!(fixture.device.problem(Code::UpdateAvailable).await.severity, Severity::Note);
    fixture.device.push("60.toml", "UpdateMode = \"automatic\"\nUpdatePinnedVersion = \"0.9.0\"\n");
    let automatic = Some(UpdateMode::Automatic.into());
    fixture.device.machine_status_where("the pin", |status| status.update.mode == automatic).await;
    let printed = fixture.update().await;
    assert!(printed.contains("pinned to 0.9.0; the feed offers 1.0.0"), "{printed}");
    fixture.device.push("60.toml", "UpdateMode = \"off\"\n");
    fixture.device.machine_status_where("updates off", |status| !status.update.managed).await;
    assert!(fixture.update().await.contains("Updates are not managed on this device"));
}

/// Found by review: the agent died between recording a switch and the switch. The version that had never run was
/// quarantined.
#[tokio::test]
async fn update_that_was_cut_off_before_its_switch_is_not_judged_unseen() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish("1.0.0");
    fixture.update().await;
    let UpdateDevice { device, agent, feed } = fixture;
    agent.kill().await;
    let text = "{\"held\":[],\"probation\":{\"version\":\"1.0.0\",\"previous\":null}}";
    fs_err::write(device.path("var/lib/steward/private/update.json"), text).unwrap();
    fs_err::remove_file(device.path("opt/lab-notes/current")).unwrap();
    let _agent = device.start_agent().await;
    e2e::wait::until("the switch", async || {
        let target = fs_err::read_link(device.path("opt/lab-notes/current"));
        if target.as_ref().is_ok_and(|target| target.ends_with("1.0.0")) { Ok(()) } else { Err(target) }
    })
    .await;
    let status = device.machine_status().await;
    assert!(status.update.quarantined.is_empty(), "{status:#?}");
    drop(feed);
}

/// The agent dies after the switch to a new version, before it has confirmed that the version starts.
#[tokio::test]
async fn interrupted_update_is_finished_at_next_start() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish("1.0.0");
    fixture.update().await;
    fixture.feed.publish("1.1.0");
    fixture.update().await;
    let UpdateDevice { device, agent, feed } = fixture;
    agent.kill().await;
    let record = device.path("var/lib/steward/private/update.json");
    let text = "{\"held\":[],\"probation\":{\"version\":\"1.1.0\",\"previous\":\"1.0.0\"}}";
    fs_err::write(&record, text).unwrap();
    fs_err::write(device.path("opt/lab-notes/versions/1.1.0/broken"), "").unwrap();
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::UpdateRolledBack).await;
    assert!(problem.using.as_ref().unwrap().starts_with("1.0.0"), "{problem}");
    let target = fs_err::read_link(device.path("opt/lab-notes/current")).unwrap();
    assert!(target.ends_with("1.0.0"), "{target:?}");
    drop(feed);
}
