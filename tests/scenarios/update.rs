//! New versions of the app: what is installed, what is not, and what is put back.

use e2e::device::{Device, Process};
use e2e::feed::{Fault, Feed};
use serde_json::Value;

struct Shop {
    _agent: Process,
    feed: Feed,
    device: Device,
}

async fn shop(more: &str) -> Shop {
    let feed = Feed::start().await;
    let device = Device::new();
    let policy =
        format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nUpdateFeed = \"{}\"\n{more}", feed.url());
    device.push("50.toml", &policy);
    let agent = device.start_agent().await;
    Shop { device, feed, _agent: agent }
}

const AUTOMATIC: &str = "UpdateMode = \"automatic\"\n";

impl Shop {
    async fn look(&self) -> String {
        self.device.printed(&["update"]).await
    }

    fn installed(&self) -> Option<String> {
        let target = fs_err::read_link(self.device.path("opt/lab-notes/current")).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    async fn runs(&self) -> bool {
        let program = self.device.path("opt/lab-notes/current/bin/lab-notes");
        self.device.run(&program, &["--self-check"]).await.status.success()
    }

    fn leftovers(&self) -> Vec<String> {
        let list = |path: &str| -> Vec<String> {
            let Ok(entries) = fs_err::read_dir(self.device.path(path)) else { return Vec::new() };
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let mut found = list("var/lib/steward/private/downloads");
        found.extend(list("opt/lab-notes/versions").into_iter().filter(|name| name.starts_with('.')));
        found
    }
}

#[tokio::test]
async fn a_new_version_is_installed_and_said() {
    let shop = shop(AUTOMATIC).await;
    shop.feed.publish("1.0.0");
    let said = shop.look().await;
    assert!(said.contains("version 1.0.0 was installed"), "{said}");
    assert!(shop.runs().await);
    shop.feed.publish("1.1.0");
    let said = shop.look().await;
    assert!(said.contains("version 1.1.0 was installed, 1.0.0 before"), "{said}");
    assert_eq!(shop.look().await, "1.1.0 is up to date\n");
    let status = shop.device.status().await;
    assert_eq!(status["status"]["app"]["version"], "1.1.0");
    assert_eq!(status["health"]["state"], "pass");
    assert!(shop.device.path("opt/lab-notes/versions/1.0.0").exists(), "the previous version is kept");
    shop.feed.publish("1.2.0");
    shop.look().await;
    assert!(!shop.device.path("opt/lab-notes/versions/1.0.0").exists(), "the one before that is not");
    assert!(shop.leftovers().is_empty(), "{:?}", shop.leftovers());
}

#[tokio::test]
async fn what_is_not_what_the_feed_promised_is_not_installed() {
    let shop = shop(AUTOMATIC).await;
    shop.feed.publish("1.0.0");
    shop.look().await;
    let cases = [
        (Fault::Exchanged, "update.hash-mismatch"),
        (Fault::Truncated, "update.size-mismatch"),
        (Fault::TooLong, "update.size-mismatch"),
        (Fault::NoProgram, "update.install-failed"),
    ];
    for (fault, code) in cases {
        shop.feed.publish_faulty("2.0.0", fault);
        let said = shop.look().await;
        assert!(said.contains(code), "{fault:?}: {said}");
        assert_eq!(shop.installed().as_deref(), Some("1.0.0"), "{fault:?}");
        assert!(shop.leftovers().is_empty(), "{fault:?}: {:?}", shop.leftovers());
        assert_eq!(shop.device.problem(code).await["severity"], "error");
    }
    shop.feed.write("<html>Please accept the terms of this hotel.</html>");
    let said = shop.look().await;
    assert!(said.contains("update.feed-invalid"), "{said}");
    shop.feed.publish("2.0.0");
    let said = shop.look().await;
    assert!(said.contains("version 2.0.0 was installed"), "{said}");
    assert!(shop.runs().await);
}

#[tokio::test]
async fn a_version_that_does_not_start_is_put_back_and_held() {
    let shop = shop(AUTOMATIC).await;
    shop.feed.publish("1.0.0");
    shop.look().await;
    shop.feed.publish_faulty("2.0.0", Fault::DoesNotStart);
    let said = shop.look().await;
    assert!(
        said.contains("update.rolled-back") && said.contains("a library that it needs is missing"),
        "{said}"
    );
    assert_eq!(shop.installed().as_deref(), Some("1.0.0"));
    assert!(shop.runs().await);
    let said = shop.look().await;
    assert!(said.contains("2.0.0 is held"), "it is not tried again: {said}");
    shop.feed.publish("2.0.1");
    let said = shop.look().await;
    assert!(said.contains("version 2.0.1 was installed"), "{said}");
}

#[tokio::test]
async fn policy_decides_whether_a_version_is_installed() {
    let shop = shop("UpdateMode = \"notify\"\n").await;
    shop.feed.publish("1.0.0");
    let said = shop.look().await;
    assert!(said.contains("version 1.0.0 is available"), "{said}");
    assert_eq!(shop.installed(), None);
    assert_eq!(shop.device.problem("update.available").await["severity"], "note");
    shop.device.push("60.toml", "UpdateMode = \"automatic\"\nUpdatePinnedVersion = \"0.9.0\"\n");
    shop.device.status_where("the pin", |status| status["status"]["update"]["mode"] == "automatic").await;
    let said = shop.look().await;
    assert!(said.contains("pinned to 0.9.0; the feed offers 1.0.0"), "{said}");
    shop.device.push("60.toml", "UpdateMode = \"off\"\n");
    shop.device.status_where("updates off", |status| status["status"]["update"]["managed"] == false).await;
    assert!(shop.look().await.contains("No versions are managed here"));
}

/// The agent dies between the switch and the proof that the new version starts: the next start finishes it.
#[tokio::test]
async fn a_switch_that_a_crash_interrupted_is_finished_at_the_next_start() {
    let shop = shop(AUTOMATIC).await;
    shop.feed.publish("1.0.0");
    shop.look().await;
    shop.feed.publish("1.1.0");
    shop.look().await;
    let Shop { device, _agent: agent, feed } = shop;
    agent.kill().await;
    let memory = device.path("var/lib/steward/private/update.json");
    let text = "{\"held\":[],\"probation\":{\"version\":\"1.1.0\",\"previous\":\"1.0.0\"}}";
    fs_err::write(&memory, text).unwrap();
    fs_err::write(device.path("opt/lab-notes/versions/1.1.0/broken"), "").unwrap();
    let _agent = device.start_agent().await;
    let found: Value = device.problem("update.rolled-back").await;
    assert!(found["using"].as_str().unwrap().starts_with("1.0.0"), "{found}");
    let target = fs_err::read_link(device.path("opt/lab-notes/current")).unwrap();
    assert!(target.ends_with("1.0.0"), "{target:?}");
    drop(feed);
}
