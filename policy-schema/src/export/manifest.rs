//! A profile manifest of the agent's preference domain, for editors of profiles.

use plist::{Date, Dictionary, Value};

use super::DOMAIN;
use super::documentation::plain;
use super::mobileconfig::write;
use crate::raw::RawValue;
use crate::read::RECOMMENDED;
use crate::settings::{SETTINGS, Setting};
use crate::value::{Kind, Literal};

/// When the list of settings last changed, for editors that ask which manifest is newer.
const LAST_MODIFIED: &str = "2026-11-22T00:00:00Z";

/// The manifest.
#[must_use]
pub fn manifest() -> Vec<u8> {
    let mut subkeys: Vec<Value> = payload_keys();
    subkeys.extend(SETTINGS.iter().map(|setting| subkey(setting).into()));
    let recommended: Vec<Value> = SETTINGS.iter().map(|setting| subkey(setting).into()).collect();
    subkeys.push(
        dictionary([
            ("pfm_name", RECOMMENDED.into()),
            ("pfm_type", "dictionary".into()),
            ("pfm_title", "Recommended values".into()),
            ("pfm_description", "Values that only fill in where nothing is enforced.".into()),
            ("pfm_subkeys", Value::Array(recommended)),
        ])
        .into(),
    );
    let mut all = dictionary([
        ("pfm_title", "Steward".into()),
        ("pfm_description", "Settings of the Steward fleet agent.".into()),
        ("pfm_domain", DOMAIN.into()),
        ("pfm_format_version", 1.into()),
        ("pfm_platforms", strings(&["macOS"])),
        ("pfm_version", 1.into()),
        ("pfm_unique", true.into()),
        ("pfm_targets", strings(&["system"])),
        ("pfm_subkeys", Value::Array(subkeys)),
    ]);
    if let Ok(date) = Date::from_xml_format(LAST_MODIFIED) {
        all.insert("pfm_last_modified".to_owned(), date.into());
    }
    write(&Value::Dictionary(all))
}

/// The keys that every payload has.
fn payload_keys() -> Vec<Value> {
    [
        ("PayloadDescription", "string", "Description of the payload", None),
        ("PayloadDisplayName", "string", "Name of the payload", Some(Value::from("Steward"))),
        ("PayloadIdentifier", "string", "Identifier of the payload", Some(Value::from(DOMAIN))),
        ("PayloadType", "string", "Type of the payload", Some(Value::from(DOMAIN))),
        ("PayloadUUID", "string", "Unique identifier of the payload", None),
        ("PayloadVersion", "integer", "Version of the payload", Some(Value::from(1))),
        ("PayloadOrganization", "string", "Organisation that the payload is from", None),
    ]
    .into_iter()
    .map(|(name, kind, text, default)| {
        let mut key = dictionary([
            ("pfm_name", name.into()),
            ("pfm_type", kind.into()),
            ("pfm_title", name.replace("Payload", "Payload ").into()),
            ("pfm_description", text.into()),
        ]);
        if let Some(default) = default {
            key.insert("pfm_default".to_owned(), default);
        }
        if name == "PayloadUUID" {
            key.insert(
                "pfm_format".to_owned(),
                "^[0-9A-Za-z]{8}-([0-9A-Za-z]{4}-){3}[0-9A-Za-z]{12}$".into(),
            );
        }
        key.into()
    })
    .collect()
}

fn subkey(setting: &Setting) -> Dictionary {
    let mut key = dictionary([
        ("pfm_name", setting.key.into()),
        ("pfm_title", setting.title().into()),
        ("pfm_description", plain(setting).into()),
    ]);
    let mut insert = |name: &str, value: Value| drop(key.insert(name.to_owned(), value));
    match setting.kind {
        Kind::Boolean => insert("pfm_type", "boolean".into()),
        Kind::Integer { minimum, maximum, unit } => {
            insert("pfm_type", "integer".into());
            insert("pfm_range_min", minimum.into());
            insert("pfm_range_max", maximum.into());
            insert(
                "pfm_description",
                format!("{} From {minimum} to {maximum} {unit}.", plain(setting)).into(),
            );
        }
        Kind::Text { format } => {
            insert("pfm_type", "string".into());
            if let Some(pattern) = format.pattern() {
                insert("pfm_format", pattern.into());
            }
        }
        Kind::Secret { .. } => {
            insert("pfm_type", "string".into());
            insert("pfm_sensitive", true.into());
        }
        Kind::Choice(choices) => {
            insert("pfm_type", "string".into());
            let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
            let titles: Vec<String> = choices
                .iter()
                .map(|choice| choice.text.trim().trim_end_matches('.').replace('`', ""))
                .collect();
            insert("pfm_range_list", strings(&names));
            insert("pfm_range_list_titles", strings(&titles));
        }
        Kind::List { format, .. } => {
            insert("pfm_type", "array".into());
            let mut item = dictionary([("pfm_type", "string".into())]);
            if let Some(pattern) = format.pattern() {
                item.insert("pfm_format".to_owned(), pattern.into());
            }
            insert("pfm_subkeys", Value::Array(vec![item.into()]));
        }
    }
    if let Some(default) = setting.default.map(Literal::to_raw) {
        match default {
            RawValue::Bool(value) => insert("pfm_default", value.into()),
            RawValue::Int(number) => insert("pfm_default", number.into()),
            RawValue::Str(text) => insert("pfm_default", text.into()),
            RawValue::List(items) => insert("pfm_default", strings(&items)),
            RawValue::Table(_) | RawValue::Other(_) => {}
        }
    }
    key
}

fn dictionary<const N: usize>(entries: [(&str, Value); N]) -> Dictionary {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn strings(items: &[impl AsRef<str>]) -> Value {
    Value::Array(items.iter().map(|item| item.as_ref().into()).collect())
}
