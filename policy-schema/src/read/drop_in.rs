//! Linux drop-ins: TOML with keys at the top, and recommended values in a table of that name.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{RECOMMENDED, empty, not_toml, syntax};
use crate::raw::{Position, RawEntry, RawPolicy, RawValue, ReadError, Table};

/// Reads one drop-in.
///
/// # Errors
/// The bytes are not UTF-8 or not TOML, or nothing at all; the error says where, and what they are instead.
pub fn read(bytes: &[u8]) -> Result<RawPolicy, ReadError> {
    if bytes.trim_ascii().is_empty() {
        return Err(empty());
    }
    let text = not_toml::text(bytes)?;
    if text.trim().is_empty() {
        return Err(empty());
    }
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        not_toml::explain(text, error.message(), offset)
    })?;
    let lines = Lines::new(text.as_bytes());
    let mut policy = RawPolicy::default();
    for (key, value) in table.into_inner() {
        let is_recommended = key.get_ref().eq_ignore_ascii_case(RECOMMENDED);
        let lists_tables = value
            .get_ref()
            .as_array()
            .is_some_and(|items| items.iter().all(|item| item.get_ref().is_table()));
        if let (true, DeValue::Table(recommended)) = (is_recommended, value.get_ref()) {
            if !policy.recommended.is_empty() {
                let at = Position { line: lines.at(key.span().start), column: 1 };
                let error = syntax("a second table of recommended values", Some("keep one"));
                return Err(ReadError { at: Some(at), ..error });
            }
            for (key, value) in recommended {
                insert(&mut policy.recommended, key, value, &lines);
            }
        } else if is_recommended && lists_tables {
            let at = Position { line: lines.at(key.span().start), column: 1 };
            let hint = "write [Recommended] with one pair of brackets";
            let error = syntax("[[Recommended]] is a list of tables", Some(hint));
            return Err(ReadError { at: Some(at), ..error });
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
        DeValue::Table(table) => {
            let keys = table.keys().map(|key| key.get_ref().to_string()).collect();
            RawValue::Table(Table { kind: "a table", keys })
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::ReadErrorKind;

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
        let shown = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        let error = shown(b"Issuer = \"https://a.example\"\nClientId = oops\n");
        assert!(error.starts_with("line 2, column 12: "), "{error}");
        let error = shown(b"Issuer = \"a\"\nIssuer = \"b\"\n");
        assert!(error.starts_with("line 2: "), "{error}");
        let error = shown(b"[recommended]\nLogLevel = \"info\"\n[Recommended]\nLogLevel = \"debug\"\n");
        assert!(error.ends_with("a second table of recommended values"), "{error}");
        assert_eq!(shown(b"OrganizationName = \"Caf\xe9\"\n"), "line 1, column 24: this is not UTF-8");
        assert_eq!(
            shown(b"[[Recommended]]\nLogLevel = \"debug\"\n"),
            "line 1: [[Recommended]] is a list of tables"
        );
    }

    #[test]
    fn document_without_content_is_empty_and_one_with_comments_is_not() {
        for bytes in [&b""[..], b"\n \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"] {
            assert_eq!(read(bytes).unwrap_err().kind, ReadErrorKind::Empty, "{bytes:?}");
        }
        assert!(read(b"# nothing yet\n").unwrap().is_empty());
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
