//! A .reg file, as the registry editor writes and imports it (Microsoft, "How to add, modify, or delete registry subkeys and
//! values by using a .reg file"): keys in brackets, values below them, `-` for what is to be deleted.

use super::registry::{REG_BINARY, REG_DWORD, REG_EXPAND_SZ, REG_MULTI_SZ, REG_SZ, RegistryValue};
use super::registry_pol::File;
use super::{may_be_shown, syntax};
use crate::message::excerpt;
use crate::raw::{RawPolicy, ReadError};

/// How the text begins.
pub const HEADERS: [&str; 2] = ["Windows Registry Editor Version 5.00", "REGEDIT4"];

const MACHINE: [&str; 2] = [r"HKEY_LOCAL_MACHINE\", r"HKLM\"];

/// Reads what a file says for the agent's key. Other keys are passed over; where there is nothing else, the result says so.
///
/// # Errors
/// A line is not understood; the message names it.
pub fn read(text: &str) -> Result<RawPolicy, ReadError> {
    let mut file = File::default();
    let mut key: Option<String> = None;
    let mut entries = 0;
    let ansi = text.trim_start_matches('\u{feff}').trim_start().starts_with(HEADERS[1]);
    let mut lines = text.lines().zip(1..).skip_while(|(line, _)| {
        let line = line.trim_start_matches('\u{feff}').trim();
        line.is_empty() || HEADERS.iter().any(|header| line.starts_with(header))
    });
    while let Some((line, number)) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        // Bytes go on in the next line.
        while line.ends_with('\\') && line.contains("=hex") {
            line.pop();
            match lines.next() {
                Some((more, _)) => line.push_str(more.trim()),
                None => break,
            }
        }
        let wrong = |what: &str| {
            let shown = if may_be_shown(&line) { format!(": `{}`", excerpt(&line)) } else { String::new() };
            syntax(format!("line {number}: {what}{shown}"), Some(HINT))
        };
        entries += 1;
        if let Some(rest) = line.strip_prefix('[') {
            // The name itself may have brackets in it.
            let ends = rest.match_indices(']').map(|(at, _)| (&rest[..at], &rest[at + 1..]));
            let Some((name, _)) = ends.clone().find(|(_, after)| is_comment(after)) else {
                return Err(wrong("the key has no `]` at its end"));
            };
            if let Some(deleted) = name.strip_prefix('-') {
                file.delete_key(&of_machine(deleted));
                key = None;
            } else {
                let name = of_machine(name);
                file.open(&name);
                key = Some(name);
            }
            continue;
        }
        let (name, data) = assignment(&line).ok_or_else(|| wrong("this is neither a key nor a value"))?;
        let Some(key) = &key else { return Err(wrong("the value is below no key")) };
        if data == "-" {
            file.apply(key, RegistryValue { name: format!("**del.{name}"), kind: REG_SZ, bytes: Vec::new() });
            continue;
        }
        let (kind, bytes) = content(&data, ansi).ok_or_else(|| wrong("the value is not understood"))?;
        file.apply(key, RegistryValue { name, kind, bytes });
    }
    Ok(file.finish(entries))
}

const HINT: &str = "export the key again with the registry editor, or compare the line with `Steward.reg` of `steward export`";

/// The name of a key below the machine's hive; one of another hive, or of none, keeps its whole name.
fn of_machine(key: &str) -> String {
    let hive = MACHINE
        .iter()
        .find(|hive| key.get(..hive.len()).is_some_and(|start| start.eq_ignore_ascii_case(hive)));
    match hive {
        Some(hive) => key[hive.len()..].to_owned(),
        // The registry editor does not import it.
        None => format!("\\{key}"),
    }
}

fn is_comment(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with(';')
}

/// The name and the text of the value of `"name"=value` or `@=value`.
fn assignment(line: &str) -> Option<(String, String)> {
    if let Some(rest) = line.strip_prefix('@') {
        return Some((String::new(), rest.trim_start().strip_prefix('=')?.trim().to_owned()));
    }
    let (name, rest) = quoted(line)?;
    Some((name, rest.trim_start().strip_prefix('=')?.trim().to_owned()))
}

/// A text in quotes, in which `\` stands before quotes and before itself, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((found, &text[at + 2..])),
            '\\' => match characters.next()?.1 {
                escaped @ ('"' | '\\') => found.push(escaped),
                other => found.extend(['\\', other]),
            },
            other => found.push(other),
        }
    }
    None
}

