//! Registry.pol, the file in which Group Policy keeps registry values (Microsoft, "Registry Policy File Format").
//!
//! `PReg`, version 1, then `[key;value;type;size;data]` in UTF-16LE. The size says where the data ends, for it may hold
//! any of these characters. Instructions to delete (`**del.NAME`, `**delvals.` and their like) take away what came before
//! them in the file.

use super::registry::{RegistryValue, Tree};
use super::{foreign, registry, syntax};
use crate::message::excerpt;
use crate::problem::{Code, Problem};
use crate::raw::{RawPolicy, RawValue, ReadError};

/// The signature and the version of the format.
pub const HEADER: [u8; 8] = *b"PReg\x01\0\0\0";
/// The policy key of the agent below `HKEY_LOCAL_MACHINE`.
pub const KEY: &str = r"SOFTWARE\Policies\Steward";

const MAXIMUM_ENTRIES: usize = 100_000;

/// Reads what a file says for the agent's key. Other software's entries are passed over; where there is nothing else, the
/// result says so.
///
/// # Errors
/// The bytes are no such file, or it ends in the middle of an entry; the message names the byte.
pub fn read(bytes: &[u8]) -> Result<RawPolicy, ReadError> {
    let mut rest = Rest { bytes, offset: HEADER.len() };
    if bytes.get(..HEADER.len()) != Some(&HEADER) {
        return Err(syntax("the file does not begin as Registry.pol does, with `PReg` and version 1", None));
    }
    let mut file = File::default();
    let mut entries = 0;
    // Some tools fill up the file with NUL bytes.
    while bytes[rest.offset..].iter().any(|byte| *byte != 0) {
        entries += 1;
        if entries > MAXIMUM_ENTRIES {
            return Err(syntax(format!("more than {MAXIMUM_ENTRIES} entries"), None));
        }
        let (key, value) = rest.entry()?;
        file.apply(&key, value);
    }
    Ok(file.finish(entries))
}

/// The part of a key's name below another key; empty for that key itself.
fn below<'k>(key: &'k str, above: &str) -> Option<&'k str> {
    let (start, rest) = key.split_at_checked(above.len())?;
    if !start.eq_ignore_ascii_case(above) {
        return None;
    }
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('\\') }
}

/// What the entries of a file have done so far.
#[derive(Default)]
pub(super) struct File {
    tree: Tree,
    /// An entry was for the agent's key or one below.
    touched: bool,
    /// The keys of other entries, for messages.
    others: Vec<String>,
    remarks: Vec<Problem>,
}

impl File {
    /// What the file says for the agent's key, after so many entries.
    pub(super) fn finish(self, entries: usize) -> RawPolicy {
        let mut policy = registry::read(&self.tree);
        if policy.is_empty() {
            policy.remarks.push(self.why_nothing(entries));
        }
        policy.remarks.extend(self.remarks);
        policy
    }

    /// Makes a key, if it is the agent's or below.
    pub(super) fn open(&mut self, key: &str) {
        match below(key, KEY) {
            Some(path) => {
                self.touched = true;
                descend(&mut self.tree, path);
            }
            None => self.note_other(key),
        }
    }

    /// Deletes a key with all below it.
    pub(super) fn delete_key(&mut self, key: &str) {
        self.delete(key);
        self.touched |= below(key, KEY).is_some();
    }

    fn note_other(&mut self, key: &str) {
        if !self.others.iter().any(|other| other.eq_ignore_ascii_case(key)) && self.others.len() < 100 {
            self.others.push(key.to_owned());
        }
    }

