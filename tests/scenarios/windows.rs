//! Windows as it is in the field: imports that delete first, other programs that take a pipe or hold a file, values that somebody
//! deletes, proxies of the Internet settings. Under Wine, with a real registry.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::device::problem;
use e2e::windows::Windows;
use policy_schema::Code;
use policy_schema::export::registry;
use policy_schema::read::drop_in;
use protocol::overview::Overview;
use protocol::report::Report;
use protocol::status::Status;
use serde_json::Value;

const CLIENT: &str = "3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77";
const QUICK: &str = "SOFTWARE\\Policies\\Amazon\\Quick";

async fn push(windows: &Windows, text: &str) {
    let policy = drop_in::read(text.as_bytes()).unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
}

/// Found by trial: every file that Steward exports begins with the deletion of the key, and after its import the agent heard of no
/// change any more.
#[tokio::test]
async fn change_after_an_import_that_deletes_the_key_first_is_noticed_each_time() {
    let windows = Windows::new();
    let agent = windows.start_agent().await;
    let key = format!("HKLM\\{}", windows.policy_key());
    let named = async |name: String| {
        e2e::wait::until("the policy of each change", async || {
            let printed = windows.steward(&["status", "--json"]).await.stdout;
            let overview = serde_json::from_slice::<Overview>(&printed).ok();
            let found =
                overview.and_then(|overview| overview.status).and_then(|status| status.policy.organization);
            if found.as_ref() == Some(&name) { Ok(()) } else { Err((found, agent.log())) }
        })
        .await;
    };
    for round in 0..10 {
        let text =
            format!("UpdateMode = \"off\"\nLogLevel = \"debug\"\nOrganizationName = \"round {round}\"\n");
        push(&windows, &text).await;
        named(format!("round {round}")).await;
        let name = format!("changed {round}");
        let added = windows.wine(&["reg", "add", &key, "/v", "OrganizationName", "/d", &name, "/f"]).await;
        assert!(added.status.success());
        named(name).await;
    }
}

/// Found by trial: whoever created the pipe first kept the agent from applying any policy.
#[tokio::test]
async fn policy_is_applied_while_another_program_has_the_agents_pipe() {
    let windows = Windows::new();
    push(&windows, "SocialSignIn = \"blocked\"\n").await;
    let squatter = windows.start_other_program("pipe", &windows.pipe("agent")).await;
    let agent = windows.start_agent_without_api();
    let written = e2e::wait::until("the value of the app", async || {
        let written = windows.registry(&windows.key(QUICK)).await;
        if written.contains("DisableSocialLogin    REG_DWORD    0x1") { Ok(written) } else { Err(written) }
    })
    .await;
    assert!(!written.is_empty());
    let told = e2e::wait::until("the problem in the status file", async || {
        let status = windows.status_file().ok_or("no status yet")?;
        let problem =
            status.problems.iter().find(|problem| problem.code == Code::AgentApiUnavailable).cloned();
        problem.ok_or("no such problem")
    })
    .await;
    assert!(told.message.contains("already listens") && told.hint.is_some(), "{told}");
    squatter.kill().await;
    let overview = windows.status_where("the agent's response", |overview| overview.agent_running).await;
    e2e::wait::until("the end of the problem", async || {
        let overview = windows.status_where("a status", |overview| overview.status.is_some()).await;
        if problem(&overview, Code::AgentApiUnavailable).is_none() { Ok(()) } else { Err(()) }
    })
    .await;
    assert!(overview.status.is_some());
    drop(agent);
}

/// Found by trial: a readable file that a user held open kept `DisableSocialLogin` from being written.
#[tokio::test]
async fn policy_is_enforced_while_another_program_holds_the_readable_files() {
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    push(&windows, "UpdateMode = \"off\"\n").await;
    windows.settings_become(1).await;
    let held = windows.state_file("sign-in.json").expect("it was written for the brokers");
    let holder = windows.start_other_program("hold", &held).await;
    push(&windows, "SocialSignIn = \"blocked\"\nOrganizationName = \"held\"\n").await;
    let unwritable = |status: &Status| {
        let found = status.problems.iter().find(|problem| problem.code == Code::AgentStateUnwritable);
        found.filter(|problem| problem.message.contains("another program has")).cloned()
    };
    let status = windows.machine_status_where("the problem", |status| unwritable(status).is_some()).await;
    let hint = unwritable(&status).unwrap().hint.unwrap();
    assert!(hint.contains("close the program"), "{hint}");
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(written.contains("DisableSocialLogin    REG_DWORD    0x1"), "{written}");
    holder.kill().await;
    windows.machine_status_where("the end of the problem", |status| unwritable(status).is_none()).await;
    let text = windows.read_state_file("sign-in.json");
    assert!(text.contains("held"), "{text}");
}

