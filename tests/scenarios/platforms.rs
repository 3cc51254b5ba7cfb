//! The same policies on every platform: one definition (`fixtures/policies.toml`), every form that policy can take.
#![expect(clippy::unwrap_used, reason = "everything here is a test, or what it is made of")]

use std::collections::{BTreeMap, BTreeSet};

use e2e::device::{Device, Process};
use e2e::provider::{EMAIL, Provider};
use e2e::windows::Windows;
use policy_schema::export::{mobileconfig, registry, toml as drop_in_file};
use policy_schema::raw::RawPolicy;
use policy_schema::read::drop_in;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{free_port, sign_in_policy};

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    policy: String,
    /// Value and origin, by key.
    expect: BTreeMap<String, (Value, String)>,
    /// Key and code.
    problems: BTreeSet<String>,
}

impl Case {
    fn raw(&self) -> RawPolicy {
        drop_in::read(self.policy.as_bytes()).unwrap()
    }

    /// Compares with what `steward policy show --json` or `policy check --json` printed.
    fn holds(&self, printed: &Value, form: &str) {
        let name = format!("{} ({form})", self.name);
        assert!(!printed.to_string().contains("canary"), "{name}: a secret is shown");
        for (key, (value, origin)) in &self.expect {
            let story = printed["settings"].as_array().unwrap().iter().find(|story| story["key"] == **key);
            let story = story.unwrap_or_else(|| panic!("{name}: no {key}"));
            assert_eq!(&story["value"], value, "{name}: {key}");
            let from = story["origin"]["from"].as_str().unwrap();
            let from = if from == "policy" { story["origin"]["level"].as_str().unwrap() } else { from };
            assert_eq!(from, origin, "{name}: {key}");
        }
        let found: BTreeSet<String> = printed["problems"]
            .as_array()
            .unwrap()
            .iter()
            // What settings mean together is the same wherever they lie.
            .filter(|problem| problem["code"] != "policy.contradiction")
            .map(|problem| {
                format!("{} {}", problem["key"].as_str().unwrap(), problem["code"].as_str().unwrap())
            })
            .collect();
        assert_eq!(found, self.problems, "{name}");
    }
}

fn cases() -> Vec<Case> {
    let text = include_str!("../fixtures/policies.toml");
    let mut cases = toml::from_str::<Cases>(text).unwrap().case;
    assert!(cases.len() > 9);
    cases.push(Case {
        name: "a text as long as a book".to_owned(),
        policy: format!("OrganizationName = \"{}\"\n", "a".repeat(400_000)),
        expect: BTreeMap::from([("OrganizationName".to_owned(), (Value::Null, "unset".to_owned()))]),
        problems: BTreeSet::from(["OrganizationName policy.invalid-value".to_owned()]),
    });
    cases
}

/// Writes a form of each case to a file and tries it.
async fn check_files(form: &str, extension: &str, write: impl Fn(&RawPolicy) -> Vec<u8>) {
    let device = Device::new();
    for case in cases() {
        let path = device.path(&format!("policy.{extension}"));
        fs_err::write(&path, write(&case.raw())).unwrap();
        let output = device.steward(&["policy", "check", "--json", &path.display().to_string()]).await;
        case.holds(&serde_json::from_slice(&output.stdout).unwrap(), form);
    }
}

#[tokio::test]
async fn drop_ins_mean_what_they_say() {
    let device = Device::new();
    for case in cases() {
        device.push("50-case.toml", &case.policy);
        let output = device.steward(&["policy", "show", "--json"]).await;
        case.holds(&serde_json::from_slice(&output.stdout).unwrap(), "drop-in folder");
    }
    check_files("exported drop-in", "toml", |policy| drop_in_file::bare(policy).into_bytes()).await;
}

#[tokio::test]
async fn preferences_mean_the_same_in_xml_and_in_binary() {
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
    check_files("profile", "mobileconfig", |policy| mobileconfig::profiles(policy, &[])[0].bytes.clone())
        .await;
}

#[tokio::test]
async fn a_registry_pol_means_the_same() {
    check_files("Registry.pol", "pol", registry::pol).await;
}

#[tokio::test]
async fn a_real_registry_means_the_same() {
    let windows = Windows::new();
    for case in cases() {
        windows.import(&registry::reg_at(&case.raw(), &windows.policy_key())).await;
        case.holds(&windows.json(&["policy", "show", "--json"]).await, "registry");
    }
}

