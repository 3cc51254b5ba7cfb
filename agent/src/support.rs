//! Makes logs and documents of this device safe to share: takes the end of long files, and removes secrets.
//!
//! In: files, texts and documents. Out: the same without secrets. Called by the doctor and by `steward support-bundle`.
//!
//! A secret is recognised in three ways, which are all tried on every text: by its value (the secrets of policy), by
//! the name before it, and by its form (JSON Web Tokens, keys, passwords in addresses, long random words).

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex_lite::{Captures, Regex};
use serde_json::Value;

/// The text that replaces a secret.
pub(crate) const REMOVED: &str = "(removed)";
/// Removes secrets from texts and documents.
pub(crate) struct Redaction {
    secrets: Vec<String>,
}

impl Redaction {
    /// Also removes these secrets by their value.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> =
            secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET).collect();
        // The longest first, because a secret may begin with another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// A text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret, REMOVED);
        }
        let keep_name = |found: &Captures<'_>| format!("{}{REMOVED}", &found[1]);
        let text = KEY.replace_all(&text, REMOVED);
        let text =
            HEADER.replace_all(&text, |found: &Captures<'_>| format!("{}{}{REMOVED}", &found[1], &found[2]));
        let text = SCHEME.replace_all(&text, |found: &Captures<'_>| format!("{} {REMOVED}", &found[1]));
        let text = TOKEN.replace_all(&text, REMOVED);
        let text = PASSWORD.replace_all(&text, keep_name);
        let text = NAMED.replace_all(&text, keep_name);
        let text = OPTION.replace_all(&text, keep_name);
        let text = PARAMETER.replace_all(&text, keep_name);
        let text = USER.replace_all(&text, |found: &Captures<'_>| format!("{}{REMOVED}@", &found[1]));
        let text = LONG.replace_all(&text, |found: &Captures<'_>| {
            if is_random(&found[0]) { REMOVED.to_owned() } else { found[0].to_owned() }
        });
        text.into_owned()
    }

    /// A document without secrets. Fields with the name of a secret are removed too.
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

/// The newest files of a folder, the newest first.
pub(crate) fn newest(folder: &Path, count: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<(std::time::SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // A link could lead to a file outside the folder.
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort_by(|left, right| right.cmp(left));
    files.into_iter().take(count).map(|(_, path)| path).collect()
}

/// Whether a file was written to within the last `seconds`.
pub(crate) fn is_recent(path: &Path, seconds: u64) -> bool {
    let written = fs_err::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age.as_secs() <= seconds))
}

/// The last `bytes` of a file, from the beginning of a line; `None` if it is not a file or cannot be read.
pub(crate) fn end_of(path: &Path, bytes: u64) -> Option<String> {
    // Opening a pipe would block.
    if !fs_err::metadata(path).ok()?.is_file() {
        return None;
    }
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

/// A secret of policy that is shorter than this is not searched for, because it may be a common word.
const SHORTEST_SECRET: usize = 6;

/// The names of secrets. Between their words may be `_`, `-`, a space or nothing.
const SECRET_NAMES: &str = "(?:access|refresh|id|session|subject|actor|auth|security|enrollment|bearer|csrf|device)[ _-]?token(?:[ _-]?hint)?|\
                     token|(?:client|shared|webhook)[ _-]?secret|client[ _-]?assertion|assertion|saml[ _-]?response|\
                     code[ _-]?verifier|device[ _-]?code|user[ _-]?code|secret(?:[ _-]?access)?(?:[ _-]?key)?|pass(?:word|wd|phrase)?|pwd|\
                     (?:api|private|access|session|account|encryption)[ _-]?key(?:[ _-]?id)?|session[ _-]?id|sid|auth|credentials?";
/// What separates a name and its value, also escaped for an address or for JSON inside JSON.
const SEPARATOR: &str = r#"(?:\\*["'])?\s*(?:=>|[:=]|%3[aAdD])\s*"#;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("tests use every pattern")
}

static KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern("-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|$)")
});
static TOKEN: LazyLock<Regex> = LazyLock::new(|| pattern(r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*"));
/// Headers whose whole value is secret.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)\b((?:proxy-)?authorization|set-cookie2?|cookie|x-[a-z0-9-]*(?:token|key|auth|secret)[a-z0-9-]*)(\\*["']?\s*[:=]\s*)[^\r\n]+"#,
    )
});
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(bearer|basic|dpop|negotiate|digest|ssws)\s+[A-Za-z0-9._~+/=-]{4,}"));
/// A name and its value. A value in quotes ends with the quote or the line; any other value ends at a space or a
/// separator.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = r#"\\*"(?:[^"\\\r\n]|\\[^\r\n])*(?:"|$)|'[^'\r\n]*(?:'|$)"#;
    pattern(&format!(
        r#"(?im)([a-z0-9]*[_-]?(?:{SECRET_NAMES}){SEPARATOR})({quoted}|\((?:set|removed)\)|[^\s"'&;}}\]]+)"#
    ))
});
/// A password, which may have spaces in it.
static PASSWORD: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?im)((?:pass(?:word|wd|phrase)|pwd)\s*[:=]\s*)[^\s"'(][^\r\n"'&;}<]*"#));
/// `--client-secret value`, `<password>value</password>`.
static OPTION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(r"(?i)(--[a-z-]*(?:{SECRET_NAMES})\s+|<(?:[a-z]+:)?(?:{SECRET_NAMES})>)[^\s<]+"))
});
static PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
    let names = "code|state|nonce|sig|signature|session_state|login_hint|code_challenge|key";
    let in_address = format!(r"(?:^|[?&;#\s]|%3[fF]|%26)(?:{names})(?:=|%3[dD])");
    let in_document = format!(r#"\\*["'](?:{names})\\*["']\s*:\s*\\*["']"#);
    pattern(&format!(r#"(?im)({in_address}|{in_document})[^&\s"'#%\\]{{3,}}"#))
});
static USER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(://)[^/\s]+@"));
static LONG: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+/_~=-]{40,}"));

/// Whether a long word is random like a key, and not a path, a name or a checksum.
fn is_random(word: &str) -> bool {
    let count = |kind: fn(&u8) -> bool| word.bytes().filter(kind).count();
    let (small, large, digits) =
        (count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase), count(u8::is_ascii_digit));
    let slashes = word.bytes().filter(|byte| *byte == b'/').count();
    let hexadecimal = word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    // A hexadecimal word as long as SHA-256 or SHA-512 is a checksum; any other may be a key.
    let checksum = hexadecimal && [64, 128].contains(&word.len());
    let mixed = small > 3 && large > 3 && digits > 1 && slashes * 12 < word.len();
    mixed || (hexadecimal && digits > 3 && !checksum && !word.contains('-'))
}

fn names_a_secret(name: &str) -> bool {
    static WHOLE: LazyLock<Regex> =
        LazyLock::new(|| pattern(&format!("(?i)^(?:{SECRET_NAMES}|.*(?:secret|password|token))$")));
    // This also removes values such as `"token": "for 59 min"`, which does no harm.
    WHOLE.is_match(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-7Q";

    #[test]
    fn secret_is_removed_in_every_form_of_logs_and_documents() {
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
            "Cookie: lang=en; sid=canary-7Q",
            "Authorization: token canary-7Q",
            "Authorization: Digest username=\"a\", response=\"canary-7Q\"",
            "{\"code\":\"canary-7Q\",\"state\":\"canary-7Q\"}",
            "code=canary-7Q&grant_type=authorization_code",
            "\"token\":\"canary-7Q\"",
            "token: canary-7Q",
            "X-Auth-Token: canary-7Q",
            "x-amz-security-token: canary-7Q",
            "session_token=canary-7Q",
            "aws_secret_access_key = canary-7Q",
            "\"secretAccessKey\":\"canary-7Q\"",
            "passphrase=canary-7Q",
            "pass=\"canary-7Q\"",
            "auth=canary-7Q",
            "sessionid=canary-7Q",
            "user_code: canary-7Q",
            "SAMLResponse=canary-7Q",
            "assertion=canary-7Q",
            "subject_token=canary-7Q",
            "--client-secret canary-7Q",
            "--password canary-7Q",
            "<password>canary-7Q</password>",
            "client_secret%3Dcanary-7Q",
            "?access_token%3Dcanary-7Q",
            "\"client_secret\" => \"canary-7Q\"",
            "refresh token: canary-7Q",
            "Access Token: canary-7Q",
            "password=ab,canary-7Q",
            "password: correct horse canary-7Q",
            "http://user:p@canary-7Q@proxy/",
            "\"access_token\":\"canary-7Q and the quote never ends",
            "abcDEF0123/canary-7QabcDEF0123+abcDEF0123abcDEF0123==",
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
    fn text_without_secrets_is_not_changed() {
        let redaction = Redaction::new([]);
        for plain in [
            "the token endpoint answers; code 401, state signed-in",
            "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/v2.0",
            "steward::broker: the session was renewed until 2026-11-25T12:00:00Z",
            "/Library/Application Support/Steward/private/reports",
            "ada@example.com is signed in",
            "http://localhost:18080/?error=access_denied",
            "steward::broker::sign_in: the_authorization_server_metadata_document_v2_is_missing",
            "/home/ada/Library/Application/Support/com.example.Application.Version2/logs/main.log",
            "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "{\"code\": 401, \"state\": 3}",
        ] {
            assert_eq!(redaction.text(plain), plain);
        }
        // A quote without an end hides only its own line.
        let open = redaction.text("a \"password\": \"x\nan ordinary line\n\"the end\"");
        assert!(open.contains("an ordinary line\n\"the end\""), "{open}");
        let document = serde_json::json!({ "signed_in": true, "count": 3, "token": null });
        assert_eq!(redaction.document(document.clone()), document);
    }

    #[test]
    fn end_of_a_long_file_begins_with_a_whole_line() {
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