/// Type and bytes of a value.
fn content(data: &str, ansi: bool) -> Option<(u32, Vec<u8>)> {
    if data.starts_with('"') {
        let (text, rest) = quoted(data)?;
        return is_comment(rest).then(|| (REG_SZ, utf16(&text)));
    }
    let data = data.split(';').next().unwrap_or_default().trim();
    let (kind, digits) = data.split_once(':')?;
    let kind = kind.trim().to_ascii_lowercase();
    if kind == "dword" {
        let number = u32::from_str_radix(digits.trim(), 16).ok()?;
        return Some((REG_DWORD, number.to_le_bytes().to_vec()));
    }
    let number = match kind.strip_prefix("hex")? {
        "" => REG_BINARY,
        number => u32::from_str_radix(number.strip_prefix('(')?.strip_suffix(')')?, 16).ok()?,
    };
    let digits = digits.split(',').map(str::trim).filter(|digits| !digits.is_empty());
    let bytes: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).ok()).collect::<Option<_>>()?;
    if ansi && [REG_EXPAND_SZ, REG_MULTI_SZ].contains(&number) {
        return Some((number, bytes.iter().flat_map(|byte| [*byte, 0]).collect()));
    }
    Some((number, bytes))
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::RawValue;

    const START: &str = "Windows Registry Editor Version 5.00\r\n\r\n";
    const KEY: &str = r"[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Steward]";

    fn values(text: &str) -> Vec<(String, RawValue)> {
        let policy = read(&format!("{START}{text}")).unwrap();
        policy.enforced.into_iter().map(|(key, entry)| (key, entry.value)).collect()
    }

    fn text(value: &str) -> RawValue {
        RawValue::Str(value.to_owned())
    }

    #[test]
    fn every_type_is_read_as_the_registry_editor_writes_it() {
        let found = values(&format!(
            "{KEY}\r\n; a comment\r\n\"A\"=\"a \\\"b\\\" c:\\\\d\" ; another\r\n\"B\"=dword:0000003c\r\n\
             \"C\"=hex(7):61,00,00,00,62,00,00,\\\r\n  00,00,00\r\n\"D\"=hex(b):05,00,00,00,00,00,00,00\r\n\
             \"E\"=hex(2):25,00,00,00\r\n@=\"default\"\r\n\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Policies\\Steward\\Scopes]\r\n\
             \"1\"=\"openid\"\r\n\"2\"=\"email\"\r\n"
        ));
        let list = |items: &[&str]| RawValue::List(items.iter().map(|item| (*item).to_owned()).collect());
        let expected = [
            ("A", text(r#"a "b" c:\d"#)),
            ("B", RawValue::Int(60)),
            ("C", list(&["a", "b"])),
            ("D", RawValue::Int(5)),
            ("E", text("%")),
            ("Scopes", list(&["openid", "email"])),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value)));
    }

    #[test]
    fn deletions_take_away_what_came_before_and_nothing_else() {
        let found = values(&format!(
            "{KEY}\n\"A\"=\"old\"\n[-HKEY_LOCAL_MACHINE\\software\\policies\\STEWARD]\n{KEY}\n\"B\"=\"b\"\n\"C\"=\"c\"\n\"B\"=-\n"
        ));
        assert_eq!(found, [("C".to_owned(), text("c"))]);
    }

    #[cfg(feature = "export")]
    #[test]
    fn own_export_is_read_back() {
        let before = "App = \"amazon-quick\"\nScopes = [\"openid\"]\nReportIntervalMinutes = 60\n";
        let policy = crate::read::drop_in::read(before.as_bytes()).unwrap();
        let files = crate::export::export(crate::export::Format::Registry, &policy, &[], None);
        let file = files.iter().find(|file| file.path == "registry/Steward.reg").unwrap();
        let text = crate::read::utf16(&file.bytes).unwrap();
        let again = read(&text).unwrap();
        assert_eq!(again.enforced.keys().collect::<Vec<_>>(), policy.enforced.keys().collect::<Vec<_>>());
    }

    #[test]
    fn line_that_is_not_understood_is_named() {
        for (line, number) in [
            ("\"A\"=\"open", 4),
            ("\"A\"=dword:xyz", 4),
            ("\"A\"=hex(7):6,0,zz", 4),
            ("A=1", 4),
            ("[HKEY_LOCAL_MACHINE\\SOFTWARE", 4),
            ("\"A\" \"b\"", 4),
        ] {
            let error = read(&format!("{START}{KEY}\n{line}\n")).unwrap_err();
            assert!(error.message.starts_with(&format!("line {number}: ")), "{line}: {}", error.message);
        }
        assert!(read(&format!("{START}\"A\"=\"b\"\n")).unwrap_err().message.contains("below no key"));
    }

    #[test]
    fn secret_in_a_line_that_is_not_understood_is_not_shown() {
        for line in ["\"ClientSecret\"=\"GOCSPX-canary", "\"ReportEnrollmentToken\"=canary"] {
            let error = read(&format!("{START}{KEY}\n{line}\n")).unwrap_err();
            assert!(!error.message.contains("canary"), "{}", error.message);
        }
    }

    #[test]
    fn comment_after_a_key_is_no_part_of_its_name_and_joins_no_line() {
        let found = values(&format!("{KEY} ; see [below]\n\"A\"=dword:1 ; a path c:\\\n\"B\"=\"b\"\n"));
        assert_eq!(found, [("A".to_owned(), RawValue::Int(1)), ("B".to_owned(), text("b"))]);
    }

    #[test]
    fn other_hives_and_keys_are_explained() {
        for key in [
            r"HKEY_CURRENT_USER\SOFTWARE\Policies\Steward",
            r"HKEY_LOCAL_MACHINE\SOFTWARE\WOW6432Node\Policies\Steward",
        ] {
            let policy = read(&format!("{START}[{key}]\n\"A\"=\"b\"\n")).unwrap();
            assert!(policy.is_empty() && policy.remarks.len() == 1, "{key}");
        }
    }

    #[test]
    fn old_form_has_one_byte_for_each_character() {
        let policy = read(&format!("REGEDIT4\n\n{KEY}\n\"A\"=hex(7):61,62,00,63,00,00\n")).unwrap();
        assert_eq!(policy.enforced["A"].value, RawValue::List(vec!["ab".to_owned(), "c".to_owned()]));
    }
}
