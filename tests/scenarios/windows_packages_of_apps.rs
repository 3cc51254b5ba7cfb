//! New versions of an app on Windows: programs of NSIS and packages of Windows Installer, made by other tools and signed, installed
//! under Wine. Wine trusts every authority, so what an unknown one leads to is shown by the table of codes alone.

#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::feed::Feed;
use e2e::memo::{Behavior, PUBLISHER, Workshop};
use e2e::process::Process;
use e2e::windows::{UNINSTALL, Windows};
use policy_schema::Code;
use policy_schema::export::registry;
use policy_schema::read::drop_in;

const APP: &str = r"C:\Program Files\Lab Memo\lab-memo.exe";

/// How versions are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Installer {
    Nsis,
    Msi,
}

struct AppDevice {
    feed: Feed,
    workshop: Workshop,
    windows: Windows,
    installer: Installer,
    agent: Process,
}

/// A device with version 1.0.0.
async fn device(installer: Installer) -> AppDevice {
    let fixture = device_without_app(installer, &format!("UpdatePublishers = [\"{PUBLISHER}\"]\n")).await;
    fixture.publish("1.0.0", Behavior::Works);
    let printed = fixture.update().await;
    assert!(printed.contains("version 1.0.0 was installed"), "{printed}");
    fixture
}

async fn device_without_app(installer: Installer, more: &str) -> AppDevice {
    let (feed, windows) = (Feed::start().await, Windows::for_apps().await);
    push(&windows, &policy(&feed, more)).await;
    let agent = windows.start_agent().await;
    AppDevice { feed, workshop: Workshop::new(), windows, installer, agent }
}

fn policy(feed: &Feed, more: &str) -> String {
    format!(
        "App = \"lab-memo\"\nProxyMode = \"direct\"\nUpdateFeed = \"{}\"\nUpdateMode = \"automatic\"\n{more}",
        feed.url()
    )
}

async fn push(windows: &Windows, text: &str) {
    let policy = drop_in::read(text.as_bytes()).unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
}

impl AppDevice {
    fn publish(&self, version: &str, behavior: Behavior) {
        self.publish_by(version, behavior, Some(PUBLISHER));
    }

    fn publish_by(&self, version: &str, behavior: Behavior, publisher: Option<&str>) {
        let (bytes, ending) = match self.installer {
            Installer::Nsis => (self.workshop.nsis(version, behavior, publisher), "exe"),
            Installer::Msi => (self.workshop.msi(version, behavior, publisher), "msi"),
        };
        self.feed.publish_file(version, &format!("lab-memo-{version}.{ending}"), bytes);
    }

