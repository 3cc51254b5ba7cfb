//! Files of this device as a person may hand them on: only so much of them, and nothing secret in it. Called by the doctor
//! and by `steward support-bundle`.
//!
//! What is secret is known in three ways, all of which are tried on every text: by its value (the secrets of policy), by
//! the name that stands before it, and by its form (JSON Web Tokens, keys, passwords in addresses, long words without
//! sense).

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex_lite::{Captures, Regex};
use serde_json::Value;

/// What stands in the place of something secret.
pub(crate) const REMOVED: &str = "(removed)";
/// Secrets of policy that are shorter than this are too common as words to be looked for.
const SHORTEST: usize = 6;

/// The names of what is nobody's business, with or without `_` and `-` between their words.
const NAMES: &str = "access[_-]?token|refresh[_-]?token|id[_-]?token(?:[_-]?hint)?|client[_-]?secret|\
                     client[_-]?assertion|code[_-]?verifier|device[_-]?code|enrollment[_-]?token|\
                     report[_-]?enrollment[_-]?token|set-cookie|cookie|password|passwd|pwd|secret|api[_-]?key|\
                     private[_-]?key|session[_-]?key|proxy-authorization|authorization|credential";

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a test uses every pattern")
}

static KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern("-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|$)")
});
static TOKEN: LazyLock<Regex> = LazyLock::new(|| pattern(r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*"));
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(bearer|basic|dpop|negotiate|ssws)\s+[A-Za-z0-9._~+/=-]{4,}"));
/// `name: "value"`, `name=value`, `"name": 'value'`, also with the quotes of JSON inside JSON.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)((?:{NAMES})\\?["']?\s*[:=]\s*)(\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|\([a-z]+\)|[^\s"'&,;}}\]]+)"#
    ))
});
static PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)([?&;#](?:code|state|nonce|token|sig|signature|session_state|login_hint|code_challenge|key)=)[^&\s"'#]+"#,
    )
});
static USER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(://)[^/\s@]+@"));
static LONG: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+_~=-]{40,}"));

/// Takes what is secret out of texts.
pub(crate) struct Redaction {
    secrets: Vec<String>,
}

impl Redaction {
    /// Knows some secrets by their value.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> =
            secrets.into_iter().filter(|secret| secret.len() >= SHORTEST).collect();
        // One may begin with another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// A text without anything secret.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret, REMOVED);
        }
        let kept = |found: &Captures<'_>| format!("{}{REMOVED}", &found[1]);
        let text = KEY.replace_all(&text, REMOVED);
        let text = SCHEME.replace_all(&text, |found: &Captures<'_>| format!("{} {REMOVED}", &found[1]));
        let text = TOKEN.replace_all(&text, REMOVED);
        let text = NAMED.replace_all(&text, kept);
        let text = PARAMETER.replace_all(&text, kept);
        let text = USER.replace_all(&text, |found: &Captures<'_>| format!("{}{REMOVED}@", &found[1]));
        let text = LONG.replace_all(&text, |found: &Captures<'_>| {
            let word = &found[0];
            let mixed = word.bytes().any(|byte| byte.is_ascii_digit())
                && word.bytes().any(|byte| byte.is_ascii_alphabetic());
            if mixed { REMOVED.to_owned() } else { word.to_owned() }
        });
        text.into_owned()
    }

    /// A document without anything secret, by the names of its fields as well.
    pub(crate) fn document(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.document(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| {
                    let secret = names_a_secret(&name) && !matches!(value, Value::Null | Value::Bool(_));
                    let value = if secret { Value::from(REMOVED) } else { self.document(value) };
                    (name, value)
                })
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }
}

fn names_a_secret(name: &str) -> bool {
    static WHOLE: LazyLock<Regex> =
        LazyLock::new(|| pattern(&format!("(?i)^(?:{NAMES}|.*(?:secret|password|token))$")));
    // `"token": "for 59 min"` is no secret, but nobody misses it either.
    WHOLE.is_match(name)
}

