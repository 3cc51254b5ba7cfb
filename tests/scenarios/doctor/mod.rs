//! The doctor: what it finds on a healthy device (nothing), and with a provider, a network or a device that is broken in
//! exactly one way.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::device::Device;
use e2e::keyring::Keyring;
use e2e::provider::{EMAIL, Provider};
use nix::sys::signal::Signal;
use protocol::diagnosis::{Cause, Confidence, Diagnosis};
use serde::Deserialize;

use super::external_provider::ExternalProvider;
use super::fixture::{FILE_VAULT, free_port, own_program, sign_in_device, sign_in_device_on, sign_in_policy};

mod agreement;
mod network;
mod vendor_tables;

/// What the doctor found, and its exit code.
struct Found {
    code: Option<i32>,
    findings: Vec<Finding>,
}

/// What `steward doctor --json` prints.
#[derive(Deserialize)]
struct Document {
    findings: Vec<Finding>,
}

/// The result of one check.
#[derive(Debug, Deserialize)]
struct Finding {
    check: String,
    outcome: String,
    #[serde(default)]
    diagnoses: Vec<Diagnosis>,
}

impl Found {
    fn diagnoses(&self) -> impl Iterator<Item = &Diagnosis> {
        self.findings.iter().flat_map(|finding| &finding.diagnoses)
    }

    fn causes(&self) -> Vec<Cause> {
        self.diagnoses().map(|diagnosis| diagnosis.id.known().unwrap()).collect()
    }

    fn diagnosis(&self, cause: Cause) -> &Diagnosis {
        let found = self.diagnoses().find(|diagnosis| diagnosis.id == cause);
        found.unwrap_or_else(|| panic!("no {cause:?} in {:#?}", self.findings))
    }

    fn outcome(&self, check: &str) -> &str {
        let found = self.findings.iter().find(|finding| finding.check == check);
        &found.unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings)).outcome
    }
}

/// `steward doctor`, with more arguments.
async fn run_doctor(device: &Device, more: &[&str]) -> Found {
    let output = device.steward(&[&["doctor", "--json"], more].concat()).await;
    let document: Document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let [printed, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        panic!("{error}: {printed}{errors}")
    });
    Found { code: output.status.code(), findings: document.findings }
}

/// The doctor on a policy that is not in effect yet.
async fn before_roll_out(policy: &str) -> Found {
    before_roll_out_on(&Device::new(), policy).await
}

async fn before_roll_out_on(device: &Device, policy: &str) -> Found {
    let file = device.path("policy.toml");
    fs_err::write(&file, policy).unwrap();
    run_doctor(device, &["--policy", &file.display().to_string()]).await
}

fn policy_for(provider: &Provider, more: &str) -> String {
    format!("{}{FILE_VAULT}{more}", sign_in_policy(provider, free_port()))
}

/// Nothing is wrong: the doctor finds nothing, also with a test sign-in.
#[tokio::test]
async fn healthy_device_gives_no_diagnoses() {
    let mut device = Device::new();
    let _keyring = Keyring::start(&mut device).await;
    // The app is installed.
    fs_err::create_dir_all(device.path("opt/lab-notes")).unwrap();
    let fixture = sign_in_device_on(device, "").await;
    let found = run_doctor(&fixture.device, &["--sign-in", "--expect-email", EMAIL]).await;
    assert!(found.causes().is_empty(), "{:#?}", found.findings);
    assert_eq!(found.code, Some(0), "{:#?}", found.findings);
    for check in [
        "policy",
        "discovery",
        "issuer",
        "keys",
        "redirect",
        "clock",
        "port",
        "vault",
        "app",
        "app-policy",
        "session",
        "lasting",
        "email",
        "userinfo",
        "renewal",
    ] {
        assert_eq!(found.outcome(check), "pass", "{check}: {:#?}", found.findings);
    }
    assert_eq!((fixture.provider.logins(), fixture.provider.refreshes()), (1, 1));
    let printed = fixture.device.printed(&["doctor"]).await;
    assert!(printed.ends_with("\nNothing is wrong.\n") && !printed.contains("cause"), "{printed}");
    // Without a test sign-in nothing is renewed.
    assert_eq!(fixture.provider.refreshes(), 1);
    let printed = fixture.device.printed(&["doctor", "--details"]).await;
    assert!(printed.contains("jwks_uri http"), "{printed}");
}

/// The registered client, another one, and another redirect URI.
#[tokio::test]
async fn doctor_tells_registered_from_unregistered_client_at_certified_provider() {
    let port = free_port();
    let provider = ExternalProvider::certified(&format!("http://localhost:{port}")).await;
    let policy = |client: &str, port: u16| {
        format!(
            "Issuer = \"{}\"\nClientId = \"{client}\"\nRedirectUri = \"http://localhost:{port}\"\nProxyMode = \"direct\"\n\
             App = \"lab-notes\"\n{FILE_VAULT}",
            provider.issuer
        )
    };
    let found = before_roll_out(&policy("steward-lab", port)).await;
    assert_eq!(found.outcome("redirect"), "pass", "{:#?}", found.findings);
    let found = before_roll_out(&policy("somebody-else", port)).await;
    found.diagnosis(Cause::ClientUnknown);
    // Native clients of this provider may use any port, but not any path.
    let wrong = policy("steward-lab", port).replace(&format!("{port}\""), &format!("{port}/elsewhere\""));
    let found = before_roll_out(&wrong).await;
    found.diagnosis(Cause::RedirectNotRegistered);
}

