//! Formats of earlier versions (`fixtures/frozen`): today's types read them and lose nothing, and today's processes go on
//! with what an earlier version left.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::{Path, PathBuf};

use broker::configuration::Configuration;
use e2e::device::Device;
use e2e::feed::Feed;
use e2e::receiver::Receiver;
use e2e::wait::until;
use jiff::Timestamp;
use platform::file::Access;
use platform::paths::Paths;
use platform::state::StateFile;
use policy_schema::resolve::Origin;
use policy_schema::settings::VaultFallback;
use policy_schema::{Code, LastGood, Open, Severity};
use protocol::broker::CallerRecord;
use protocol::diagnosis::Cause;
use protocol::health::{ComponentName, State};
use protocol::overview::Overview;
use protocol::policy::ResolvedPolicy;
use protocol::report::Report;
use protocol::session::{Kept, SessionState, SessionStatus};
use protocol::status::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Fields that were renamed after version 0.1; what reads them accepts the old name.
const RENAMED: [(&str, &str); 5] = [
    ("places", "sources"),
    ("losers", "overridden"),
    ("held", "quarantined"),
    ("looked_at", "checked_at"),
    ("questions", "requests"),
];
/// The device of the samples.
const DEVICE_ID: &str = "be3d6e24-332f-4589-bf54-6f05fc6c3a87";
/// The number of the report that waits.
const SEQUENCE: u64 = 4;

fn sample_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/frozen/0.1").join(name)
}

fn sample_text(name: &str) -> String {
    fs_err::read_to_string(sample_path(name)).unwrap()
}

fn sample(name: &str) -> Value {
    serde_json::from_str(&sample_text(name)).unwrap()
}

