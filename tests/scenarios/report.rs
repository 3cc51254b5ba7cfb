//! Health reports: what arrives, what waits, what is printed.

use e2e::device::Device;
use e2e::receiver::Receiver;
use serde_json::Value;

const BASE: &str =
    "App = \"lab-notes\"\nProxyMode = \"direct\"\nClientId = \"c\"\nIssuer = \"https://login.example.com\"\n";

fn policy(receiver: &Receiver, more: &str) -> String {
    format!("{BASE}ReportUrl = \"{}\"\nReportEnrollmentToken = \"canary-token\"\n{more}", receiver.url())
}

#[tokio::test]
async fn a_report_says_how_the_device_is_and_names_nobody() {
    let receiver = Receiver::start().await;
    let device = Device::new();
    device.push("50.toml", &policy(&receiver, ""));
    let _agent = device.start_agent().await;
    let report =
        receiver.report_where("a report", |report| report["status"]["policy"]["settings"] == 6).await;
    assert_eq!(report["health"]["state"], "pass");
    assert!(report["posture"]["memory_total"].as_u64().unwrap() > 0);
    assert!(report["next_report_by"].as_str() > report["sent_at"].as_str());
    assert_eq!(receiver.tokens()[0].as_deref(), Some("Bearer canary-token"));
    let text = report.to_string();
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    assert!(!text.contains("canary") && !text.contains(&format!("\"{host}\"")), "{text}");

    // A change is reported at once, with the next number of the same device.
    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    let second = receiver.report_where("news", |report| report["health"]["state"] == "fail").await;
    assert_eq!(second["health"]["code"], "policy.invalid-value");
    assert_eq!((&second["device_id"], &second["epoch"]), (&report["device_id"], &report["epoch"]));
    assert!(second["sequence"].as_u64() > report["sequence"].as_u64());
    device.status_where("a delivery", |status| !status["status"]["report"]["delivered_at"].is_null()).await;
}

/// Found in CI, once: what changed while a report was on its way was told an hour later, with the next one.
#[tokio::test]
async fn what_happens_while_a_report_is_on_its_way_is_told_at_once() {
    let receiver = Receiver::start().await;
    receiver.stall(std::time::Duration::from_secs(2));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver, ""));
    let _agent = device.start_agent().await;
    device.status_where("a report on its way", |status| status["status"]["report"]["next"].is_null()).await;
    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    device.problem("policy.invalid-value").await;
    assert!(receiver.reports().is_empty(), "the first report is still on its way");
    receiver.report_where("news", |report| report["health"]["state"] == "fail").await;
}

#[tokio::test]
async fn a_receiver_that_is_down_gets_everything_later_and_once() {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(503));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver, ""));
    let agent = device.start_agent().await;
    let found = device.problem("report.undelivered").await;
    assert_eq!(found["severity"], "warning");
    let status = device.status().await;
    assert_eq!(status["status"]["report"]["queued"], 1);
    assert_eq!(status["health"]["state"], "pass", "a dashboard that is down makes no device unhealthy");

    // It waits on disk, through a crash.
    agent.kill().await;
    receiver.refuse_with(None);
    let _agent = device.start_agent().await;
    receiver.report_where("a report", |report| report["status"]["policy"]["settings"] == 6).await;
    device.status_where("an empty queue", |status| status["status"]["report"]["queued"] == 0).await;
    let mut sequences: Vec<_> = receiver.reports().iter().map(|report| report["sequence"].as_u64()).collect();
    let count = sequences.len();
    sequences.dedup();
    assert_eq!(sequences.len(), count, "none came twice");
}

/// Found by review: with the state folder gone bad nothing was sent, and the status said that all was well.
#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_no_healthy_device() {
    let receiver = Receiver::start().await;
    let device = Device::new();
    device.push("50.toml", &policy(&receiver, ""));
    fs_err::create_dir_all(device.path("var/lib/steward/private")).unwrap();
    fs_err::write(device.path("var/lib/steward/private/reports"), "a file where a folder belongs").unwrap();
    let _agent = device.start_agent().await;
    let found = device.problem("agent.state-unwritable").await;
    assert!(found["message"].as_str().unwrap().starts_with("no report was made"), "{found}");
    let status = device.status().await;
    assert_eq!(status["health"]["state"], "fail");
    assert!(status["status"]["report"]["delivered_at"].is_null());
}

#[tokio::test]
async fn a_refused_token_is_an_error_that_names_the_setting() {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(401));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver, ""));
    let _agent = device.start_agent().await;
    let found = device.problem("report.rejected").await;
    assert!(found["hint"].as_str().unwrap().contains("ReportEnrollmentToken"));
    assert!(receiver.refused() >= 1 && receiver.reports().is_empty());
}

#[tokio::test]
async fn every_collector_gets_the_same_facts_in_its_own_form() {
    let device = Device::new();
    device.push("50.toml", &format!("{BASE}UpdateMode = \"sometimes\"\n"));
    let _agent = device.start_agent().await;
    device.problem("policy.invalid-value").await;
    let json: Value = serde_json::from_str(&device.printed(&["report", "--format", "json"]).await).unwrap();
    assert_eq!(json["health"]["state"], "fail");
    let intune = device.printed(&["report", "--format", "intune"]).await;
    let flat: Value = serde_json::from_str(&intune).unwrap();
    assert_eq!((&flat["Health"], &flat["PolicyState"]), (&"fail".into(), &"fail".into()));
    assert_eq!(intune.lines().count(), 1);
    assert_eq!(
        device.printed(&["report", "--format", "jamf"]).await,
        "<result>fail: policy.invalid-value</result>\n"
    );
    let metrics = device.printed(&["report", "--format", "prometheus"]).await;
    assert!(metrics.contains("steward_component_state{component=\"policy\",state=\"fail\"} 1"), "{metrics}");
    let text = device.printed(&["report"]).await;
    assert!(text.starts_with("device       fail"), "{text}");
}
