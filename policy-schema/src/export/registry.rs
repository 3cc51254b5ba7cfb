//! Values of the registry: a .reg file to import, and the Registry.pol of Group Policy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::raw::{RawEntry, RawPolicy, RawValue};
use crate::read::RECOMMENDED;
use crate::read::registry::{REG_DWORD, REG_MULTI_SZ, REG_QWORD, REG_SZ};
use crate::read::registry_pol::{HEADER, KEY};

/// What to do at a key.
enum Action {
    /// Take all its values away: what a list held before must not stay.
    Clear,
    Set {
        name: String,
        kind: u32,
        bytes: Vec<u8>,
    },
}

/// A .reg file that replaces the whole policy key. UTF-16 with a byte order mark: without, texts in hexadecimal are
/// misread.
#[must_use]
pub fn reg(policy: &RawPolicy) -> Vec<u8> {
    reg_at(policy, KEY)
}

/// The same for another key below `HKEY_LOCAL_MACHINE`.
#[must_use]
pub fn reg_at(policy: &RawPolicy, key: &str) -> Vec<u8> {
    encode(&reg_text(policy, key))
}

/// A .reg file as text.
pub(super) fn reg_text(policy: &RawPolicy, root: &str) -> String {
    let mut text = format!("Windows Registry Editor Version 5.00\r\n\r\n[-HKEY_LOCAL_MACHINE\\{root}]\r\n");
    let mut current = None;
    for (key, action) in actions(policy) {
        if current.as_ref() != Some(&key) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\r\n[HKEY_LOCAL_MACHINE\\{root}{key}]\r\n");
            current = Some(key);
        }
        if let Action::Set { name, kind, bytes } = action {
            let _ = write!(text, "\"{}\"={}\r\n", escaped(&name), reg_value(kind, &bytes));
        }
    }
    text
}

/// A Registry.pol (Microsoft, "Registry Policy File Format").
#[must_use]
pub fn pol(policy: &RawPolicy) -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    for (key, action) in actions(policy) {
        let (name, kind, data) = match action {
            Action::Clear => ("**delvals.".to_owned(), REG_SZ, utf16(" \0")),
            Action::Set { name, kind, bytes } => (name, kind, bytes),
        };
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        bytes.extend(utf16(&format!("[{KEY}{key}\0;{name}\0;")));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(utf16(";"));
        bytes.extend(size.to_le_bytes());
        bytes.extend(utf16(";"));
        bytes.extend(data);
        bytes.extend(utf16("]"));
    }
    bytes
}

/// Everything to do, by key below the policy key.
fn actions(policy: &RawPolicy) -> Vec<(String, Action)> {
    let mut actions = Vec::new();
    level(&mut actions, "", &policy.enforced);
    level(&mut actions, &format!("\\{RECOMMENDED}"), &policy.recommended);
    actions
}

fn level(actions: &mut Vec<(String, Action)>, key: &str, entries: &BTreeMap<String, RawEntry>) {
    let mut lists = Vec::new();
    for (name, entry) in entries {
        let (kind, bytes) = match &entry.value {
            RawValue::Bool(value) => (REG_DWORD, u32::from(*value).to_le_bytes().to_vec()),
            RawValue::Int(number) => match u32::try_from(*number) {
                Ok(number) => (REG_DWORD, number.to_le_bytes().to_vec()),
                Err(_) => (REG_QWORD, number.to_le_bytes().to_vec()),
            },
            RawValue::Str(text) => (REG_SZ, utf16(&format!("{text}\0"))),
            // An empty key would say nothing: Group Policy leaves such keys behind.
            RawValue::List(items) if items.is_empty() => (REG_MULTI_SZ, utf16("\0")),
            RawValue::List(items) => {
                lists.push((format!("{key}\\{name}"), items));
                continue;
            }
            RawValue::Table(_) | RawValue::Other(_) => continue,
        };
        actions.push((key.to_owned(), Action::Set { name: name.clone(), kind, bytes }));
    }
    for (key, items) in lists {
        actions.push((key.clone(), Action::Clear));
        for (item, number) in items.iter().zip(1..) {
            let name = format!("{number}");
            actions
                .push((key.clone(), Action::Set { name, kind: REG_SZ, bytes: utf16(&format!("{item}\0")) }));
        }
    }
}

fn reg_value(kind: u32, bytes: &[u8]) -> String {
    match (kind, bytes) {
        (REG_DWORD, &[a, b, c, d]) => format!("dword:{:08x}", u32::from_le_bytes([a, b, c, d])),
        (REG_SZ, bytes) => {
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
            let text = String::from_utf16_lossy(&units);
            let text = text.trim_end_matches('\0');
            if text.chars().any(char::is_control) {
                hexadecimal(1, bytes)
            } else {
                format!("\"{}\"", escaped(text))
            }
        }
        (kind, bytes) => hexadecimal(kind, bytes),
    }
}

fn hexadecimal(kind: u32, bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hex({kind:x}):{}", pairs.join(","))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn encode(text: &str) -> Vec<u8> {
    [&[0xff, 0xfe][..], &utf16(text)].concat()
}
