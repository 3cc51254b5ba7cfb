//! The same policies on every platform: one definition (`fixtures/policies.toml`), and every form that policy can have.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::collections::{BTreeMap, BTreeSet};

use e2e::device::{Device, problem};
use e2e::process::Process;
use e2e::provider::{EMAIL, Provider};
use e2e::windows::Windows;
use policy_schema::export::{mobileconfig, registry, toml as drop_in_file};
use policy_schema::raw::RawPolicy;
use policy_schema::read::drop_in;
use policy_schema::resolve::{Level, Origin};
use policy_schema::{Code, Open};
use protocol::overview::Overview;
use protocol::policy::{ResolvedPolicy, ResolvedSetting};
use protocol::session::Kept;
use serde::Deserialize;
use serde_json::{Value, json};

use super::fixture::{SIGN_IN_SETTINGS, free_port, sign_in_policy};

/// The content of `fixtures/policies.toml`.
#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// A policy, and what it has to mean.
#[derive(Deserialize)]
struct Case {
    name: String,
    policy: String,
    /// Value and origin (`enforced`, `recommended`, `default` ...), by key.
    expect: BTreeMap<String, (Value, String)>,
    /// Key and code, with a space between.
    problems: BTreeSet<String>,
}

impl Case {
    fn raw(&self) -> RawPolicy {
        drop_in::read(self.policy.as_bytes()).unwrap()
    }

    /// Compares with what `steward policy show --json` or `policy check --json` printed.
    fn check(&self, printed: &ResolvedPolicy, form: &str) {
        let name = format!("{} ({form})", self.name);
        let text = serde_json::to_string(printed).unwrap();
        assert!(!text.contains("canary"), "{name}: a secret is shown");
        for (key, (value, origin)) in &self.expect {
            let setting = printed.get(key).unwrap_or_else(|| panic!("{name}: no {key}"));
            assert_eq!(setting.value.as_ref().unwrap_or(&Value::Null), value, "{name}: {key}");
            assert_eq!(origin_of(setting), origin, "{name}: {key}");
        }
        let found: BTreeSet<String> = printed
            .problems
            .iter()
            // Contradictions between settings are the same in every form.
            .filter(|problem| problem.code != Code::PolicyContradiction)
            .map(|problem| format!("{} {}", problem.key.as_ref().unwrap(), problem.code.as_str()))
            .collect();
        assert_eq!(found, self.problems, "{name}");
    }
}

/// The origin of a setting as `fixtures/policies.toml` writes it.
fn origin_of(setting: &ResolvedSetting) -> &'static str {
    match &setting.origin {
        Open::Known(Origin::Policy { level: Level::Enforced, .. }) => "enforced",
        Open::Known(Origin::Policy { level: Level::Recommended, .. }) => "recommended",
        Open::Known(Origin::LastGood { .. }) => "last-good",
        Open::Known(Origin::Strict) => "strict",
        Open::Known(Origin::Default) => "default",
        Open::Known(Origin::Unset) => "unset",
        Open::Unknown(origin) => panic!("an unknown origin: {origin}"),
    }
}

/// The source of a setting that policy sets.
fn source_of(setting: &ResolvedSetting) -> &str {
    match &setting.origin {
        Open::Known(Origin::Policy { source, .. }) => source,
        other @ (Open::Known(_) | Open::Unknown(_)) => panic!("not set by policy: {other:?}"),
    }
}

fn cases() -> Vec<Case> {
    let text = include_str!("../fixtures/policies.toml");
    let mut cases = toml::from_str::<Cases>(text).unwrap().case;
    assert!(cases.len() > 9);
    cases.push(Case {
        name: "a text of 400000 characters".to_owned(),
        policy: format!("OrganizationName = \"{}\"\n", "a".repeat(400_000)),
        expect: BTreeMap::from([("OrganizationName".to_owned(), (Value::Null, "unset".to_owned()))]),
        problems: BTreeSet::from(["OrganizationName policy.invalid-value".to_owned()]),
    });
    cases
}

