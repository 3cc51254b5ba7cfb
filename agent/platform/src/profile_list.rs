//! The profiles of a Mac, as profiles(1) lists them.

use plist::Value;

use crate::role::BackgroundItems;

/// The payload that manages what the system starts (Apple, "Service Management: Managed Login Items").
const PAYLOAD: &str = "com.apple.servicemanagement";
const LABEL: &str = "dev.steward.agent";

/// What a list in XML says about the agent's jobs.
pub(crate) fn background_items(list: &[u8]) -> BackgroundItems {
    match Value::from_reader_xml(list) {
        Ok(profiles) => of(&profiles),
        Err(error) => BackgroundItems::Unknown(format!("the list of profiles cannot be read: {error}")),
    }
}

/// The same of any part of a list: its layout differs between versions of macOS.
fn of(value: &Value) -> BackgroundItems {
    let values = value.as_array().into_iter().flatten();
    let parts = values.chain(value.as_dictionary().into_iter().flat_map(plist::Dictionary::values));
    let own = value.as_dictionary().filter(|part| text(part, "PayloadType") == PAYLOAD).map(|part| {
        let content = part.get("PayloadContent").and_then(Value::as_dictionary).unwrap_or(part);
        let rules = content.get("Rules").and_then(Value::as_array).into_iter().flatten();
        rules.filter_map(Value::as_dictionary).map(of_rule).fold(BackgroundItems::Unmanaged, strongest)
    });
    parts.map(of).chain(own).fold(BackgroundItems::Unmanaged, strongest)
}

fn of_rule(rule: &plist::Dictionary) -> BackgroundItems {
    let value = text(rule, "RuleValue");
    match text(rule, "RuleType") {
        "LabelPrefix" if LABEL.starts_with(value) => BackgroundItems::Managed,
        "Label" if LABEL == value => BackgroundItems::Managed,
        "TeamIdentifier" => BackgroundItems::Unknown(format!(
            "a profile manages the background items of team {value}, which may be Steward's"
        )),
        _ => BackgroundItems::Unmanaged,
    }
}

fn strongest(one: BackgroundItems, other: BackgroundItems) -> BackgroundItems {
    match (one, other) {
        (BackgroundItems::Managed, _) | (_, BackgroundItems::Managed) => BackgroundItems::Managed,
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
            &[("Label", "dev.steward.agent")],
            &[("TeamIdentifier", "A1B2C3D4E5"), ("LabelPrefix", "com.example."), ("LabelPrefix", "dev.")],
        ];
        for rules in managed {
            assert_eq!(list(rules), BackgroundItems::Managed, "{rules:?}");
        }
        for rules in [[].as_slice(), &[("LabelPrefix", "com.example.")], &[("Label", "dev.steward.")]] {
            assert_eq!(list(rules), BackgroundItems::Unmanaged, "{rules:?}");
        }
        assert!(matches!(list(&[("TeamIdentifier", "A1B2C3D4E5")]), BackgroundItems::Unknown(_)));
        assert_eq!(background_items(b"<plist version=\"1.0\"><dict/></plist>"), BackgroundItems::Unmanaged);
        assert!(matches!(background_items(b"profiles: command not found"), BackgroundItems::Unknown(_)));
    }
}
