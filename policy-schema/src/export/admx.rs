//! ADMX and ADML: administrative templates for Group Policy and for Intune's import.
//!
//! Intune refuses what Group Policy takes: a `comboBox`, a `using` prefix, another language than en-US, a namespace
//! that was imported before. So the namespace carries the version.

use std::io;

use super::documentation::explanation;
use super::xml::{self, Xml};
use crate::raw::RawValue;
use crate::settings::{SETTINGS, Setting};
use crate::value::{Kind, Literal};

/// The key of the policy, without its root.
pub const KEY: &str = crate::read::registry_pol::KEY;

const NAMESPACE: &str = "http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions";
/// The longest text of a setting that is not a certificate.
const LONGEST_TEXT: &str = "2048";

/// The two levels: the suffix of names, the subkey, the title of the category.
pub(super) const LEVELS: [(&str, &str, &str); 2] = [
    ("", "", "Steward"),
    ("_Recommended", r"\Recommended", "Steward: recommended values (fill in where nothing is enforced)"),
];

/// The template.
#[must_use]
pub fn admx() -> Vec<u8> {
    let target = format!("Steward.Policies.V{}", env!("CARGO_PKG_VERSION").replace('.', "_"));
    xml::document(|xml| {
        let root = [("xmlns", NAMESPACE), ("revision", "1.0"), ("schemaVersion", "1.0")];
        xml::element(xml, "policyDefinitions", &root, |xml| {
            xml::element(xml, "policyNamespaces", &[], |xml| {
                xml::empty(xml, "target", &[("prefix", "steward"), ("namespace", &target)])
            })?;
            xml::empty(xml, "resources", &[("minRequiredRevision", "1.0")])?;
            xml::element(xml, "supportedOn", &[], |xml| {
                xml::element(xml, "definitions", &[], |xml| {
                    let definition =
                        [("name", "SUPPORTED_Steward"), ("displayName", "$(string.SUPPORTED_Steward)")];
                    xml::empty(xml, "definition", &definition)
                })
            })?;
            xml::element(xml, "categories", &[], categories)?;
            xml::element(xml, "policies", &[], |xml| {
                for level in LEVELS {
                    for setting in SETTINGS {
                        policy(xml, setting, level)?;
                    }
                }
                Ok(())
            })
        })
    })
}

/// Its texts, in English.
#[must_use]
pub fn adml() -> Vec<u8> {
    xml::document(|xml| {
        let root = [("xmlns", NAMESPACE), ("revision", "1.0"), ("schemaVersion", "1.0")];
        xml::element(xml, "policyDefinitionResources", &root, |xml| {
            xml::text(xml, "displayName", &[], "Steward")?;
            xml::text(xml, "description", &[], "Settings of the Steward fleet agent.")?;
            xml::element(xml, "resources", &[], |xml| {
                xml::element(xml, "stringTable", &[], strings)?;
                xml::element(xml, "presentationTable", &[], |xml| {
                    for level in LEVELS {
                        for setting in SETTINGS {
                            presentation(xml, setting, level)?;
                        }
                    }
                    Ok(())
                })
            })
        })
    })
}

/// The name of a setting's policy.
pub(super) fn policy_name(setting: &Setting, suffix: &str) -> String {
    format!("{}{suffix}", setting.key)
}

/// The name of a category: letters, digits and underscores only.
pub(super) fn category_name(category: &str, suffix: &str) -> String {
    format!("{}{suffix}", identifier(category))
}

fn categories(xml: &mut Xml) -> io::Result<()> {
    for (suffix, _, _) in LEVELS {
        let top = category_name("Steward", suffix);
        xml::empty(xml, "category", &[("name", &top), ("displayName", &format!("$(string.{top})"))])?;
        for category in category_titles() {
            let name = category_name(category, suffix);
            let attributes =
                [("name", name.as_str()), ("displayName", &format!("$(string.CATEGORY_{name})"))];
            xml::element(xml, "category", &attributes, |xml| {
                xml::empty(xml, "parentCategory", &[("ref", &top)])
            })?;
        }
    }
    Ok(())
}

fn category_titles() -> Vec<&'static str> {
    let mut titles: Vec<&str> = SETTINGS.iter().map(|setting| setting.category).collect();
    titles.dedup();
    titles
}