/// Found by trial: a value that somebody deleted stayed away, and the doctor reported what the agent remembered.
#[tokio::test]
async fn value_of_the_app_that_somebody_deletes_is_put_back_at_once_and_counted() {
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    push(&windows, "SocialSignIn = \"blocked\"\n").await;
    windows.settings_become(1).await;
    let quick = format!("HKLM\\{}", windows.key(QUICK));
    for count in 1..3 {
        let deleted = windows.wine(&["reg", "delete", &quick, "/v", "DisableSocialLogin", "/f"]).await;
        assert!(deleted.status.success());
        windows.machine_status_where("the repair", |status| status.app.repaired == count).await;
        let written = windows.registry(&windows.key(QUICK)).await;
        assert!(written.contains("DisableSocialLogin    REG_DWORD    0x1"), "{written}");
    }
}

/// The Internet settings of a user, with a list of proxies and with a script, as Windows keeps them.
#[tokio::test]
async fn doctor_names_the_proxy_of_the_internet_settings_and_of_their_script() {
    let windows = Windows::new();
    let script = "function FindProxyForURL(url, host) { return \"PROXY 127.0.0.1:7; DIRECT\"; }";
    let routes = axum::Router::new().route("/proxy.pac", axum::routing::get(move || async move { script }));
    let pac = format!("http://{}/proxy.pac", e2e::serve(routes).await);
    // A name that no resolver sends anywhere: one of its labels is too long.
    let issuer = format!("https://{}.example", "a".repeat(64));
    let text = format!("App = \"lab-notes\"\nIssuer = \"{issuer}\"\nClientId = \"c\"\n");
    let policy = windows.write("policy.toml", &text);
    let way = async || {
        let found: Value = windows.json(&["doctor", "--json", "--policy", &policy]).await;
        let findings = found["findings"].as_array().unwrap().clone();
        let finding = findings.into_iter().find(|finding| finding["check"] == "proxy").unwrap();
        finding["summary"].as_str().unwrap().to_owned()
    };
    windows.set_internet_settings(Some("http=127.0.0.1:9;https=127.0.0.1:8"), "*.intern.example", None).await;
    let found = way().await;
    windows.set_internet_settings(Some("127.0.0.1:8"), "*.EXAMPLE", None).await;
    let excepted = way().await;
    windows.set_internet_settings(None, "", Some(&pac)).await;
    let of_script = way().await;
    windows.set_internet_settings(None, "", None).await;
    let none = way().await;
    assert!(found.contains("through http://127.0.0.1:8 (this user's Internet settings)"), "{found}");
    assert!(excepted.contains("directly (an exception in this user's Internet settings)"), "{excepted}");
    assert!(
        of_script.contains("through http://127.0.0.1:7") && of_script.contains("/proxy.pac"),
        "{of_script}"
    );
    assert!(none.contains("directly (the system names no proxy)"), "{none}");
}

#[tokio::test]
async fn policy_check_reads_the_live_key_and_setup_makes_its_own_folder() {
    let windows = Windows::new();
    push(&windows, "UpdateMode = \"automatik\"\nScopes = [\"openid\"]\n").await;
    let key = format!("HKLM\\{}", windows.policy_key());
    let checked = windows.steward(&["policy", "check", &key]).await;
    let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(printed.contains("`automatik`") && printed.contains("did you mean `automatic`"), "{printed}");
    let missing = windows.steward(&["policy", "check", "HKLM\\SOFTWARE\\Policies\\Nobody"]).await;
    let printed = String::from_utf8_lossy(&missing.stdout).into_owned();
    assert!(printed.contains("there is no such key"), "{printed}");
    // Found by trial: the parent of a bare name is "", which cannot be made.
    let answers = [
        "setup",
        "entra",
        "--tenant",
        "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10",
        "--client-id",
        CLIENT,
        "--offline",
    ];
    let made = windows.steward_in("work", &answers).await;
    let printed = String::from_utf8_lossy(&[made.stdout, made.stderr].concat()).into_owned();
    assert!(windows.exists("work/steward-setup/policy.toml"), "{printed}");
}