    /// What `steward update` prints, on one line.
    async fn update(&self) -> String {
        let output = self.windows.steward(&["update"]).await;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The versions in the list of installed programs.
    async fn installed(&self) -> Vec<String> {
        let list = self.windows.registry(UNINSTALL).await;
        let entries = list.split("HKEY_").filter(|entry| entry.contains("Lab Memo"));
        let version = |entry: &str| {
            let line = entry.lines().find(|line| line.trim_start().starts_with("DisplayVersion"))?;
            Some(line.split_whitespace().last()?.to_owned())
        };
        entries.filter_map(version).collect()
    }

    /// Waits until a version is installed, and has shown that it starts: nothing of that goes on when a scenario ends.
    async fn becomes(&self, version: &str) {
        e2e::wait::until("the new version", async || {
            let output = self.windows.steward(&["update", "history"]).await;
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
            if printed.contains(&format!("version {version} was installed")) { Ok(()) } else { Err(printed) }
        })
        .await;
        assert_eq!(self.installed().await, [version]);
    }

    async fn assert_installed(&self, version: &str, context: &str) {
        assert_eq!(self.installed().await, [version], "{context}");
        assert!(self.windows.wine(&[APP, "--self-check"]).await.status.success(), "{context}");
    }
}

#[tokio::test]
async fn new_version_is_installed_and_one_that_does_not_start_is_put_back() {
    for installer in [Installer::Nsis, Installer::Msi] {
        let fixture = device(installer).await;
        fixture.publish("1.1.0", Behavior::Works);
        let printed = fixture.update().await;
        assert!(printed.contains("version 1.1.0 was installed, 1.0.0 before"), "{installer:?}: {printed}");
        fixture.assert_installed("1.1.0", &printed).await;
        assert_eq!(fixture.update().await.trim(), "1.1.0 is up to date");
        fixture.publish("2.0.0", Behavior::DoesNotStart);
        let printed = fixture.update().await;
        assert!(
            printed.contains("update.rolled-back") && printed.contains("1.1.0 again"),
            "{installer:?}: {printed}"
        );
        fixture.assert_installed("1.1.0", &printed).await;
        let printed = fixture.update().await;
        assert!(printed.contains("2.0.0 is quarantined"), "{installer:?}: {printed}");
        fixture.publish("2.0.1", Behavior::Works);
        let printed = fixture.update().await;
        fixture.assert_installed("2.0.1", &printed).await;
    }
}

#[tokio::test]
async fn first_version_that_does_not_start_is_removed_again() {
    for installer in [Installer::Nsis, Installer::Msi] {
        let fixture = device_without_app(installer, &format!("UpdatePublishers = [\"{PUBLISHER}\"]\n")).await;
        fixture.publish("1.0.0", Behavior::DoesNotStart);
        let printed = fixture.update().await;
        assert!(
            printed.contains("update.rolled-back") && printed.contains("no version"),
            "{installer:?}: {printed}"
        );
        assert_eq!(fixture.installed().await, Vec::<String>::new(), "{installer:?}: {printed}");
    }
}

#[tokio::test]
async fn installer_that_fails_leaves_the_version_before_or_gets_it_back() {
    let fixture = device(Installer::Nsis).await;
    fixture.publish("2.0.0", Behavior::Refuses);
    let printed = fixture.update().await;
    assert!(printed.contains("its script ended it (exit code 2); 1.0.0 is still installed"), "{printed}");
    fixture.publish("2.0.1", Behavior::Breaks);
    let printed = fixture.update().await;
    assert!(printed.contains("update.rolled-back") && printed.contains("1.0.0 again"), "{printed}");
    fixture.assert_installed("1.0.0", &printed).await;

    // Both would use the same folders.
    drop(fixture);
    let fixture = device(Installer::Msi).await;
    fixture.publish("2.0.0", Behavior::Refuses);
    let printed = fixture.update().await;
    assert!(printed.contains("(exit code 1603); 1.0.0 is still installed"), "{printed}");
    fixture.assert_installed("1.0.0", &printed).await;
}

#[tokio::test]
async fn exit_codes_for_a_restart_and_for_another_installation_are_no_failures() {
    let fixture = device(Installer::Nsis).await;
    fixture.publish("1.1.0", Behavior::NeedsRestart);
    let printed = fixture.update().await;
    assert!(
        printed.contains("1.1.0 was installed, 1.0.0 before; a restart of the device finishes that"),
        "{printed}"
    );
    fixture.publish("1.2.0", Behavior::IsBusyOnce);
    let printed = fixture.update().await;
    assert!(printed.contains("version 1.2.0 was installed, 1.1.0 before"), "{printed}");
    fixture.assert_installed("1.2.0", &printed).await;
}

#[tokio::test]
async fn installer_that_no_accepted_publisher_has_signed_is_not_started() {
    for installer in [Installer::Nsis, Installer::Msi] {
        let fixture = device_without_app(installer, "").await;
        // Nobody is named: not even the right one is accepted.
        fixture.publish("1.0.0", Behavior::Works);
        let printed = fixture.update().await;
        let expected = format!("signed by `{PUBLISHER}`, and no publisher is known for the app");
        assert!(
            printed.contains("update.publisher-not-accepted") && printed.contains(&expected),
            "{printed}"
        );
        assert!(printed.contains("name it in `UpdatePublishers`"), "{printed}");

        push(&fixture.windows, &policy(&fixture.feed, &format!("UpdatePublishers = [\"{PUBLISHER}\"]\n")))
            .await;
        fixture.windows.settings_become(5).await;
        // The download that waited is looked at again.
        let printed = fixture.update().await;
        fixture.assert_installed("1.0.0", &printed).await;
        for (publisher, expected) in [
            (Some("Lab Publisher"), "signed by `Lab Publisher`, but accepted are"),
            (None, "it is not signed"),
        ] {
            fixture.publish_by("1.1.0", Behavior::Works, publisher);
            let printed = fixture.update().await;
            assert!(printed.contains(expected), "{installer:?}: {printed}");
        }
        fixture.assert_installed("1.0.0", "nobody accepted has signed 1.1.0").await;
        let status = fixture.windows.machine_status_where("the problem", |status| {
            status.problems.iter().any(|problem| problem.code == Code::UpdatePublisherNotAccepted)
        });
        status.await;
        fixture.publish("1.2.0", Behavior::Works);
        let printed = fixture.update().await;
        fixture.assert_installed("1.2.0", &printed).await;
    }
}

#[tokio::test]
async fn installer_waits_until_the_app_is_closed() {
    let fixture = device(Installer::Nsis).await;
    let app = fixture.windows.start_program(APP);
    e2e::wait::until("the app", async || {
        let running = fixture.windows.processes("lab-memo.exe").await;
        if running.is_empty() { Err("it does not run".to_owned()) } else { Ok(()) }
    })
    .await;
    fixture.publish("1.1.0", Behavior::Works);
    let printed = fixture.update().await;
    assert!(printed.contains("waits until the app is closed"), "{printed}");
    fixture.assert_installed("1.0.0", &printed).await;
    app.kill().await;
    fixture.becomes("1.1.0").await;
}

/// The same request that the broker sends to each of the app's processes; the dialog is a real one, on a screen that nobody sees.
#[tokio::test]
async fn update_now_in_the_dialog_closes_the_app_installs_and_starts_it_again() {
    let fixture = device(Installer::Nsis).await;
    let broker = fixture.windows.start_broker().await;
    let running = async || fixture.windows.processes("lab-memo.exe").await;
    let _app = fixture.windows.start_program(APP);
    let before = e2e::wait::until("the app", async || {
        let running = running().await;
        if running.is_empty() { Err("it does not run".to_owned()) } else { Ok(running) }
    })
    .await;
    fixture.publish("1.1.0", Behavior::Works);
    let printed = fixture.update().await;
    assert!(printed.contains("waits until the app is closed"), "{printed}");
    let answer = [APP, "--answer", "An update of Lab Memo is ready"];
    e2e::wait::until("the dialog", async || {
        let answered = fixture.windows.wine(&answer).await;
        if answered.status.success() { Ok(()) } else { Err((broker.log(), fixture.agent.log())) }
    })
    .await;
    fixture.becomes("1.1.0").await;
    let after = e2e::wait::until("the app that was started again", async || {
        let running = running().await;
        if running.is_empty() { Err("it does not run".to_owned()) } else { Ok(running) }
    })
    .await;
    assert_ne!(before, after);
    for process in after {
        fixture.windows.wine(&["taskkill", "/F", "/PID", &process.to_string()]).await;
    }
}
