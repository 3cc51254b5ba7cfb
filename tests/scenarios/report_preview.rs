//! `steward report --show`: whoever uses a device can see what is sent about it.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::Path;

use e2e::device::Device;
use e2e::process::program;
use e2e::receiver::Receiver;
use protocol::report::Preview;

use super::fixture::{FILE_VAULT, sign_in_device};

/// What another local user sees.
async fn seen_by_stranger(device: &Device, more: &[&str]) -> String {
    let (steward, root) = (program("steward").display().to_string(), device.root_text());
    let arguments = ["--reuid=65533", "--regid=65533", "--clear-groups", &steward, "--root", &root, "report"];
    let output = device.run(Path::new("/usr/bin/setpriv"), &[&arguments, more].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn administrator_sees_what_is_sent_and_another_user_all_but_the_names() {
    let receiver = Receiver::start().await;
    let more =
        format!("{FILE_VAULT}ReportUrl = \"{}?key=canary\"\nReportIdentity = \"email\"\n", receiver.url());
    let fixture = sign_in_device(&more).await;
    fixture.login().await;
    let sent = receiver
        .report_where("the sign-in", |report| report.sign_in.iter().any(|one| one.account.is_some()))
        .await;
    let preview: Preview = fixture.device.json(&["report", "--show", "--json"]).await.unwrap();
    assert_eq!(preview.report.sign_in[0].account, sent.sign_in[0].account);
    assert_eq!((&preview.report.device_id, &preview.report.epoch), (&sent.device_id, &sent.epoch));
    let [destination] = &preview.destinations[..] else { panic!("{:?}", preview.destinations) };
    assert_eq!(
        (destination.url.as_str(), destination.setting.as_str()),
        (receiver.url().as_str(), "ReportUrl")
    );

    let account = sent.sign_in[0].account.clone().unwrap();
    for format in [&["--show"][..], &["--format", "json"], &["--format", "text"], &["--format", "prometheus"]]
    {
        let seen = seen_by_stranger(&fixture.device, format).await;
        assert!(!seen.contains(&account) && !seen.contains("canary"), "{format:?}: {seen}");
    }
    let seen: Preview =
        serde_json::from_str(&seen_by_stranger(&fixture.device, &["--show", "--json"]).await).unwrap();
    let whole: Preview = fixture.device.json(&["report", "--show", "--json"]).await.unwrap();
    assert_ne!(seen.report.digest, whole.report.digest, "it would confirm a guess at a name");
    assert_eq!(seen.destinations[0].heartbeat, whole.destinations[0].heartbeat);
    let seen = seen_by_stranger(&fixture.device, &["--show"]).await;
    assert!(seen.contains("only an administrator sees it here") && seen.contains(&sent.device_id), "{seen}");
}

/// Found by review: a collector that asked twice within two seconds got what was true before the change.
#[tokio::test]
async fn report_after_a_change_is_never_that_from_before() {
    let device = Device::new();
    device.push("50.toml", "App = \"lab-notes\"\n");
    let _agent = device.start_agent().await;
    for (mode, expected) in [("sometimes", "fail"), ("off", "pass"), ("some", "fail")] {
        device.push("60.toml", &format!("UpdateMode = \"{mode}\"\n"));
        device.printed(&["policy", "reload"]).await;
        let printed = device.printed(&["report", "--format", "jamf", "--key", "PolicyState"]).await;
        assert_eq!(printed, format!("<result>{expected}</result>\n"), "{mode}");
    }
}

#[tokio::test]
async fn preview_says_what_policy_leaves_out_and_that_nobody_gets_reports() {
    let device = Device::new();
    let output = device.steward(&["report", "--show"]).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && error.contains("nothing is sent") && error.contains("hint:"),
        "{error}"
    );
    device.push("50.toml", "App = \"lab-notes\"\nReportPosture = false\n");
    let _agent = device.start_agent().await;
    let shown = device.printed(&["report", "--show"]).await;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Nobody gets reports",
        "`ReportPosture` is `false`",
        "`ReportIdentity` is `none`",
        "\"posture\": null",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let text = device.printed(&["report"]).await;
    assert!(text.contains("posture           not-applicable policy leaves it out"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}
