//! Dashboards show the truth: nothing is called healthy that was not seen to work. Found by trials with devices on which
//! nobody could sign in, and whose health was fine.

use e2e::device::Device;
use e2e::provider::{CLIENT_ID, Provider};
use policy_schema::Code;
use protocol::diagnosis::Cause;
use protocol::health::{ComponentHealth, ComponentName, State};

use super::fixture::free_port;

/// A policy for this issuer.
fn policy(issuer: &str) -> String {
    format!(
        "App = \"lab-notes\"\nIssuer = \"{issuer}\"\nClientId = \"{CLIENT_ID}\"\nVaultFallback = \"encrypted-file\"\nProxyMode = \"direct\"\n"
    )
}

async fn sign_in_of(device: &Device) -> ComponentHealth {
    let health = device.status().await.health;
    health.components.into_iter().find(|part| part.name == ComponentName::SignIn).expect("it is always there")
}

#[tokio::test]
async fn issuer_that_does_not_fit_or_respond_is_known_before_the_first_user() {
    let provider = Provider::start().await;
    let device = Device::new();
    let redirect = format!("RedirectUri = \"http://localhost:{}\"\n", free_port());
    let policy = |issuer: &str| format!("{}{redirect}", policy(issuer));
    device.push("50.toml", &policy(provider.issuer()));
    let _agent = device.start_agent().await;
    device.printed(&["policy", "reload"]).await;
    let status = device
        .machine_status_where("the check of the provider", |status| {
            status.sign_in.as_ref().is_some_and(|sign_in| sign_in.checked_at.is_some())
        })
        .await;
    let sign_in = status.sign_in.unwrap();
    assert!(sign_in.configured && sign_in.next.is_some() && sign_in.diagnoses.is_empty(), "{sign_in:?}");
    assert_eq!(sign_in_of(&device).await.state, State::Unknown, "nobody has tried");

    device.push("50.toml", &policy(&format!("{}/", provider.issuer())));
    device.printed(&["policy", "reload"]).await;
    let problem = device.problem(Code::SignInDiscoveryInvalid).await;
    assert!(problem.hint.is_some() && problem.place.is_some(), "{problem}");
    assert_eq!(sign_in_of(&device).await.state, State::Fail);

    device.push("50.toml", &policy("http://127.0.0.1:9"));
    device.printed(&["policy", "reload"]).await;
    device.problem(Code::SignInProviderUnreachable).await;
    assert_eq!(sign_in_of(&device).await.state, State::Error, "nothing could be observed");
    let report = device.report().await;
    assert!(!report.diagnoses.is_empty(), "{report:#?}");
}

/// A program that never gives the port back stops every sign-in, and nobody saw that but the users.
#[tokio::test]
async fn port_that_another_program_keeps_is_known_before_the_first_user() {
    let provider = Provider::start().await;
    let device = Device::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    device.push(
        "50.toml",
        &format!("{}RedirectUri = \"http://localhost:{port}\"\n", policy(provider.issuer())),
    );
    let _agent = device.start_agent().await;
    device.printed(&["policy", "reload"]).await;
    let problem = device.problem(Code::SignInPortTaken).await;
    assert!(problem.message.contains(&format!("process {}", std::process::id())), "{problem}");
    assert_eq!(problem.place.as_deref(), Some(format!("http://localhost:{port}").as_str()));
    assert_eq!(sign_in_of(&device).await.state, State::Fail);
    let next = device.status().await.status.and_then(|status| status.sign_in?.next);
    assert!(next.is_some(), "it is looked at again");
    let report = device.report().await;
    assert!(report.diagnoses.iter().any(|one| one.id == Cause::PortTaken), "{:#?}", report.diagnoses);
    drop(taken);
    device.printed(&["policy", "reload"]).await;
    device
        .machine_status_where("a free port", |status| {
            status.problems.iter().all(|problem| problem.code != Code::SignInPortTaken)
        })
        .await;
}

