//! Linux drop-ins: TOML with keys at the top, and recommended values in a table of that name.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{RECOMMENDED, syntax};
use crate::raw::{RawEntry, RawPolicy, RawValue, ReadError};

/// Reads one drop-in.
///
/// # Errors
/// The bytes are not UTF-8 or not TOML; the message names line and column.
pub fn read(bytes: &[u8]) -> Result<RawPolicy, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = line_at(bytes, error.valid_up_to());
        syntax(format!("line {line}: not UTF-8"), Some("save the file as UTF-8"))
    })?;
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or("");
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let reason = error.message().lines().collect::<Vec<_>>().join(", ");
        syntax(
            format!("line {}, column {column}: {reason}", line_at(bytes, offset)),
            Some("`steward policy check FILE` tries it without installing"),
        )
    })?;
    let lines = Lines::new(bytes);
    let mut policy = RawPolicy::default();
    for (key, value) in table.into_inner() {
        if let (true, DeValue::Table(recommended)) =
            (key.get_ref().eq_ignore_ascii_case(RECOMMENDED), value.get_ref())
        {
            if !policy.recommended.is_empty() {
                let line = lines.at(key.span().start);
                return Err(syntax(
                    format!("line {line}: a second table of recommended values"),
                    Some("keep one"),
                ));
            }
            for (key, value) in recommended {
                insert(&mut policy.recommended, key, value, &lines);
            }
        } else {
            insert(&mut policy.enforced, &key, &value, &lines);
        }
    }
    Ok(policy)
}

fn insert(
    entries: &mut BTreeMap<String, RawEntry>,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    lines: &Lines,
) {
    let line = Some(lines.at(key.span().start));
    entries.insert(key.get_ref().to_string(), RawEntry { value: raw_value(value.get_ref()), line });
}

fn raw_value(value: &DeValue<'_>) -> RawValue {
    match value {
        DeValue::Boolean(value) => RawValue::Bool(*value),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| RawValue::Other("a number that is too large".to_owned()), RawValue::Int),
        DeValue::String(text) => RawValue::Str(text.to_string()),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(ToOwned::to_owned))
            .collect::<Option<Vec<_>>>()
            .map_or_else(|| RawValue::Other("a list of other things than texts".to_owned()), RawValue::List),
        DeValue::Float(_) => RawValue::Other("a number with a fraction".to_owned()),
        DeValue::Datetime(_) => RawValue::Other("a date".to_owned()),
        DeValue::Table(_) => RawValue::Other("a table".to_owned()),
    }
}

/// Where lines begin, so that the line of each of many keys is found without counting from the start.
struct Lines(Vec<usize>);

impl Lines {
    fn new(bytes: &[u8]) -> Self {
        Self(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

fn line_at(bytes: &[u8], offset: usize) -> usize {
    bytes.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_levels_are_read_with_lines() {
        let policy =
            read(b"# policy\nUpdateMode = \"notify\"\n\n[Recommended]\nLogLevel = \"debug\"\n").unwrap();
        assert_eq!(
            policy.enforced["UpdateMode"],
            RawEntry { value: RawValue::Str("notify".into()), line: Some(2) }
        );
        assert_eq!(policy.recommended["LogLevel"].line, Some(5));
    }

    #[test]
    fn byte_order_mark_and_crlf_are_accepted() {
        let policy =
            read(b"\xef\xbb\xbfUpdateMode = \"notify\"\r\nReportIntervalMinutes = 0x1E\r\n").unwrap();
        assert_eq!(policy.enforced["ReportIntervalMinutes"].value, RawValue::Int(30));
    }

    #[test]
    fn syntax_error_has_line_and_column() {
        let error = read(b"Issuer = \"https://a.example\"\nClientId = oops\n").unwrap_err();
        assert!(error.message.starts_with("line 2, column 12: "), "{}", error.message);
        let error = read(b"Issuer = \"a\"\nIssuer = \"b\"\n").unwrap_err();
        assert!(error.message.starts_with("line 2, "), "{}", error.message);
        let error =
            read(b"[recommended]\nLogLevel = \"info\"\n[Recommended]\nLogLevel = \"debug\"\n").unwrap_err();
        assert!(error.message.ends_with("a second table of recommended values"), "{}", error.message);
        let error = read(b"OrganizationName = \"Caf\xe9\"\n").unwrap_err();
        assert_eq!(error.message, "line 1: not UTF-8");
    }

    #[test]
    fn type_that_no_setting_has_keeps_its_name() {
        let policy =
            read(b"a = 1.5\nb = 2020-01-01\nc = [1]\nd = { e = 1 }\nf = 99999999999999999999\n").unwrap();
        let kinds: Vec<_> =
            policy.enforced.values().map(|entry| entry.value.kind_name().to_owned()).collect();
        assert_eq!(
            kinds,
            [
                "a number with a fraction",
                "a date",
                "a list of other things than texts",
                "a table",
                "a number that is too large"
            ]
        );
    }

    #[test]
    fn deep_nesting_is_error() {
        let hostile = format!("a = {}", "[".repeat(100_000));
        assert!(read(hostile.as_bytes()).is_err());
        let hostile = format!("a{} = 1", ".a".repeat(100_000));
        assert!(read(hostile.as_bytes()).is_err());
    }
}