/// Writes a form of each case to a file and checks it.
async fn check_files(form: &str, extension: &str, write: impl Fn(&RawPolicy) -> Vec<u8>) {
    let device = Device::new();
    for case in cases() {
        let path = device.path(&format!("policy.{extension}"));
        fs_err::write(&path, write(&case.raw())).unwrap();
        let checked = device.json(&["policy", "check", "--json", &path.display().to_string()]).await;
        case.check(&checked.unwrap(), form);
    }
}

#[tokio::test]
async fn drop_ins_and_exported_drop_ins_give_expected_values() {
    let device = Device::new();
    for case in cases() {
        device.push("50-case.toml", &case.policy);
        case.check(&device.policy().await, "drop-in folder");
    }
    check_files("exported drop-in", "toml", |policy| drop_in_file::bare(policy).into_bytes()).await;
}

#[tokio::test]
async fn preferences_in_xml_and_binary_mean_the_same_as_drop_in() {
    check_files("preferences in XML", "plist", |policy| {
        let mut bytes = Vec::new();
        plist::Value::Dictionary(mobileconfig::preferences(policy)).to_writer_xml(&mut bytes).unwrap();
        bytes
    })
    .await;
    check_files("preferences in binary", "plist", |policy| {
        let mut bytes = Vec::new();
        plist::Value::Dictionary(mobileconfig::preferences(policy)).to_writer_binary(&mut bytes).unwrap();
        bytes
    })
    .await;
    check_files("profile", "mobileconfig", |policy| {
        mobileconfig::profiles(policy, &[], None)[0].bytes.clone()
    })
    .await;
}

#[tokio::test]
async fn registry_pol_means_the_same_as_drop_in() {
    check_files("Registry.pol", "pol", registry::pol).await;
}

#[tokio::test]
async fn registry_means_the_same_as_drop_in() {
    let windows = Windows::new();
    for case in cases() {
        windows.import(&registry::reg_at(&case.raw(), &windows.policy_key())).await;
        case.check(&windows.policy().await, "registry");
    }
}

/// What `steward export` writes, imported as it is, at the key that policy really has.
#[tokio::test]
async fn exported_reg_file_is_read_without_root() {
    let windows = Windows::new();
    let device = Device::new();
    let output = device.path("export");
    let policy = device.path("policy.toml");
    fs_err::write(
        &policy,
        "UpdateMode = \"off\"\nScopes = [\"openid\"]\n[Recommended]\nLogLevel = \"debug\"\n",
    )
    .unwrap();
    let arguments = ["export", "--format", "registry", "--policy", &policy.display().to_string()];
    let exported =
        device.steward(&[&arguments[..], &["--output", &output.display().to_string()]].concat()).await;
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    windows.import(&fs_err::read(output.join("registry/Steward.reg")).unwrap()).await;
    let shown = windows.policy_without_root().await;
    for (key, value) in
        [("UpdateMode", json!("off")), ("Scopes", json!(["openid"])), ("LogLevel", json!("debug"))]
    {
        let setting = shown.get(key).unwrap();
        assert_eq!(setting.value, Some(value), "{key}");
        assert_eq!(source_of(setting), "HKLM\\SOFTWARE\\Policies\\Steward", "{key}");
    }
    let removed = windows.wine(&["reg", "delete", "HKLM\\SOFTWARE\\Policies\\Steward", "/f"]).await;
    assert!(removed.status.success());
}

