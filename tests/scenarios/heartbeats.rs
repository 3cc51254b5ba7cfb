//! What a device sends while nothing changes, to a receiver that takes less than a whole report each time, and under which identity.

use e2e::device::Device;
use e2e::process::Process;
use e2e::receiver::Receiver;
use e2e::wait::until;
use protocol::report::Report;
use serde_json::{Value, json};

use super::fixture::movable_clock;

fn policy(receiver: &Receiver) -> String {
    format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nReportUrl = \"{}\"\n", receiver.url())
}

/// A device with a movable clock that reports there.
async fn device_of(receiver: &Receiver) -> (Device, Process, impl Fn(u32) + use<>) {
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    device.push("50.toml", &policy(receiver));
    let agent = device.start_agent().await;
    (device, agent, minutes)
}

async fn heartbeats_become(receiver: &Receiver, count: usize) {
    until("a heartbeat", async || {
        let found = receiver.heartbeats().len();
        if found >= count { Ok(()) } else { Err((found, receiver.reports().len())) }
    })
    .await;
}

/// The report that says how the device is after everything was looked at: the first ones come while that goes on. Nothing is on its way
/// any more; a change that no digest says may have been told by a heartbeat.
async fn settled(receiver: &Receiver, device: &Device) -> Report {
    until("a report that says all", async || {
        device.quiet().await;
        let last = receiver.reports().pop().ok_or("none yet")?;
        let now = device.report().await;
        if last.digest == now.digest { Ok(last) } else { Err("more to come") }
    })
    .await
}

/// Moves the clock of a device, each time by more than the longest time between two reports (an interval and a minute), and makes the agent look at it: it sleeps by another one.
async fn at(device: &Device, clock: &impl Fn(u32), minutes: u32) {
    device.quiet().await;
    clock(minutes);
    device.printed(&["policy", "reload"]).await;
}

#[tokio::test]
async fn unchanged_device_sends_heartbeats_until_something_changes_or_the_receiver_asks() {
    let receiver = Receiver::start().await;
    receiver.offer_heartbeats_and_gzip();
    let (device, _agent, minutes) = device_of(&receiver).await;
    let last = settled(&receiver, &device).await;
    let (reports, before) = (receiver.reports().len(), receiver.heartbeats().len());
    at(&device, &minutes, 65).await;
    heartbeats_become(&receiver, before + 1).await;
    let heartbeat = receiver.heartbeats().pop().unwrap();
    assert_eq!((&heartbeat.digest, &heartbeat.epoch), (&last.digest, &last.epoch));
    assert!(heartbeat.sequence > last.sequence && heartbeat.next_report_by > heartbeat.sent_at);
    assert!(serde_json::to_string(&heartbeat).unwrap().len() < 300);
    assert_eq!(receiver.reports().len(), reports, "nothing else was sent");

    // A receiver that lost its data wants the report, under a number of its own.
    receiver.ask_for_report();
    at(&device, &minutes, 130).await;
    let again =
        receiver.report_where("the report again", |report| report.sequence > heartbeat.sequence).await;
    assert_eq!(again.digest, last.digest);
    assert!(receiver.heartbeats().iter().all(|heartbeat| heartbeat.sequence != again.sequence));
    at(&device, &minutes, 195).await;
    heartbeats_become(&receiver, before + 3).await;

    // A receiver that does not say so again gets a whole report the next time.
    receiver.withdraw_heartbeats();
    at(&device, &minutes, 260).await;
    heartbeats_become(&receiver, before + 4).await;
    let heartbeats = receiver.heartbeats().len();
    let reports = receiver.reports().len();
    at(&device, &minutes, 325).await;
    until("a whole report", async || {
        if receiver.reports().len() > reports { Ok(()) } else { Err(receiver.heartbeats().len()) }
    })
    .await;
    assert_eq!(receiver.heartbeats().len(), heartbeats);
    receiver.offer_heartbeats_and_gzip();

    // A change is told at once, in a report.
    device.push("60.toml", "OrganizationName = \"Example Corp\"\n");
    let changed = receiver
        .report_where("the change", |report| report.status.policy.hash != last.status.policy.hash)
        .await;
    assert!(changed.sequence > again.sequence && changed.digest != last.digest);

    // Measurements move and change no digest: once a day they are told all the same.
    settled(&receiver, &device).await;
    let reports = receiver.reports().len();
    at(&device, &minutes, 325 + 26 * 60).await;
    until("the report of the day", async || {
        if receiver.reports().len() > reports { Ok(()) } else { Err(receiver.heartbeats().len()) }
    })
    .await;
}

