//! The JSON Schema (draft 2020-12) of the policy file, for editors that understand TOML with one, and for pipelines.

use serde_json::{Map, Value, json};

use super::documentation::plain;
use super::jamf::pretty;
use crate::read::RECOMMENDED;
use crate::settings::{SETTINGS, Setting};
use crate::value::{Format, Kind, Literal};

/// The schema.
#[must_use]
pub fn schema() -> Vec<u8> {
    let settings: Map<String, Value> =
        SETTINGS.iter().map(|setting| (setting.key.to_owned(), property(setting))).collect();
    let mut properties = settings.clone();
    properties.insert(
        RECOMMENDED.to_owned(),
        json!({
            "description": "Values that only fill in where nothing is enforced.",
            "type": "object",
            "properties": settings,
            "additionalProperties": false,
        }),
    );
    pretty(&json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Steward policy",
        "description": "A policy file of the Steward fleet agent. The agent also takes keys in other capitals.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    }))
}

fn property(setting: &Setting) -> Value {
    let mut property = match setting.kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { minimum, maximum, .. } => {
            json!({ "type": "integer", "minimum": minimum, "maximum": maximum })
        }
        Kind::Text { format } | Kind::Secret { format } => text(format),
        Kind::Choice(choices) => {
            let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
            json!({ "type": "string", "enum": names })
        }
        Kind::List { format, maximum_items } => {
            json!({ "type": "array", "items": text(format), "maxItems": maximum_items })
        }
    };
    property["title"] = setting.title().into();
    property["description"] = plain(setting).into();
    property["examples"] = json!([setting.example.to_raw()]);
    if let Some(default) = setting.default.map(Literal::to_raw) {
        property["default"] = serde_json::to_value(default).unwrap_or_default();
    }
    if !setting.aliases.is_empty() {
        property["$comment"] = format!("formerly {}", setting.aliases.join(", ")).into();
    }
    property
}

fn text(format: Format) -> Value {
    let mut text = json!({ "type": "string", "minLength": 1, "maxLength": format.longest() });
    if let Some(pattern) = format.pattern() {
        text["pattern"] = pattern.into();
    }
    text
}
