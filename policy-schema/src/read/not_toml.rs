//! What a file is that is not TOML, and what its author should write: a parser of TOML only knows what it expected.
//!
//! In: the text, and where the parser stopped. Out: the error for the administrator. A corrected line is only proposed if
//! TOML accepts it.

use toml::de::DeTable;

use crate::message::excerpt;
use crate::raw::{Position, ReadError, ReadErrorKind};
use crate::settings::{SETTINGS, find};
use crate::value::Kind;

/// What the bytes are, if they are no text in UTF-8.
///
/// # Errors
/// Always an error if they are not.
pub(super) fn text(bytes: &[u8]) -> Result<&str, ReadError> {
    let refuse = |message: &str, hint: &str| Err(error(message, Some(hint.to_owned()), None));
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [_, 0, _, 0, ..] | [0, _, 0, _, ..]
            if bytes.iter().any(|byte| *byte != 0) =>
        {
            return refuse(
                "this is UTF-16, as Windows PowerShell writes it with `>` and `Out-File`",
                "save the file as UTF-8, in PowerShell with `Set-Content -Encoding utf8`",
            );
        }
        [b'P', b'R', b'e', b'g', ..] => {
            return refuse(
                "this is a Registry.pol, not TOML",
                "convert it: `steward export --policy FILE --format toml`",
            );
        }
        [b'b', b'p', b'l', b'i', b's', b't', ..] => {
            return refuse(
                "this is a binary property list, not TOML",
                "convert it: `steward export --policy FILE --format toml`",
            );
        }
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let message = if bytes.iter().all(|byte| *byte == 0) {
            "the file is filled with NUL bytes: its content was lost"
        } else {
            "the file has NUL bytes in it: its content was lost, or it is not text"
        };
        let hint = Some("write it again".to_owned());
        return Err(error(message, hint, Some(position(bytes, at))));
    }
    std::str::from_utf8(bytes).map_err(|failure| {
        let hint = Some("save the file as UTF-8".to_owned());
        error("this is not UTF-8", hint, Some(position(bytes, failure.valid_up_to())))
    })
}

/// Says what is wrong with a text that the parser refused at a place.
pub(super) fn explain(text: &str, reason: &str, offset: usize) -> ReadError {
    let offset = offset.min(text.len());
    let at = position(text.as_bytes(), offset);
    if let Some((message, hint)) = other_format(text) {
        return error(message, Some(hint), Some(at));
    }
    // The parser may stop at the end of a line, or behind it.
    let lines: Vec<&str> = text.split('\n').collect();
    let near = [at.line, at.line.saturating_sub(1)];
    let candidates = near.into_iter().filter(|number| *number > 0);
    for number in candidates {
        let Some(line) = lines.get(number - 1).map(|line| line.trim_end_matches('\r')) else { continue };
        if let Some(mistake) = mistake_in(line) {
            let column = mistake.column.unwrap_or(at.column);
            let hint =
                mistake.corrected.filter(|line| may_be_shown(line)).map(|line| format!("write: {line}"));
            let hint = hint.or_else(|| mistake.hint.map(ToOwned::to_owned));
            return error(mistake.message, hint, Some(Position { line: number, column }));
        }
    }
    if text.contains('\r') && !text.contains('\n') {
        let hint = "save the file with the line endings of Unix or Windows".to_owned();
        return error("the lines end with CR only, as on old Macs", Some(hint), Some(at));
    }
    if let Some((line, what)) = unclosed(&lines, at.line) {
        let message = format!("the {what} that begins in this line is not closed");
        let position = Position { line, column: 1 };
        // A text of one line is closed in its own line.
        let hint =
            if what == "text" && !lines[line - 1].contains("\"\"\"") && !lines[line - 1].contains("'''") {
                "close it at the end of the line, with the quote that it begins with".to_owned()
            } else {
                format!("close it, before line {} at the latest", at.line)
            };
        return error(&message, Some(hint), Some(position));
    }
    if reason.starts_with("duplicate key") {
        let hint = "keep one of the two".to_owned();
        return error("this key is set twice", Some(hint), Some(at));
    }
    error(&format!("this is not TOML: {}", in_words(reason)), None, Some(at))
}

