//! Values of the Windows registry, as bytes with a type, and what they mean as policy.
//!
//! Values of the key are enforced, those of its subkey `Recommended` recommended; any other subkey is a list, whatever
//! its values are called. An empty subkey says nothing: Group Policy leaves them behind when it withdraws a list. An
//! empty list is a `REG_MULTI_SZ` without strings.

use std::collections::BTreeMap;

use super::{MAXIMUM_BYTES, RECOMMENDED};
use crate::message::excerpt;
use crate::problem::{Code, Problem};
use crate::raw::{Notation, RawEntry, RawPolicy, RawValue, Table};
use crate::settings::{SETTINGS, find};

/// The most bytes that a value may have.
#[expect(clippy::cast_possible_truncation, reason = "a megabyte fits everywhere")]
pub const MAXIMUM_VALUE: usize = MAXIMUM_BYTES as usize;

/// A text that ends in NUL (Microsoft, "Registry value types", as are the other numbers).
pub const REG_SZ: u32 = 1;
/// A text with names of environment variables in it. They are not expanded: the agent's are not the user's.
pub const REG_EXPAND_SZ: u32 = 2;
/// Bytes.
pub const REG_BINARY: u32 = 3;
/// A number of 32 bits.
pub const REG_DWORD: u32 = 4;
/// Texts, each ending in NUL, and one more NUL.
pub const REG_MULTI_SZ: u32 = 7;
/// A number of 64 bits.
pub const REG_QWORD: u32 = 11;

/// One value as the registry stores it. `Debug` does not show its content: it is not known yet what is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryValue {
    /// Its name, in whatever capitals.
    pub name: String,
    /// The number of its type.
    pub kind: u32,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for RegistryValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({}, {} bytes)", self.name, kind_name(self.kind), self.bytes.len())
    }
}

/// A key with what lies in it and below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Its values.
    pub values: Vec<RegistryValue>,
    /// Its subkeys by name.
    pub subkeys: Vec<(String, Tree)>,
}

