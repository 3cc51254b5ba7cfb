//! PURE: reads release feeds in the format of electron-builder: version, files with address, SHA-512 and size.
//!
//! In: bytes. Out: a [`Release`] whose parts were all checked. Called by [`super::run`]. A feed comes from outside and
//! is not signed, so each of its values has a limit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use semver::Version;
use serde::Deserialize;
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

/// Reads a feed that was fetched from `base`.
pub(crate) fn parse(bytes: &[u8], base: &Url) -> Result<Release, FeedError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        version: String,
        #[serde(default)]
        files: Vec<File>,
        release_date: Option<String>,
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
    let version = document
        .version
        .parse()
        .map_err(|_| FeedError::Version(document.version.chars().take(40).collect()))?;
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
    Ok(Release { version, published, artifact: Artifact { url, sha512, size: file.size } })
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
