//! PURE: reads release feeds in the format of electron-builder: version, files with address, SHA-512 and size.
//!
//! In: bytes. Out: a [`Release`] whose parts were all checked. Called by [`super::run`]. A feed comes from outside and
//! is not signed, so each of its values has a limit.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use semver::Version;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

/// A feed may have this many bytes.
pub(crate) const MAXIMUM_BYTES: usize = 256 * 1024;
/// An artifact may have this many bytes.
const MAXIMUM_ARTIFACT: u64 = 4 * 1024 * 1024 * 1024;

/// One release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) version: Version,
    pub(crate) published: Option<Timestamp>,
    pub(crate) artifact: Artifact,
    pub(crate) brakes: Brakes,
}

/// How the vendor keeps a release from some devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brakes {
    /// The share of devices that may install it (`stagingPercentage`).
    pub(crate) staging_percent: Option<u32>,
    /// The oldest system that it runs on, by the version of the kernel (`minimumSystemVersion`).
    pub(crate) minimum_system: Option<String>,
    /// Members that may be such, and that are not known here.
    pub(crate) unknown: Vec<String>,
}

/// What to download, and how to verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) url: Url,
    pub(crate) sha512: [u8; 64],
    /// In bytes.
    pub(crate) size: u64,
}

/// Why a feed is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("the feed is not a release feed: {0}")]
    Format(String),
    #[error("the feed's version `{0}` is not a version of three numbers")]
    Version(String),
    #[error("the feed offers no .tar.gz file")]
    NoArtifact,
    #[error("the feed's SHA-512 of {0} is not 64 bytes in base64")]
    Hash(String),
    #[error("the feed says that {0} has {1} bytes, which is not between 1 and {MAXIMUM_ARTIFACT}")]
    Size(String, u64),
    #[error("the feed's file is at {0}, which is not on the host of the feed")]
    OtherHost(String),
}

/// Longer than any version, in bytes. It names a folder.
const MAXIMUM_VERSION: usize = 100;
/// How much of a text of the feed is shown, in characters.
const MAXIMUM_SHOWN: usize = 40;

/// Reads a feed that was fetched from `base`.
pub(crate) fn parse(bytes: &[u8], base: &Url) -> Result<Release, FeedError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        version: String,
        #[serde(default)]
        files: Vec<File>,
        release_date: Option<String>,
        staging_percentage: Option<Value>,
        minimum_system_version: Option<Value>,
        #[serde(flatten)]
        others: BTreeMap<String, Value>,
    }
    #[derive(Deserialize)]
    struct File {
        url: String,
        sha512: String,
        size: u64,
    }

    let text = std::str::from_utf8(bytes).map_err(|_| FeedError::Format("it is not UTF-8".to_owned()))?;
    let document: Document = serde_saphyr::from_str(text).map_err(|error| {
        FeedError::Format(error.to_string().lines().next().unwrap_or_default().chars().take(200).collect())
    })?;
    let version = Some(&document.version)
        .filter(|version| version.len() <= MAXIMUM_VERSION)
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| FeedError::Version(shortened(&document.version)))?;
    let file =
        document.files.into_iter().find(|file| file.url.ends_with(".tar.gz")).ok_or(FeedError::NoArtifact)?;
    let shown: String = file.url.chars().take(100).collect();
    let url = base.join(&file.url).map_err(|_| FeedError::OtherHost(shown.clone()))?;
    if (url.scheme(), url.host_str(), url.port()) != (base.scheme(), base.host_str(), base.port()) {
        return Err(FeedError::OtherHost(shown));
    }
    let sha512 = STANDARD
        .decode(&file.sha512)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| FeedError::Hash(shown.clone()))?;
    if file.size == 0 || file.size > MAXIMUM_ARTIFACT {
        return Err(FeedError::Size(shown, file.size));
    }
    // A date that cannot be read counts as none, so that a deferral waits and does not guess.
    let published = document.release_date.and_then(|date| date.parse().ok());
    let brakes = Brakes {
        staging_percent: document.staging_percentage.as_ref().map(percent),
        minimum_system: document.minimum_system_version.map(|version| shortened(&minimum(&version))),
        unknown: document
            .others
            .into_keys()
            .filter(|name| may_be_a_brake(name))
            .take(5)
            .map(|name| shortened(&name))
            .collect(),
    };
    Ok(Release { version, published, artifact: Artifact { url, sha512, size: file.size }, brakes })
}

/// A number with a fraction may be 6.1 or 6.10, so it is no version.
fn minimum(version: &Value) -> String {
    match version {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            format!("({version})")
        }
    }
}

/// Text of the feed for messages.
fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAXIMUM_SHOWN).collect()
}

/// A share of devices. What is none lets no device through.
fn percent(value: &Value) -> u32 {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().trim_end_matches('%').parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 100")]
    number.filter(|number| (0.0..=100.0).contains(number)).map_or(0, |number| number.floor() as u32)
}