/// What an administrator gets from `steward export`, imported as it is, at the place that policy really has.
#[tokio::test]
async fn the_exported_reg_file_is_read_where_group_policy_writes() {
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
    let shown = windows.at_home(&["policy", "show", "--json"]).await;
    let value = |key: &str| {
        let story = shown["settings"].as_array().unwrap().iter().find(|story| story["key"] == key);
        (story.unwrap()["value"].clone(), story.unwrap()["origin"]["place"].clone())
    };
    let place = json!("HKLM\\SOFTWARE\\Policies\\Steward");
    assert_eq!(value("UpdateMode"), (json!("off"), place.clone()));
    assert_eq!(value("Scopes"), (json!(["openid"]), place.clone()));
    assert_eq!(value("LogLevel"), (json!("debug"), place));
    let removed = windows.wine(&["reg", "delete", "HKLM\\SOFTWARE\\Policies\\Steward", "/f"]).await;
    assert!(removed.status.success());
}

#[tokio::test]
async fn types_that_only_the_registry_has_are_named_in_the_problem() {
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
    let shown = windows.json(&["policy", "show", "--json"]).await;
    let stories = shown["settings"].as_array().unwrap();
    let value = |key: &str| stories.iter().find(|story| story["key"] == key).unwrap()["value"].clone();
    assert_eq!(value("SupportContact"), json!("cd"), "a text without terminator");
    assert_eq!(value("Scopes"), json!(["openid"]), "REG_MULTI_SZ");
    assert_eq!(value("ClientId"), json!("%TEMP%"), "REG_EXPAND_SZ is not expanded");
    assert_eq!(value("UpdateDeferDays"), json!(7), "REG_QWORD");
    let problem = |key: &str| {
        let problems = shown["problems"].as_array().unwrap();
        problems.iter().find(|problem| problem["key"] == key).unwrap()["message"].as_str().unwrap().to_owned()
    };
    assert!(problem("UpdateMode").contains("got REG_BINARY"), "{shown}");
    assert!(problem("OrganizationName").contains("REG_SZ with half a character"), "{shown}");
    assert!(problem("ReportIntervalMinutes").contains("REG_DWORD of 1 bytes"), "{shown}");
}

/// Who works at a device can write there; so it is never authority.
#[tokio::test]
async fn what_a_person_writes_into_their_own_registry_counts_for_nothing() {
    let windows = Windows::new();
    let key = format!("HKCU\\{}", windows.policy_key());
    let added = windows.wine(&["reg", "add", &key, "/v", "UpdateMode", "/d", "automatic", "/f"]).await;
    assert!(added.status.success());
    let shown = windows.json(&["policy", "show", "--json"]).await;
    assert_eq!(shown["problems"][0]["code"], "policy.missing");
    windows.wine(&["reg", "delete", &key, "/f"]).await;
}

#[tokio::test]
async fn an_agent_on_windows_follows_the_registry_and_prepares_the_app() {
    const QUICK: &str = "SOFTWARE\\Policies\\Amazon\\Quick";
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    let push = async |text: &str| {
        let policy = drop_in::read(text.as_bytes()).unwrap();
        windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    };

    // No key, then one: the key above is watched meanwhile.
    push("SocialSignIn = \"blocked\"\nAppSelfUpdate = \"patch-only\"\n").await;
    let settings = |status: &Value| status["status"]["policy"]["settings"].clone();
    windows.status_where("two settings", |status| settings(status) == 2).await;
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(written.contains("DisableSocialLogin    REG_DWORD    0x1"), "{written}");
    assert!(written.contains("DisableAutoUpdates    REG_SZ    minor"), "{written}");

    // A change of values, twice: a notification comes only once for each time it was asked for.
    push("AppSelfUpdate = \"none\"\n").await;
    windows.status_where("one setting", |status| settings(status) == 1).await;
    push("AppSelfUpdate = \"none\"\nSocialSignIn = \"blocked\"\nUpdateMode = \"off\"\n").await;
    windows.status_where("three settings", |status| settings(status) == 3).await;

    // A Group Policy of the app's own says otherwise: it wins, and the difference is told.
    let quick = format!("HKLM\\{}", windows.key(QUICK));
    windows.wine(&["reg", "add", &quick, "/v", "DisableAutoUpdates", "/d", "major", "/f"]).await;
    push("AppSelfUpdate = \"none\"\nSocialSignIn = \"blocked\"\n").await;
    let status = windows
        .status_where("the conflict", |status| {
            e2e::device::problem(status, "app.configuration-conflict").is_some()
        })
        .await;
    let conflict = e2e::device::problem(&status, "app.configuration-conflict").unwrap();
    assert_eq!(conflict["key"], "AppSelfUpdate");
    let explained = windows.steward(&["policy", "explain", "AppSelfUpdate"]).await.stdout;
    let explained = String::from_utf8_lossy(&explained).into_owned();
    assert!(explained.contains("app.configuration-conflict"), "{explained}");
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(written.contains("DisableAutoUpdates    REG_SZ    major"), "{written}");

    // Policy is withdrawn: what the agent wrote goes, what Group Policy wrote stays.
    let policy_key = format!("HKLM\\{}", windows.policy_key());
    windows.wine(&["reg", "delete", &policy_key, "/f"]).await;
    windows.status_where("no settings", |status| settings(status) == 0).await;
    let written = windows.registry(&windows.key(QUICK)).await;
    assert!(!written.contains("DisableSocialLogin") && written.contains("major"), "{written}");
}

