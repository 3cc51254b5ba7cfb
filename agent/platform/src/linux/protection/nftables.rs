//! Whether the rules of nftables filter incoming connections (libnftables-json(5)).

use serde_json::Value;

use crate::finding::Finding;

/// Jumps are followed this deep.
const MAXIMUM_DEPTH: usize = 8;

/// What becomes of a connection from outside that no rule is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is refused.
    Refused,
    /// It is let in.
    Open,
    /// What decides is not followed here.
    Unclear,
}

/// What a chain does with most packets: by the first rule without a condition that decides, and by conditions that may hold for most
/// packets, such as a map of verdicts, the name of an interface, a rule of another interface of the kernel.
#[derive(Clone, Copy, Default)]
struct Effect {
    /// `None` if they come to the end of the chain.
    refuses: Option<bool>,
    may_open: bool,
    may_refuse: bool,
}

impl Effect {
    /// It can be anything.
    const UNCLEAR: Self = Self { refuses: None, may_open: true, may_refuse: true };

    fn end(self, policy_drops: bool) -> End {
        match self.refuses.unwrap_or(policy_drops) {
            true if self.may_open => End::Unclear,
            true => End::Refused,
            false if self.may_refuse => End::Unclear,
            false => End::Open,
        }
    }
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
        .map(|chain| {
            let end = effect(objects, chain, 0).end(chain["policy"] == "drop");
            // A table with flags may be dormant, which filters nothing.
            if end == End::Refused && has_flags(objects, chain) { End::Unclear } else { end }
        })
        .collect();
    [End::Refused, End::Unclear].into_iter().find(|end| ends.contains(end)).unwrap_or(End::Open)
}

fn has_flags(objects: &[Value], chain: &Value) -> bool {
    let mut tables = objects.iter().map(|object| &object["table"]);
    tables.any(|table| {
        table["family"] == chain["family"] && table["name"] == chain["table"] && !table["flags"].is_null()
    })
}

/// What a chain does, rule by rule.
fn effect(objects: &[Value], chain: &Value, depth: usize) -> Effect {
    let is_of_chain = |rule: &&Value| {
        rule["family"] == chain["family"] && rule["table"] == chain["table"] && rule["chain"] == chain["name"]
    };
    let mut whole = Effect::default();
    // A rule with a condition leaves the chain before what follows could refuse.
    let mut left = false;
    for expressions in objects
        .iter()
        .map(|object| &object["rule"])
        .filter(is_of_chain)
        .filter_map(|rule| rule["expr"].as_array())
    {
        let names: Vec<&str> = expressions
            .iter()
            .filter_map(|expression| expression.as_object()?.keys().next())
            .map(String::as_str)
            .collect();
        let has = |name: &str| names.contains(&name);
        let (jumps, goes) = (has("jump"), has("goto"));
        let rule = if has("drop") || has("reject") {
            Effect { refuses: Some(true), ..Effect::default() }
        } else if has("accept") {
            Effect { refuses: Some(false), ..Effect::default() }
        } else if jumps || goes {
            let target = target(objects, chain, expressions).filter(|_| depth < MAXIMUM_DEPTH);
            target.map_or(Effect::UNCLEAR, |target| effect(objects, target, depth + 1))
        } else if has("vmap") || has("xt") {
            Effect::UNCLEAR
        } else if has("return") {
            Effect::default()
        } else {
            continue;
        };
        let without_condition =
            ["drop", "reject", "accept", "return", "jump", "goto", "counter", "log", "comment"];
        if names.iter().all(|name| without_condition.contains(name)) {
            whole.may_open |= rule.may_open;
            whole.may_refuse |= rule.may_refuse;
            whole.refuses = rule.refuses;
            whole.may_open |= left && rule.refuses == Some(true);
            // After a jump the next rule follows; after a goto, and a return, the end of this chain.
            if rule.refuses.is_some() || goes || has("return") {
                return whole;
            }
        } else if is_wide(expressions) {
            left |= has("return") || goes && rule.refuses.is_none();
            whole.may_open |= rule.may_open || rule.refuses == Some(false);
            whole.may_refuse |= rule.may_refuse || rule.refuses == Some(true);
        }
    }
    whole
}

/// The chain that a rule leads to.
fn target<'o>(objects: &'o [Value], chain: &Value, expressions: &[Value]) -> Option<&'o Value> {
    let name = expressions.iter().find_map(|expression| {
        expression["jump"]["target"].as_str().or_else(|| expression["goto"]["target"].as_str())
    })?;
    objects.iter().map(|object| &object["chain"]).find(|other| {
        other["family"] == chain["family"] && other["table"] == chain["table"] && other["name"] == name
    })
}

