//! Health reports: what arrives, what waits, what is printed.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::time::Duration;

use e2e::device::{Device, settings};
use e2e::receiver::{Receiver, Response};
use e2e::wait::until;
use policy_schema::{Code, Severity};
use protocol::health::{ComponentName, State};
use protocol::session::SessionState;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::fixture::{FILE_VAULT, sign_in_device};

const BASE: &str =
    "App = \"lab-notes\"\nProxyMode = \"direct\"\nClientId = \"c\"\nIssuer = \"https://login.example.com\"\n";
/// How many settings [`policy`] sets.
const SETTINGS: usize = 6;

fn policy(receiver: &Receiver) -> String {
    format!("{BASE}ReportUrl = \"{}\"\nReportEnrollmentToken = \"canary-token\"\n", receiver.url())
}

/// The folder of reports that wait.
const QUEUE: &str = "var/lib/steward/private/reports";

#[tokio::test]
async fn report_has_health_and_no_names() {
    let receiver = Receiver::start().await;
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let _agent = device.start_agent().await;
    let first =
        receiver.report_where("a report", |report| report.status.policy.settings == settings(SETTINGS)).await;
    assert_eq!(first.health.state, State::Unknown, "nobody has signed in yet");
    assert!(first.posture.unwrap().memory_total.unwrap() > 0);
    assert!(first.next_report_by > first.sent_at);
    assert_eq!(receiver.tokens()[0].as_deref(), Some("Bearer canary-token"));
    let text = receiver.raw_reports()[0].to_string();
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    assert!(!text.contains("canary") && !text.contains(&format!("\"{host}\"")), "{text}");

    // A change is reported at once, with the next number of the same device.
    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    let second = receiver.report_where("the change", |report| report.health.state == State::Fail).await;
    assert_eq!(second.health.code, Some(Code::PolicyInvalidValue.into()));
    assert_eq!((second.device_id, second.epoch), (first.device_id, first.epoch));
    assert!(second.sequence > first.sequence);
    device.machine_status_where("a delivery", |status| status.report.delivered_at.is_some()).await;
}

/// The published form, as a receiver that does not know Steward's code reads it.
#[tokio::test]
async fn report_has_the_published_fields() {
    let receiver = Receiver::start().await;
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let _agent = device.start_agent().await;
    receiver.report_where("a report", |report| report.status.policy.settings == settings(SETTINGS)).await;
    let report = receiver.raw_reports().pop().unwrap();
    assert_eq!((&report["format"], &report["health"]["name"]), (&json!(1), &json!("device")));
    assert_eq!(report["health"]["state"], "unknown", "nobody has signed in yet");
    let components = report["health"]["components"].as_array().unwrap();
    let names: Vec<&str> = components.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["agent", "policy", "app", "update", "report", "sign-in", "vault", "posture"]);
    let posture = components.last().unwrap()["components"].as_array().unwrap();
    let names: Vec<&str> = posture.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["disk-encryption", "firewall", "secure-boot", "screen-lock", "pending-restart"]);
    assert!(
        posture.iter().all(|one| one["evidence"].is_string() && one["since"].is_string()),
        "{posture:#?}"
    );
    assert_eq!((&report["sign_in"], &report["status"]["app"]["name"]), (&json!([]), &json!("lab-notes")));
    for text in [&report["device_id"], &report["epoch"], &report["sent_at"], &report["next_report_by"]] {
        assert!(text.is_string(), "{report:#}");
    }
    assert!(report["sequence"].is_u64() && report["status"]["problems"].is_array(), "{report:#}");
}

/// Found in CI, once: what changed while a report was under way was reported an hour later, with the next one.
#[tokio::test]
async fn change_during_delivery_is_reported_right_after_it() {
    let receiver = Receiver::start().await;
    receiver.stall(Duration::from_secs(2));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let _agent = device.start_agent().await;
    device.machine_status_where("a report under way", |status| status.report.next.is_none()).await;
    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    device.problem(Code::PolicyInvalidValue).await;
    assert!(receiver.reports().is_empty(), "the first report is still under way");
    receiver.report_where("the change", |report| report.health.state == State::Fail).await;
}

/// Found by review: a sign-in or a sign-out was reported with the next report, up to an hour later.
#[tokio::test]
async fn sign_in_and_logout_are_reported_at_once() {
    let receiver = Receiver::start().await;
    let more = format!(
        "{FILE_VAULT}ReportUrl = \"{}\"\nReportIntervalMinutes = 60\nReportIdentity = \"email\"\n",
        receiver.url()
    );
    let fixture = sign_in_device(&more).await;
    let state = |report: &protocol::report::Report, state| {
        report.sign_in.iter().any(|session| session.state == state)
    };
    receiver.report_where("a report", |_| true).await;
    fixture.login().await;
    let signed_in = receiver.report_where("the sign-in", |one| state(one, SessionState::SignedIn)).await;
    // Found by review: another user on a device that counts as signed in already was no news.
    fixture.provider.behave(|behaviour| behaviour.user = "eve");
    fixture.login().await;
    let changed = |one: &protocol::report::Report| {
        one.sequence > signed_in.sequence && one.sign_in.iter().any(|one| !one.other_accounts.is_empty())
    };
    let signed_in = receiver.report_where("the sign-in of another user", changed).await;
    fixture.device.printed(&["logout", "--all"]).await;
    let signed_out = receiver
        .report_where("the sign-out", |one| {
            one.sequence > signed_in.sequence && state(one, SessionState::SignedOut)
        })
        .await;
    assert_eq!(signed_out.device_id, signed_in.device_id);
}