    /// Does what an entry says, in the order of the file as a device does: a second value of the same name replaces the
    /// first, and an instruction takes away what came before it.
    pub(super) fn apply(&mut self, key: &str, value: RegistryValue) {
        let lower = value.name.to_ascii_lowercase();
        if lower.starts_with("**deletekeys") {
            // Relative to the key, which may be none.
            for name in text_of(&value).split(';').map(str::trim).filter(|name| !name.is_empty()) {
                let path = if key.is_empty() { name.to_owned() } else { format!(r"{key}\{name}") };
                self.delete(&path);
            }
            self.touched |= below(key, KEY).is_some();
            return;
        }
        let Some(path) = below(key, KEY) else {
            return self.note_other(key);
        };
        self.touched = true;
        let here = descend(&mut self.tree, path);
        let find = |here: &Tree, name: &str| {
            here.values.iter().position(|known| known.name.eq_ignore_ascii_case(name))
        };
        if let Some(name) = lower.strip_prefix("**del.") {
            here.values.retain(|known| !known.name.eq_ignore_ascii_case(name));
        } else if lower.starts_with("**delvals") {
            here.values.clear();
        } else if lower.starts_with("**deletevalues") {
            let listed = text_of(&value);
            let is_listed = |name: &str| listed.split(';').any(|one| one.trim().eq_ignore_ascii_case(name));
            here.values.retain(|known| !is_listed(&known.name));
        } else if lower.starts_with("**soft.") {
            // Only where there is no such value yet.
            let name = value.name["**soft.".len()..].to_owned();
            if find(here, &name).is_none() {
                here.values.push(RegistryValue { name, ..value });
            }
        } else if lower.starts_with("**") {
            if !lower.starts_with("**securekey") && !lower.starts_with("**comment") {
                let message =
                    format!("the instruction `{}` is not known, so it has no effect", excerpt(&value.name));
                self.remarks.push(Problem::new(Code::PolicyPassedOver, message).at(key));
            }
        } else {
            if let Some(before) = find(here, &value.name).map(|at| here.values.remove(at))
                && (before.kind, &before.bytes) != (value.kind, &value.bytes)
            {
                let message = format!("`{}` is set twice; the later value counts", excerpt(&value.name));
                self.remarks.push(
                    Problem::new(Code::PolicyPassedOver, message)
                        .at(key)
                        .hint("keep one of the two".to_owned()),
                );
            }
            here.values.push(value);
        }
    }

    /// Deletes a key with all below it.
    fn delete(&mut self, path: &str) {
        if below(KEY, path).is_some() {
            self.tree = Tree::default();
        } else if let Some((parent, name)) =
            below(path, KEY).map(|path| path.rsplit_once('\\').unwrap_or(("", path)))
        {
            descend(&mut self.tree, parent).subkeys.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        }
    }

    /// The reason why nothing in the file is for the agent.
    fn why_nothing(&self, entries: usize) -> Problem {
        let key = format!(r"HKLM\{KEY}");
        if self.touched {
            return foreign(format!("its entries for {key} set no value"));
        }
        if entries == 0 {
            return foreign("the file has no entries");
        }
        let with_hive = |other: &&String| {
            let upper = other.to_ascii_uppercase();
            upper.starts_with("HKLM\\") || upper.starts_with("HKEY_LOCAL_MACHINE\\")
        };
        if let Some(other) = self.others.iter().find(with_hive) {
            let hint = format!("leave out the hive: {KEY}");
            return foreign(format!("it names the hive in the key {}", excerpt(other))).hint(hint);
        }
        if let Some(other) =
            self.others.iter().find(|other| other.to_ascii_uppercase().contains("WOW6432NODE"))
        {
            let message = format!("it sets {}, where only 32-bit programs look", excerpt(other));
            return foreign(message).hint(format!("write to {KEY}, with a 64-bit tool"));
        }
        let (near, far): (Vec<_>, Vec<_>) =
            self.others.iter().partition(|other| other.to_ascii_lowercase().contains("steward"));
        let shown = near.into_iter().chain(far).take(3).map(|other| excerpt(other)).collect::<Vec<_>>();
        foreign(format!("the file has nothing for {key}; it sets {}", shown.join(", ")))
            .hint(format!("the key is {KEY}, in the policy for computers"))
    }
}

