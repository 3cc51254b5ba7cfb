//! Configuration profiles for macOS (Apple, "Device Management: Profiles"): one for the agent's preference domain, one for that of
//! each app, and one for what the system lets the agent do. Identifiers and UUIDs stay the same, so that a new version replaces the old
//! one.

use plist::{Dictionary, Value};
use uuid::Uuid;

use super::{AppPreferences, Artefact, DOMAIN};
use crate::raw::{RawEntry, RawPolicy, RawValue};
use crate::read::RECOMMENDED;

/// How the labels of the agent's jobs begin.
const JOBS: &str = "dev.steward.";
/// Where the package puts the program.
const PROGRAM: &str = "/Library/Application Support/Steward/bin/steward";

/// The profiles. `team` is the team identifier of whoever signed the program: ten letters and digits.
#[must_use]
pub fn profiles(policy: &RawPolicy, apps: &[AppPreferences], team: Option<&str>) -> Vec<Artefact> {
    let organization = policy.enforced.get("OrganizationName").and_then(|entry| match &entry.value {
        RawValue::Str(name) => Some(name.as_str()),
        RawValue::Bool(_)
        | RawValue::Int(_)
        | RawValue::List(_)
        | RawValue::Table(_)
        | RawValue::Other(_) => None,
    });
    let agent = profile("settings", "Steward", organization, &[(DOMAIN, "", preferences(policy))]);
    let mut files = vec![Artefact::new("macos/steward.mobileconfig", agent)];
    for app in apps {
        let values =
            app.values.iter().filter_map(|(key, value)| Some((key.clone(), plist_value(value)?))).collect();
        let name = app.title.to_lowercase().replace(' ', "-");
        let bytes = profile(&name, &app.title, organization, &[(&app.domain, "", values)]);
        files.push(Artefact::new(format!("macos/{name}.mobileconfig"), bytes));
    }
    let system = profile("services", "Steward services", organization, &services(apps, team));
    files.push(Artefact::new("macos/steward-services.mobileconfig", system));
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

/// What users cannot turn off: the agent's jobs (managed login items, macOS 13), and the notifications of the app. With the team, also
/// the right to replace apps of other teams (privacy preferences, macOS 13): without a requirement on the signature, whoever replaced
/// the program would have it.
fn services(apps: &[AppPreferences], team: Option<&str>) -> Vec<(&'static str, &'static str, Dictionary)> {
    let mut rule: Dictionary = texts(&[
        ("RuleType", "LabelPrefix"),
        ("RuleValue", JOBS),
        ("Comment", "Steward: policy, updates and sign-in of managed apps"),
    ]);
    let mut payloads = Vec::new();
    if let Some(team) = team {
        rule.insert("TeamIdentifier".to_owned(), team.into());
        let requirement = format!(
            "identifier \"{DOMAIN}\" and anchor apple generic and certificate leaf[subject.OU] = \"{team}\""
        );
        let grant = texts(&[
            ("Identifier", PROGRAM),
            ("IdentifierType", "path"),
            ("CodeRequirement", &requirement),
            ("Authorization", "Allow"),
        ]);
        let services = one("SystemPolicyAppBundles", Value::Array(vec![grant.into()]));
        let payload = one("Services", services.into());
        payloads.push(("com.apple.TCC.configuration-profile-policy", ".privacy", payload));
    }
    let rules = one("Rules", Value::Array(vec![rule.into()]));
    payloads.push(("com.apple.servicemanagement", ".jobs", rules));
    let notifications = apps.iter().map(|app| {
        let mut settings = texts(&[("BundleIdentifier", &app.domain)]);
        settings.insert("NotificationsEnabled".to_owned(), true.into());
        Value::from(settings)
    });
    let notifications: Vec<Value> = notifications.collect();
    if !notifications.is_empty() {
        let payload = one("NotificationSettings", Value::Array(notifications));
        payloads.push(("com.apple.notificationsettings", ".notifications", payload));
    }
    payloads
}

fn texts(entries: &[(&str, &str)]) -> Dictionary {
    entries.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
}

fn one(key: &str, value: Value) -> Dictionary {
    [(key.to_owned(), value)].into_iter().collect()
}

/// A profile with payloads: the type of each, what tells it from the others, and its content.
fn profile(
    name: &str,
    title: &str,
    organization: Option<&str>,
    payloads: &[(&str, &str, Dictionary)],
) -> Vec<u8> {
    let identifier = format!("{DOMAIN}.profile.{name}");
    let payloads = payloads.iter().map(|(kind, suffix, values)| {
        let mut payload = header(kind, &format!("{identifier}.payload{suffix}"), title);
        payload.extend(values.clone());
        payload.into()
    });
    let payloads = payloads.collect();
    let mut profile = header("Configuration", &identifier, title);
    profile.insert("PayloadScope".to_owned(), "System".into());
    if let Some(organization) = organization {
        profile.insert("PayloadOrganization".to_owned(), organization.into());
    }
    profile.insert("PayloadContent".to_owned(), Value::Array(payloads));
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