#[tokio::test]
async fn report_waits_for_receiver_through_a_crash_and_is_sent_once() {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(503));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let agent = device.start_agent().await;
    let problem = device.problem(Code::ReportUndelivered).await;
    assert_eq!(problem.severity, Severity::Warning);
    let overview = device.status().await;
    assert_eq!(overview.status.unwrap().report.queued, 1);
    let report = overview.health.components.iter().find(|one| one.name == ComponentName::Report).unwrap();
    assert_eq!(report.state, State::Pending, "a receiver that is down makes no device unhealthy");

    // It waits on disk, through a crash.
    agent.kill().await;
    receiver.refuse_with(None);
    let _agent = device.start_agent().await;
    receiver.report_where("a report", |report| report.status.policy.settings == settings(SETTINGS)).await;
    device.machine_status_where("an empty queue", |status| status.report.queued == 0).await;
    let mut sequences: Vec<_> = receiver.reports().iter().map(|report| report.sequence).collect();
    let count = sequences.len();
    sequences.dedup();
    assert_eq!(sequences.len(), count, "none came twice");
}

/// Found by trial: after a rollback, what a newer agent had queued was put aside as damaged.
#[tokio::test]
async fn queued_report_of_newer_agent_is_sent_as_it_came() {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(503));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let agent = device.start_agent().await;
    device.problem(Code::ReportUndelivered).await;
    agent.kill().await;
    let queued = fs_err::read_dir(device.path(QUEUE)).unwrap().next().unwrap().unwrap().path();
    let mut newer: Value = serde_json::from_slice(&fs_err::read(&queued).unwrap()).unwrap();
    newer["digest"] = json!("0123");
    newer["weather"] = json!({ "sky": ["rain", null] });
    newer["status"]["policy"]["moon"] = json!(7);
    newer["health"]["state"] = json!("drowsy");
    newer["health"]["components"][0]["name"] = json!("lighthouse");
    newer["status"]["problems"] =
        json!([{ "code": "quantum.decohered", "severity": "grave", "message": "m", "angle": 3 }]);
    // A name without a checksum, as before there were any.
    fs_err::remove_file(&queued).unwrap();
    let queued = queued.with_file_name("00000000000000000001.json");
    fs_err::write(&queued, newer.to_string()).unwrap();

    receiver.refuse_with(None);
    let _agent = device.start_agent().await;
    device.machine_status_where("an empty queue", |status| status.report.delivered_at.is_some()).await;
    let sent = receiver.raw_reports().into_iter().find(|report| report["sequence"] == newer["sequence"]);
    let mut sent = sent.expect("it was sent");
    for report in [&mut newer, &mut sent] {
        // The version belongs to the file, and these times to the delivery.
        for field in ["version", "sent_at", "next_report_by"] {
            report.as_object_mut().unwrap().remove(field);
        }
    }
    assert_eq!(sent, newer);
    assert!(!queued.with_extension("damaged").exists());
}

/// Found by review: while no report could be made (a full disk, an identity that cannot be read), those that waited were not
/// sent either, although that makes room.
#[tokio::test]
async fn queued_report_is_sent_while_no_new_one_can_be_made() {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(503));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let agent = device.start_agent().await;
    device.problem(Code::ReportUndelivered).await;
    agent.kill().await;
    let identity = device.path("var/lib/steward/private/identity.json");
    fs_err::remove_file(&identity).unwrap();
    fs_err::create_dir(&identity).unwrap();
    receiver.refuse_with(None);
    let _agent = device.start_agent().await;
    device.machine_status_where("an empty queue", |status| status.report.delivered_at.is_some()).await;
    let problems = device.machine_status().await.problems;
    let no_new_one = |code| problems.iter().any(|problem| problem.code == code);
    assert!(no_new_one(Code::AgentStateUnreadable) && no_new_one(Code::AgentStateUnwritable), "{problems:?}");
    assert!(fs_err::read_dir(device.path(QUEUE)).unwrap().next().is_none());
}

/// A broker that accepts connections and never responds, of each user from 2000 on.
fn hanging_brokers(device: &Device, count: usize) {
    for user in 2000..2000 + count {
        let folder = device.path(&format!("run/user/{user}/steward"));
        fs_err::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("session.sock")).unwrap();
        tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.push(connection);
            }
        });
    }
}

