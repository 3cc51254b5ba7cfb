//! The doctor: a provider, a network or a device that is broken in exactly one way, and what it says; and a healthy one, of
//! which it says nothing.
#![expect(clippy::unwrap_used, reason = "everything here is a test, or what it is made of")]

use e2e::device::Device;
use e2e::keyring::Keyring;
use e2e::provider::{EMAIL, Provider};
use serde_json::Value;

use super::office::{FILE_VAULT, Office, office, office_on};
use super::{free_port, sign_in_policy};

mod network;
mod rows;

/// What the doctor found, and its exit code.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Found {
    /// The diagnoses, each with its check.
    fn diagnoses(&self) -> Vec<(&str, &Value)> {
        let all = self.findings.iter().flat_map(|finding| {
            let check = finding["check"].as_str().unwrap_or_default();
            finding["diagnoses"].as_array().into_iter().flatten().map(move |diagnosis| (check, diagnosis))
        });
        all.collect()
    }

    fn ids(&self) -> Vec<&str> {
        self.diagnoses().iter().filter_map(|(_, diagnosis)| diagnosis["id"].as_str()).collect()
    }

    fn diagnosis(&self, id: &str) -> &Value {
        let found = self.diagnoses().into_iter().find(|(_, diagnosis)| diagnosis["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {:#?}", self.findings)).1
    }

    fn outcome(&self, check: &str) -> &str {
        let found = self.findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings))["outcome"].as_str().unwrap()
    }
}

async fn examine(device: &Device, more: &[&str]) -> Found {
    let output = device.steward(&[&["doctor", "--json"], more].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let document: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    Found { code: output.status.code(), findings: document["findings"].as_array().unwrap().clone() }
}

/// A policy that is in no place yet.
async fn before_roll_out(policy: &str) -> Found {
    before_roll_out_on(&Device::new(), policy).await
}

async fn before_roll_out_on(device: &Device, policy: &str) -> Found {
    let file = device.path("policy.toml");
    fs_err::write(&file, policy).unwrap();
    examine(device, &["--policy", &file.display().to_string()]).await
}

fn policy_of(provider: &Provider, more: &str) -> String {
    format!("{}{FILE_VAULT}{more}", sign_in_policy(provider, free_port()))
}

/// Nothing is wrong: the doctor has nothing to say, also after a whole round.
#[tokio::test]
async fn of_a_healthy_device_the_doctor_says_nothing() {
    let mut device = Device::new();
    let _keyring = Keyring::start(&mut device).await;
    // It is installed.
    fs_err::create_dir_all(device.path("opt/lab-notes")).unwrap();
    let office = office_on(device, "").await;
    let found = examine(&office.device, &["--sign-in", "--expect-email", EMAIL]).await;
    assert!(found.ids().is_empty(), "{:#?}", found.findings);
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
    assert_eq!((office.provider.logins(), office.provider.refreshes()), (1, 1));
    let said = office.device.printed(&["doctor"]).await;
    assert!(said.ends_with("\nNothing is wrong.\n") && !said.contains("cause"), "{said}");
    // Without a whole round nothing is renewed.
    assert_eq!(office.provider.refreshes(), 1);
    let said = office.device.printed(&["doctor", "--details"]).await;
    assert!(said.contains("jwks_uri http"), "{said}");
}

/// The right client at the right provider, and something else that nobody registered.
#[tokio::test]
async fn a_certified_provider_is_understood_without_a_browser() {
    let port = free_port();
    let provider = super::browser::OtherProvider::start(&format!("http://localhost:{port}")).await;
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
    found.diagnosis("client-unknown");
    // Native clients of this provider may use any port, but not any path.
    let wrong = policy("steward-lab", port).replace(&format!("{port}\""), &format!("{port}/elsewhere\""));
    let found = before_roll_out(&wrong).await;
    found.diagnosis("redirect-not-registered");
}

#[tokio::test]
async fn what_is_wrong_with_this_device_is_named() {
    let provider = Provider::start().await;
    let port = free_port();
    let policy = |more: &str| format!("{}{more}", sign_in_policy(&provider, port));
    let mut device = Device::new();
    device.set("BROWSER", "/nowhere/browser");
    device.set("PATH", "/nowhere");
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let found = before_roll_out_on(&device, &policy("")).await;
    let shown = found.diagnosis("port-taken")["evidence"].to_string();
    assert!(shown.contains(&format!("(process {}, ", std::process::id())), "{shown}");
    assert_eq!((found.outcome("browser"), found.outcome("vault")), ("warning", "failure"));
    found.diagnosis("no-browser");
    found.diagnosis("vault-unusable");
    drop(taken);
    let found = before_roll_out_on(&device, &policy(FILE_VAULT)).await;
    assert_eq!((found.outcome("port"), found.outcome("vault")), ("pass", "pass"));

    // In effect, but nothing runs; then without the app.
    let device = Device::new();
    device.push("50.toml", &policy(FILE_VAULT));
    let found = examine(&device, &[]).await;
    found.diagnosis("agent-not-running");
    found.diagnosis("broker-not-running");
    found.diagnosis("app-not-installed");
    assert_eq!(found.outcome("discovery"), "pass", "the policy is read all the same");
    // A policy with mistakes, and one that is dangerous.
    let found = before_roll_out(&policy("UpdateMode = \"Automatik\"\n")).await;
    assert!(found.diagnosis("policy-invalid")["fix"].to_string().contains("automatic"));
    let found = before_roll_out(&policy("UpdatePinnedVersion = \"2.0.0\"\n")).await;
    assert!(found.diagnosis("update-hazard")["fix"].to_string().contains("AppSelfUpdate"));
    let found = before_roll_out("App = \"lab-notes\"\n").await;
    assert_eq!(
        (found.diagnosis("not-configured")["confidence"].as_str(), found.code),
        (Some("certain"), Some(2))
    );
}

/// Found by review: a process that hangs made whoever asked it hang as well, when an answer was needed most.
#[tokio::test]
async fn processes_that_hang_are_not_waited_for() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let signal = |signal| {
        let id = i32::try_from(office.broker.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal).unwrap();
    };
    signal(nix::sys::signal::Signal::SIGSTOP);
    let found = examine(&office.device, &[]).await;
    assert_eq!(
        (found.outcome("discovery"), found.outcome("broker")),
        ("pass", "failure"),
        "{:#?}",
        found.findings
    );
    let status = office.device.status().await;
    assert!(status["sign_in"].is_null() && status["agent_running"] == true, "{status}");
    signal(nix::sys::signal::Signal::SIGCONT);
    office.token().await.unwrap();
}

