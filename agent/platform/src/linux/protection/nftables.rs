//! Whether the rules of nftables filter incoming connections (libnftables-json(5)).

use serde_json::Value;

use crate::finding::Finding;

/// Jumps are followed this deep.
const MAXIMUM_DEPTH: usize = 8;

/// What becomes of a packet that reaches the end of a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// No rule accepted it, so it is refused.
    Refused,
    /// It is let in.
    Open,
    /// What decides is not followed here: a map of verdicts, a jump on a condition, a rule of another interface.
    Unclear,
}

/// What the rules do with a connection from outside that no rule accepts, over IPv4 and, if the device has it, over IPv6: a chain at the
/// hook `input` drops it by its policy, or its last rule does.
pub(super) fn finding(rules: &str, has_ipv6: bool) -> Finding {
    let Ok(rules) = serde_json::from_str::<Value>(rules) else {
        return Finding::Unknown("`nft` printed something else than JSON".to_owned());
    };
    let Some(objects) = rules["nftables"].as_array() else {
        return Finding::Unknown("`nft` printed no list of rules".to_owned());
    };
    let families: &[&str] = if has_ipv6 { &["ip", "ip6"] } else { &["ip"] };
    let ends: Vec<End> = families.iter().map(|family| end_of_family(objects, family)).collect();
    let open: Vec<&str> =
        families.iter().zip(&ends).filter(|(_, end)| **end == End::Open).map(|(family, _)| *family).collect();
    if ends.iter().all(|end| *end == End::Refused) {
        Finding::On("nftables refuses what no rule for incoming connections accepts".to_owned())
    } else if !open.is_empty() {
        Finding::Off(format!("nftables lets in over {} what no rule refuses", open.join(" and ")))
    } else {
        Finding::Unknown("the rules of nftables decide by jumps or maps, which are not followed".to_owned())
    }
}

/// The strictest of all chains that see the packets of a family: each of them can refuse.
fn end_of_family(objects: &[Value], family: &str) -> End {
    let chains = objects.iter().map(|object| &object["chain"]);
    let inputs = chains.filter(|chain| {
        chain["hook"] == "input"
            && chain["type"] == "filter"
            && (chain["family"] == family || chain["family"] == "inet")
    });
    let ends: Vec<End> = inputs
        .map(|chain| if chain["policy"] == "drop" { End::Refused } else { end_of_chain(objects, chain, 0) })
        .collect();
    [End::Refused, End::Unclear].into_iter().find(|end| ends.contains(end)).unwrap_or(End::Open)
}

/// What a chain does with what reaches its end.
fn end_of_chain(objects: &[Value], chain: &Value, depth: usize) -> End {
    let is_of_chain = |rule: &&Value| {
        rule["family"] == chain["family"] && rule["table"] == chain["table"] && rule["chain"] == chain["name"]
    };
    let rules: Vec<&Value> = objects.iter().map(|object| &object["rule"]).filter(is_of_chain).collect();
    let mut unclear = false;
    for expressions in rules.iter().rev().filter_map(|rule| rule["expr"].as_array()) {
        let names: Vec<&str> = expressions
            .iter()
            .filter_map(|expression| expression.as_object()?.keys().next())
            .map(String::as_str)
            .collect();
        let is_unconditional = names
            .iter()
            .all(|name| ["drop", "reject", "accept", "jump", "goto", "counter", "log"].contains(name));
        let has = |name: &str| names.contains(&name);
        if is_unconditional && (has("drop") || has("reject")) {
            return End::Refused;
        }
        if is_unconditional && has("accept") {
            return if unclear { End::Unclear } else { End::Open };
        }
        if is_unconditional && (has("jump") || has("goto")) {
            let target = expressions.iter().find_map(|expression| {
                expression["jump"]["target"].as_str().or_else(|| expression["goto"]["target"].as_str())
            });
            let target = objects.iter().map(|object| &object["chain"]).find(|other| {
                other["family"] == chain["family"]
                    && other["table"] == chain["table"]
                    && other["name"].as_str() == target
            });
            match target
                .filter(|_| depth < MAXIMUM_DEPTH)
                .map(|target| end_of_chain(objects, target, depth + 1))
            {
                Some(End::Refused) => return End::Refused,
                Some(End::Open) => {}
                Some(End::Unclear) | None => unclear = true,
            }
        }
        // A condition may still catch everything, through a map or a program of another interface, or a drop for one protocol.
        unclear |= !is_unconditional
            && ["jump", "goto", "vmap", "xt", "drop", "reject"].iter().any(|name| has(name))
            && is_wide(expressions);
    }
    if unclear { End::Unclear } else { End::Open }
}

/// Whether a rule with a condition may catch more than a few ports: it names no port.
fn is_wide(expressions: &[Value]) -> bool {
    let text = Value::from(expressions.to_vec()).to_string();
    !text.contains("\"dport\"") && !text.contains("\"sport\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(rules: &str) -> &'static str {
        match finding(rules, true) {
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
            (rules("accept", "input", r#"{"match":{"op":"=="}},{"drop":null}"#), "unknown"),
            (rules("accept", "input", r#"{"limit":{"rate":9}},{"drop":null}"#), "unknown"),
            (
                rules("accept", "input", r#"{"match":{"left":{"payload":{"field":"dport"}}}},{"drop":null}"#),
                "off",
            ),
            (rules("accept", "input", r#"{"vmap":{"key":"iifname"}}"#), "unknown"),
            (rules("accept", "input", r#"{"xt":null}"#), "unknown"),
            (rules("accept", "input", r#"{"jump":{"target":"gone"}}"#), "unknown"),
            (rules("drop", "input", accept).replace("inet", "ip6"), "off"),
            (rules("drop", "input", accept).replace("inet", "arp"), "off"),
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
        // As firewalld makes them: zones in chains of their own, and what no zone takes is refused.
        let zones = "nft 'table inet f { chain zone { tcp dport 22 accept; }; chain in { type filter hook input priority 10; policy accept; \
                     ct state established accept; jump zone; reject with icmpx admin-prohibited; }; }'";
        assert_eq!(kind(&read(zones)), "on");
        let nested = "nft 'table inet f { chain last { drop; }; chain in { type filter hook input priority 0; goto last; }; }'";
        assert_eq!(kind(&read(nested)), "on");
        let one_family =
            "nft 'table ip6 t { chain in { type filter hook input priority 0; policy drop; }; }'";
        assert_eq!(kind(&read(one_family)), "off");
        let both = format!("{one_family}\n{}", one_family.replace("ip6", "ip"));
        assert_eq!(kind(&read(&both)), "on");
    }

    #[test]
    fn device_without_ipv6_needs_no_rules_for_it() {
        let rules = rules("drop", "input", r#"{"accept":null}"#).replace("inet", "ip");
        assert!(matches!(finding(&rules, false), Finding::On(_)));
        assert!(matches!(finding(&rules, true), Finding::Off(_)));
    }
}