/// The other format that a text is in.
fn other_format(text: &str) -> Option<(&'static str, String)> {
    let start = text.trim_start();
    let looks = |what: &'static str| {
        Some((what, "policy files are TOML, with lines such as: UpdateMode = \"off\"".to_owned()))
    };
    let first = start.lines().next().unwrap_or_default();
    if start.starts_with('<') && !start.starts_with("<<<<<<<") {
        return if start.contains("<plist") || start.contains("<key>") {
            let hint = "convert it: `steward export --policy FILE --format toml`".to_owned();
            Some(("this looks like a property list or profile for macOS", hint))
        } else {
            looks("this looks like XML")
        };
    }
    if first.starts_with("Windows Registry Editor") || first.starts_with("REGEDIT4") {
        return looks("this is a .reg file for Windows");
    }
    if start.starts_with("{\\rtf") {
        return looks("this is a document with formatting (RTF), not plain text");
    }
    if start.starts_with('{') || (start.starts_with('[') && start[1..].trim_start().starts_with(['{', '"'])) {
        return looks("this looks like JSON");
    }
    if start.starts_with("-----BEGIN") {
        return looks("this is a certificate or a signed file, not a policy file");
    }
    if first.starts_with("$ANSIBLE_VAULT") {
        let hint = "decrypt it: `ansible-vault decrypt FILE`, or let Ansible write the file".to_owned();
        return Some(("this file is encrypted by Ansible Vault", hint));
    }
    if first.starts_with("--- ") || first.starts_with("diff --git") || first.starts_with("Index: ") {
        let hint = "apply it to the file with `patch`, or copy the file itself".to_owned();
        return Some(("this is a patch (diff), not the file", hint));
    }
    if find(SETTINGS, first.split([',', ';', '\t']).next().unwrap_or_default().trim_matches('"')).is_some()
        && first.contains([',', ';', '\t'])
        && !first.contains(['=', ':', '['])
        || first.to_ascii_lowercase().starts_with("key,value")
        || first.to_ascii_lowercase().starts_with("key;value")
    {
        return looks("this looks like a table of comma-separated values (CSV)");
    }
    if first.starts_with("#!") && start.lines().nth(1).is_some_and(|line| !line.contains('=')) {
        return looks("this looks like a script");
    }
    let is_yaml = |line: &str| {
        let key = line.trim_start_matches("- ").split_once(':').map(|(key, rest)| (key.trim(), rest));
        key.is_some_and(|(key, rest)| {
            is_bare_key(key) && (rest.is_empty() || rest.starts_with(' ')) && !line.contains(" = ")
        })
    };
    let mut lines = start
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.trim_start().starts_with('#') && !line.is_empty());
    if first.trim_end() == "---" || lines.next().is_some_and(is_yaml) {
        return looks("this looks like YAML");
    }
    None
}

/// A mistake of one line, and the line as its author must have meant it.
struct Mistake {
    message: &'static str,
    column: Option<usize>,
    corrected: Option<String>,
    hint: Option<&'static str>,
}

