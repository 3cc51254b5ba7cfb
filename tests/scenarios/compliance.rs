//! Intune's custom compliance: the discovery script that `steward export` writes, run by a shell, and the rules for what it prints.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::device::Device;
use e2e::process::program;
use e2e::provider::Provider;
use policy_schema::Code;
use serde_json::{Map, Value};

use super::fixture::{SIGN_IN_SETTINGS, free_port, sign_in_policy};

/// Runs the discovery script with these folders as its path, and gives what it prints.
async fn discover(device: &Device, path: &str) -> Map<String, Value> {
    let script = device.path("out/intune/compliance-discovery.sh").display().to_string();
    let path = format!("PATH={path}");
    let output = device.run(Path::new("/usr/bin/env"), &[&path, "/bin/sh", &script]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.lines().count() == 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Whether a device complies with the rules, as Intune evaluates them: the names of those that it does not comply with.
fn broken_rules(rules: &Value, discovered: &Map<String, Value>) -> Vec<String> {
    let complies = |rule: &Value| {
        let value = discovered.get(rule["SettingName"].as_str().unwrap()).expect("the script prints it");
        let (value, operand) = (value.as_str().unwrap(), rule["Operand"].as_str().unwrap());
        let numbers = |text: &str| text.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
        match (rule["DataType"].as_str().unwrap(), rule["Operator"].as_str().unwrap()) {
            ("String", "IsEquals") => value == operand,
            ("String", "NotEquals") => value != operand,
            ("Version", "GreaterEquals") => numbers(value) >= numbers(operand),
            other => panic!("a rule that Intune may know, and this test does not: {other:?}"),
        }
    };
    let rules = rules["Rules"].as_array().unwrap().iter();
    let broken = rules.filter(|rule| !complies(rule));
    broken.map(|rule| rule["SettingName"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn device_complies_only_while_its_agent_says_so() {
    let device = Device::new();
    let provider = Provider::start().await;
    device.push("50.toml", &sign_in_policy(&provider, free_port()));
    let out = device.path("out").display().to_string();
    device.printed(&["export", "--format", "intune", "--output", &out]).await;
    let rules = fs_err::read(device.path("out/intune/compliance-rules.json")).unwrap();
    let rules: Value = serde_json::from_slice(&rules).unwrap();
    for rule in rules["Rules"].as_array().unwrap() {
        let texts = &rule["RemediationStrings"][0];
        assert_eq!(rule["RemediationStrings"].as_array().unwrap().len(), 4);
        assert!(
            texts["Language"] == "en_US" && texts["Title"].is_string() && texts["Description"].is_string()
        );
    }

    let printed = device.printed(&["report", "--format", "intune-rules"]).await;
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), rules, "the program has the same rules");

    // Where the program is not installed, nothing is known, so nothing complies.
    let absent = discover(&device, "/usr/bin:/bin").await;
    assert_eq!(broken_rules(&rules, &absent), ["AgentVersion", "PolicyState", "AgentState"]);

    let bin = device.path("bin");
    fs_err::create_dir_all(&bin).unwrap();
    let steward = bin.join("steward");
    let (real, root) = (program("steward"), device.root_text());
    fs_err::write(&steward, format!("#!/bin/sh\nexec '{}' --root '{root}' \"$@\"\n", real.display()))
        .unwrap();
    fs_err::set_permissions(&steward, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    // The same keys, whatever the device knows: Intune takes a missing one for an error. So it takes an empty version, which the agent
    // printed for one that has never run.
    let stopped = discover(&device, &path).await;
    assert!(stopped.keys().eq(absent.keys()), "{stopped:?} {absent:?}");
    assert_eq!(broken_rules(&rules, &stopped), ["AgentVersion", "PolicyState", "AgentState"]);

    // A new device, on which nobody has signed in yet: a rule about the sign-in would keep its user from ever signing in, where
    // the identity provider asks for a device that complies.
    let agent = device.start_agent().await;
    device.settings_become(SIGN_IN_SETTINGS).await;
    let running = discover(&device, &path).await;
    assert!(running.keys().eq(absent.keys()), "{running:?}");
    assert_eq!((&running["SignInState"], broken_rules(&rules, &running)), (&"unknown".into(), Vec::new()));
    drop(agent);
    assert_eq!(
        broken_rules(&rules, &discover(&device, &path).await),
        ["PolicyState", "AgentState", "Health"]
    );
    let _agent = device.start_agent().await;
    device.push("50.toml", "App = \"lab-notes\"\nUpdateMode = \"sometimes\"\n");
    device.problem(Code::PolicyInvalidValue).await;
    assert_eq!(broken_rules(&rules, &discover(&device, &path).await), ["PolicyState", "Health"]);
}
