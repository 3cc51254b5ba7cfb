//! Reports with a certificate of the device, from a receiver with OpenSSL's certification authority.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::os::unix::fs::PermissionsExt as _;

use e2e::device::Device;
use e2e::process::Process;
use e2e::wait::until;
use policy_schema::{Code, Problem};
use serde_json::{Value, json};

use super::external_provider::OrderedServer;
use super::fixture::movable_clock;

const KEPT: &str = "var/lib/steward/private/enrolment.json";

/// A policy for reports to a receiver.
fn policy(receiver: &OrderedServer, certificate: &str, token: &str) -> String {
    let authority = fs_err::read_to_string(receiver.file("authority/ca.crt")).unwrap();
    format!(
        "App = \"lab-notes\"\nProxyMode = \"direct\"\nReportUrl = \"{}/v1/reports?key=1\"\n\
             ReportEnrollmentToken = \"{token}\"\nReportCertificate = \"{certificate}\"\n\
             AdditionalTrustedCertificates = [\"\"\"{authority}\"\"\"]\n",
        receiver.address
    )
}

async fn device_with(certificate: &str) -> (Device, OrderedServer, Process, impl Fn(u32) + use<>) {
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    let receiver = OrderedServer::start(&device, "est.py").await;
    device.push("50.toml", &policy(&receiver, certificate, "enrol-token"));
    let agent = device.start_agent().await;
    (device, receiver, agent, minutes)
}

fn is_report(request: &Value) -> bool {
    request["path"].as_str().unwrap().starts_with("/v1/reports")
}

fn with_serial(serial: &'static str) -> impl Fn(&Value) -> bool {
    move |request| is_report(request) && request["serial"] == serial
}

fn days(minutes: &impl Fn(u32), days: u32) {
    minutes(days * 24 * 60);
}

/// Makes the agent report.
async fn report(device: &Device, name: &str) {
    device.push("60.toml", &format!("OrganizationName = \"{name}\"\n"));
    device.printed(&["policy", "reload"]).await;
}

async fn problem_where(device: &Device, code: Code, words: &str) -> Problem {
    let is_it = |problem: &Problem| problem.code == code && problem.message.contains(words);
    let found = |status: &protocol::status::Status| status.problems.iter().any(is_it);
    let status = device.machine_status_where(words, found).await;
    status.problems.into_iter().find(is_it).unwrap()
}

#[tokio::test]
async fn device_enrols_once_renews_in_time_and_enrols_again_after_expiry() {
    let (device, receiver, agent, minutes) = device_with("required").await;
    let report_with_it = receiver.arrived_where("a report with a certificate", with_serial("1000")).await;
    let id = device.report().await.device_id;
    assert_eq!((&report_with_it["device"], &report_with_it["token"]), (&json!(id), &Value::Null));
    let enrolment = &receiver.arrived()[0];
    assert_eq!(enrolment["path"], "/.well-known/est/simpleenroll");
    assert_eq!(enrolment["token"], "Bearer enrol-token");
    assert!(device.machine_status().await.report.certificate_until.is_some());
    let shown = device.printed(&["report", "--show"]).await;
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("with the certificate of this device") && !words.contains("key=1"), "{shown}");
    let kept = device.path(KEPT);
    assert_eq!(fs_err::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs_err::read_to_string(&kept).unwrap();
    assert!(text.contains("PRIVATE KEY") && !text.contains("enrol-token"));

    // Over a start of the agent, and for each report.
    agent.stop().await;
    let agent = device.start_agent().await;
    report(&device, "Example Corp").await;
    days(&minutes, 59);
    report(&device, "Example").await;
    assert!(receiver.arrived().iter().skip(1).all(with_serial("1000")), "{:#?}", receiver.arrived());
    // In the last third it is renewed, with another key.
    days(&minutes, 61);
    report(&device, "Example Corp").await;
    receiver.arrived_where("a report with the new one", with_serial("1001")).await;
    let renewal =
        receiver.arrived_where("its renewal", |one| one["path"] == "/.well-known/est/simplereenroll").await;
    assert_eq!((&renewal["serial"], &renewal["token"]), (&json!("1000"), &Value::Null));
    assert_ne!(fs_err::read_to_string(&kept).unwrap(), text);
    // A renewal that fails leaves the one that is still valid.
    receiver.order(&json!({ "status": 503 }));
    agent.stop().await;
    days(&minutes, 0);
    let _agent = device.start_agent().await;
    days(&minutes, 85);
    report(&device, "Example").await;
    let problem = problem_where(&device, Code::ReportEnrollmentFailed, "status 503").await;
    assert!(problem.using.unwrap().contains("the certificate that is valid until"));
    // One that has ended is replaced with the token.
    receiver.order(&json!({ "days": 400 }));
    days(&minutes, 120);
    report(&device, "Example Corp").await;
    receiver.arrived_where("a report with the newest", with_serial("1002")).await;
    device.machine_status_where("no problem", |status| status.problems.is_empty()).await;
}