/// Whether a member that is not known here may keep a release from some devices.
fn may_be_a_brake(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "staging", "rollout", "percent", "minimum", "maximum", "system", "require", "block", "hold",
        "deprecat", "arch",
    ]
    .iter()
    .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(version: &str, url: &str, sha512: &str, size: &str) -> String {
        format!(
            "version: {version}\nfiles:\n  - url: {url}\n    sha512: {sha512}\n    size: {size}\npath: {url}\n\
             releaseDate: '2026-11-01T10:00:00.000Z'\n"
        )
    }

    fn hash() -> String {
        STANDARD.encode([7; 64])
    }

    fn parse_text(text: &str) -> Result<Release, FeedError> {
        parse(text.as_bytes(), &"https://updates.example.com/app/latest.yml".parse().unwrap())
    }

    #[test]
    fn feed_of_electron_builder_is_read() {
        let release = parse_text(&feed("2.1.0", "app-2.1.0.tar.gz", &hash(), "1234")).unwrap();
        assert_eq!(release.version, Version::new(2, 1, 0));
        assert_eq!(release.artifact.url.as_str(), "https://updates.example.com/app/app-2.1.0.tar.gz");
        assert_eq!((release.artifact.size, release.artifact.sha512), (1234, [7; 64]));
        assert_eq!(release.published, Some("2026-11-01T10:00:00Z".parse().unwrap()));
    }

    #[test]
    fn hostile_or_broken_feed_is_refused_with_the_reason() {
        let cases = [
            (feed("latest", "a.tar.gz", &hash(), "1"), "not a version"),
            (feed(&format!("2.1.0-{}", "a".repeat(5000)), "a.tar.gz", &hash(), "1"), "not a version"),
            (feed("2.1.0", "a.exe", &hash(), "1"), "no .tar.gz"),
            (feed("2.1.0", "a.tar.gz", "AAAA", "1"), "not 64 bytes"),
            (feed("2.1.0", "a.tar.gz", &hash(), "0"), "not between"),
            (feed("2.1.0", "a.tar.gz", &hash(), "99999999999999"), "not between"),
            (feed("2.1.0", "a.tar.gz", &hash(), "-1"), "not a release feed"),
            (feed("2.1.0", "https://evil.example/a.tar.gz", &hash(), "1"), "not on the host"),
            (feed("2.1.0", "http://updates.example.com/a.tar.gz", &hash(), "1"), "not on the host"),
            (feed("2.1.0", "file:///etc/a.tar.gz", &hash(), "1"), "not on the host"),
            ("<html>Please log in</html>".to_owned(), "not a release feed"),
            (String::new(), "not a release feed"),
            (feed("2.1.0", "a.tar.gz", &hash(), "1")[..60].to_owned(), "not a release feed"),
        ];
        for (text, expected) in cases {
            let error = parse_text(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn brakes_of_the_vendor_are_read_and_unknown_ones_named() {
        let with = |more: &str| {
            let text = format!("{}{more}", feed("2.1.0", "a.tar.gz", &hash(), "1"));
            parse_text(&text).unwrap().brakes
        };
        assert_eq!(with(""), Brakes::default());
        for (text, percent) in
            [("10", 10), ("'25%'", 25), ("99.9", 99), ("many", 0), ("-1", 0), ("101", 0), ("[]", 0)]
        {
            assert_eq!(
                with(&format!("stagingPercentage: {text}\n")).staging_percent,
                Some(percent),
                "{text}"
            );
        }
        assert_eq!(with("minimumSystemVersion: 10.0.22000\n").minimum_system.as_deref(), Some("10.0.22000"));
        assert_eq!(with("minimumSystemVersion: 22\n").minimum_system.as_deref(), Some("22"));
        // 6.1 or 6.10?
        assert_eq!(with("minimumSystemVersion: 6.10\n").minimum_system.as_deref(), Some("(6.1)"));
        let long = with(&format!("hold{}: x\n", "d".repeat(500)));
        assert_eq!(long.unknown[0].len(), MAXIMUM_SHOWN);
        let found = with("releaseNotes: x\nsha512: y\nrolloutGroups: [a]\nrequiredSystem: z\n");
        assert_eq!(found.unknown, ["requiredSystem", "rolloutGroups"]);
    }

    #[test]
    fn yaml_bomb_is_refused() {
        let level = |level: u32| {
            let previous = vec![format!("*a{}", level - 1); 9].join(", ");
            format!("a{level}: &a{level} [{previous}]\n")
        };
        let bomb =
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..12).map(level).collect::<String>();
        assert!(parse_text(&(bomb + &feed("2.1.0", "a.tar.gz", &hash(), "1"))).is_err());
        assert!(parse_text(&"[".repeat(100_000)).is_err());
    }
}