/// Reads a sample as a type of today.
fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(sample(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Changes the objects of a document, the inner ones first.
fn change_objects(value: &mut Value, change: &impl Fn(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(|inner| change_objects(inner, change));
            change(object);
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| change_objects(inner, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A document with today's names of its fields.
fn with_new_names(mut document: Value) -> Value {
    change_objects(&mut document, &|object| {
        for (old, new) in RENAMED {
            if let Some(value) = object.remove(old) {
                object.insert(new.to_owned(), value);
            }
        }
    });
    document
}

/// Reads a sample and writes it again: everything is still there.
fn loses_nothing<T: Serialize + DeserializeOwned>(name: &str) {
    let written = serde_json::to_value(read::<T>(name)).unwrap();
    assert_eq!(written, with_new_fields(&written, with_new_names(sample(name))), "{name}");
}

/// What today's version adds: last good values say which sources they come from.
fn with_new_fields(written: &Value, mut expected: Value) -> Value {
    if let (Some(sources), Some(fields)) = (written.get("sources"), expected.as_object_mut()) {
        fields.entry("sources").or_insert_with(|| sources.clone());
    }
    expected
}

/// The same with a field in every object that only a newer version knows.
fn loses_no_unknown_field<T: Serialize + DeserializeOwned>(name: &str) {
    let mut document = with_new_names(sample(name));
    change_objects(&mut document, &|object| {
        object.insert("of_newer_version".to_owned(), json!({ "list": [1, null] }));
    });
    let value: T = serde_json::from_value(document.clone()).unwrap();
    let written = serde_json::to_value(value).unwrap();
    assert_eq!(written, with_new_fields(&written, document), "{name}");
}

/// Reads a sample of a state file as the agent does.
fn load<T: Serialize + DeserializeOwned>(name: &str) -> T {
    StateFile::<T>::new(sample_path(name), Access::Private).peek().unwrap().unwrap()
}

#[test]
fn frozen_status_and_overview_are_read_and_lose_nothing() {
    let overview: Overview = read("overview.json");
    assert!(overview.agent_running);
    assert_eq!(overview.health.state, State::Fail);
    assert_eq!(overview.health.code, Some(Code::PolicyInvalidValue.into()));
    let names: Vec<_> = overview.health.components.iter().filter_map(|one| one.name.known()).collect();
    assert_eq!(names.first(), Some(&ComponentName::Agent));
    assert_eq!(names.last(), Some(&ComponentName::SignIn));
    let status = overview.status.unwrap();
    assert_eq!((status.policy.sources.len(), status.policy.settings), (2, 15));
    assert_eq!(status.policy.organization.as_deref(), Some("Example Corp"));
    assert_eq!(status.app.version.unwrap().to_string(), "1.0.0");
    assert_eq!(status.update.quarantined.first().unwrap().to_string(), "2.0.0");
    assert!(status.update.checked_at.is_some());
    assert_eq!((status.problem_count, &status.problems[0].severity), (2, &Severity::Error.into()));
    loses_nothing::<Overview>("overview.json");

    let status: Status = load("status.json");
    assert_eq!(status.policy.sources[1].values, Some(15));
    loses_nothing::<Status>("status.json");
    loses_no_unknown_field::<Status>("status.json");
}

#[test]
fn frozen_reports_are_read_and_lose_nothing() {
    let report: Report = read("report.json");
    assert_eq!((report.device_id.as_str(), report.sequence), (DEVICE_ID, SEQUENCE - 1));
    assert!(report.next_report_by > report.sent_at);
    assert_eq!(report.sign_in[0].account.as_deref(), Some("954aac2924b621ac"), "a pseudonym");
    assert!(report.diagnoses.iter().any(|one| one.id == Cause::PolicyInvalid));
    assert_eq!(report.posture.unwrap().architecture, "x86_64");
    loses_nothing::<Report>("report.json");
    loses_no_unknown_field::<Report>("report.json");

    let queued: Report = load("queued-report.json");
    assert_eq!((queued.device_id.as_str(), queued.sequence), (DEVICE_ID, SEQUENCE));
    loses_nothing::<Report>("queued-report.json");
}

#[test]
fn frozen_session_and_callers_are_read_and_lose_nothing() {
    let session: SessionStatus = read("session.json");
    assert!(session.is_signed_in() && session.lasting);
    assert_eq!(session.account.as_deref(), Some("ada@example.com"));
    assert_eq!(session.kept, Some(Kept::File.into()));
    assert_eq!(session.problems[0].code, Code::VaultDegraded);
    loses_nothing::<SessionStatus>("session.json");
    loses_no_unknown_field::<SessionStatus>("session.json");

    let callers: Vec<CallerRecord> = read("callers.json");
    let curl = callers.iter().find(|caller| caller.application == "/usr/bin/curl").unwrap();
    assert!(!curl.allowed && curl.reason.is_some());
    assert_eq!((curl.route.as_str(), curl.requests), ("/v1/token", 1));
    loses_nothing::<Vec<CallerRecord>>("callers.json");
}

#[test]
fn frozen_policy_and_last_good_values_are_read_and_lose_nothing() {
    let policy: ResolvedPolicy = read("policy.json");
    let mode = policy.get("UpdateMode").unwrap();
    assert_eq!(mode.value, Some(json!("automatic")));
    assert!(matches!(mode.origin, Open::Known(Origin::LastGood { .. })), "{:?}", mode.origin);
    assert_eq!(mode.overridden[0].value, Some(json!("notify")));
    assert_eq!(policy.get("ReportEnrollmentToken").unwrap().value, Some(json!("(set)")));
    assert_eq!(policy.set_by_policy().count(), 15);
    loses_nothing::<ResolvedPolicy>("policy.json");

    let last_good: LastGood = load("last-good.json");
    assert_eq!(last_good.values.len(), 15);
    assert!(last_good.values["UpdateMode"].source.ends_with("50-steward.toml, line 10"));
    loses_nothing::<LastGood>("last-good.json");
    loses_no_unknown_field::<LastGood>("last-good.json");
}

#[test]
fn frozen_sign_in_configuration_is_read_by_the_broker() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("var/lib/steward");
    fs_err::create_dir_all(&state).unwrap();
    fs_err::copy(sample_path("sign-in.json"), state.join("sign-in.json")).unwrap();
    let paths = Paths::new(Some(root.path().to_owned()));
    let configuration = Configuration::load(&paths).map_err(|error| error.to_string()).unwrap();
    assert_eq!(configuration.client_id.as_deref(), Some("steward-lab"));
    assert_eq!(configuration.allowed_email_domains, Some(vec!["example.com".to_owned()]));
    assert_eq!(configuration.vault_fallback, VaultFallback::EncryptedFile);
    assert_eq!(configuration.app_folders, ["/opt/lab-notes/"]);
}

/// A device with the state that an agent of version 0.1 left.
fn device_of_earlier_version() -> Device {
    let device = Device::new();
    let root = device.root_text();
    for (name, path) in [
        ("status.json", "var/lib/steward/status.json"),
        ("sign-in.json", "var/lib/steward/sign-in.json"),
        ("managed-configuration.json", "var/lib/steward/managed-configuration.json"),
        ("identity.json", "var/lib/steward/private/identity.json"),
        ("last-good.json", "var/lib/steward/private/last-good.json"),
        ("update.json", "var/lib/steward/private/update.json"),
        ("queued-report.json", "var/lib/steward/private/reports/00000000000000000004.json"),
        ("app-configuration.json", "etc/opt/lab-notes/managed.json"),
    ] {
        let path = device.path(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        // Below the device's root again.
        let text = sample_text(name).replace("\"/etc/", &format!("\"{root}/etc/"));
        fs_err::write(path, text).unwrap();
    }
    device
}

#[tokio::test]
async fn agent_goes_on_with_the_state_of_an_earlier_version() {
    let (receiver, feed) = (Receiver::start().await, Feed::start().await);
    feed.publish("2.0.0");
    let device = device_of_earlier_version();
    let configuration = sample("app-configuration.json");
    let policy = |issuer: &str| {
        format!(
            "App = \"lab-notes\"\nClientId = \"steward-lab\"\nIssuer = \"{issuer}\"\nAppSelfUpdate = \"none\"\n\
             ProxyMode = \"direct\"\nReportUrl = \"{}\"\nUpdateFeed = \"{}\"\nUpdateMode = \"Automatik\"\n",
            receiver.url(),
            feed.url()
        )
    };
    device.push("50-steward.toml", &policy(configuration["issuer"].as_str().unwrap()));
    let _agent = device.start_agent().await;

    // The queued report comes first, then one of the same device with the next number.
    let next = receiver.report_where("a new report", |report| report.sequence == SEQUENCE + 1).await;
    assert_eq!(next.device_id, DEVICE_ID);
    let first = &receiver.reports()[0];
    assert_eq!((first.sequence, &first.device_id, &first.epoch), (SEQUENCE, &next.device_id, &next.epoch));
    assert!(first.status.problems.iter().any(|problem| problem.key.as_deref() == Some("UpdateDeferDays")));

    // The last good value is still in effect, since then.
    let last_good: LastGood = read("last-good.json");
    let mode = device.policy().await.get("UpdateMode").unwrap().clone();
    let since: Timestamp = last_good.values["UpdateMode"].since;
    assert_eq!(mode.value, Some(json!("automatic")));
    assert!(
        matches!(&mode.origin, Open::Known(Origin::LastGood { since: found, .. }) if *found == since),
        "{:?}",
        mode.origin
    );

    // The quarantined version is not tried again.
    let printed = device.printed(&["update"]).await;
    assert!(printed.contains("2.0.0 is quarantined"), "{printed}");

    // What the earlier version wrote for the app is the agent's to change.
    assert_eq!(device.managed_configuration(), Some(configuration));
    device.push("50-steward.toml", &policy("https://login.example.com"));
    until("the app's new configuration", async || match device.managed_configuration() {
        Some(found) if found["issuer"] == "https://login.example.com" => Ok(()),
        other => Err(other),
    })
    .await;
    let problems = device.machine_status().await.problems;
    let of_state =
        |code: &Open<Code>| *code == Code::AppConfigurationConflict || *code == Code::AgentStateUnreadable;
    assert!(!problems.iter().any(|problem| of_state(&problem.code)), "{problems:?}");
}

/// Policy was withdrawn before the update to this version: the agent removes what the earlier version wrote for the app,
/// and nothing else.
#[tokio::test]
async fn ownership_record_of_an_earlier_version_decides_what_is_removed() {
    for recorded in [true, false] {
        let device = device_of_earlier_version();
        if !recorded {
            fs_err::remove_file(device.path("var/lib/steward/managed-configuration.json")).unwrap();
        }
        let _agent = device.start_agent().await;
        device.problem(Code::PolicyMissing).await;
        assert_eq!(device.configuration_file().exists(), !recorded, "recorded: {recorded}");
    }
}

/// A saved session is bound to the device and its root folder, so the broker runs in a mount namespace that has both; and
/// without a network, because the session's provider does not exist any more.
#[tokio::test]
async fn broker_opens_the_session_of_an_earlier_version() {
    assert!(nix::unistd::geteuid().is_root(), "mounting needs root, and the session belongs to it");
    let device = device_of_earlier_version();
    let folder = device.session_folder();
    fs_err::create_dir_all(&folder).unwrap();
    let files = ["7e7096467d91e14e-a.key", "7e7096467d91e14e.sealed"];
    for name in files {
        fs_err::copy(sample_path("vault").join(name), folder.join(name)).unwrap();
    }
    let command = format!(
        "mount --bind {} /mnt && mount --bind {} /etc/machine-id && exec {} --root /mnt broker",
        device.root_text(),
        sample_path("vault/machine-id").display(),
        e2e::process::program("steward").display()
    );
    let broker = device.start("/usr/bin/unshare".as_ref(), &["--mount", "--net", "/bin/sh", "-c", &command]);
    let session = until("a response of the broker", async || {
        let session: anyhow::Result<SessionStatus> = device.json(&["whoami", "--json"]).await;
        session.map_err(|error| (error, broker.log()))
    })
    .await;
    assert_eq!(session.state, SessionState::SignedIn, "{session:?}");
    assert_eq!(session.account.as_deref(), Some("ada@example.com"));
    assert_eq!(session.kept, Some(Kept::File.into()));
    assert!(session.lasting, "there is a refresh token");
    let read = |name: &str| {
        (fs_err::read(folder.join(name)).unwrap(), fs_err::read(sample_path("vault").join(name)).unwrap())
    };
    for (kept, frozen) in files.map(read) {
        assert_eq!(kept, frozen);
    }
}
