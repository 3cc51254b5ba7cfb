//! Configuration profiles for macOS (Apple, "Configuration Profile Reference"): one for the agent's preference domain,
//! one for that of each app. Identifiers and UUIDs stay the same, so that a new version replaces the old one.

use plist::{Dictionary, Value};
use uuid::Uuid;

use super::{AppPreferences, Artefact, DOMAIN};
use crate::raw::{RawEntry, RawPolicy, RawValue};
use crate::read::RECOMMENDED;

/// The profiles.
#[must_use]
pub fn profiles(policy: &RawPolicy, apps: &[AppPreferences]) -> Vec<Artefact> {
    let organization = policy.enforced.get("OrganizationName").and_then(|entry| match &entry.value {
        RawValue::Str(name) => Some(name.as_str()),
        RawValue::Bool(_)
        | RawValue::Int(_)
        | RawValue::List(_)
        | RawValue::Table(_)
        | RawValue::Other(_) => None,
    });
    let agent = profile(DOMAIN, "settings", "Steward", organization, preferences(policy));
    let mut files = vec![Artefact::new("macos/steward.mobileconfig", agent)];
    for app in apps {
        let values =
            app.values.iter().filter_map(|(key, value)| Some((key.clone(), plist_value(value)?))).collect();
        let name = app.title.to_lowercase().replace(' ', "-");
        let bytes = profile(&app.domain, &name, &app.title, organization, values);
        files.push(Artefact::new(format!("macos/{name}.mobileconfig"), bytes));
    }
    files
}

/// What lies in the agent's preference domain once the profile is installed.
#[must_use]
pub fn preferences(policy: &RawPolicy) -> Dictionary {
    let level = |entries: &std::collections::BTreeMap<String, RawEntry>| -> Dictionary {
        entries.iter().filter_map(|(key, entry)| Some((key.clone(), plist_value(&entry.value)?))).collect()
    };
    let mut all = level(&policy.enforced);
    if !policy.recommended.is_empty() {
        all.insert(RECOMMENDED.to_owned(), Value::Dictionary(level(&policy.recommended)));
    }
    all
}

fn profile(domain: &str, name: &str, title: &str, organization: Option<&str>, values: Dictionary) -> Vec<u8> {
    let identifier = format!("{DOMAIN}.profile.{name}");
    let mut payload = header(domain, &format!("{identifier}.payload"), title);
    payload.extend(values);
    let mut profile = header("Configuration", &identifier, title);
    profile.insert("PayloadScope".to_owned(), "System".into());
    if let Some(organization) = organization {
        profile.insert("PayloadOrganization".to_owned(), organization.into());
    }
    profile.insert("PayloadContent".to_owned(), Value::Array(vec![payload.into()]));
    write(&Value::Dictionary(profile))
}

fn header(kind: &str, identifier: &str, title: &str) -> Dictionary {
    let uuid = Uuid::new_v5(&Uuid::NAMESPACE_DNS, identifier.as_bytes()).to_string().to_uppercase();
    [
        ("PayloadType", kind.into()),
        ("PayloadVersion", 1.into()),
        ("PayloadIdentifier", identifier.into()),
        ("PayloadUUID", uuid.into()),
        ("PayloadDisplayName", title.into()),
    ]
    .into_iter()
    .map(|(key, value): (&str, Value)| (key.to_owned(), value))
    .collect()
}

/// A value with its own type: a boolean is a boolean, as Apple Business Manager demands.
fn plist_value(value: &RawValue) -> Option<Value> {
    Some(match value {
        RawValue::Bool(value) => (*value).into(),
        RawValue::Int(number) => (*number).into(),
        RawValue::Str(text) => text.as_str().into(),
        RawValue::List(items) => Value::Array(items.iter().map(|item| item.as_str().into()).collect()),
        RawValue::Table(_) | RawValue::Other(_) => return None,
    })
}

/// A property list in XML.
pub(super) fn write(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.to_writer_xml(&mut bytes).expect("writing to memory does not fail");
    bytes.push(b'\n');
    bytes
}
