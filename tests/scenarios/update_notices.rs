//! Users who have the app open while an update waits for it: on a real screen, with a real notification daemon, through the broker.
//! The times of reminders and deadlines are tested without time in the crate `updates`; here the clock of the device is moved.

use e2e::desktop::Desktop;
use e2e::device::Device;
use e2e::memo::Behavior;
use e2e::process::Process;
use e2e::wait::until;
use policy_schema::Code;
use protocol::app::{APP_TELL, App, AppNotice};

use super::fixture::movable_clock;
use super::update_packages::{Manager, PackageDevice, device_of};

/// A user at a desktop, with the broker and the app.
struct UserDevice {
    desktop: Desktop,
    fixture: PackageDevice,
    _broker: Process,
    _app: Process,
}

/// A user who has version 1.0.0 open, while the policy has more lines.
async fn user_device(more: &str) -> UserDevice {
    let (desktop, fixture) = device_with_desktop(more).await;
    let app = fixture.device.start(&fixture.device.path("opt/lab-memo/bin/lab-memo"), &[]);
    let broker = fixture.device.start_broker().await;
    UserDevice { desktop, fixture, _broker: broker, _app: app }
}

async fn device_with_desktop(more: &str) -> (Desktop, PackageDevice) {
    let mut device = Device::new();
    let desktop = Desktop::start(&mut device).await;
    device.push("60.toml", &format!("OrganizationName = \"R&D <Lab>\"\n{more}"));
    (desktop, device_of(Manager::Dpkg, device).await)
}

impl UserDevice {
    /// Publishes a version, and waits until the user is told of it.
    async fn publish(&self, version: &str, behavior: Behavior) {
        self.fixture.publish(version, behavior);
        let printed = self.fixture.update().await;
        assert!(
            printed.starts_with(&format!("{version} is ready; waits until the app is closed")),
            "{printed}"
        );
        self.told_of(version).await;
    }

    async fn told_of(&self, version: &str) {
        until("a notification", async || {
            let shown = self.desktop.shown();
            let is_there = shown.contains(&format!("Version {version} is installed as soon as"));
            if is_there && self.desktop.count().await == "1" { Ok(()) } else { Err(shown) }
        })
        .await;
    }

    /// Waits until no notification is on the screen.
    async fn sees_nothing(&self) {
        until("an empty screen", async || {
            let count = self.desktop.count().await;
            if count == "0" { Ok(()) } else { Err(count) }
        })
        .await;
    }

    /// Waits until a version is installed.
    async fn becomes(&self, version: &str) {
        until("the other version", async || {
            let installed = self.fixture.installed().await;
            let is_it = installed == format!("1:{version}-1 installed");
            if is_it { Ok(()) } else { Err((installed, self.desktop.shown())) }
        })
        .await;
    }

    /// The process IDs of the app.
    async fn running(&self) -> Vec<String> {
        let program = self.fixture.device.path("opt/lab-memo/bin/lab-memo").display().to_string();
        let output = self.fixture.device.output_of("pgrep".as_ref(), &["-f", &program]).await;
        output.lines().map(ToOwned::to_owned).collect()
    }

    async fn runs_again(&self) {
        until("the app that was started again", async || {
            let running = self.running().await;
            if running.len() == 1 { Ok(()) } else { Err((running, self.broker_log())) }
        })
        .await;
    }

    fn broker_log(&self) -> String {
        fs_err::read_to_string(self.fixture.device.path("broker.log")).unwrap_or_default()
    }