#[tokio::test]
async fn heartbeat_that_does_not_arrive_is_told_and_made_anew() {
    let receiver = Receiver::start().await;
    receiver.offer_heartbeats_and_gzip();
    let (device, _agent, minutes) = device_of(&receiver).await;
    settled(&receiver, &device).await;
    let before = receiver.heartbeats().len();
    receiver.refuse_with(Some(503));
    at(&device, &minutes, 65).await;
    let problem = device.problem(policy_schema::Code::ReportUndelivered).await;
    assert_eq!(problem.using.as_deref(), Some("nothing: the next report says it"));
    assert_eq!(device.machine_status().await.report.queued, 0);
    receiver.refuse_with(None);
    // It tries again all the time, so that it is never quiet.
    minutes(140);
    device.printed(&["policy", "reload"]).await;
    heartbeats_become(&receiver, before + 1).await;
    device.machine_status_where("no problem", |status| status.problems.is_empty()).await;
}

#[tokio::test]
async fn receiver_without_an_offer_gets_plain_reports_and_one_that_withdraws_it_too() {
    let receiver = Receiver::start().await;
    let (device, _agent, minutes) = device_of(&receiver).await;
    settled(&receiver, &device).await;
    let reports = std::cell::Cell::new(receiver.reports().len());
    // One more than before, and nothing that is still under way.
    let whole = async || {
        until("a whole report", async || {
            if receiver.reports().len() > reports.get() { Ok(()) } else { Err(receiver.reports().len()) }
        })
        .await;
        device.quiet().await;
        reports.set(receiver.reports().len());
    };
    at(&device, &minutes, 65).await;
    whole().await;
    assert_eq!((receiver.heartbeats().len(), receiver.compressed()), (0, 0));

    receiver.offer_heartbeats_and_gzip();
    device.push("60.toml", "OrganizationName = \"One\"\n");
    whole().await;
    device.push("60.toml", "OrganizationName = \"Two\"\n");
    whole().await;
    assert!(receiver.compressed() >= 1, "the response to the report before offered it");
    receiver.refuse_gzip();
    let compressed = receiver.compressed();
    device.push("60.toml", "OrganizationName = \"Three\"\n");
    whole().await;
    assert_eq!(receiver.compressed(), compressed);
    device.machine_status_where("no problem", |status| status.problems.is_empty()).await;
}

/// The files of a device on another machine: an image that was taken too late.
#[tokio::test]
async fn copy_of_a_device_reports_under_its_own_identity_and_says_whose_files_it_has() {
    let receiver = Receiver::start().await;
    let device = Device::new();
    device.push("50.toml", &policy(&receiver));
    let agent = device.start_agent().await;
    let original = receiver.report_where("a report", |_| true).await;
    agent.kill().await;
    let change = |field: &str| {
        let path = device.path("var/lib/steward/private/identity.json");
        let mut identity: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        assert!(identity[field].is_string(), "{identity}");
        identity[field] = json!("another");
        fs_err::write(&path, identity.to_string()).unwrap();
    };
    change("machine");
    let agent = device.start_agent().await;
    let is_copy = |report: &Report| report.device_id != original.device_id;
    let copy = receiver.report_where("a report of the copy", is_copy).await;
    assert_eq!(copy.cloned_from.as_ref(), Some(&original.device_id));
    assert_ne!(copy.epoch, original.epoch);
    agent.kill().await;

    // After a start of the system it is the same device, in a new epoch.
    change("boot");
    let _agent = device.start_agent().await;
    let restarted =
        receiver.report_where("a new epoch", |report| report.epoch != copy.epoch && is_copy(report)).await;
    assert_eq!((restarted.device_id, restarted.cloned_from), (copy.device_id, copy.cloned_from));
}
