//! Intune's custom compliance: the discovery script that `steward export` writes, run by a shell, and the rules for what it prints.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::cmp::Ordering;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::device::Device;
use e2e::process::program;
use e2e::provider::Provider;
use jiff::Timestamp;
use policy_schema::Code;
use serde_json::{Map, Value, json};

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

/// The operators and the types of Intune's custom compliance. How the values of a type are compared; `None` if one is none of it.
fn compare(kind: &str, value: &str, operand: &str) -> Option<Ordering> {
    let numbers = |text: &str| text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>();
    match kind {
        "Boolean" => Some(value.parse::<bool>().ok()?.cmp(&operand.parse().ok()?)),
        "Int64" => Some(value.parse::<i64>().ok()?.cmp(&operand.parse().ok()?)),
        "Double" => value.parse::<f64>().ok()?.partial_cmp(&operand.parse().ok()?),
        "DateTime" => Some(value.parse::<Timestamp>().ok()?.cmp(&operand.parse().ok()?)),
        "Version" => Some(numbers(value)?.cmp(&numbers(operand)?)),
        "String" => Some(value.cmp(operand)),
        other => panic!("Intune has no type {other}"),
    }
}

/// Whether a value complies with a rule, as Intune evaluates it.
fn complies(rule: &Value, value: &str) -> bool {
    let text = |name: &str| rule[name].as_str().unwrap();
    let Some(order) = compare(text("DataType"), value, text("Operand")) else { return false };
    match text("Operator") {
        "IsEquals" => order.is_eq(),
        "NotEquals" => order.is_ne(),
        "GreaterThan" => order.is_gt(),
        "GreaterEquals" => order.is_ge(),
        "LessThan" => order.is_lt(),
        "LessEquals" => order.is_le(),
        other => panic!("Intune has no operator {other}"),
    }
}

/// The names of the rules that a device does not comply with.
fn broken_rules(rules: &Value, discovered: &Map<String, Value>) -> Vec<String> {
    let name = |rule: &Value| rule["SettingName"].as_str().unwrap().to_owned();
    let value = |rule: &Value| discovered.get(&name(rule)).expect("the script prints it").as_str().unwrap();
    let rules = rules["Rules"].as_array().unwrap().iter();
    rules.filter(|rule| !complies(rule, value(rule))).map(name).collect()
}

/// What Intune refuses when a file of rules is uploaded.
fn refused_by_intune(rules: &Value) -> Vec<String> {
    let all = rules["Rules"].as_array().unwrap();
    let mut refused = Vec::new();
    if all.len() > 100 || rules.to_string().len() > 100 * 1024 {
        refused.push("more than 100 rules, or more than 100 KB".to_owned());
    }
    for rule in all {
        let text = |name: &str| rule[name].as_str().unwrap_or_default();
        let name = text("SettingName");
        let one_of = |name: &str, all: &[&str]| all.contains(&text(name));
        if !one_of(
            "Operator",
            &["IsEquals", "NotEquals", "GreaterThan", "GreaterEquals", "LessThan", "LessEquals"],
        ) {
            refused.push(format!("{name}: operator {}", text("Operator")));
        }
        if !one_of("DataType", &["Boolean", "Int64", "Double", "String", "DateTime", "Version"]) {
            refused.push(format!("{name}: type {}", text("DataType")));
        }
        if compare(text("DataType"), text("Operand"), text("Operand")).is_none() {
            refused.push(format!("{name}: {} is no {}", text("Operand"), text("DataType")));
        }
        let languages: Vec<&str> = rule["RemediationStrings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|texts| texts["Title"].is_string() && texts["Description"].is_string())
            .filter_map(|texts| texts["Language"].as_str())
            .collect();
        if !languages.contains(&"en_US")
            || !rule["MoreInfoUrl"].as_str().is_some_and(|url| url.starts_with("https://"))
        {
            refused.push(format!("{name}: no text in en_US, or no address"));
        }
    }
    refused
}

/// The validator itself: each operator with each type, where a value is less, equal and greater.
#[test]
fn each_operator_of_intune_compares_each_type() {
    for (kind, less, operand, greater) in [
        ("Boolean", "false", "false", "true"),
        ("Int64", "-7", "10", "11"),
        ("Double", "9.5", "10", "10.25"),
        ("String", "a", "b", "c"),
        ("DateTime", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2027-01-01T00:00:00Z"),
        ("Version", "1.9.9", "1.10.0", "1.10.1"),
    ] {
        for (operator, expected) in [
            ("IsEquals", [false, true, false]),
            ("NotEquals", [true, false, true]),
            ("GreaterThan", [false, false, true]),
            ("GreaterEquals", [false, true, true]),
            ("LessThan", [true, false, false]),
            ("LessEquals", [true, true, false]),
        ] {
            let rule = json!({ "DataType": kind, "Operator": operator, "Operand": operand });
            let found = [less, operand, greater].map(|value| complies(&rule, value));
            // There is nothing below `false`.
            let skip = usize::from(kind == "Boolean");
            assert_eq!(found[skip..], expected[skip..], "{kind} {operator}");
            assert!(
                kind == "String" || !complies(&rule, "unknown"),
                "{kind} {operator}: no value never complies"
            );
        }
    }
    let wrong = json!({ "Rules": [{ "SettingName": "X", "Operator": "IsEqual", "DataType": "Int64", "Operand": "one" }] });
    assert_eq!(refused_by_intune(&wrong).len(), 3);
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
    assert_eq!(refused_by_intune(&rules), Vec::<String>::new());
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