fn policy(xml: &mut Xml, setting: &Setting, (suffix, subkey, _): (&str, &str, &str)) -> io::Result<()> {
    let name = policy_name(setting, suffix);
    let key = format!("{KEY}{subkey}");
    let display = format!("$(string.{})", setting.key);
    let explain = format!("$(string.{}_Explain)", setting.key);
    let shown = format!("$(presentation.{name})");
    let mut attributes = vec![
        ("name", name.as_str()),
        ("class", "Machine"),
        ("displayName", &display),
        ("explainText", &explain),
        ("key", &key),
    ];
    let boolean = matches!(setting.kind, Kind::Boolean);
    attributes.push(if boolean { ("valueName", setting.key) } else { ("presentation", &shown) });
    xml::element(xml, "policy", &attributes, |xml| {
        xml::empty(xml, "parentCategory", &[("ref", &category_name(setting.category, suffix))])?;
        xml::empty(xml, "supportedOn", &[("ref", "SUPPORTED_Steward")])?;
        if boolean {
            for (state, value) in [("enabledValue", "1"), ("disabledValue", "0")] {
                xml::element(xml, state, &[], |xml| xml::empty(xml, "decimal", &[("value", value)]))?;
            }
            return Ok(());
        }
        xml::element(xml, "elements", &[], |xml| element(xml, setting, &key))
    })
}

fn element(xml: &mut Xml, setting: &Setting, key: &str) -> io::Result<()> {
    let value = [("id", setting.key), ("valueName", setting.key), ("required", "true")];
    match setting.kind {
        Kind::Integer { minimum, maximum, .. } => {
            let range = [("minValue", &*minimum.to_string()), ("maxValue", &*maximum.to_string())];
            xml::empty(xml, "decimal", &[&value[..], &range].concat())
        }
        Kind::Text { .. } | Kind::Secret { .. } => {
            xml::empty(xml, "text", &[&value[..], &[("maxLength", LONGEST_TEXT)]].concat())
        }
        Kind::Choice(choices) => xml::element(xml, "enum", &value, |xml| {
            for choice in choices {
                let display = format!("$(string.{})", choice_string(setting, choice.name));
                xml::element(xml, "item", &[("displayName", &display)], |xml| {
                    xml::element(xml, "value", &[], |xml| xml::text(xml, "string", &[], choice.name))
                })?;
            }
            Ok(())
        }),
        Kind::List { .. } => {
            let list = format!(r"{key}\{}", setting.key);
            xml::empty(xml, "list", &[("id", setting.key), ("key", &list), ("valuePrefix", "")])
        }
        Kind::Boolean => Ok(()),
    }
}

fn strings(xml: &mut Xml) -> io::Result<()> {
    let mut string = |id: &str, text: &str| xml::text(xml, "string", &[("id", id)], text);
    string("SUPPORTED_Steward", &format!("Steward {} or later", env!("CARGO_PKG_VERSION")))?;
    for (suffix, _, title) in LEVELS {
        string(&category_name("Steward", suffix), title)?;
        for category in category_titles() {
            string(&format!("CATEGORY_{}", category_name(category, suffix)), category)?;
        }
    }
    for setting in SETTINGS {
        string(setting.key, setting.title())?;
        string(&format!("{}_Explain", setting.key), &explanation(setting).join("\n\n"))?;
        if let Kind::Choice(choices) = setting.kind {
            for choice in choices {
                let text = choice.text.trim().trim_end_matches('.').replace('`', "");
                string(&choice_string(setting, choice.name), &format!("{}: {text}", choice.name))?;
            }
        }
    }
    Ok(())
}

fn presentation(xml: &mut Xml, setting: &Setting, (suffix, _, _): (&str, &str, &str)) -> io::Result<()> {
    if matches!(setting.kind, Kind::Boolean) {
        return Ok(());
    }
    let id = policy_name(setting, suffix);
    let label = format!("{}:", setting.title());
    let control = [("refId", setting.key)];
    xml::element(xml, "presentation", &[("id", &id)], |xml| match (setting.kind, setting.default) {
        (Kind::Integer { minimum, .. }, default) => {
            let start = match default {
                Some(Literal::Integer(number)) => number,
                _ => minimum,
            };
            xml::text(xml, "decimalTextBox", &[control[0], ("defaultValue", &start.to_string())], &label)
        }
        (Kind::Choice(choices), default) => {
            // Enabling a policy without choosing must not allow more than leaving it out.
            let start = setting.strict.or(default);
            let chosen =
                start.and_then(|start| choices.iter().position(|choice| start == Literal::Text(choice.name)));
            let index = chosen.unwrap_or_default().to_string();
            let attributes = [control[0], ("noSort", "true"), ("defaultItem", &index)];
            xml::text(xml, "dropdownList", &attributes, &label)
        }
        (Kind::List { .. }, _) => xml::text(xml, "listBox", &control, &label),
        (Kind::Text { .. } | Kind::Secret { .. } | Kind::Boolean, default) => {
            xml::element(xml, "textBox", &control, |xml| {
                xml::text(xml, "label", &[], &label)?;
                match default.map(Literal::to_raw) {
                    Some(RawValue::Str(text)) => xml::text(xml, "defaultValue", &[], &text),
                    _ => Ok(()),
                }
            })
        }
    })
}

fn choice_string(setting: &Setting, choice: &str) -> String {
    format!("{}_{}", setting.key, choice.replace('-', "_"))
}

fn identifier(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}
