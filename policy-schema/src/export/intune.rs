//! What Intune imports: OMA-URI settings of a custom profile (with the ADMX that they follow), the preference file for
//! macOS, and scripts.

use serde_json::{Value, json};

use super::admx::{self, LEVELS, category_name, policy_name};
use super::jamf::pretty;
use super::mobileconfig::preferences;
use super::{Artefact, REG, registry, remarks, scripts, xml};
use crate::raw::{RawPolicy, RawValue};
use crate::settings::{SETTINGS, Setting};

/// Where an ADMX file is taken in (Microsoft, "Win32 and Desktop Bridge app ADMX policy ingestion").
const INGESTION: &str = "./Device/Vendor/MSFT/Policy/ConfigOperations/ADMXInstall/Steward/Policy/Steward";
/// Where its policies are set.
const CONFIGURATION: &str = "./Device/Vendor/MSFT/Policy/Config/Steward~Policy~";
/// What separates the parts of a list (the same page).
const SEPARATOR: char = '\u{f000}';

/// One setting of a custom profile.
struct Row {
    name: String,
    description: String,
    path: String,
    value: String,
}

/// All files.
#[must_use]
pub fn files(policy: &RawPolicy) -> Vec<Artefact> {
    let mut files = vec![
        Artefact::new("intune/macos-preferences.xml", preference_fragment(policy)),
        Artefact::new("intune/install.sh", scripts::shell(policy)),
        Artefact::new(
            "intune/install.ps1",
            [b"\xef\xbb\xbf", scripts::powershell(policy).as_bytes()].concat(),
        ),
        Artefact::new(REG, registry::reg(policy)),
    ];
    // What would allow more than the policy is not written.
    if !remarks(policy).iter().any(|(weakens, _)| *weakens) {
        let rows = rows(policy);
        files.push(Artefact::new("intune/oma-uri.csv", csv(&rows)));
        files.push(Artefact::new("intune/custom-profile.json", profile(&rows)));
    }
    files
}

fn rows(policy: &RawPolicy) -> Vec<Row> {
    let mut rows = vec![Row {
        name: "Steward ADMX".to_owned(),
        description: "The template that all other rows follow.".to_owned(),
        path: INGESTION.to_owned(),
        value: String::from_utf8_lossy(&admx::admx()).into_owned(),
    }];
    for (level, entries) in LEVELS.into_iter().zip([&policy.enforced, &policy.recommended]) {
        for setting in SETTINGS {
            let value = entries.get(setting.key).and_then(|entry| data(setting, &entry.value));
            rows.extend(value.map(|value| row(setting, level.0, value)));
        }
    }
    rows
}

fn row(setting: &Setting, suffix: &str, value: String) -> Row {
    let area = format!("{}~{}", category_name("Steward", suffix), category_name(setting.category, suffix));
    let policy = policy_name(setting, suffix);
    let level = if suffix.is_empty() { "" } else { " (recommended)" };
    Row {
        name: format!("{}{level}", setting.key),
        description: format!("{}{level}", setting.title()),
        path: format!("{CONFIGURATION}{area}/{policy}"),
        value,
    }
}

/// The value of a policy as its service takes it; `None` for what it cannot say.
fn data(setting: &Setting, value: &RawValue) -> Option<String> {
    let text = match value {
        RawValue::Bool(value) => {
            return Some(xml::fragment(|xml| {
                xml::empty(xml, if *value { "enabled" } else { "disabled" }, &[])
            }));
        }
        RawValue::Int(number) => number.to_string(),
        RawValue::Str(text) => text.clone(),
        RawValue::List(items) if items.is_empty() => return None,
        RawValue::List(items) => {
            let numbered = items.iter().zip(1..).map(|(item, number)| format!("{number}{SEPARATOR}{item}"));
            numbered.collect::<Vec<_>>().join(&SEPARATOR.to_string())
        }
        RawValue::Table(_) | RawValue::Other(_) => return None,
    };
    Some(xml::fragment(|xml| {
        xml::empty(xml, "enabled", &[])?;
        xml::empty(xml, "data", &[("id", setting.key), ("value", &text)])
    }))
}

fn csv(rows: &[Row]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let mut write = |record: [&str; 5]| writer.write_record(record).expect("writing to memory does not fail");
    write(["Name", "Description", "OMA-URI", "Data type", "Value"]);
    for row in rows {
        write([&row.name, &row.description, &row.path, "String", &row.value]);
    }
    // Excel takes UTF-8 for something else without a byte order mark.
    [&b"\xef\xbb\xbf"[..], &writer.into_inner().expect("writing to memory does not fail")].concat()
}

/// The body of a `deviceManagement/deviceConfigurations` request (Microsoft Graph, "windows10CustomConfiguration").
fn profile(rows: &[Row]) -> Vec<u8> {
    let settings: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "@odata.type": "#microsoft.graph.omaSettingString",
                "displayName": row.name,
                "description": row.description,
                "omaUri": row.path,
                "value": row.value,
            })
        })
        .collect();
    pretty(&json!({
        "@odata.type": "#microsoft.graph.windows10CustomConfiguration",
        "displayName": "Steward",
        "description": "Settings of the Steward fleet agent",
        "omaSettings": settings,
    }))
}

/// Keys and values without the property list around them, as Intune's "preference file" wants them.
fn preference_fragment(policy: &RawPolicy) -> Vec<u8> {
    let whole = super::mobileconfig::write(&plist::Value::Dictionary(preferences(policy)));
    let text = String::from_utf8_lossy(&whole).into_owned();
    let start = text.find("<dict>").map_or(0, |at| at + "<dict>".len());
    let end = text.rfind("</dict>").unwrap_or(text.len());
    let lines = text.get(start..end).unwrap_or_default().lines().filter(|line| !line.trim().is_empty());
    let mut fragment = String::new();
    for line in lines {
        fragment.push_str(line.strip_prefix('\t').unwrap_or(line));
        fragment.push('\n');
    }
    fragment.into_bytes()
}