/// Whether a rule with a condition may be about most packets from outside: it names no port, no state of connections, no protocol of
/// control messages, no address, and not the device itself, or it is about all others.
fn is_wide(expressions: &[Value]) -> bool {
    let narrow = ["\"dport\"", "\"sport\"", "\"ct\"", "\"icmp", "\"lo\"", "\"saddr\"", "\"daddr\""];
    let text = Value::from(expressions.to_vec()).to_string();
    text.contains("\"!=\"") || !narrow.iter().any(|word| text.contains(word))
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
            {{"rule":{{"family":"inet","table":"t","chain":"in","expr":[{{"match":{{"left":{{"ct":{{"key":"state"}}}}}}}},{{"accept":null}}]}}}},
            {{"rule":{{"family":"inet","table":"t","chain":"in","expr":[{expressions}]}}}}]}}"#
        )
    }

    #[test]
    fn firewall_is_on_if_what_no_rule_accepts_is_refused() {
        let accept = r#"{"accept":null}"#;
        let count = r#"{"counter":null}"#;
        for (rules, expected) in [
            (rules("drop", "input", count), "on"),
            (rules("drop", "input", accept), "off"),
            (rules("accept", "input", accept), "off"),
            (rules("drop", "forward", count), "off"),
            (rules("accept", "input", r#"{"reject":{"type":"icmpx"}}"#), "on"),
            (rules("accept", "input", r#"{"counter":{"packets":1}},{"drop":null}"#), "on"),
            (rules("drop", "input", r#"{"return":null}"#), "on"),
            (rules("accept", "input", r#"{"match":{"op":"=="}},{"drop":null}"#), "unknown"),
            (rules("accept", "input", r#"{"limit":{"rate":9}},{"drop":null}"#), "unknown"),
            (
                rules("accept", "input", r#"{"match":{"left":{"payload":{"field":"dport"}}}},{"drop":null}"#),
                "off",
            ),
            (rules("accept", "input", r#"{"vmap":{"key":"iifname"}}"#), "unknown"),
            (rules("accept", "input", r#"{"xt":null}"#), "unknown"),
            (rules("accept", "input", r#"{"jump":{"target":"gone"}}"#), "unknown"),
            (rules("drop", "input", count).replace("inet", "ip6"), "off"),
            (rules("drop", "input", count).replace("inet", "arp"), "off"),
            (rules("drop", "input", count).replace(r#""name":"t""#, r#""name":"t","flags":"t""#), "unknown"),
            (rules("accept", "input", count), "off"),
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
        // Found by review: the rule that decides is the first, not the last.
        for (script, expected) in [
            ("chain in { HOOK; policy drop; accept; };", "off"),
            ("chain in { HOOK; accept; drop; };", "off"),
            (
                "chain trusted { accept; }; chain zones { goto trusted; }; chain in { HOOK; jump zones; reject; };",
                "off",
            ),
            ("chain k { iifname != \"tun0\" return; drop; }; chain in { HOOK; jump k; };", "unknown"),
            ("chain in { HOOK; policy drop; iifname \"lo\" accept; };", "on"),
            ("chain in { HOOK; policy drop; iifname \"eth0\" accept; };", "unknown"),
            ("chain in { HOOK; policy drop; ip saddr 10.0.0.0/8 accept; };", "on"),
            ("chain in { HOOK; policy drop; ip saddr != 10.0.0.0/8 accept; };", "unknown"),
            (
                "chain public { tcp dport 22 accept; }; chain zones { iifname \"eth0\" goto public; goto public; }; \
                 chain in { HOOK; jump zones; reject; };",
                "on",
            ),
            ("flags dormant; chain in { HOOK; policy drop; };", "unknown"),
        ] {
            let script =
                format!("table inet f {{ {script} }}").replace("HOOK", "type filter hook input priority 0");
            let rules = read(&format!("nft '{script}'"));
            assert_eq!(kind(&rules), expected, "{script}: {rules}");
        }
        let one_family =
            "nft 'table ip6 t { chain in { type filter hook input priority 0; policy drop; }; }'";
        assert_eq!(kind(&read(one_family)), "off");
        let both = format!("{one_family}\n{}", one_family.replace("ip6", "ip"));
        assert_eq!(kind(&read(&both)), "on");
    }

    #[test]
    fn device_without_ipv6_needs_no_rules_for_it() {
        let rules = rules("drop", "input", r#"{"counter":null}"#).replace("inet", "ip");
        assert!(matches!(finding(&rules, false), Finding::On(_)));
        assert!(matches!(finding(&rules, true), Finding::Off(_)));
    }
}