/// The newest files of a folder.
pub(crate) fn newest(folder: &Path, count: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<(std::time::SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // Links may lead anywhere.
            let facts = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((facts.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort_by(|left, right| right.cmp(left));
    files.into_iter().take(count).map(|(_, path)| path).collect()
}

/// The end of a file, from the beginning of a line; `None` if it cannot be read.
pub(crate) fn end_of(path: &Path, bytes: u64) -> Option<String> {
    let mut file = fs_err::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(bytes);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end).into_owned();
    Some(match text.split_once('\n') {
        Some((_, rest)) if from > 0 => rest.to_owned(),
        Some(_) | None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-7Q";

    /// A secret in every form in which one gets into a log or a document.
    #[test]
    fn a_canary_is_found_in_every_form() {
        let redaction = Redaction::new(["GOCSPX-canary-7Q-value".to_owned()]);
        let forms = [
            "the client secret GOCSPX-canary-7Q-value was sent",
            "access_token=canary-7Q&x=1",
            "\"access_token\": \"canary-7Q and more words canary-7Q\"",
            "{\\\"refresh_token\\\":\\\"canary-7Q\\\"}",
            "'id_token': 'canary-7Q'",
            "accessToken: canary-7Q,",
            "RefreshToken = canary-7Q",
            "client_secret: canary-7Q",
            "ClientSecret = \"canary-7Q\"",
            "ReportEnrollmentToken=canary-7Q",
            "Authorization: Bearer canary-7Q",
            "authorization: Basic canary-7Q",
            "proxy-authorization: canary-7Q",
            "Cookie: session=canary-7Q",
            "Bearer canary-7Q",
            "password=canary-7Q",
            "\"password\" : \"canary-7Q\"",
            "GET http://localhost:18080/?code=canary-7Q&state=canary-7Q HTTP/1.1",
            "https://idp.example/logout?id_token_hint=canary-7Q",
            "http://user:canary-7Q@proxy.example:3128/",
            "http://canary-7Q@proxy.example:3128/",
            "code_verifier=canary-7Q",
            "device_code: canary-7Q",
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnktN1EifQ.canary-7Q",
            "token canary-7QcanaryQ7canary0123456789abcdefABCDEF is long",
            "-----BEGIN PRIVATE KEY-----\ncanary-7Q\n-----END PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----\ncanary-7Q cut off",
        ];
        for form in forms {
            let text = redaction.text(form);
            assert!(!text.contains(CANARY) && text.contains(REMOVED), "{form} became {text}");
            let document =
                redaction.document(serde_json::json!({ "list": [form], "deep": { "note": form } }));
            assert!(!document.to_string().contains(CANARY), "{document}");
        }
        for name in [
            "ClientSecret",
            "client_secret",
            "access_token",
            "password",
            "ReportEnrollmentToken",
            "PROXY_PASSWORD",
        ] {
            for value in [
                serde_json::json!(CANARY),
                serde_json::json!([CANARY]),
                serde_json::json!({ "value": CANARY }),
            ] {
                let document = redaction.document(serde_json::json!({ name: value }));
                assert!(!document.to_string().contains(CANARY), "{document}");
            }
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let redaction = Redaction::new([]);
        for plain in [
            "the token endpoint answers; code 401, state signed-in",
            "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/v2.0",
            "steward::broker: the session was renewed until 2026-11-25T12:00:00Z",
            "/Library/Application Support/Steward/private/reports",
            "ada@example.com is signed in",
            "http://localhost:18080/?error=access_denied",
        ] {
            assert_eq!(redaction.text(plain), plain);
        }
        let document = serde_json::json!({ "signed_in": true, "count": 3, "token": null });
        assert_eq!(redaction.document(document.clone()), document);
    }

    #[test]
    fn of_a_long_file_the_last_lines_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs_err::write(&path, "first line\nsecond line\nthird line\n").unwrap();
        assert_eq!(end_of(&path, 20).unwrap(), "third line\n");
        assert_eq!(end_of(&path, 1000).unwrap().lines().count(), 3);
        assert!(end_of(&folder.path().join("none"), 10).is_none());
        fs_err::os::unix::fs::symlink("/etc/passwd", folder.path().join("z.log")).unwrap();
        assert_eq!(newest(folder.path(), 9), [path]);
    }
}
