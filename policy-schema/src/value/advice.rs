//! What to write instead of a wrong value, in the notation of the document that it stands in.

use super::Kind;
use super::format::{CONFIRM, Format, application};
use crate::message::{excerpt, without_query};
use crate::raw::{Notation, RawValue};

/// What an administrator may have separated the items of a list with, where each item should have been on its own. The
/// first three are how Intune's OMA-URI settings write lists, after and before XML is read.
const SEPARATORS: [&str; 11] =
    ["\u{f000}", "&#xF000;", "#xF000;", "\n", ";", ",", "|", "\u{ff0c}", "\u{3001}", "\u{ff1b}", " "];

/// More of them, where the items cannot have them.
fn more_separators(format: Format) -> &'static [&'static str] {
    match format {
        Format::Domain => &["+", "&", "/", ":"],
        Format::Host | Format::Scope => &["+", "&"],
        // As in the PATH of Unix.
        Format::Application => &[":/"],
        Format::Line
        | Format::ClientId
        | Format::ClientSecret
        | Format::BearerToken
        | Format::Issuer
        | Format::Url
        | Format::WebSocketUrl
        | Format::RedirectUri
        | Format::ProxyUrl
        | Format::Claim
        | Format::Version
        | Format::Pin
        | Format::Downgrade
        | Format::TrustedRoots
        | Format::Name
        | Format::UpdateSource
        | Format::Textfile
        | Format::Publisher
        | Format::Window
        | Format::Certificate => &[],
    }
}

/// What to do about a value of a type that its setting does not have.
pub(super) fn for_wrong_type(kind: &Kind, raw: &RawValue, notation: Notation) -> Option<String> {
    match (kind, raw) {
        (Kind::Boolean, RawValue::Str(text)) => Some(boolean(truth(text)?, notation)),
        (Kind::Boolean, RawValue::Int(code @ (48 | 49))) => {
            let digit = code - 48;
            Some(format!("{code} is the character code of `{digit}`; {}", boolean(digit == 1, notation)))
        }
        (Kind::Integer { .. }, RawValue::Str(text)) => Some(integer(number(text)?, notation)),
        (Kind::Integer { .. }, RawValue::Other(_)) => Some(match notation {
            Notation::Toml => "write a whole number, without quotes and fraction".to_owned(),
            Notation::PropertyList => "write an <integer>".to_owned(),
            Notation::Registry => "use a REG_DWORD".to_owned(),
        }),
        (Kind::Text { format: Format::Version | Format::Pin }, RawValue::Int(_) | RawValue::Other(_)) => {
            Some(as_text("2.1.0", notation))
        }
        // None of them is proposed: it may be the loosest.
        (Kind::Choice(_), RawValue::Int(_) | RawValue::Bool(_)) => Some(match notation {
            Notation::Toml => "write one of them in quotes".to_owned(),
            Notation::PropertyList => "write one of them as a <string>".to_owned(),
            Notation::Registry => "use a REG_SZ with one of them".to_owned(),
        }),
        (Kind::Text { .. } | Kind::Secret { .. }, RawValue::Int(number)) => {
            let shown =
                if matches!(kind, Kind::Secret { .. }) { "...".to_owned() } else { number.to_string() };
            Some(as_text(&shown, notation))
        }
        (Kind::Text { .. } | Kind::Choice(_), RawValue::List(items)) => match items.as_slice() {
            [only] => Some(format!("write it without the list: {}", as_text(only, notation))),
            _ => Some("this setting has one value, not a list".to_owned()),
        },
        (Kind::List { format, .. }, RawValue::Str(text)) => {
            let items = split(text, *format).unwrap_or_else(|| vec![text.trim().to_owned()]);
            let fit = items.iter().all(|item| format.check(item).is_ok());
            Some(if fit { list(&items, notation) } else { empty_list(*format, notation) })
        }
        (_, RawValue::Table(_)) => Some("write the value itself, on one line".to_owned()),
        _ => None,
    }
}

