//! Jamf Pro's custom schema ("Application & Custom Settings"): a JSON Schema in the words that Jamf's form understands.
//! An optional setting is one of "not configured" and its type.

use serde_json::{Map, Value, json};

use super::DOMAIN;
use super::documentation::plain;
use crate::read::RECOMMENDED;
use crate::settings::{SETTINGS, Setting};
use crate::value::{Kind, Literal};

/// Where the settings are explained.
const REFERENCE: &str = "REFERENCE.md";

/// The schema.
#[must_use]
pub fn schema() -> Vec<u8> {
    let mut properties = properties();
    properties.insert(
        RECOMMENDED.to_owned(),
        json!({
            "title": "Recommended values",
            "description": "Values that only fill in where nothing is enforced.",
            "property_order": (SETTINGS.len() + 1) * 5,
            "type": "object",
            "properties": self::properties(),
        }),
    );
    let schema = json!({
        "title": format!("Steward ({DOMAIN})"),
        "description": "Settings of the Steward fleet agent.",
        "links": [{ "rel": "Reference", "href": REFERENCE }],
        "properties": properties,
    });
    pretty(&schema)
}

fn properties() -> Map<String, Value> {
    let orders = (1..).map(|number| number * 5);
    SETTINGS
        .iter()
        .zip(orders)
        .map(|(setting, order)| (setting.key.to_owned(), property(setting, order)))
        .collect()
}

fn property(setting: &Setting, order: u32) -> Value {
    let mut configured = kind(setting);
    configured.insert("title".to_owned(), "Configured".into());
    if let Some(default) = setting.default.map(Literal::to_raw) {
        configured.insert("default".to_owned(), serde_json::to_value(default).unwrap_or_default());
    }
    json!({
        "title": setting.title(),
        "description": plain(setting),
        "property_order": order,
        "anyOf": [{ "type": "null", "title": "Not configured" }, configured],
    })
}

fn kind(setting: &Setting) -> Map<String, Value> {
    let value = match setting.kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { minimum, maximum, unit } => {
            json!({ "type": "integer", "description": format!("{minimum} to {maximum} {unit}") })
        }
        Kind::Secret { .. } => json!({ "type": "string" }),
        Kind::Text { format } => match format.pattern() {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string" }),
        },
        Kind::Choice(choices) => {
            let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
            let titles: Vec<String> = choices
                .iter()
                .map(|choice| format!("{}: {}", choice.name, choice.text.trim().replace('`', "")))
                .collect();
            json!({ "type": "string", "enum": names, "options": { "enum_titles": titles } })
        }
        Kind::List { format, .. } => {
            let item = match format.pattern() {
                Some(pattern) => json!({ "type": "string", "title": "Item", "pattern": pattern }),
                None => json!({ "type": "string", "title": "Item" }),
            };
            json!({ "type": "array", "items": item })
        }
    };
    value.as_object().cloned().unwrap_or_default()
}

/// JSON for readers and for version control.
pub(super) fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("a value of JSON is JSON");
    bytes.push(b'\n');
    bytes
}