/// A service on Windows has no standard error that anybody reads.
#[tokio::test]
async fn log_file_has_times_and_is_in_the_support_bundle() {
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    push(&windows, "UpdateMode = \"of\"\n").await;
    let is_told = |status: &Status| status.problems.iter().any(|one| one.code == Code::PolicyInvalidValue);
    windows.machine_status_where("the problem", is_told).await;
    let log = windows.read_state_file("agent.log");
    let line =
        log.lines().find(|line| line.contains("policy.invalid-value")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.starts_with("20") && line.contains("Z  WARN"), "{line}");
    let output = windows.steward_in("", &["support-bundle", "--output", "bundle.tar.gz"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bundle = fs_err::File::open(windows.real_path("bundle.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bundle));
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert!(names.iter().any(|name| name.ends_with("logs/agent.log")), "{names:?}");
}

/// For uninstalling: what Steward wrote goes, and nothing else.
#[tokio::test]
async fn cleanup_removes_what_steward_wrote_and_refuses_while_the_agent_runs() {
    let windows = Windows::new();
    let agent = windows.start_agent().await;
    push(&windows, "SocialSignIn = \"blocked\"\n").await;
    windows.settings_become(1).await;
    let quick = format!("HKLM\\{}", windows.key(QUICK));
    windows.wine(&["reg", "add", &quick, "/v", "DisableAutoUpdates", "/d", "major", "/f"]).await;
    let refused = windows.steward(&["cleanup"]).await;
    let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && printed.contains("the agent runs; stop it first"), "{printed}");
    agent.kill().await;
    let removed = e2e::wait::until("the lock of the agent", async || {
        let output = windows.steward(&["cleanup"]).await;
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(printed) } else { Err(printed) }
    })
    .await;
    assert!(removed.contains("DisableSocialLogin in HKLM\\SOFTWARE\\Policies\\Amazon\\Quick"), "{removed}");
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(!written.contains("DisableSocialLogin") && written.contains("major"), "{written}");
    assert_eq!(windows.state_file("status.json"), None);
}

/// What the registry of Windows says about the protection of the device, with the values that Windows writes there.
#[tokio::test]
async fn posture_is_what_the_registry_says_and_unknown_where_it_says_nothing() {
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    push(&windows, "App = \"lab-notes\"\n").await;
    windows.settings_become(1).await;
    let firewall = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy";
    let set = async |key: &str, name: &str, number: &str| {
        let key = format!("HKLM\\{}", windows.key(key));
        let arguments = ["reg", "add", &key, "/v", name, "/t", "REG_DWORD", "/d", number, "/f"];
        assert!(windows.wine(&arguments).await.status.success(), "{key}");
    };
    let becomes = async |expected: [&str; 5]| {
        e2e::wait::until("the posture", async || {
            let report: Report = windows.json(&["report", "--format", "json"]).await;
            let posture = report.health.components.into_iter().last().unwrap();
            let states: Vec<String> = posture.components.iter().map(|part| part.state().to_owned()).collect();
            if states == expected { Ok(posture) } else { Err(posture) }
        })
        .await
    };
    // Disk encryption, firewall, secure boot, lock of the screen, pending restart.
    let unknown = becomes(["unknown", "unknown", "unknown", "unknown", "pass"]).await;
    assert!(unknown.components.iter().all(|part| part.evidence.as_ref().unwrap().starts_with("HKLM\\")));
    set(r"SYSTEM\CurrentControlSet\Control\BitLockerStatus", "BootStatus", "1").await;
    set(r"SYSTEM\CurrentControlSet\Control\SecureBoot\State", "UEFISecureBootEnabled", "0").await;
    set(r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System", "InactivityTimeoutSecs", "600").await;
    for profile in ["DomainProfile", "StandardProfile", "PublicProfile"] {
        set(&format!(r"{firewall}\{profile}"), "EnableFirewall", "1").await;
    }
    becomes(["pass", "pass", "fail", "pass", "pass"]).await;
    // Group Policy decides about one kind of network, and a restart is pending.
    set(r"SOFTWARE\Policies\Microsoft\WindowsFirewall\PublicProfile", "EnableFirewall", "0").await;
    let restart = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired";
    set(restart, "any", "1").await;
    let posture = becomes(["pass", "fail", "fail", "pass", "pending"]).await;
    let reason = &posture.components[1].reason;
    assert!(reason.contains("off for public networks"), "{reason}");
    set(r"SYSTEM\CurrentControlSet\Services\mpssvc", "Start", "4").await;
    e2e::wait::until("the disabled service", async || {
        let report: Report = windows.json(&["report", "--format", "json"]).await;
        let posture = report.health.components.into_iter().last().unwrap();
        let firewall = posture.components.into_iter().nth(1).unwrap();
        if firewall.reason.contains("is disabled") { Ok(()) } else { Err(firewall) }
    })
    .await;
}