#[tokio::test]
async fn unsupported_registry_types_are_named_in_problems() {
    let windows = Windows::new();
    let text = format!(
        "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\{}]\r\n\
         @=\"the value without a name\"\r\n\
         \"UpdateMode\"=hex:01,02\r\n\
         \"OrganizationName\"=hex(1):61,00,62\r\n\
         \"SupportContact\"=hex(1):63,00,64,00\r\n\
         \"Scopes\"=hex(7):6f,00,70,00,65,00,6e,00,69,00,64,00,00,00,00,00\r\n\
         \"ClientId\"=hex(2):25,00,54,00,45,00,4d,00,50,00,25,00,00,00\r\n\
         \"UpdateDeferDays\"=hex(b):07,00,00,00,00,00,00,00\r\n\
         \"ReportIntervalMinutes\"=hex(4):3c\r\n",
        windows.policy_key()
    );
    let utf16 = text.encode_utf16().flat_map(u16::to_le_bytes);
    windows.import(&[0xff, 0xfe].into_iter().chain(utf16).collect::<Vec<u8>>()).await;
    let shown = windows.policy().await;
    let value = |key: &str| shown.get(key).unwrap().value.clone().unwrap();
    assert_eq!(value("SupportContact"), json!("cd"), "a text without terminator");
    assert_eq!(value("Scopes"), json!(["openid"]), "REG_MULTI_SZ");
    assert_eq!(value("UpdateDeferDays"), json!(7), "REG_QWORD");
    for (key, expected) in [
        ("UpdateMode", "got REG_BINARY"),
        ("OrganizationName", "REG_SZ with half a character"),
        ("ReportIntervalMinutes", "REG_DWORD of 1 bytes"),
        // REG_EXPAND_SZ is not expanded.
        ("ClientId", "`%TEMP%` is a placeholder"),
    ] {
        let problem = shown.problems.iter().find(|problem| problem.key.as_deref() == Some(key)).unwrap();
        assert!(problem.message.contains(expected), "{problem}");
    }
}

/// A user can write to their own registry, so nothing in it is policy.
#[tokio::test]
async fn policy_in_registry_of_user_is_ignored() {
    let windows = Windows::new();
    let key = format!("HKCU\\{}", windows.policy_key());
    let added = windows.wine(&["reg", "add", &key, "/v", "UpdateMode", "/d", "automatic", "/f"]).await;
    assert!(added.status.success());
    assert_eq!(windows.policy().await.problems[0].code, Code::PolicyMissing);
    windows.wine(&["reg", "delete", &key, "/f"]).await;
}

#[tokio::test]
async fn agent_on_windows_follows_registry_and_configures_app() {
    const QUICK: &str = "SOFTWARE\\Policies\\Amazon\\Quick";
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    let push = async |text: &str| {
        let policy = drop_in::read(text.as_bytes()).unwrap();
        windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    };

    // The policy key does not exist yet, so the key above is watched.
    push("SocialSignIn = \"blocked\"\nAppSelfUpdate = \"patch-only\"\n").await;
    windows.settings_become(2).await;
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(written.contains("DisableSocialLogin    REG_DWORD    0x1"), "{written}");
    assert!(written.contains("DisableAutoUpdates    REG_SZ    minor"), "{written}");

    // Two changes of values: Windows notifies once for each registration.
    push("AppSelfUpdate = \"none\"\n").await;
    windows.settings_become(1).await;
    push("AppSelfUpdate = \"none\"\nSocialSignIn = \"blocked\"\nUpdateMode = \"off\"\n").await;
    windows.settings_become(3).await;

    // A Group Policy of the app's own says something else: it wins, and the difference is a problem.
    let quick = format!("HKLM\\{}", windows.key(QUICK));
    windows.wine(&["reg", "add", &quick, "/v", "DisableAutoUpdates", "/d", "major", "/f"]).await;
    push("AppSelfUpdate = \"none\"\nSocialSignIn = \"blocked\"\n").await;
    let conflict = |overview: &Overview| problem(overview, Code::AppConfigurationConflict).cloned();
    let overview = windows.status_where("the conflict", |overview| conflict(overview).is_some()).await;
    assert_eq!(conflict(&overview).unwrap().key.as_deref(), Some("AppSelfUpdate"));
    let explained = windows.steward(&["policy", "explain", "AppSelfUpdate"]).await.stdout;
    let explained = String::from_utf8_lossy(&explained).into_owned();
    assert!(explained.contains("app.configuration-conflict"), "{explained}");
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(written.contains("DisableAutoUpdates    REG_SZ    major"), "{written}");

    // Policy is withdrawn: what the agent wrote is removed, what Group Policy wrote stays.
    let policy_key = format!("HKLM\\{}", windows.policy_key());
    windows.wine(&["reg", "delete", &policy_key, "/f"]).await;
    windows.settings_become(0).await;
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(!written.contains("DisableSocialLogin") && written.contains("major"), "{written}");
}

