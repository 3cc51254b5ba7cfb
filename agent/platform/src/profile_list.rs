//! The profiles of a Mac, as profiles(1) lists them.

use plist::Value;

use crate::role::BackgroundItems;

/// The payload that manages what the system starts (Apple, "Service Management: Managed Login Items").
const PAYLOAD: &str = "com.apple.servicemanagement";
/// The agent's jobs.
const LABELS: [&str; 3] = ["dev.steward.agent", "dev.steward.broker", "dev.steward.sign-in"];

/// What a list in XML says about the agent's jobs: they are managed if a rule is about each of them.
pub(crate) fn background_items(list: &[u8]) -> BackgroundItems {
    let profiles = match Value::from_reader_xml(list) {
        Ok(profiles) => profiles,
        Err(error) => {
            return BackgroundItems::Unknown(format!("the list of profiles cannot be read: {error}"));
        }
    };
    let mut rules = Vec::new();
    collect(&profiles, &mut rules);
    let of_label =
        |label| rules.iter().map(|rule| of_rule(rule, label)).fold(BackgroundItems::Unmanaged, stronger);
    LABELS.map(of_label).into_iter().fold(BackgroundItems::Managed, weaker)
}

/// Finds all rules, wherever in the list they are: its layout differs between versions of macOS.
fn collect<'a>(value: &'a Value, rules: &mut Vec<&'a plist::Dictionary>) {
    let own = value.as_dictionary().filter(|part| text(part, "PayloadType") == PAYLOAD);
    if let Some(part) = own {
        let content = part.get("PayloadContent").and_then(Value::as_dictionary).unwrap_or(part);
        let list = content.get("Rules").and_then(Value::as_array).into_iter().flatten();
        rules.extend(list.filter_map(Value::as_dictionary));
        return;
    }
    let values = value.as_array().into_iter().flatten();
    for part in values.chain(value.as_dictionary().into_iter().flat_map(plist::Dictionary::values)) {
        collect(part, rules);
    }
}

fn of_rule(rule: &plist::Dictionary, label: &str) -> BackgroundItems {
    let value = text(rule, "RuleValue");
    let matches = match text(rule, "RuleType") {
        "LabelPrefix" => !value.is_empty() && label.starts_with(value),
        "Label" => label == value,
        "TeamIdentifier" => {
            return BackgroundItems::Unknown(format!(
                "a profile manages the background items of team {value}, which may be Steward's"
            ));
        }
        _ => false,
    };
    let team = text(rule, "TeamIdentifier");
    match (matches, team) {
        (false, _) => BackgroundItems::Unmanaged,
        (true, "") => BackgroundItems::Managed,
        (true, team) => BackgroundItems::Unknown(format!(
            "a profile manages Steward's background items if team {team} signed the program"
        )),
    }
}

fn stronger(one: BackgroundItems, other: BackgroundItems) -> BackgroundItems {
    match (one, other) {
        (BackgroundItems::Managed, _) | (_, BackgroundItems::Managed) => BackgroundItems::Managed,
        (one @ BackgroundItems::Unknown(_), _) => one,
        (_, other) => other,
    }
}

fn weaker(one: BackgroundItems, other: BackgroundItems) -> BackgroundItems {
    match (one, other) {
        (BackgroundItems::Unmanaged, _) | (_, BackgroundItems::Unmanaged) => BackgroundItems::Unmanaged,
        (one @ BackgroundItems::Unknown(_), _) => one,
        (_, other) => other,
    }
}

fn text<'a>(dictionary: &'a plist::Dictionary, key: &str) -> &'a str {
    dictionary.get(key).and_then(Value::as_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_managed_if_a_rule_is_about_their_labels() {
        let list = |rules: &[(&str, &str)]| {
            let rule = |(kind, value): &(&str, &str)| {
                format!(
                    "<dict><key>RuleType</key><string>{kind}</string><key>RuleValue</key><string>{value}</string></dict>"
                )
            };
            let rules = rules.iter().map(rule).collect::<Vec<_>>().concat();
            let text = format!(
                "<plist version=\"1.0\"><dict><key>_computerlevel</key><array><dict><key>ProfileItems</key><array><dict>\
                 <key>PayloadType</key><string>com.apple.servicemanagement</string><key>PayloadContent</key><dict>\
                 <key>Rules</key><array>{rules}</array></dict></dict></array></dict></array></dict></plist>"
            );
            background_items(text.as_bytes())
        };
        let managed = [
            [("LabelPrefix", "dev.steward.")].as_slice(),
            &[
                ("Label", "dev.steward.agent"),
                ("Label", "dev.steward.broker"),
                ("LabelPrefix", "dev.steward.s"),
            ],
            &[("TeamIdentifier", "A1B2C3D4E5"), ("LabelPrefix", "com.example."), ("LabelPrefix", "dev.")],
        ];
        for rules in managed {
            assert_eq!(list(rules), BackgroundItems::Managed, "{rules:?}");
        }
        let unmanaged = [
            [].as_slice(),
            &[("LabelPrefix", "com.example.")],
            &[("LabelPrefix", "")],
            &[("Label", "dev.steward.")],
            // Not the broker.
            &[("LabelPrefix", "dev.steward.agent")],
        ];
        for rules in unmanaged {
            assert_eq!(list(rules), BackgroundItems::Unmanaged, "{rules:?}");
        }
        assert!(matches!(list(&[("TeamIdentifier", "A1B2C3D4E5")]), BackgroundItems::Unknown(_)));
        let with_team = "dev.steward.</string><key>TeamIdentifier</key><string>A1B2C3D4E5";
        assert!(matches!(list(&[("LabelPrefix", with_team)]), BackgroundItems::Unknown(_)));
        assert_eq!(background_items(b"<plist version=\"1.0\"><dict/></plist>"), BackgroundItems::Unmanaged);
        assert!(matches!(background_items(b"profiles: command not found"), BackgroundItems::Unknown(_)));
    }
}