    /// What `steward update history` prints, on one line.
    async fn history(&self) -> String {
        let printed = self.fixture.device.printed(&["update", "history"]).await;
        printed.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    async fn end_app(&self) {
        for process in self.running().await {
            self.fixture.device.output_of("kill".as_ref(), &[&process]).await;
        }
    }
}

#[tokio::test]
async fn update_now_closes_the_app_installs_and_starts_it_again() {
    let user = user_device("").await;
    user.publish("1.1.0", Behavior::Works).await;
    let shown = user.desktop.shown();
    assert!(shown.contains("R&D <Lab>: an update of Lab Memo is ready"), "{shown}");
    assert!(!shown.contains("is closed for it"), "{shown}");
    user.fixture.device.problem(Code::UpdateWaitsForApp).await;
    user.fixture.assert_installed("1.0.0", "nobody has agreed").await;
    user.desktop.press("Update now").await;
    user.becomes("1.1.0").await;
    user.runs_again().await;
    user.sees_nothing().await;
    let history = user.history().await;
    assert!(history.contains("version 1.1.0 was installed, 1.0.0 before"), "{history}");
    user.end_app().await;
}

#[tokio::test]
async fn later_leaves_the_app_open_and_closing_it_takes_the_notice_back() {
    let user = user_device("").await;
    user.publish("1.1.0", Behavior::Works).await;
    user.desktop.press("Later").await;
    user.sees_nothing().await;
    assert_eq!(user.running().await.len(), 1);
    user.fixture.assert_installed("1.0.0", "the user wants it later").await;
    // A reminder is shown though it says the same; whoever sees it is not told twice.
    let program = user.fixture.device.path("opt/lab-memo/bin/lab-memo").display().to_string();
    let app = App {
        name: "lab-memo".to_owned(),
        title: "Lab Memo".to_owned(),
        processes: vec!["/opt/lab-memo/".to_owned()],
        program,
    };
    let mut notice = AppNotice { app, version: "1.1.0".to_owned(), closes_at: None, once: false };
    for (once, count) in [(true, 1), (false, 2), (true, 2)] {
        notice.once = once;
        let state = user.fixture.device.call_broker(&APP_TELL, &notice).await.unwrap();
        assert!(state.open && state.told);
        let shown = user.desktop.shown();
        assert_eq!(
            shown.matches("Version 1.1.0 is installed as soon as").count(),
            2 * count,
            "{once}: {shown}"
        );
    }
    // Of another version the user is told anew.
    user.publish("1.2.0", Behavior::Works).await;
    user.end_app().await;
    user.becomes("1.2.0").await;
    user.sees_nothing().await;
    // The user has closed it, so it stays closed.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(user.running().await.is_empty());
}

/// Its check of itself succeeds, and it fails when the user sees it for the first time.
#[tokio::test]
async fn version_that_fails_at_its_first_start_is_rolled_back_and_the_one_before_started() {
    let user = user_device("").await;
    user.publish("2.0.0", Behavior::Crashes).await;
    user.desktop.press("Update now").await;
    let problem = user.fixture.device.problem(Code::UpdateRolledBack).await;
    assert!(problem.message.contains("right after its start"), "{problem}");
    user.becomes("1.0.0").await;
    user.runs_again().await;
    let printed = user.fixture.update().await;
    assert!(printed.contains("2.0.0 is quarantined"), "{printed}");
    let history = user.history().await;
    assert!(history.contains("it ended with exit status: 1 right after its start"), "{history}");
    user.end_app().await;
}

#[tokio::test]
async fn nobody_is_told_where_policy_says_never() {
    let user = user_device("UpdateAppClose = \"never\"\n").await;
    user.fixture.publish("1.1.0", Behavior::Works);
    let printed = user.fixture.update().await;
    assert!(printed.contains("waits until the app is closed"), "{printed}");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(user.desktop.shown(), "");
    // The policy changes, and the user is told at once.
    user.fixture.device.push("60.toml", "OrganizationName = \"Lab\"\n");
    user.told_of("1.1.0").await;
    user.end_app().await;
    user.becomes("1.1.0").await;
}

/// Whether a notice says when the app is closed. In the last hour of a day that is on the next one: found when a scenario failed then.
fn names_deadline(shown: &str) -> bool {
    ["at", "on"].iter().any(|how| shown.contains(&format!("Lab Memo is closed for it {how} ")))
}

/// The app does not react when it is asked to close.
#[tokio::test]
async fn app_is_ended_at_the_deadline_after_its_user_was_warned() {
    let policy = "UpdateAppClose = \"force-at-deadline\"\nUpdateDeadlineHours = 1\n";
    let (desktop, mut fixture) = device_with_desktop(policy).await;
    let program = fixture.device.path("opt/lab-memo/bin/lab-memo").display().to_string();
    let app = fixture.device.start("/usr/bin/env".as_ref(), &["--ignore-signal=TERM", &program]);
    let broker = fixture.device.start_broker().await;
    let minutes = movable_clock(&mut fixture.device);
    fixture.restart_agent().await;
    let user = UserDevice { desktop, fixture, _broker: broker, _app: app };
    let before = user.running().await;
    user.fixture.publish("1.1.0", Behavior::Works);
    let printed = user.fixture.update().await;
    assert!(
        printed.starts_with("1.1.0 is ready; waits until the app is closed, which it is after "),
        "{printed}"
    );
    let warnings = || user.desktop.shown().matches("\tbody: 'Version 1.1.0 is installed").count();
    let warned = async |times: usize| {
        until("a warning", async || {
            let shown = user.desktop.shown();
            assert!(!shown.contains("1.1.0") || names_deadline(&shown), "{shown}");
            if warnings() == times { Ok(()) } else { Err(shown) }
        })
        .await;
    };
    warned(1).await;
    minutes(46);
    warned(2).await;
    assert_eq!(user.running().await, before, "it was closed before its deadline");
    minutes(61);
    until("the request to close", async || {
        let log = user.broker_log();
        if log.contains("was asked to close for an update") {
            Ok(())
        } else {
            Err((log, user.desktop.shown()))
        }
    })
    .await;
    assert_eq!(user.running().await, before, "it had no time to close");
    minutes(62);
    user.becomes("1.1.0").await;
    user.runs_again().await;
    assert_ne!(user.running().await, before);
    assert_eq!(warnings(), 2);
    user.end_app().await;
}

/// Without a way to the feed nothing can be installed, so nothing is closed either.
#[tokio::test]
async fn app_stays_open_at_the_deadline_if_the_update_cannot_be_installed() {
    let policy = "UpdateAppClose = \"force-at-deadline\"\nUpdateDeadlineHours = 1\n";
    let (desktop, mut fixture) = device_with_desktop(policy).await;
    let app = fixture.device.start(&fixture.device.path("opt/lab-memo/bin/lab-memo"), &[]);
    let broker = fixture.device.start_broker().await;
    let minutes = movable_clock(&mut fixture.device);
    fixture.restart_agent().await;
    let user = UserDevice { desktop, fixture, _broker: broker, _app: app };
    user.publish("1.1.0", Behavior::Works).await;
    user.fixture.device.push("70.toml", "UpdateFeed = \"http://127.0.0.1:9/latest.yml\"\n");
    user.fixture.device.problem(Code::UpdateFeedUnreachable).await;
    let before = user.running().await;
    // The processes of the app are listed every five seconds.
    for minute in [46, 61, 62] {
        minutes(minute);
        tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    }
    assert_eq!(user.running().await, before, "{}", user.desktop.shown());
    assert!(!user.broker_log().contains("was asked to close"));
    // The network is back: there are 15 minutes again.
    user.fixture.device.withdraw("70.toml");
    until("a warning", async || {
        let shown = user.desktop.shown();
        let last = shown.rsplit("\tbody: '").next().unwrap_or_default();
        if names_deadline(last) { Ok(()) } else { Err(shown) }
    })
    .await;
    assert_eq!(user.running().await, before);
    user.end_app().await;
}