#[tokio::test]
async fn doctor_names_what_is_wrong_with_the_device() {
    let provider = Provider::start().await;
    let port = free_port();
    let policy = |more: &str| format!("{}{more}", sign_in_policy(&provider, port));
    let mut device = Device::new();
    device.set("BROWSER", "/nowhere/browser");
    device.set("PATH", "/nowhere");
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let found = before_roll_out_on(&device, &policy("")).await;
    let shown = found.diagnosis(Cause::PortTaken).evidence.join("\n");
    assert!(shown.contains(&format!("(process {}, {})", std::process::id(), own_program())), "{shown}");
    assert_eq!((found.outcome("browser"), found.outcome("vault")), ("warning", "failure"));
    found.diagnosis(Cause::NoBrowser);
    found.diagnosis(Cause::VaultUnusable);
    drop(taken);
    let found = before_roll_out_on(&device, &policy(FILE_VAULT)).await;
    assert_eq!((found.outcome("port"), found.outcome("vault")), ("pass", "pass"));

    // The policy is in effect, but nothing runs, and the app is not installed.
    let device = Device::new();
    device.push("50.toml", &policy(FILE_VAULT));
    let found = run_doctor(&device, &[]).await;
    found.diagnosis(Cause::AgentNotRunning);
    found.diagnosis(Cause::BrokerNotRunning);
    found.diagnosis(Cause::AppNotInstalled);
    assert_eq!(found.outcome("discovery"), "pass", "the policy is read all the same");
    // A policy with mistakes, and one that can break the app.
    let found = before_roll_out(&policy("UpdateMode = \"Automatik\"\n")).await;
    assert!(found.diagnosis(Cause::PolicyInvalid).fix.contains("automatic"));
    let found = before_roll_out(&policy("UpdatePinnedVersion = \"2.0.0\"\n")).await;
    assert!(found.diagnosis(Cause::UpdateHazard).fix.contains("AppSelfUpdate"));
    let found = before_roll_out("App = \"lab-notes\"\n").await;
    assert_eq!(found.diagnosis(Cause::NotConfigured).confidence, Confidence::Certain);
    assert_eq!(found.code, Some(2));
}

/// Found by review: a process that hung made its callers hang as well, when they were needed most.
#[tokio::test]
async fn doctor_and_status_do_not_wait_for_hanging_broker() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    fixture.broker.signal(Signal::SIGSTOP);
    let found = run_doctor(&fixture.device, &[]).await;
    assert_eq!(
        (found.outcome("discovery"), found.outcome("broker")),
        ("pass", "failure"),
        "{:#?}",
        found.findings
    );
    let overview = fixture.device.status().await;
    assert!(overview.sign_in.is_none() && overview.agent_running, "{overview:?}");
    fixture.broker.signal(Signal::SIGCONT);
    fixture.token().await.unwrap();
}

/// What only the app's log or an error page in the browser shows.
#[tokio::test]
async fn doctor_explains_app_log_and_error_text() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let logs = fixture.device.path("home/.local/state/lab-notes");
    fs_err::create_dir_all(&logs).unwrap();
    fs_err::write(logs.join("main.log"), "started\nsign-in: in progress\n").unwrap();
    let found = run_doctor(&fixture.device, &[]).await;
    assert_eq!(found.outcome("app-log"), "pass", "{:#?}", found.findings);
    let printed = "Enterprise sign-in for Example Corp has not been configured for this account";
    fs_err::write(logs.join("main.log"), format!("started\nerror: {printed}\nended\n")).unwrap();
    let found = run_doctor(&fixture.device, &[]).await;
    assert!(found.diagnosis(Cause::ExtensionMissing).fix.contains("Add extension"));
    assert_eq!(found.outcome("app-log"), "warning", "it may be repaired by now");
    // An old log does not show how the app is doing now.
    let old = std::time::SystemTime::UNIX_EPOCH;
    let log = fs_err::OpenOptions::new().append(true).open(logs.join("main.log")).unwrap();
    log.into_parts().0.set_modified(old).unwrap();
    let found = run_doctor(&fixture.device, &[]).await;
    assert!(!found.causes().contains(&Cause::ExtensionMissing), "{:#?}", found.findings);
    let found = run_doctor(&fixture.device, &["--error-text", "AADSTS50105: not assigned to a role"]).await;
    found.diagnosis(Cause::NotAssigned);
    let text = fixture.device.printed(&["doctor", "--error-text", "something else"]).await;
    assert!(text.contains("does not recognise this message"), "{text}");
}

/// A report has the cause, and no names.
#[tokio::test]
async fn report_has_cause_of_refused_sign_in() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| {
        behaviour.deny = true;
        behaviour.denial = ("access_denied", "AADSTS90094: The grant requires admin permission.");
    });
    let printed = fixture.login().await;
    assert!(
        printed.contains("AADSTS90094") && printed.contains("Grant consent to the app as an administrator"),
        "{printed}"
    );
    let report = fixture.device.report().await;
    assert!(report.diagnoses.iter().any(|one| one.id == Cause::ConsentMissing), "{report:#?}");
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("AADSTS"), "{text}");
}
