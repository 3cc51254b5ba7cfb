//! Registry.pol, the file in which Group Policy keeps registry values (Microsoft, "Registry Policy File Format").
//!
//! `PReg`, version 1, then `[key;value;type;size;data]` in UTF-16LE. The size says where the data ends, for it may hold
//! any of these characters. Instructions to delete (`**del.NAME`, `**delvals.` and their like) take away what came before
//! them in the file.

use super::registry::{RegistryValue, Tree};
use super::{registry, syntax};
use crate::raw::{RawPolicy, RawValue, ReadError};

/// The signature and the version of the format.
pub const HEADER: [u8; 8] = *b"PReg\x01\0\0\0";
/// The policy key of the agent below `HKEY_LOCAL_MACHINE`.
pub const KEY: &str = r"SOFTWARE\Policies\Steward";

const MAXIMUM_ENTRIES: usize = 100_000;

/// Reads what a file says for the agent's key. Other software's entries are passed over.
///
/// # Errors
/// The bytes are no such file, or it ends in the middle of an entry; the message names the byte.
pub fn read(bytes: &[u8]) -> Result<RawPolicy, ReadError> {
    let mut rest = Rest { bytes, offset: HEADER.len() };
    if bytes.get(..HEADER.len()) != Some(&HEADER) {
        return Err(syntax("does not begin as Registry.pol does, with `PReg` and version 1", None));
    }
    let mut tree = Tree::default();
    let mut entries = 0;
    while rest.offset < bytes.len() {
        entries += 1;
        if entries > MAXIMUM_ENTRIES {
            return Err(syntax(format!("more than {MAXIMUM_ENTRIES} entries"), None));
        }
        let (key, value) = rest.entry()?;
        if let Some(path) = below(&key) {
            apply(&mut tree, path, value);
        }
    }
    Ok(registry::read(&tree))
}

/// The part of a key's name below the agent's key; empty for the key itself.
fn below(key: &str) -> Option<&str> {
    let (start, rest) = key.split_at_checked(KEY.len())?;
    if !start.eq_ignore_ascii_case(KEY) {
        return None;
    }
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('\\') }
}

/// Does what an entry says, in the order of the file as a device does: a second value of the same name replaces the
/// first, and an instruction takes away what came before it.
fn apply(tree: &mut Tree, path: &str, value: RegistryValue) {
    let mut here = tree;
    // `Recommended` and one list is as deep as policy goes.
    for name in path.splitn(3, '\\').filter(|name| !name.is_empty()) {
        let found = here.subkeys.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        let index = found.unwrap_or_else(|| {
            here.subkeys.push((name.to_owned(), Tree::default()));
            here.subkeys.len() - 1
        });
        here = &mut here.subkeys[index].1;
    }
    let listed = || match registry::value(&value) {
        RawValue::Str(text) => text,
        RawValue::Bool(_) | RawValue::Int(_) | RawValue::List(_) | RawValue::Other(_) => String::new(),
    };
    let is_listed = |name: &str, listed: &str| listed.split(';').any(|one| one.eq_ignore_ascii_case(name));
    let lower = value.name.to_ascii_lowercase();
    if let Some(name) = lower.strip_prefix("**del.") {
        here.values.retain(|known| !known.name.eq_ignore_ascii_case(name));
    } else if lower.starts_with("**delvals") {
        here.values.clear();
    } else if lower.starts_with("**deletevalues") {
        let listed = listed();
        here.values.retain(|known| !is_listed(&known.name, &listed));
    } else if lower.starts_with("**deletekeys") {
        let listed = listed();
        here.subkeys.retain(|(known, _)| !is_listed(known, &listed));
    } else if !lower.starts_with("**") {
        here.values.retain(|known| !known.name.eq_ignore_ascii_case(&value.name));
        here.values.push(value);
    }
}

