//! A drop-in for Linux with every setting explained: those that policy sets as values, the others as comments.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::documentation::{literal, paragraphs, toml_value};
use crate::raw::{RawEntry, RawPolicy};
use crate::read::RECOMMENDED;
use crate::settings::SETTINGS;
use crate::value::Kind;

const WIDTH: usize = 98;

/// The drop-in.
#[must_use]
pub fn drop_in(policy: &RawPolicy) -> Vec<u8> {
    let mut text = String::from(
        "# Policy of Steward. Install it as /etc/steward/policy.d/50-steward.toml, owned by root and not writable by\n\
         # others; the agent follows at once. `steward policy check FILE` tries it before.\n",
    );
    let mut category = "";
    for setting in SETTINGS {
        if category != setting.category {
            category = setting.category;
            // Writing to a String cannot fail.
            let _ = write!(text, "\n## {category}\n");
        }
        text.push('\n');
        comment(&mut text, &format!("{}.", setting.title()));
        for paragraph in paragraphs(setting.documentation.get(1..).unwrap_or_default()) {
            comment(&mut text, &paragraph);
        }
        if let Kind::Choice(choices) = setting.kind {
            for choice in choices {
                comment(&mut text, &format!("`{}`: {}", choice.name, choice.text.trim()));
            }
        } else {
            comment(&mut text, &format!("Expected: {}.", setting.kind.expectation()));
        }
        let default = setting.default.map_or_else(|| "not set".to_owned(), literal);
        comment(&mut text, &format!("Default: {default}"));
        match policy.enforced.get(setting.key) {
            Some(entry) => line(&mut text, "", setting.key, entry),
            None => {
                let _ = writeln!(text, "#{} = {}", setting.key, one_line(&literal(setting.example)));
            }
        }
    }
    // Without a value there is no such line: what a tool appends to the file would belong to the table.
    let start = if policy.recommended.is_empty() { "#" } else { "" };
    let _ = write!(
        text,
        "\n## Recommended values fill in where nothing is enforced.\n\n{start}[{RECOMMENDED}]\n"
    );
    values(&mut text, "", &policy.recommended);
    text.into_bytes()
}

/// Only the values, for scripts that write a file.
#[must_use]
pub fn bare(policy: &RawPolicy) -> String {
    let mut text = String::new();
    values(&mut text, "", &policy.enforced);
    if !policy.recommended.is_empty() {
        let _ = write!(text, "\n[{RECOMMENDED}]\n");
        values(&mut text, "", &policy.recommended);
    }
    text
}

fn values(text: &mut String, start: &str, entries: &BTreeMap<String, RawEntry>) {
    for (key, entry) in entries {
        line(text, start, key, entry);
    }
}

fn line(text: &mut String, start: &str, key: &str, entry: &RawEntry) {
    let _ = writeln!(text, "{start}{} = {}", toml_key(key), toml_value(&entry.value));
}

/// Keys of settings need no quotes; a test may export others.
fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if bare { key.to_owned() } else { ::toml::Value::from(key).to_string() }
}

/// A text of several lines as one, so that one `#` comments it out.
fn one_line(value: &str) -> String {
    value.replace("\"\"\"\n", "\"").replace("\"\"\"", "\"").replace('\n', "\\n")
}

fn comment(text: &mut String, paragraph: &str) {
    for line in crate::wrap(paragraph, WIDTH) {
        let _ = writeln!(text, "# {line}");
    }
}
