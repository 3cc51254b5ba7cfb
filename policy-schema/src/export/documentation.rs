//! A setting's documentation in the pieces that exporters need.

use crate::raw::RawValue;
use crate::settings::Setting;
use crate::value::{Kind, Literal};

/// Doc comment lines as paragraphs.
pub(super) fn paragraphs(lines: &[&str]) -> Vec<String> {
    let mut paragraphs: Vec<String> = vec![String::new()];
    for line in lines.iter().map(|line| line.trim()) {
        match (line.is_empty(), paragraphs.last_mut()) {
            (true, _) => paragraphs.push(String::new()),
            (false, Some(last)) if !last.is_empty() => *last = format!("{last} {line}"),
            (false, Some(last)) => line.clone_into(last),
            (false, None) => {}
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
}

/// Everything after the title, as one text without Markdown.
pub(super) fn plain(setting: &Setting) -> String {
    paragraphs(setting.documentation.get(1..).unwrap_or_default()).join(" ").replace('`', "")
}

/// The whole explanation without Markdown, in paragraphs: what it is, what it may hold, what holds otherwise.
pub(super) fn explanation(setting: &Setting) -> Vec<String> {
    let mut text = vec![plain(setting)];
    if let Kind::Choice(choices) = setting.kind {
        text.extend(
            choices.iter().map(|choice| format!("{}: {}", choice.name, choice.text.trim().replace('`', ""))),
        );
    } else {
        text.push(format!("Expected: {}.", setting.kind.expectation().replace('`', "")));
    }
    text.push(match setting.default {
        Some(default) => format!("Not configured: {}.", toml_value(&default.to_raw())),
        None => "Not configured: not set.".to_owned(),
    });
    text
}

/// A literal as TOML writes it.
pub(super) fn literal(literal: Literal) -> String {
    toml_value(&literal.to_raw())
}

/// A value as TOML writes it.
pub(super) fn toml_value(value: &RawValue) -> String {
    let value = match value {
        RawValue::Bool(value) => ::toml::Value::from(*value),
        RawValue::Int(number) => ::toml::Value::from(*number),
        RawValue::Str(text) => ::toml::Value::from(text.as_str()),
        RawValue::List(items) => ::toml::Value::from(items.clone()),
        RawValue::Table(_) | RawValue::Other(_) => ::toml::Value::from(""),
    };
    value.to_string()
}