fn mistake_in(line: &str) -> Option<Mistake> {
    let said = |message, hint| Some(Mistake { message, column: Some(1), corrected: None, hint: Some(hint) });
    let trimmed = line.trim_start();
    if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| trimmed.starts_with(mark)) {
        return said(
            "unresolved Git merge conflict marker",
            "resolve the conflict, and remove the marker lines",
        );
    }
    if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
        return said("a line of Markdown that marks code", "remove the line");
    }
    if line.contains("&quot;") || line.contains("&#34;") || line.contains("&apos;") {
        let plain =
            line.replace("&quot;", "\"").replace("&#34;", "\"").replace("&apos;", "'").replace("&amp;", "&");
        return Some(Mistake {
            message: "the quotes are written as XML writes them",
            column: line.find('&').map(|at| line[..at].chars().count() + 1),
            corrected: valid(plain),
            hint: Some("write the quotes themselves"),
        });
    }
    for wrong in [":=", "==", "=>", "->"] {
        let Some((key, value)) = line.split_once(wrong) else { continue };
        if is_bare_key(key.trim()) {
            return Some(Mistake {
                message: "TOML has one `=` between key and value",
                column: Some(key.chars().count() + 1),
                corrected: valid(format!("{} = {}", key.trim(), as_value(value.trim()))),
                hint: Some("write `=`"),
            });
        }
    }
    if trimmed.starts_with("//")
        || trimmed.starts_with(';')
        || trimmed.starts_with("/*")
        || trimmed.starts_with("--")
    {
        return said("comments begin with `#` in TOML", "put `#` before it");
    }
    let at = |found: char| line.chars().position(|one| one == found).map(|at| at + 1);
    let curly = |letter: char| matches!(letter, '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}');
    let Some((key, value)) = line.split_once('=').or_else(|| line.split_once(": ")) else {
        let words: Vec<&str> = trimmed.split_whitespace().collect();
        return match words.as_slice() {
            [key, value, ..] if find(SETTINGS, key).is_some() && !value.starts_with('#') => Some(Mistake {
                message: "`=` is missing between key and value",
                column: Some(1),
                corrected: valid(format!("{key} = {}", as_value(trimmed[key.len()..].trim()))),
                hint: None,
            }),
            _ => None,
        };
    };
    let (key, value) = (key.trim(), value.trim());
    let plain_key = key.trim_matches(|letter: char| curly(letter) || letter == '"' || letter == '\'');
    let separator = line.find('=').or_else(|| line.find(": ")).unwrap_or_default();
    let start = line[separator..].char_indices().skip(1).find(|(_, letter)| !letter.is_whitespace());
    let start = start.map_or(separator, |(offset, _)| separator + offset);
    let column = Some(line[..start].chars().count() + 1);
    if line.chars().any(curly) {
        let straight: String = value.chars().map(|letter| if curly(letter) { '"' } else { letter }).collect();
        return Some(Mistake {
            message: "the value uses curly quotes (“ ”)",
            column: line.chars().position(curly).map(|at| at + 1),
            corrected: valid(format!("{plain_key} = {straight}")),
            hint: Some("use straight quotes (\")"),
        });
    }
    if value.is_empty() && line.contains('=') {
        return Some(Mistake {
            message: "the value is missing",
            column,
            corrected: None,
            hint: Some("write a value after the `=`, or remove the line"),
        });
    }
    let quoted_with_backslash = value.starts_with('"') && value.contains('\\');
    let list_with_backslash = value.starts_with('[') && value.contains('\\') && value.contains('"');
    if quoted_with_backslash || list_with_backslash {
        let corrected = format!("{plain_key} = {}", value.replace('"', "'").replace("\\\\", "\\"));
        return Some(Mistake {
            message: "a backslash in double quotes starts an escape",
            column: at('\\'),
            corrected: valid(corrected),
            hint: Some("use single quotes: 'C:\\Program Files\\...'"),
        });
    }
    let end = value.trim_end_matches([';', ',']);
    if end.len() < value.len()
        && let Some(corrected) = valid(format!("{plain_key} = {end}"))
    {
        return Some(Mistake {
            message: "a line of TOML ends without `;` and `,`",
            column: Some(line.trim_end().chars().count()),
            corrected: Some(corrected),
            hint: None,
        });
    }
    if let Some(corrected) = with_commas(value).and_then(|list| valid(format!("{plain_key} = {list}"))) {
        return Some(Mistake {
            message: "a comma is missing between two items of the list",
            column,
            corrected: Some(corrected),
            hint: None,
        });
    }
    let is_boolean =
        ["true", "false", "yes", "no", "on", "off"].contains(&value.to_ascii_lowercase().as_str());
    let meant = find(SETTINGS, plain_key).is_some_and(|(setting, _)| matches!(setting.kind, Kind::Boolean));
    if is_boolean && meant {
        return Some(Mistake {
            message: "a boolean is `true` or `false`, in lower case",
            column,
            corrected: valid(format!("{plain_key} = {}", as_value(value))),
            hint: None,
        });
    }
    let unquoted = value.starts_with(|first: char| first.is_alphabetic() || "/.@$%~*<{".contains(first));
    if unquoted && !value.ends_with(['"', '\'']) && is_bare_key(plain_key) {
        return Some(Mistake {
            message: "a text needs quotes",
            column,
            corrected: valid(format!("{plain_key} = {}", as_value(value))),
            hint: Some("put the value in quotes"),
        });
    }
    if !line.contains('=') && is_bare_key(plain_key) {
        return Some(Mistake {
            message: "`:` between key and value is YAML",
            column: at(':'),
            corrected: valid(format!("{plain_key} = {}", as_value(value))),
            hint: Some("use `=` instead"),
        });
    }
    None
}