/// The items of a text that holds several where one belongs; `None` if it is one.
pub(super) fn split(text: &str, format: Format) -> Option<Vec<String>> {
    if format == Format::Certificate {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        let starts: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
        return (starts.len() > 1).then(|| vec!["the first certificate".to_owned(), "the second".to_owned()]);
    }
    if format == Format::Application
        && let (named, true) = application(text)
    {
        let mut items = split(named, format)?;
        items.iter_mut().take(1).for_each(|first| first.insert_str(0, CONFIRM));
        return Some(items);
    }
    let separators = SEPARATORS.iter().chain(more_separators(format)).enumerate();
    // `Example Corp, Inc.` is one name.
    let in_names = |separator: &str| format == Format::Publisher && matches!(separator, "," | " ");
    separators
        .filter(|(_, separator)| !in_names(separator))
        .filter(|(_, separator)| text.contains(**separator))
        .find_map(|(index, separator)| {
            let of_intune = index < 3;
            let parts = text.split(separator).enumerate().map(|(at, part)| {
                // What the separator took from the item.
                let start = if at > 0 { separator.strip_prefix(':').unwrap_or_default() } else { "" };
                format!("{start}{}", part.trim())
            });
            // Intune writes the name of each item before it: a number.
            let is_name = |part: &str| of_intune && part.parse::<u32>().is_ok();
            let items: Vec<String> = parts.filter(|part| !part.is_empty() && !is_name(part)).collect();
            let fit = items.len() > 1 && items.iter().all(|item| format.check(item).is_ok());
            (fit || of_intune).then_some(items)
        })
}

/// How to write a list.
pub(super) fn list(items: &[String], notation: Notation) -> String {
    if items.iter().any(|item| item.contains("certificate")) {
        return "put each certificate into an item of its own".to_owned();
    }
    let shown: Vec<String> = items.iter().take(5).map(|item| excerpt(&without_query(item))).collect();
    let more = if items.len() > shown.len() { ", ..." } else { "" };
    let joined = |start: &str, between: &str, end: &str| format!("{start}{}{more}{end}", shown.join(between));
    match notation {
        Notation::Toml if shown.iter().any(|item| item.contains(['\\', '"'])) => {
            joined("write a list: ['", "', '", "']")
        }
        Notation::Toml => joined("write a list: [\"", "\", \"", "\"]"),
        Notation::PropertyList => joined("write <array><string>", "</string><string>", "</string></array>"),
        Notation::Registry => format!(
            "give each item a value of its own in the subkey of this name ({}{more}), or use a REG_MULTI_SZ; in the \
             form of Group Policy or Intune, one item on each line",
            shown
                .iter()
                .zip(1..)
                .map(|(item, number)| format!("{number} = {item}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

fn empty_list(format: Format, notation: Notation) -> String {
    let what = format.expectation();
    match notation {
        Notation::Toml => format!("write a list in square brackets, each item in quotes and {what}"),
        Notation::PropertyList => format!("write an <array> of <string>, each {what}"),
        Notation::Registry => {
            format!(
                "use a subkey of this name with one value for each item, or a REG_MULTI_SZ; each is {what}"
            )
        }
    }
}

fn boolean(value: bool, notation: Notation) -> String {
    match notation {
        Notation::Toml => format!("write {value}, in lower case and without quotes"),
        Notation::PropertyList => format!("write <{value}/>"),
        Notation::Registry => format!("use a REG_DWORD with the value {}", u8::from(value)),
    }
}

fn integer(value: i64, notation: Notation) -> String {
    match notation {
        Notation::Toml => format!("write {value}, without quotes"),
        Notation::PropertyList => format!("write <integer>{value}</integer>"),
        Notation::Registry => format!("use a REG_DWORD with the value {value}"),
    }
}

fn as_text(text: &str, notation: Notation) -> String {
    let text = excerpt(&without_query(text));
    match notation {
        Notation::Toml => format!("write it in quotes, as \"{text}\""),
        Notation::PropertyList => format!("write a string, as <string>{text}</string>"),
        Notation::Registry => format!("use a REG_SZ, as `{text}`"),
    }
}

/// What to do about a text that is empty.
pub(super) fn for_empty(notation: Notation) -> String {
    match notation {
        Notation::Toml | Notation::PropertyList => "remove the setting, or give it a value".to_owned(),
        Notation::Registry => "set the policy to Not Configured, or give it a value".to_owned(),
    }
}

/// What a text means that stands for a boolean.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "on" | "enabled" | "enable" => Some(true),
        "0" | "false" | "no" | "n" | "off" | "disabled" | "disable" => Some(false),
        _ => None,
    }
}

/// What a text means that stands for a number, with or without a unit behind it.
fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(digits, 16).ok();
    }
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '-').unwrap_or(text.len());
    let unit = text[end..].trim();
    (unit.len() <= 8 && unit.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '%'))
        .then(|| text[..end].parse().ok())
        .flatten()
}
