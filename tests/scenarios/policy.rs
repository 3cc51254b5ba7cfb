//! From a policy that an administrator pushes to what the app and the status show, and what happens in between.

use e2e::device::{Device, problem};
use e2e::receiver::Receiver;
use e2e::wait::until;
use policy_schema::{Code, Severity};
use protocol::health::{ComponentName, State};
use serde_json::{Value, json};

pub(super) const POLICY: &str =
    "App = \"lab-notes\"\nIssuer = \"https://login.example.com\"\nClientId = \"one\"\n";

/// Waits until the app finds a client ID; null, until it has no configuration.
pub(super) async fn client_id_becomes(device: &Device, expected: &Value) {
    until("the app's configuration", async || match device.managed_configuration() {
        found if found.as_ref().map_or(&Value::Null, |found| &found["clientId"]) == expected => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn policy_change_reaches_app_and_status_while_agent_runs() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    assert_eq!(device.managed_configuration(), None);
    device.push("50-acme.toml", POLICY);
    client_id_becomes(&device, &json!("one")).await;
    device.settings_become(3).await;
    let overview = device.status().await;
    assert_eq!(overview.health.state, State::Unknown, "nobody has signed in yet");
    assert_eq!(overview.status.unwrap().app.title, "Lab Notes");

    device.push("60-acme.toml", "ClientId = \"two\"\n");
    client_id_becomes(&device, &json!("two")).await;
    let explained = device.printed(&["policy", "explain", "clientid"]).await;
    assert!(explained.contains("60-acme.toml") && explained.contains("overridden `one`"), "{explained}");

    device.withdraw("60-acme.toml");
    client_id_becomes(&device, &json!("one")).await;
    device.withdraw("50-acme.toml");
    client_id_becomes(&device, &Value::Null).await;
    assert_eq!(device.problem(Code::PolicyMissing).await.severity, Severity::Note);
}

#[tokio::test]
async fn invalid_value_keeps_last_good_value_through_restart_until_repaired() {
    let device = Device::new();
    device.push("50.toml", &format!("{POLICY}UpdateMode = \"automatic\"\n"));
    let agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    device.push("50.toml", &format!("{POLICY}UpdateMode = \"Automatik\"\n"));
    let found = device.problem(Code::PolicyInvalidValue).await;
    assert_eq!(found.hint.as_deref(), Some("did you mean `automatic`?"));
    assert!(found.using.unwrap().starts_with("`automatic`, the last good value (since 20"));

    // The last good values outlive the process.
    agent.kill().await;
    let _agent = device.start_agent().await;
    let found = device.problem(Code::PolicyInvalidValue).await;
    assert!(found.using.unwrap().contains("last good value"));

    device.push("50.toml", &format!("{POLICY}UpdateMode = \"notify\"\n"));
    let repaired = |overview: &_| problem(overview, Code::PolicyInvalidValue).is_none();
    device.status_where("no problem", repaired).await;
}

#[tokio::test]
async fn kill_during_apply_is_finished_at_next_start() {
    let device = Device::new();
    for round in 0..5_u64 {
        let agent = device.start_agent().await;
        let name = format!("round-{round}");
        device.push("50.toml", &POLICY.replace("one", &name));
        // Somewhere between the change and the last rename, a little later each round.
        tokio::time::sleep(std::time::Duration::from_micros(400 * round)).await;
        agent.kill().await;
        if device.configuration_file().exists() {
            assert!(device.managed_configuration().is_some(), "it is the old one or the new one, never half");
        }
        let agent = device.start_agent().await;
        client_id_becomes(&device, &json!(name)).await;
        agent.stop().await;
    }
    let left = fs_err::read_dir(device.path("etc/opt/lab-notes")).unwrap().count();
    assert_eq!(left, 1, "there is only the configuration");
}

#[tokio::test]
async fn status_without_agent_shows_last_facts_as_stale() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    agent.stop().await;
    let overview = device.status().await;
    assert!(!overview.agent_running);
    assert_eq!(overview.health.state, State::Fail);
    let policy = overview.health.components.iter().find(|one| one.name == ComponentName::Policy).unwrap();
    assert_eq!(policy.state, State::Stale);
    let screen = device.printed(&["status"]).await;
    assert!(screen.contains("systemctl start steward"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 120), "{screen}");
}

/// Every local user may read the status; only an administrator may make the agent do something.
#[tokio::test]
async fn other_user_reads_status_and_changes_nothing() {
    assert!(nix::unistd::geteuid().is_root(), "this scenario becomes another user, which only root can");
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    // The build folder may be closed to others; a copy on the device is not.
    let copy = device.path("steward");
    fs_err::copy(e2e::process::program("steward"), &copy).unwrap();
    let as_nobody = async |arguments: &str| {
        let command = format!("{} --root {} {arguments}", copy.display(), device.root_text());
        let arguments = ["--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh", "-c", &command];
        device.run(std::path::Path::new("/usr/bin/setpriv"), &arguments).await
    };
    let status = as_nobody("status --json").await;
    let overview: protocol::overview::Overview = serde_json::from_slice(&status.stdout).unwrap();
    assert!(overview.agent_running);
    let reload = as_nobody("policy reload").await;
    assert_eq!(reload.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&reload.stderr).contains("only an administrator"));
    let files = as_nobody("--version; cat var/lib/steward/private/*").await;
    assert!(!String::from_utf8_lossy(&files.stdout).contains("login.example.com"));
}