/// A list with a comma between all of its items, where there are only spaces between some.
fn with_commas(list: &str) -> Option<String> {
    let inner = list.strip_prefix('[')?.strip_suffix(']')?;
    let quote = inner.trim_start().chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let items: Vec<&str> = inner.split(quote).skip(1).step_by(2).collect();
    let between = inner.split(quote).step_by(2);
    let plain = between.clone().all(|gap| gap.trim().is_empty() || gap.trim() == ",");
    (plain && inner.matches(quote).count() == items.len() * 2 && items.len() > 1).then(|| {
        let items: Vec<String> = items.iter().map(|item| format!("{quote}{item}{quote}")).collect();
        format!("[{}]", items.join(", "))
    })
}

/// The value of a setting as TOML has it.
fn as_value(value: &str) -> String {
    let bare = value.split(" #").next().unwrap_or_default().trim().trim_end_matches([',', ';']);
    match bare.to_ascii_lowercase().as_str() {
        lower @ ("true" | "false") => lower.to_owned(),
        _ if DeTable::parse(&format!("a = {bare}")).is_ok() => bare.to_owned(),
        _ if bare.contains(['\\', '"']) && !bare.contains('\'') => format!("'{bare}'"),
        _ => toml::Value::from(bare.trim_matches(['"', '\''])).to_string(),
    }
}

fn valid(line: String) -> Option<String> {
    DeTable::parse(&line).is_ok().then_some(line)
}