#[tokio::test]
async fn an_app_on_windows_that_runs_on_with_its_old_configuration_is_told() {
    let windows = Windows::new();
    let _agent = windows.start_agent().await;
    let app = windows.start_app("Amazon Quick.exe");
    let policy = drop_in::read(b"SocialSignIn = \"blocked\"\n").unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    let pending = |status: &Value| e2e::device::problem(status, "app.restart-pending").is_some();
    windows.status_where("a restart that is due", pending).await;
    drop(app);
    // The next look at policy is also one at the app.
    let policy = drop_in::read(b"SocialSignIn = \"blocked\"\nUpdateMode = \"off\"\n").unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    windows.status_where("no restart that is due", |status| !pending(status)).await;
}

/// A whole session on Windows: named pipe, Credential Manager, the browser's way back to this device, renewals, a start
/// after `kill`, a stranger, and the end.
#[tokio::test]
async fn a_person_on_windows_signs_in_and_stays_signed_in() {
    let windows = Windows::new();
    let provider = Provider::start().await;
    provider.behave(|behaviour| behaviour.lifetime = 10);
    let _agent = windows.start_agent().await;
    let policy = drop_in::read(sign_in_policy(&provider, free_port()).as_bytes()).unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    windows.status_where("the policy", |status| status["status"]["policy"]["settings"] == 6).await;
    let broker: Process = windows.start_broker().await;

    let mut login = windows.talk(&["login", "--no-browser"]);
    let address = login.address().await;
    let page = e2e::person::type_password(&e2e::browser(), &address).await.unwrap().text().await.unwrap();
    assert!(page.contains("You are signed in"), "{page}");
    let said = login.rest().await;
    assert!(said.contains(&format!("Signed in as {EMAIL}.")), "{said}");
    let sign_in = async || windows.json(&["whoami", "--json"]).await;
    assert_eq!(sign_in().await["kept"], "secret-store");
    let vault = windows.vault();
    assert!(vault.len() == 1 && vault[0].contains(".sealed"), "the key is in Credential Manager: {vault:?}");

    let token = async || {
        let output = windows.steward(&["token"]).await;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    };
    let (first, second) = (token().await.unwrap(), token().await.unwrap());
    assert_ne!(first, second, "each of these is a renewal");
    let found = windows.json(&["doctor", "--json"]).await;
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

    let refused = windows.stranger(&["token"]).await;
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("stranger.exe may not have tokens"), "{refused}");
    let callers = String::from_utf8_lossy(&windows.steward(&["broker", "callers"]).await.stdout).into_owned();
    assert!(callers.contains("stranger.exe") && callers.contains("refused: /v1/token once"), "{callers}");
    // One broker for one person.
    let second = windows.steward(&["broker"]).await;
    let second = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.contains("another broker of yours runs already"), "{second}");

    assert!(windows.steward(&["logout"]).await.status.success());
    assert_eq!(provider.revocations(), 1);
    assert_eq!(windows.vault(), Vec::<String>::new());
    drop(broker);
}

/// Whoever finds the port taken is told on Windows, too. (Its holder is no Windows program here, so it has no name.)
#[tokio::test]
async fn a_taken_port_is_told_on_windows() {
    let windows = Windows::new();
    let provider = Provider::start().await;
    let port = free_port();
    let _agent = windows.start_agent().await;
    let policy = drop_in::read(sign_in_policy(&provider, port).as_bytes()).unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
    windows.status_where("the policy", |status| status["status"]["policy"]["settings"] == 6).await;
    let _broker = windows.start_broker().await;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = windows.steward(&["login"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot be listened at") && said.contains("--paste"), "{said}");
}