struct Rest<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Rest<'_> {
    fn entry(&mut self) -> Result<(String, RegistryValue), ReadError> {
        self.character('[')?;
        let key = self.text()?;
        self.character(';')?;
        let name = self.text()?;
        self.character(';')?;
        let kind = self.number()?;
        self.character(';')?;
        let size = self.number()?;
        self.character(';')?;
        let bytes = self.take(size as usize)?.to_vec();
        self.character(']')?;
        Ok((key, RegistryValue { name, kind, bytes }))
    }

    fn take(&mut self, length: usize) -> Result<&[u8], ReadError> {
        let end = self.offset.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            syntax(
                format!("byte {}: the file ends in the middle of an entry", self.offset),
                Some("it is only half written"),
            )
        })?;
        let taken = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(taken)
    }

    fn unit(&mut self) -> Result<u16, ReadError> {
        self.take(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
    }

    fn number(&mut self) -> Result<u32, ReadError> {
        self.take(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    }

    fn character(&mut self, expected: char) -> Result<(), ReadError> {
        let at = self.offset;
        if char::from_u32(self.unit()?.into()) == Some(expected) {
            Ok(())
        } else {
            Err(syntax(format!("byte {at}: expected `{expected}`"), None))
        }
    }

    /// A text up to its NUL.
    fn text(&mut self) -> Result<String, ReadError> {
        let at = self.offset;
        let mut units = Vec::new();
        loop {
            match self.unit()? {
                0 => break,
                unit => units.push(unit),
            }
        }
        String::from_utf16(&units).map_err(|_| syntax(format!("byte {at}: a name that is not UTF-16"), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, name: &str, kind: u32, data: &[u8]) -> Vec<u8> {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        [
            utf16(&format!("[{key}\0;{name}\0;")),
            kind.to_le_bytes().to_vec(),
            utf16(";"),
            u32::try_from(data.len()).unwrap().to_le_bytes().to_vec(),
            utf16(";"),
            data.to_vec(),
            utf16("]"),
        ]
        .concat()
    }

    fn file(entries: &[Vec<u8>]) -> Vec<u8> {
        [HEADER.to_vec(), entries.concat()].concat()
    }

    #[test]
    fn entries_of_the_agent_are_read_and_others_passed_over() {
        let tricky: Vec<u8> = "a];[b".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let bytes = file(&[
            entry(r"Software\Policies\Other", "UpdateMode", 1, b"x\0"),
            entry(r"SOFTWARE\Policies\StewardX", "UpdateMode", 1, b"x\0"),
            entry(r"software\policies\STEWARD", "OrganizationName", 1, &tricky),
            entry(r"Software\Policies\Steward", "Issuer", 1, b"x\0\0\0"),
            entry(r"Software\Policies\Steward", "**del.Issuer", 1, b" \0\0\0"),
            entry(r"Software\Policies\Steward\Scopes", "9", 1, b"x\0\0\0"),
            entry(r"Software\Policies\Steward\Scopes", "**delvals.", 1, b" \0\0\0"),
            entry(r"Software\Policies\Steward\ProxyBypass", "1", 1, b"x\0\0\0"),
            entry(r"Software\Policies\Steward", "**DeleteKeys", 1, b"P\0r\0o\0x\0y\0B\0y\0p\0a\0s\0s\0\0\0"),
            entry(r"Software\Policies\Steward\Scopes", "1", 1, b"a\0\0\0"),
            entry(r"Software\Policies\Steward\Recommended", "ReportPosture", 4, &[0, 0, 0, 0]),
            entry(r"Software\Policies\Steward\Recommended", "reportposture", 4, &[1, 0, 0, 0]),
        ]);
        let policy = read(&bytes).unwrap();
        assert_eq!(policy.enforced.keys().collect::<Vec<_>>(), ["OrganizationName", "Scopes"]);
        assert_eq!(policy.enforced["OrganizationName"].value, RawValue::Str("a];[b".to_owned()));
        assert_eq!(policy.recommended["reportposture"].value, RawValue::Int(1));
        assert_eq!(policy.recommended.len(), 1);
    }

    #[test]
    fn file_that_ends_inside_entry_is_error() {
        let one = file(&[entry(r"Software\Policies\Steward", "UpdateMode", 1, b"o\0f\0f\0\0\0")]);
        for length in HEADER.len() + 1..one.len() {
            assert!(read(&one[..length]).is_err(), "{length}");
        }
        assert!(read(&one[..HEADER.len()]).unwrap().enforced.is_empty());
        assert!(read(b"PReg\x02\0\0\0").is_err());
        assert!(read(b"").is_err());
        let huge = [&one[..one.len() - 14], &u32::MAX.to_le_bytes()].concat();
        assert!(read(&huge).is_err());
    }
}