fn is_bare_key(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// Whether a line of a policy file may be shown in a message: it names a setting that is not secret, and no address in it may
/// have credentials.
#[must_use]
pub fn may_be_shown(line: &str) -> bool {
    let key = line.split(['=', ':']).next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    let structure =
        ["[", "<<<<<<<", "=======", ">>>>>>>"].iter().any(|start| line.trim_start().starts_with(start));
    let names_secret = SETTINGS.iter().any(|setting| {
        matches!(setting.kind, Kind::Secret { .. })
            && line.to_ascii_lowercase().contains(&setting.key.to_ascii_lowercase())
    });
    let known = find(SETTINGS, key).is_some_and(|(setting, _)| !matches!(setting.kind, Kind::Secret { .. }));
    // A user name and a password, or a token in a query.
    let has_credentials = line.split_once("://").is_some_and(|(_, rest)| rest.contains(['@', '?', '#']));
    !names_secret && !has_credentials && (known || structure && line.len() < 60 && !line.contains('='))
}

/// The list or text that begins before a line and is not closed.
fn unclosed(lines: &[&str], until: usize) -> Option<(usize, &'static str)> {
    let earlier = lines.iter().zip(1..).take(until).collect::<Vec<_>>();
    earlier.into_iter().rev().find_map(|(line, number)| {
        let (_, value) = line.split_once('=')?;
        let value = value.trim();
        let quotes = |quote: &str| value.matches(quote).count();
        if value.starts_with("\"\"\"") && quotes("\"\"\"") == 1
            || value.starts_with("'''") && quotes("'''") == 1
        {
            return Some((number, "text"));
        }
        let odd = |quote: &str| value.starts_with(quote) && quotes(quote) == 1;
        if odd("\"") || odd("'") {
            return Some((number, "text"));
        }
        (value.starts_with('[') && quotes("[") > quotes("]")).then_some((number, "list"))
    })
}

/// A reason of the parser, without what only its authors know.
fn in_words(reason: &str) -> String {
    excerpt(&reason.replace('\n', ", "))
}

/// Where a byte of a text is.
pub(super) fn position(bytes: &[u8], offset: usize) -> Position {
    let before = &bytes[..offset.min(bytes.len())];
    let line = before.split(|byte| *byte == b'\n').count();
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Position { line, column: String::from_utf8_lossy(&before[start..]).chars().count() + 1 }
}

fn error(message: &str, hint: Option<String>, at: Option<Position>) -> ReadError {
    ReadError { kind: ReadErrorKind::Syntax, message: message.to_owned(), hint, at }
}

#[cfg(test)]
mod tests {
    use super::super::drop_in::read;

    #[test]
    fn file_of_another_format_is_named_and_its_line_corrected() {
        let cases: &[(&str, &str, &str)] = &[
            (
                "ClientId = \u{201c}3c1f\u{201d}\n",
                "line 1, column 12: the value uses curly quotes",
                "write: ClientId = \"3c1f\"",
            ),
            ("ClientSecret = \u{201c}canary\u{201d}\n", "curly quotes", "use straight quotes (\")"),
            ("{\"UpdateMode\": \"off\"}", "looks like JSON", "policy files are TOML"),
            ("UpdateMode: off\n", "looks like YAML", "policy files are TOML"),
            ("---\nUpdateMode: off\n", "looks like YAML", "policy files are TOML"),
            (
                "<?xml version=\"1.0\"?>\n<plist version=\"1.0\">",
                "looks like a property list or profile",
                "convert it",
            ),
            ("<policy/>", "looks like XML", "policy files are TOML"),
            ("Windows Registry Editor Version 5.00\r\n", "is a .reg file", "policy files are TOML"),
            ("UpdateMode = off\n", "line 1, column 14: a text needs quotes", "write: UpdateMode = \"off\""),
            (
                "LogLevel = \"info\"\nUpdateMode=off\n",
                "line 2, column 12: a text needs quotes",
                "write: UpdateMode = \"off\"",
            ),
            ("ReportPosture = True\n", "a boolean is `true` or `false`", "write: ReportPosture = true"),
            (
                "UpdateMode = \"off\"\n<<<<<<< HEAD\n",
                "line 2: unresolved Git merge conflict marker",
                "resolve the conflict",
            ),
            ("UpdateMode = \"off\"\n=======\n", "unresolved Git merge conflict marker", "resolve"),
            (
                "AllowedApplications = [\"C:\\Program Files\\a.exe\"]\n",
                "a backslash in double quotes starts an escape",
                "write: AllowedApplications = ['C:\\Program Files\\a.exe']",
            ),
            ("UpdateMode = \"off\";\n", "ends without `;`", "write: UpdateMode = \"off\""),
            ("UpdateMode \"off\"\n", "`=` is missing", "write: UpdateMode = \"off\""),
            ("// managed by IT\nUpdateMode = \"off\"\n", "comments begin with `#`", "put `#` before it"),
            ("; managed by IT\nUpdateMode = \"off\"\n", "comments begin with `#`", "put `#` before it"),
            ("UpdateMode =\n", "the value is missing", "write a value"),
            ("```toml\nUpdateMode = \"off\"\n```\n", "line 1: a line of Markdown", "remove the line"),
            ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "encrypted by Ansible Vault", "ansible-vault decrypt"),
            ("--- a/50.toml\n+++ b/50.toml\n", "this is a patch (diff)", "copy the file itself"),
            ("UpdateMode,off\nLogLevel,info\n", "comma-separated values (CSV)", "policy files are TOML"),
            ("UpdateMode := \"off\"\n", "one `=` between", "write: UpdateMode = \"off\""),
            ("UpdateMode == \"off\"\n", "one `=` between", "write: UpdateMode = \"off\""),
            ("UpdateMode => off\n", "one `=` between", "write: UpdateMode = \"off\""),
            ("UpdateMode = &quot;off&quot;\n", "as XML writes them", "write: UpdateMode = \"off\""),
            (
                "Scopes = [\"openid\" \"email\", \"profile\"]\n",
                "a comma is missing",
                "write: Scopes = [\"openid\", \"email\", \"profile\"]",
            ),
            (
                "LogLevel = \"info\nUpdateMode = \"off\"\n\n\n",
                "line 1: the text that begins in this line is not closed",
                "close it at the end of the line",
            ),
            ("{\\rtf1\\ansi UpdateMode}", "formatting (RTF)", "policy files are TOML"),
            ("UpdateMode = \"off\"\rLogLevel = \"info\"\r", "CR only", "line endings"),
            (
                "AllowedEmailDomains = [\"example.com\"\nUpdateMode = \"off\"\n",
                "line 1: the list that begins in this line is not closed",
                "close it",
            ),
            ("UpdateMode = \"off\"\nUpdateMode = \"notify\"\n", "line 2: this key is set twice", "keep one"),
            ("\u{feff}U\0p\0", "line 1, column 2: the file has NUL bytes", "write it again"),
        ];
        for (text, message, hint) in cases {
            let error = read(text.as_bytes()).unwrap_err();
            let shown = error.to_string();
            assert!(shown.contains(message), "{text:?}: {shown}");
            assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{text:?}: {:?}", error.hint);
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        let utf16: Vec<u8> =
            "\u{feff}UpdateMode = \"off\"".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [&utf16[..], &utf16[2..]] {
            assert!(read(bytes).unwrap_err().message.contains("UTF-16"));
        }
        assert!(read(&[0; 128]).unwrap_err().message.contains("filled with NUL bytes"));
        assert!(read(b"PReg\x01\0\0\0").unwrap_err().message.contains("Registry.pol"));
    }
}