#[tokio::test]
async fn app_on_windows_with_old_configuration_gives_restart_pending() {
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    let app = windows.start_app("Amazon Quick.exe");
    let policy = drop_in::read(b"SocialSignIn = \"blocked\"\n").unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    let pending = |overview: &Overview| problem(overview, Code::AppRestartPending).is_some();
    windows.status_where("a pending restart", pending).await;
    drop(app);
    // When policy is read, the app is observed too.
    let policy = drop_in::read(b"SocialSignIn = \"blocked\"\nUpdateMode = \"off\"\n").unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    windows.status_where("no pending restart", |overview| !pending(overview)).await;
}

/// A whole session on Windows: named pipe, Credential Manager, the redirect to this device, renewals, a start after `kill`,
/// a program that is not allowed, and the end.
#[tokio::test]
async fn windows_session_survives_renewal_and_kill_and_ends_with_logout() {
    let windows = Windows::new();
    let provider = Provider::start().await;
    provider.behave(|behaviour| behaviour.lifetime = 10);
    let _agent = windows.start_agent().await;
    let policy = drop_in::read(sign_in_policy(&provider, free_port()).as_bytes()).unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    windows.settings_become(SIGN_IN_SETTINGS).await;
    let broker: Process = windows.start_broker().await;

    let mut login = windows.interactive(&["login", "--no-browser"]);
    let address = login.next_address().await;
    let page = e2e::browser::submit_login(&e2e::browser::client(), &address).await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("You are signed in"), "{page}");
    let printed = login.remaining_output().await;
    assert!(printed.contains(&format!("Signed in as {EMAIL}.")), "{printed}");
    let session: protocol::session::SessionStatus = windows.json(&["whoami", "--json"]).await;
    assert_eq!(session.kept, Some(Kept::SecretStore.into()));
    let vault = windows.vault();
    assert!(vault.len() == 1 && vault[0].contains(".sealed"), "the key is in Credential Manager: {vault:?}");

    let token = async || {
        let output = windows.steward(&["token"]).await;
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(printed) } else { Err(printed) }
    };
    let (first, second) = (token().await.unwrap(), token().await.unwrap());
    assert_ne!(first, second, "each of these is a renewal");
    let found: Value = windows.json(&["doctor", "--json"]).await;
    let outcome = |check: &str| {
        let findings = found["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["check"] == check).map(|finding| finding["outcome"].clone())
    };
    for check in
        ["policy", "discovery", "issuer", "keys", "redirect", "port", "vault", "agent", "session", "email"]
    {
        assert_eq!(outcome(check), Some("pass".into()), "{check}: {found:#}");
    }
    broker.kill().await;
    let broker = windows.start_broker().await;
    token().await.unwrap();
    assert_eq!(provider.logins(), 1);

    let refused = windows.run_copy(&["token"]).await;
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("copy.exe may not have tokens"), "{refused}");
    let callers = String::from_utf8_lossy(&windows.steward(&["broker", "callers"]).await.stdout).into_owned();
    assert!(callers.contains("copy.exe") && callers.contains("refused: /v1/token once"), "{callers}");
    // One broker for one user.
    let second = windows.steward(&["broker"]).await;
    let second = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.contains("another broker of yours runs already"), "{second}");

    assert!(windows.steward(&["logout"]).await.status.success());
    assert_eq!(provider.revocations(), 1);
    assert_eq!(windows.vault(), Vec::<String>::new());
    drop(broker);
}

/// The process that has the port is no Windows program here, so it is not named.
#[tokio::test]
async fn taken_port_on_windows_fails_sign_in_with_hint() {
    let windows = Windows::new();
    let provider = Provider::start().await;
    let port = free_port();
    let _agent = windows.start_agent().await;
    let policy = drop_in::read(sign_in_policy(&provider, port).as_bytes()).unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    windows.settings_become(SIGN_IN_SETTINGS).await;
    let _broker = windows.start_broker().await;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = windows.steward(&["login"]).await;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(printed.contains("cannot listen at") && printed.contains("--paste"), "{printed}");
}
