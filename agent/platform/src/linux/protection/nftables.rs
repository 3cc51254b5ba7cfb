//! Whether the rules of nftables filter incoming connections (libnftables-json(5)).

use serde_json::Value;

use crate::finding::Finding;

/// What the rules do with a connection from outside that no rule accepts: a chain at the hook `input` drops it by its policy, or its
/// last rule without a condition does.
pub(super) fn finding(rules: &str) -> Finding {
    let Ok(rules) = serde_json::from_str::<Value>(rules) else {
        return Finding::Unknown("`nft` printed something else than JSON".to_owned());
    };
    let Some(objects) = rules["nftables"].as_array() else {
        return Finding::Unknown("`nft` printed no rules and no list".to_owned());
    };
    let chains = || objects.iter().map(|object| &object["chain"]);
    let inputs: Vec<&Value> =
        chains().filter(|chain| chain["hook"] == "input" && chain["type"] == "filter").collect();
    let of_chain = |chain: &Value, rule: &Value| {
        rule["family"] == chain["family"] && rule["table"] == chain["table"] && rule["chain"] == chain["name"]
    };
    let ends_in = |chain: &Value| {
        let mut rules = objects.iter().map(|object| &object["rule"]);
        let last = rules.rfind(|rule| of_chain(chain, rule));
        last.is_some_and(|rule| refuses_all(&rule["expr"]))
    };
    match inputs.iter().find(|chain| chain["policy"] == "drop" || ends_in(chain)) {
        Some(chain) => {
            let name = |field: &str| chain[field].as_str().unwrap_or_default();
            Finding::On(format!(
                "nftables: {} {} {} drops what it does not accept",
                name("family"),
                name("table"),
                name("name")
            ))
        }
        None if inputs.is_empty() => {
            Finding::Off("nftables has no chain for incoming connections".to_owned())
        }
        None => Finding::Off(
            "the chains of nftables for incoming connections let in what they do not name".to_owned(),
        ),
    }
}

/// Whether a rule refuses whatever reaches it: it has a verdict, and besides it only counts or logs.
fn refuses_all(expressions: &Value) -> bool {
    let Some(expressions) = expressions.as_array() else { return false };
    let is = |expression: &Value, names: &[&str]| {
        expression.as_object().is_some_and(|object| object.keys().all(|key| names.contains(&key.as_str())))
    };
    expressions.iter().any(|expression| is(expression, &["drop", "reject"]))
        && expressions.iter().all(|expression| {
            is(expression, &["drop", "reject", "counter", "log", "limit"]) && !is(expression, &["limit"])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(rules: &str) -> &'static str {
        match finding(rules) {
            Finding::On(_) => "on",
            Finding::Off(_) => "off",
            Finding::Unknown(_) => "unknown",
        }
    }

    fn rules(policy: &str, hook: &str, expressions: &str) -> String {
        format!(
            r#"{{"nftables":[{{"metainfo":{{"version":"1.0.6"}}}},{{"table":{{"family":"inet","name":"t"}}}},
            {{"chain":{{"family":"inet","table":"t","name":"in","type":"filter","hook":"{hook}","prio":0,"policy":"{policy}"}}}},
            {{"rule":{{"family":"inet","table":"t","chain":"in","expr":[{{"match":{{"op":"in"}}}},{{"accept":null}}]}}}},
            {{"rule":{{"family":"inet","table":"t","chain":"in","expr":[{expressions}]}}}}]}}"#
        )
    }

    #[test]
    fn firewall_is_on_if_what_no_rule_accepts_is_refused() {
        let accept = r#"{"accept":null}"#;
        for (rules, expected) in [
            (rules("drop", "input", accept), "on"),
            (rules("accept", "input", accept), "off"),
            (rules("drop", "forward", accept), "off"),
            (rules("accept", "input", r#"{"reject":{"type":"icmpx"}}"#), "on"),
            (rules("accept", "input", r#"{"counter":{"packets":1}},{"drop":null}"#), "on"),
            (rules("accept", "input", r#"{"match":{"op":"=="}},{"drop":null}"#), "off"),
            (rules("accept", "input", r#"{"limit":{"rate":9}},{"drop":null}"#), "off"),
            (rules("accept", "input", r#"{"counter":null}"#), "off"),
            (r#"{"nftables":[{"metainfo":{}}]}"#.to_owned(), "off"),
            ("{}".to_owned(), "unknown"),
            (String::new(), "unknown"),
        ] {
            assert_eq!(kind(&rules), expected, "{rules}");
        }
    }

    /// The rules of the real kernel, in a network of the test's own. Needs `nft`, which `cargo xtask ci` installs.
    #[test]
    fn rules_of_the_kernel_are_read() {
        let read = |script: &str| {
            let script = format!("{script}\nexec nft --json list ruleset");
            let arguments = ["--map-root-user", "--net", "sh", "-ec", &script];
            let output = std::process::Command::new("unshare").args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let none = read("");
        assert_eq!(kind(&none), "off");
        let chain = "nft 'table inet t { chain in { type filter hook input priority 0; ct state established accept; REST }; }'";
        for (rest, expected) in [
            ("tcp dport 22 drop;", "off"),
            ("reject;", "on"),
            ("counter drop;", "on"),
            ("policy drop;", "on"),
        ] {
            let rules = read(&chain.replace("REST", rest));
            assert_eq!(kind(&rules), expected, "{rules}");
        }
    }
}