#[tokio::test]
async fn sign_in_is_unknown_until_a_user_was_signed_in_and_known_after_a_restart() {
    let provider = Provider::start().await;
    let device = Device::new();
    let port = free_port();
    device.push(
        "50.toml",
        &format!("{}RedirectUri = \"http://localhost:{port}\"\n", policy(provider.issuer())),
    );
    let mut agent = device.start_agent().await;
    let _broker = device.start_broker().await;
    assert_eq!(sign_in_of(&device).await.state, State::Unknown);
    assert_eq!(device.status().await.health.state, State::Unknown);
    device.printed(&["login"]).await;
    let proven = |status: &protocol::status::Status| {
        status.sign_in.as_ref().is_some_and(|sign_in| sign_in.proven_at.is_some())
    };
    device.machine_status_where("the sign-in", proven).await;
    assert_eq!(sign_in_of(&device).await.state, State::Pass);
    device.printed(&["logout"]).await;
    let after = sign_in_of(&device).await;
    assert_eq!(after.state, State::Pending, "{after:?}");
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.wait_for_exit().await;
    let _agent = device.start_agent().await;
    device.machine_status_where("the proof of before", proven).await;
    // Another client proves nothing.
    device.push("60.toml", "ClientId = \"another\"\n");
    device.machine_status_where("no proof", |status| !proven(status)).await;
}

/// Such a device gave nothing to its collectors, which took that for a failed collection.
#[tokio::test]
async fn before_the_agent_has_run_every_format_says_unknown() {
    let device = Device::new();
    for (format, expected) in [
        ("json", "\"state\": \"unknown\""),
        ("intune", "\"Health\":\"unknown\""),
        ("jamf", "<result>unknown</result>"),
        ("prometheus", "steward_component_state{component=\"device\",state=\"unknown\"} 1"),
        ("text", "device              unknown"),
    ] {
        let output = device.steward(&["report", "--format", format]).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(expected), "{format}: {text}");
    }
    let intune = device.printed(&["report", "--format", "intune"]).await;
    assert!(
        intune.contains("\"PolicyState\":\"unknown\"") && intune.contains("\"SignInState\":\"unknown\""),
        "{intune}"
    );
}

/// Intune said that there were no problems, and named the code of one.
#[tokio::test]
async fn every_format_counts_the_same_problems() {
    let device = Device::new();
    device.push("50.toml", "App = \"lab-notes\"\nUpdateMode = \"of\"\n");
    let _agent = device.start_agent().await;
    device.problem(Code::PolicyInvalidValue).await;
    let _broker = device.start_broker().await;
    let report = device.report().await;
    let count = report.problem_count();
    assert!(count >= 1 && count == report.problems().count(), "{report:#?}");
    let intune = device.printed(&["report", "--format", "intune"]).await;
    assert!(intune.contains(&format!("\"ProblemCount\":{count}")), "{intune}");
    let prometheus = device.printed(&["report", "--format", "prometheus"]).await;
    assert!(prometheus.contains(&format!("steward_problems {count}\n")), "{prometheus}");
    assert!(prometheus.contains("steward_problem_info{code=\"policy.invalid-value\"} 1"), "{prometheus}");
    for metric in [
        "steward_app_info{app=\"lab-notes\"",
        "steward_sessions{state=\"signed-in\"} 0",
        "steward_diagnosis_info{id=",
    ] {
        assert!(prometheus.contains(metric), "{metric}: {prometheus}");
    }
}

#[tokio::test]
async fn app_is_found_where_the_operating_system_installed_it_and_missed_only_if_policy_wants_it() {
    let device = Device::new();
    device.push("50.toml", "App = \"lab-notes\"\nUpdateMode = \"off\"\n");
    let agent = device.start_agent().await;
    assert_eq!(device.machine_status().await.app.installed, None);
    device.push("60.toml", "UpdateMinimumVersion = \"1.0.0\"\n");
    device.problem(Code::AppNotInstalled).await;
    drop(agent);
    fs_err::create_dir_all(device.path("var/lib/dpkg")).unwrap();
    let status = "Package: lab-notes\nStatus: install ok installed\nVersion: 1.2.3\n\n";
    fs_err::write(device.path("var/lib/dpkg/status"), status).unwrap();
    let _agent = device.start_agent().await;
    let status = device.machine_status_where("the app", |status| status.app.installed.is_some()).await;
    assert_eq!(status.app.version, Some(semver::Version::new(1, 2, 3)));
    assert!(status.problems.iter().all(|problem| problem.code != Code::AppNotInstalled));
}