/// What only the app or a browser can say.
#[tokio::test]
async fn what_the_app_wrote_or_a_person_was_told_is_explained() {
    let office = office(FILE_VAULT).await;
    let logs = office.device.path("home/.local/state/lab-notes");
    fs_err::create_dir_all(&logs).unwrap();
    fs_err::write(logs.join("main.log"), "started\nsign-in: it is going on\n").unwrap();
    let found = examine(&office.device, &[]).await;
    assert_eq!(found.outcome("app-log"), "pass", "{:#?}", found.findings);
    let said = "Enterprise sign-in for Example Corp has not been configured for this account";
    fs_err::write(logs.join("main.log"), format!("started\nerror: {said}\nended\n")).unwrap();
    let found = examine(&office.device, &[]).await;
    assert!(found.diagnosis("extension-missing")["fix"].to_string().contains("Add extension"));
    assert_eq!(found.outcome("app-log"), "warning", "it may be over by now");
    // What lies long back says nothing of today.
    let old = std::time::SystemTime::UNIX_EPOCH;
    let log = fs_err::OpenOptions::new().append(true).open(logs.join("main.log")).unwrap();
    log.into_parts().0.set_modified(old).unwrap();
    let found = examine(&office.device, &[]).await;
    assert!(!found.ids().contains(&"extension-missing"), "{:#?}", found.findings);
    let found = examine(&office.device, &["--said", "AADSTS50105: not assigned to a role"]).await;
    found.diagnosis("not-assigned");
    let text = office.device.printed(&["doctor", "--said", "something else"]).await;
    assert!(text.contains("not known to mean anything"), "{text}");
}

/// Reports say what the problems come from, and name nobody.
#[tokio::test]
async fn a_report_says_what_is_the_matter() {
    let office = office(FILE_VAULT).await;
    refuse(&office).await;
    let report = office.device.printed(&["report", "--format", "json"]).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let ids: Vec<&str> =
        report["diagnoses"].as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
    assert!(ids.contains(&"consent-missing"), "{report:#}");
    assert!(!report.to_string().contains("AADSTS"), "{report:#}");
}

/// A person is refused in a vendor's words, and told what to do about it.
async fn refuse(office: &Office) {
    office.provider.behave(|behaviour| {
        behaviour.deny = true;
        behaviour.denial = ("access_denied", "AADSTS90094: The grant requires admin permission.");
    });
    let said = office.device.printed(&["login"]).await;
    assert!(
        said.contains("AADSTS90094") && said.contains("Grant consent to the app as an administrator"),
        "{said}"
    );
}