/// Found by trial: brokers were asked one after another, so fifty that hung delayed a report by 100 seconds.
#[tokio::test]
async fn hanging_brokers_make_the_device_unknown_and_delay_the_report_once() {
    let device = Device::new();
    device.push("50.toml", BASE);
    let _agent = device.start_agent().await;
    let sign_in = async || {
        let report = device.report().await;
        let parts = report.health.components.iter();
        let sign_in = parts.clone().find(|part| part.name == ComponentName::SignIn).unwrap();
        (sign_in.reason.clone(), report.health.known_state())
    };
    // Whoever asks again at once gets the same report.
    let becomes = async |reason: &str| {
        until(reason, async || {
            let now = sign_in().await;
            if now.0.contains(reason) { Ok(now.1) } else { Err(now) }
        })
        .await
    };
    for count in [1, 50] {
        hanging_brokers(&device, count);
        // All of them one after another would take longer than a scenario waits.
        let state = becomes("a broker does not respond").await;
        assert_eq!(state, State::Unknown, "{count}: unknown is not healthy");
        for user in 2000..2000 + count {
            fs_err::remove_dir_all(device.path(&format!("run/user/{user}"))).unwrap();
        }
        becomes("no user has signed in").await;
    }
}

/// Found by review: with a bad state folder nothing was sent, and the status said that all was well.
#[tokio::test]
async fn unwritable_state_folder_fails_the_device() {
    let receiver = Receiver::start().await;
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    fs_err::create_dir_all(device.path("var/lib/steward/private")).unwrap();
    fs_err::write(device.path(QUEUE), "a file where a folder belongs").unwrap();
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::AgentStateUnwritable).await;
    assert!(problem.message.starts_with("the report could not be kept on disk"), "{problem}");
    assert_eq!(device.status().await.health.state, State::Fail);
    // The dashboard hears of it all the same, from memory, and under numbers that no report on disk ever has.
    let says_so = |report: &protocol::report::Report| {
        report.status.problems.iter().any(|problem| problem.code == Code::AgentStateUnwritable)
    };
    let told = receiver.report_where("a report from memory", says_so).await;
    fs_err::remove_file(device.path(QUEUE)).unwrap();
    device.push("60.toml", "OrganizationName = \"Example Corp\"\n");
    let healed = receiver.report_where("a report from disk", |report| !says_so(report)).await;
    assert_eq!(healed.device_id, told.device_id);
    assert!(healed.epoch == told.epoch || healed.sequence > 0, "the numbers are the device's own");
}

/// Found by trial: the page of a captive portal, with status 200, emptied the queue.
#[tokio::test]
async fn page_of_a_captive_portal_is_no_receipt() {
    let receiver = Receiver::start().await;
    receiver.respond_with(Response::Page);
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::ReportUndelivered).await;
    assert!(problem.message.contains("is not a receiver's"), "{problem}");
    assert!(problem.hint.as_ref().unwrap().contains("`ReportAcknowledgement`"), "{problem}");
    assert!(fs_err::read_dir(device.path(QUEUE)).unwrap().next().is_some(), "it stays in the queue");
    receiver.respond_with(Response::Sequence);
    device.printed(&["policy", "reload"]).await;
    receiver.report_where("the report", |_| true).await;
    device.machine_status_where("an empty queue", |status| status.report.queued == 0).await;
}

/// Found by trial: one report that made the receiver fail kept all later ones from being delivered.
#[tokio::test]
async fn report_that_a_receiver_cannot_take_blocks_no_other_and_is_put_aside() {
    let receiver = Receiver::start().await;
    receiver.fail_at(1);
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let _agent = device.start_agent().await;
    device.problem(Code::ReportUndelivered).await;
    let refused = device.path(QUEUE).join(format!("{:020}.refused", 1));
    for round in 0..30 {
        let before = receiver.raw_reports().len();
        device.push("60.toml", &format!("OrganizationName = \"Example {round}\"\n"));
        until(
            "a later report",
            async || {
                if receiver.raw_reports().len() > before { Ok(()) } else { Err("none yet") }
            },
        )
        .await;
        if refused.exists() {
            break;
        }
    }
    assert!(refused.exists(), "{:?}", fs_err::read_dir(device.path(QUEUE)).unwrap().collect::<Vec<_>>());
    assert!(receiver.reports().iter().all(|report| report.sequence > 1));
}

#[tokio::test]
async fn refused_enrollment_token_is_an_error_that_names_the_setting() {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(401));
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::ReportRejected).await;
    assert!(problem.hint.unwrap().contains("ReportEnrollmentToken"));
    assert!(receiver.refused() >= 1 && receiver.reports().is_empty());
}

/// The forms for the collectors of others, as they read them.
#[tokio::test]
async fn report_formats_agree_on_failed_policy() {
    let device = Device::new();
    device.push("50.toml", &format!("{BASE}UpdateMode = \"sometimes\"\n"));
    let _agent = device.start_agent().await;
    device.problem(Code::PolicyInvalidValue).await;
    assert_eq!(device.report().await.health.state, State::Fail);
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
    assert!(text.starts_with("device              fail"), "{text}");
}