#[tokio::test]
async fn revoked_device_says_so_and_reports_with_its_token_only_if_policy_allows_that() {
    let (device, receiver, _agent, _minutes) = device_with("preferred").await;
    receiver.arrived_where("a report with a certificate", with_serial("1000")).await;
    receiver.order(&json!({ "revoked": true }));
    report(&device, "Example Corp").await;
    let problem = problem_where(&device, Code::ReportCertificateRefused, "it is revoked").await;
    assert_eq!(problem.using.as_deref(), Some("`ReportEnrollmentToken`"));
    let with_token = |one: &Value| is_report(one) && one["token"] == "Bearer enrol-token";
    receiver.arrived_where("a report with the token", with_token).await;
    // Servers that look at the certificate after the handshake say 400; ones that hang up may do so before anybody has read why.
    for orders in [json!({ "certificate_status": 400 }), json!({ "hangs_up": true })] {
        receiver.order(&orders);
        let before = receiver.arrived().iter().filter(|one| with_token(one)).count();
        report(&device, &format!("Example {before}")).await;
        until("a report with the token", async || {
            let now = receiver.arrived().iter().filter(|one| with_token(one)).count();
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
        device.problem(Code::ReportCertificateRefused).await;
        device.machine_status_where("an empty queue", |status| status.report.queued == 0).await;
    }
    receiver.order(&json!({ "revoked": true }));
    // A device that was revoked does not get itself another certificate.
    let enrolments = |requests: Vec<Value>| requests.iter().filter(|one| !is_report(one)).count();
    assert_eq!(enrolments(receiver.arrived()), 1);

    device.push("50.toml", &policy(&receiver, "required", "enrol-token"));
    report(&device, "Example").await;
    let waits = |problem: &Problem| problem.using.as_deref() == Some("nothing: reports wait");
    device.machine_status_where("a problem", |status| status.problems.iter().any(waits)).await;
    device.machine_status_where("a report that waits", |status| status.report.queued > 0).await;
    // An administrator who lets it in again pushes another token: it enrols with that one, and the receiver decides.
    device.push("50.toml", &policy(&receiver, "required", "another-token"));
    let is_other = |one: &Value| !is_report(one) && one["token"] == "Bearer another-token";
    receiver.arrived_where("another enrolment", is_other).await;
    let words = "refused `ReportEnrollmentToken`";
    let problem = problem_where(&device, Code::ReportEnrollmentFailed, words).await;
    assert!(problem.using.unwrap().contains("the certificate that is valid until"));
}

#[tokio::test]
async fn receiver_that_issues_none_is_named_and_a_copy_enrols_for_itself() {
    let (device, receiver, agent, _minutes) = device_with("never").await;
    receiver
        .arrived_where("a report with the token", |one| is_report(one) && one["token"] != Value::Null)
        .await;
    assert!(receiver.arrived().iter().all(is_report), "policy wants none");
    for (status, words) in
        [(404, "issues no certificates"), (403, "refused `ReportEnrollmentToken`"), (202, "has to agree")]
    {
        receiver.order(&json!({ "status": status }));
        device.push("50.toml", &policy(&receiver, "preferred", "enrol-token"));
        report(&device, words).await;
        let problem = problem_where(&device, Code::ReportEnrollmentFailed, words).await;
        assert_eq!(problem.using.as_deref(), Some("`ReportEnrollmentToken`"));
    }
    // Until an administrator agrees, each request is for the same key.
    let pending = || fs_err::read_to_string(device.path("var/lib/steward/private/enrolment-pending.json"));
    let key = |text: String| serde_json::from_str::<Value>(&text).unwrap()["key"].clone();
    let first = key(pending().unwrap());
    let asked = || receiver.arrived().iter().filter(|one| !is_report(one)).count();
    let before = asked();
    report(&device, "Example Org").await;
    until("another request", async || if asked() > before { Ok(()) } else { Err(before) }).await;
    assert_eq!(key(pending().unwrap()), first);
    receiver.order(&json!({}));
    report(&device, "Example").await;
    receiver.arrived_where("a report with a certificate", with_serial("1000")).await;
    until("an end of the request", async || if pending().is_err() { Ok(()) } else { Err("it is there") })
        .await;
    let kept = fs_err::read_to_string(device.path(KEPT)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap()["key"], first);
    // The files of this device on another one.
    agent.stop().await;
    let identity = device.path("var/lib/steward/private/identity.json");
    let mut text: Value = serde_json::from_slice(&fs_err::read(&identity).unwrap()).unwrap();
    let original = text["device_id"].clone();
    text["machine"] = json!("another machine");
    fs_err::write(&identity, text.to_string()).unwrap();
    let _agent = device.start_agent().await;
    let copy = receiver.arrived_where("a report of the copy", with_serial("1001")).await;
    assert_ne!(copy["device"], original);
}