/// What the policy key says.
#[must_use]
pub fn read(tree: &Tree) -> RawPolicy {
    let mut policy =
        RawPolicy { notation: Notation::Registry, enforced: level(tree), ..RawPolicy::default() };
    policy.remarks.extend(too_deep(tree, ""));
    for (name, subkey) in tree.subkeys.iter().filter(|(name, _)| name.eq_ignore_ascii_case(RECOMMENDED)) {
        policy.recommended.extend(level(subkey));
        policy.remarks.extend(too_deep(subkey, &format!(r"{name}\")));
    }
    policy
}

/// Keys below the key of a list: whoever made them meant something, and nothing reads them.
fn too_deep(tree: &Tree, start: &str) -> Vec<Problem> {
    let is_list = |name: &str| find(SETTINGS, name).is_some();
    let lists = tree.subkeys.iter().filter(|(name, _)| is_list(name));
    let keys = lists.flat_map(|(name, list)| list.subkeys.iter().map(move |(below, key)| (name, below, key)));
    keys.filter(|(_, _, key)| !key.values.is_empty())
        .map(|(name, below, _)| {
            Problem::new(Code::PolicyPassedOver, "nested too deep, so it is not read")
                .at(format!(r"{start}{name}\{}", excerpt(below)))
                .hint(format!("move its values into the key {name}"))
        })
        .collect()
}

/// What one value means by its type alone.
#[must_use]
pub fn value(value: &RegistryValue) -> RawValue {
    if value.bytes.len() > MAXIMUM_VALUE {
        return RawValue::Other(format!("a {} of more than a megabyte", kind_name(value.kind)));
    }
    let other = |what: &str| RawValue::Other(format!("a {} {what}", kind_name(value.kind)));
    match (value.kind, value.bytes.as_slice()) {
        (REG_SZ | REG_EXPAND_SZ, bytes) => match units(bytes).map(|units| text(&units)) {
            None => other("with half a character"),
            Some(None) => other("that is not UTF-16"),
            Some(Some(text)) => RawValue::Str(text),
        },
        (REG_MULTI_SZ, bytes) => match units(bytes).map(|units| texts(&units)) {
            None => other("with half a character"),
            Some(None) => other("that is not UTF-16"),
            Some(Some(items)) => RawValue::List(items),
        },
        (REG_DWORD, &[a, b, c, d]) => RawValue::Int(u32::from_le_bytes([a, b, c, d]).into()),
        (REG_QWORD, bytes) => match <[u8; 8]>::try_from(bytes).map(u64::from_le_bytes).map(i64::try_from) {
            Ok(Ok(number)) => RawValue::Int(number),
            Ok(Err(_)) => RawValue::Other("a number that is too large".to_owned()),
            Err(_) => other(&format!("of {} bytes", bytes.len())),
        },
        (REG_DWORD, bytes) => other(&format!("of {} bytes", bytes.len())),
        (kind, _) => RawValue::Other(kind_name(kind)),
    }
}

fn level(tree: &Tree) -> BTreeMap<String, RawEntry> {
    let mut entries: BTreeMap<String, RawEntry> = tree
        .values
        .iter()
        // The value without a name is no setting: tools make it along with a key.
        .filter(|value| !value.name.is_empty())
        .map(|one| (one.name.clone(), value(one).into()))
        .collect();
    for (name, subkey) in &tree.subkeys {
        if name.eq_ignore_ascii_case(RECOMMENDED) {
            continue;
        }
        if let Some(table) = other_section(name, subkey) {
            entries.insert(name.clone(), RawValue::Table(table).into());
            continue;
        }
        if subkey.values.iter().all(|value| value.name.is_empty()) {
            let unnamed = subkey.values.iter().any(|value| value.bytes.iter().any(|byte| *byte != 0));
            if unnamed && find(SETTINGS, name).is_some() {
                let what = "a subkey whose only value has no name".to_owned();
                entries.entry(name.clone()).or_insert_with(|| RawValue::Other(what).into());
            }
            continue;
        }
        let known = entries.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned();
        let value = if known.is_some() {
            RawValue::Other("both a value and a subkey of this name".to_owned())
        } else {
            list(subkey)
        };
        entries.insert(known.unwrap_or_else(|| name.clone()), value.into());
    }
    entries
}

/// A subkey that is none of ours and has settings in it, which its author must have meant. Names of settings are below
/// it as values, or as the subkeys of lists.
fn other_section(name: &str, subkey: &Tree) -> Option<Table> {
    if find(SETTINGS, name).is_some() {
        return None;
    }
    let values = subkey.values.iter().map(|value| &value.name);
    let names = values.chain(subkey.subkeys.iter().map(|(name, _)| name));
    let keys: Vec<String> = names.filter(|name| find(SETTINGS, name).is_some()).cloned().collect();
    (!keys.is_empty()).then_some(Table { kind: "a subkey", keys })
}

/// The texts of a list's key. Names that are numbers give the order, as tools number them; else the names do.
fn list(tree: &Tree) -> RawValue {
    let mut values: Vec<&RegistryValue> = tree.values.iter().filter(|value| !value.name.is_empty()).collect();
    values.sort_by_key(|value| {
        let number = value.name.parse::<u64>();
        (number.is_err(), number.unwrap_or_default(), value.name.to_lowercase())
    });
    let mut items = Vec::new();
    for one in values {
        match value(one) {
            RawValue::Str(text) => items.push(text),
            RawValue::Bool(_)
            | RawValue::Int(_)
            | RawValue::List(_)
            | RawValue::Table(_)
            | RawValue::Other(_) => {
                return RawValue::Other(format!("a list with a {} in it", kind_name(one.kind)));
            }
        }
    }
    RawValue::List(items)
}

fn units(bytes: &[u8]) -> Option<Vec<u16>> {
    let pairs = bytes.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
}

/// A text up to its NUL, which some writers leave out.
fn text(units: &[u16]) -> Option<String> {
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    String::from_utf16(&units[..end]).ok()
}

/// The texts of a list. An empty one in between stays, for its format to refuse; those at the end are the end.
fn texts(units: &[u16]) -> Option<Vec<String>> {
    let end = units.iter().rposition(|unit| *unit != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Some(Vec::new());
    }
    units[..end].split(|unit| *unit == 0).map(|item| String::from_utf16(item).ok()).collect()
}

fn kind_name(kind: u32) -> String {
    let name = match kind {
        0 => "REG_NONE",
        REG_SZ => "REG_SZ",
        REG_EXPAND_SZ => "REG_EXPAND_SZ",
        REG_BINARY => "REG_BINARY",
        REG_DWORD => "REG_DWORD",
        5 => "REG_DWORD_BIG_ENDIAN",
        6 => "REG_LINK",
        REG_MULTI_SZ => "REG_MULTI_SZ",
        REG_QWORD => "REG_QWORD",
        number => return format!("registry type {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn raw(kind: u32, bytes: &[u8]) -> RawValue {
        value(&RegistryValue { name: "x".to_owned(), kind, bytes: bytes.to_vec() })
    }

    fn texts(items: &[&str]) -> RawValue {
        RawValue::List(items.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn each_registry_type_is_read_as_its_value() {
        let text = |text: &str| RawValue::Str(text.to_owned());
        let other = |text: &str| RawValue::Other(text.to_owned());
        let surrogate = [0x00, 0xd8, 0x41, 0x00];
        let cases: &[(u32, Vec<u8>, RawValue)] = &[
            (REG_SZ, utf16("notify\0"), text("notify")),
            (REG_SZ, utf16("without terminator"), text("without terminator")),
            (REG_SZ, utf16("before\0behind\0"), text("before")),
            (REG_SZ, Vec::new(), text("")),
            (REG_SZ, b"odd".to_vec(), other("a REG_SZ with half a character")),
            (REG_SZ, surrogate.to_vec(), other("a REG_SZ that is not UTF-16")),
            (REG_EXPAND_SZ, utf16("%TEMP%\\x\0"), text("%TEMP%\\x")),
            (REG_MULTI_SZ, utf16("a\0b\0\0"), texts(&["a", "b"])),
            (REG_MULTI_SZ, utf16("a\0b"), texts(&["a", "b"])),
            (REG_MULTI_SZ, utf16("\0"), texts(&[])),
            (REG_MULTI_SZ, utf16("\0a\0\0"), texts(&["", "a"])),
            (REG_MULTI_SZ, Vec::new(), texts(&[])),
            (REG_MULTI_SZ, vec![0], other("a REG_MULTI_SZ with half a character")),
            (REG_DWORD, vec![30, 0, 0, 0], RawValue::Int(30)),
            (REG_DWORD, vec![0xff; 4], RawValue::Int(4_294_967_295)),
            (REG_DWORD, vec![1], other("a REG_DWORD of 1 bytes")),
            (REG_QWORD, vec![1, 0, 0, 0, 0, 0, 0, 0], RawValue::Int(1)),
            (REG_QWORD, vec![0xff; 8], other("a number that is too large")),
            (REG_BINARY, vec![1, 2], other("REG_BINARY")),
            (0, Vec::new(), other("REG_NONE")),
            (4711, Vec::new(), other("registry type 4711")),
            (REG_SZ, vec![b'a'; MAXIMUM_VALUE + 2], other("a REG_SZ of more than a megabyte")),
        ];
        for (kind, bytes, expected) in cases {
            assert_eq!(raw(*kind, bytes), *expected, "type {kind}, {:?}", bytes.get(..8));
        }
    }

    fn key(values: &[(&str, &str)]) -> Tree {
        let values = values.iter().map(|(name, text)| RegistryValue {
            name: (*name).to_owned(),
            kind: REG_SZ,
            bytes: utf16(text),
        });
        Tree { values: values.collect(), subkeys: Vec::new() }
    }

    #[test]
    fn subkey_is_list_in_order_of_numbers_and_recommended_is_level() {
        let mut recommended = key(&[("LogLevel", "debug")]);
        recommended.subkeys.push(("ProxyBypass".to_owned(), key(&[("x", "a.example")])));
        let mut tree = key(&[("UpdateMode", "off"), ("", "default value")]);
        tree.subkeys = vec![
            ("Scopes".to_owned(), key(&[("10", "email"), ("2", "profile"), ("1", "openid")])),
            ("AllowedEmailDomains".to_owned(), Tree::default()),
            ("ProxyBypass".to_owned(), key(&[("", "")])),
            ("Other".to_owned(), key(&[("", "default value")])),
            ("RECOMMENDED".to_owned(), recommended),
        ];
        let policy = read(&tree);
        assert_eq!(policy.enforced.keys().collect::<Vec<_>>(), ["Scopes", "UpdateMode"]);
        assert_eq!(policy.enforced["Scopes"].value, texts(&["openid", "profile", "email"]));
        assert_eq!(policy.recommended["ProxyBypass"].value, texts(&["a.example"]));
        assert_eq!(policy.recommended["LogLevel"].value, RawValue::Str("debug".to_owned()));
    }

    #[test]
    fn setting_that_is_both_value_and_list_is_neither() {
        let mut tree = key(&[("Scopes", "openid")]);
        tree.subkeys.push(("scopes".to_owned(), key(&[("1", "email")])));
        let policy = read(&tree);
        assert_eq!(policy.enforced.len(), 1);
        assert_eq!(policy.enforced["Scopes"].value.kind_name(), "both a value and a subkey of this name");
    }

    /// Found by review: such settings were passed over, while those in a table of a drop-in are in doubt.
    #[test]
    fn settings_below_a_subkey_of_another_name_are_not_passed_over() {
        let mut wrong = key(&[("Issuer", "https://a.example"), ("Colour", "blue")]);
        wrong.subkeys.push(("AllowedEmailDomains".to_owned(), key(&[("1", "example.com")])));
        let tree = Tree {
            subkeys: vec![
                ("Recommendet".to_owned(), wrong),
                ("Scopes".to_owned(), key(&[("", "openid")])),
                ("Colours".to_owned(), key(&[("1", "blue")])),
            ],
            ..Tree::default()
        };
        let policy = read(&tree);
        let keys = vec!["Issuer".to_owned(), "AllowedEmailDomains".to_owned()];
        assert_eq!(policy.enforced["Recommendet"].value, RawValue::Table(Table { kind: "a subkey", keys }));
        assert_eq!(policy.enforced["Scopes"].value.kind_name(), "a subkey whose only value has no name");
        assert_eq!(policy.enforced["Colours"].value, texts(&["blue"]));
    }

    #[test]
    fn list_with_item_of_other_type_names_the_type() {
        let mut tree = Tree::default();
        let number = RegistryValue { name: "1".to_owned(), kind: REG_DWORD, bytes: vec![1, 0, 0, 0] };
        tree.subkeys.push(("Scopes".to_owned(), Tree { values: vec![number], subkeys: Vec::new() }));
        let policy = read(&tree);
        assert_eq!(
            policy.enforced["Scopes"].value,
            RawValue::Other("a list with a REG_DWORD in it".to_owned())
        );
    }
}