/// The key with this path below the agent's. `Recommended` and one list is as deep as policy goes.
fn descend<'t>(tree: &'t mut Tree, path: &str) -> &'t mut Tree {
    let mut here = tree;
    for name in path.splitn(3, '\\').filter(|name| !name.is_empty()) {
        let found = here.subkeys.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        let index = found.unwrap_or_else(|| {
            here.subkeys.push((name.to_owned(), Tree::default()));
            here.subkeys.len() - 1
        });
        here = &mut here.subkeys[index].1;
    }
    here
}

/// The names that an instruction lists.
fn text_of(value: &RegistryValue) -> String {
    match registry::value(value) {
        RawValue::Str(text) => text,
        RawValue::Bool(_)
        | RawValue::Int(_)
        | RawValue::List(_)
        | RawValue::Table(_)
        | RawValue::Other(_) => String::new(),
    }
}

struct Rest<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Rest<'_> {
    fn entry(&mut self) -> Result<(String, RegistryValue), ReadError> {
        self.character('[')?;
        let at = self.offset;
        let key = self.text()?;
        if key.contains(';') {
            let hint = "write the file with Group Policy or LGPO.exe";
            return Err(syntax(format!("byte {at}: the name of the key is not ended by NUL"), Some(hint)));
        }
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
            let hint = "the file is damaged: let Group Policy or LGPO.exe write it again";
            Err(syntax(format!("byte {at}: expected `{expected}`"), Some(hint)))
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
        assert_eq!(policy.remarks.len(), 1);
        assert!(policy.remarks[0].message.contains("`reportposture` is set twice"), "{:?}", policy.remarks);
    }

    fn text(text: &str) -> Vec<u8> {
        format!("{text}\0").encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    /// Found by trial: such files were "no problems", and their export wiped the policy of a device.
    #[test]
    fn file_with_nothing_for_the_agent_says_why() {
        const OWN: &str = r"SOFTWARE\Policies\Steward";
        let off = |key: &str| entry(key, "UpdateMode", 1, &text("off"));
        let domain = entry(r"SOFTWARE\Policies\Steward\AllowedEmailDomains", "1", 1, &text("example.com"));
        for (entries, reason) in [
            (vec![], "has no entries"),
            (vec![off(r"SOFTWARE\WOW6432Node\Policies\Steward")], "where only 32-bit programs look"),
            (vec![off(r"HKLM\SOFTWARE\Policies\Steward")], "names the hive"),
            (vec![off(r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Steward")], "names the hive"),
            (
                vec![off(r"SOFTWARE\Other"), off(r"SOFTWARE\Policies\Amazon\Steward")],
                r"it sets SOFTWARE\Policies\Amazon\Steward, SOFTWARE\Other",
            ),
            (
                vec![domain.clone(), entry(r"SOFTWARE\Policies", "**DeleteKeys", 1, &text("Steward"))],
                "set no value",
            ),
            (
                vec![
                    domain.clone(),
                    entry("", "**DeleteKeys", 1, &text(r"SOFTWARE\Policies\Steward\AllowedEmailDomains")),
                ],
                "set no value",
            ),
            (vec![off(OWN), entry(OWN, "**delvals.", 1, &text(" "))], "set no value"),
        ] {
            let policy = read(&file(&entries)).unwrap();
            assert!(policy.is_empty() && policy.remarks[0].message.contains(reason), "{:?}", policy.remarks);
        }
        let unknown =
            read(&file(&[off(OWN), entry(OWN, "**Frobnicate.UpdateMode", 1, &text("off"))])).unwrap();
        assert!(unknown.remarks[0].message.contains("`**Frobnicate.UpdateMode` is not known"));
        let soft = read(&file(&[
            off(OWN),
            entry(OWN, "**soft.UpdateMode", 1, &text("notify")),
            entry(OWN, "**soft.LogLevel", 1, &text("debug")),
        ]))
        .unwrap();
        assert_eq!(soft.enforced["UpdateMode"].value, RawValue::Str("off".to_owned()));
        assert_eq!(soft.enforced["LogLevel"].value, RawValue::Str("debug".to_owned()));
        let padded = [file(&[off(OWN)]), vec![0; 64]].concat();
        assert_eq!(read(&padded).unwrap().enforced.len(), 1);
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