/// Found by review: a configuration that could not be read was taken for none.
#[tokio::test]
async fn unreadable_app_configuration_makes_app_and_device_error() {
    let device = Device::new();
    // A folder where the file belongs.
    fs_err::create_dir_all(device.configuration_file()).unwrap();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::AppConfigurationUnreadable).await;
    assert_eq!(problem.severity, Severity::Error);
    assert!(problem.place.as_ref().is_some_and(|place| place.ends_with("managed.json")), "{problem}");
    let health = device.status().await.health;
    let app = health.components.iter().find(|one| one.name == ComponentName::App).unwrap();
    assert_eq!((&app.state, &health.state), (&State::Error.into(), &State::Error.into()));
    assert_eq!(health.code, Some(Code::AppConfigurationUnreadable.into()));
    assert!(device.configuration_file().is_dir(), "it is not replaced");
}

/// The app reads its configuration only when it starts, so it has to be restarted after a change.
#[tokio::test]
async fn app_with_old_configuration_gives_restart_pending_until_restarted() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    let program = device.path("opt/lab-notes/versions/1.0.0/bin/lab-notes");
    fs_err::create_dir_all(program.parent().unwrap()).unwrap();
    fs_err::copy("/bin/sleep", &program).unwrap();
    let app = device.start(&program, &["60"]);
    device.push("50-acme.toml", POLICY);
    let pending = device.problem(Code::AppRestartPending).await;
    assert_eq!(pending.severity, Severity::Warning);
    assert!(pending.hint.as_ref().unwrap().starts_with("quit Lab Notes"), "{pending}");
    drop(app);
    // Start times of processes are whole seconds, counted from a start of the system that is rounded as well.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let _app = device.start(&program, &["60"]);
    assert!(device.steward(&["policy", "reload"]).await.status.success());
    let restarted = |overview: &_| problem(overview, Code::AppRestartPending).is_none();
    device.status_where("no pending restart", restarted).await;
}

/// Found by review: a forged ownership record made the agent remove any file.
#[tokio::test]
async fn forged_ownership_record_removes_no_file() {
    let device = Device::new();
    let victim = device.path("victim");
    fs_err::write(&victim, "untouched").unwrap();
    fs_err::create_dir_all(device.path("var/lib/steward")).unwrap();
    let record = json!({ "place": victim }).to_string();
    fs_err::write(device.path("var/lib/steward/managed-configuration.json"), record).unwrap();
    let _agent = device.start_agent().await;
    assert_eq!(fs_err::read_to_string(&victim).unwrap(), "untouched");
}

/// Found by review: one invalid certificate stopped every use of the network, and no problem named it.
#[tokio::test]
async fn invalid_trusted_certificate_is_reported_and_reports_are_still_sent() {
    let device = Device::new();
    let certificate = "-----BEGIN CERTIFICATE-----MAMCAQE=-----END CERTIFICATE-----";
    let receiver = Receiver::start().await;
    device.push(
        "50.toml",
        &format!(
            "AdditionalTrustedCertificates = [\"{certificate}\"]\nReportUrl = \"{}\"\nProxyMode = \"direct\"\n",
            receiver.url()
        ),
    );
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::PolicyInvalidValue).await;
    assert_eq!(problem.key.as_deref(), Some("AdditionalTrustedCertificates"));
    assert!(problem.message.starts_with("certificate 1 cannot be used"), "{problem}");
    device.machine_status_where("a delivery", |status| status.report.delivered_at.is_some()).await;
}
