//! Reads release feeds: those of electron-builder ([`electron_builder`]) with one release, and Steward's own in JSON
//! ([`releases`]) with any number of them.
//!
//! In: bytes, and what this device can use ([`Wanted`]). Out: releases whose parts were all checked. A feed comes from outside
//! and is not signed, so each of its values has a limit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use semver::Version;
use serde_json::Value;
use url::Url;

mod electron_builder;
mod releases;

/// A feed may have this many bytes.
pub const MAXIMUM_BYTES: usize = 256 * 1024;
/// An artifact may have this many bytes.
pub const MAXIMUM_ARTIFACT: u64 = 4 * 1024 * 1024 * 1024;
/// A feed may have this many releases.
const MAXIMUM_RELEASES: usize = 1000;
/// Longer than any version, in bytes. It names a folder.
const MAXIMUM_VERSION: usize = 100;
/// How much of a text of the feed is shown, in characters.
const MAXIMUM_SHOWN: usize = 40;

/// One release, with the file that this device installs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// What it installs.
    pub version: Version,
    /// The channel that the feed names for it.
    pub channel: Option<String>,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// What orders the devices in its rollout, in place of its version.
    pub salt: Option<String>,
    /// What to download.
    pub artifact: Artifact,
    /// What leads to that from files that a device may have.
    pub patches: Vec<Patch>,
    /// How its publisher keeps it from some devices.
    pub brakes: Brakes,
}

/// How the vendor keeps a release from some devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brakes {
    /// The share of devices that may install it, in ten-thousandths (`stagingPercentage`, `rolloutPercent`, `rolloutPermyriad`).
    pub staging: Option<u32>,
    /// The oldest system that it runs on, by the version of the kernel (`minimumSystemVersion`).
    pub minimum_system: Option<String>,
}

/// What to download, and how to verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Where it is.
    pub url: Url,
    /// Of the whole file.
    pub sha512: [u8; 64],
    /// In bytes.
    pub size: u64,
}

/// What leads from one file to another, as [`crate::patch`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The SHA-512 of the file that it is for.
    pub from: [u8; 64],
    /// What to download.
    pub artifact: Artifact,
}

impl Artifact {
    /// The hash as text: the name under which attempts are counted.
    #[must_use]
    pub fn digest(&self) -> String {
        STANDARD.encode(self.sha512)
    }
}

/// What a device can use of a feed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How names of files end that can be installed: `.tar.gz`.
    pub endings: &'a [&'a str],
    /// `linux`, `macos`, `windows`.
    pub system: &'a str,
    /// `x86_64`, `aarch64`.
    pub architecture: &'a str,
    /// Hosts besides that of the feed that files may be on.
    pub hosts: &'a [String],
}

/// What a feed holds for a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// Newest first.
    pub releases: Vec<Release>,
    /// Members that may keep a release from some devices, and that are not known here.
    pub unknown: Vec<String>,
}

/// Why a feed is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No feed at all.
    #[error("the feed is not a release feed: {0}")]
    Format(String),
    /// A version that is none.
    #[error("the feed's version `{0}` is not a version of three numbers")]
    Version(String),
    /// Nothing that can be installed here.
    #[error("the feed offers no {0} file{1}")]
    NoArtifact(String, String),
    /// Not a hash.
    #[error("the feed's SHA-512 of {0} is not 64 bytes in base64 or hexadecimal")]
    Hash(String),
    /// No size, or too large.
    #[error("the feed says that {0} has {1} bytes, which is not between 1 and {MAXIMUM_ARTIFACT}")]
    Size(String, u64),
    /// A host that neither the feed's address nor policy names.
    #[error("the feed's file is at {0}, which is not on the host of the feed")]
    OtherHost(String),
    /// More releases than any app has.
    #[error("the feed has more than {MAXIMUM_RELEASES} releases")]
    TooMany,
    /// A format of later versions.
    #[error("the feed has format {0}; this version reads format 1")]
    Newer(u64),
}

/// Reads a feed that was fetched from `base`.
///
/// # Errors
/// It is no feed, or one of its values is not accepted.
pub fn parse(bytes: &[u8], base: &Url, wanted: &Wanted<'_>) -> Result<Feed, FeedError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FeedError::Format("it is not UTF-8".to_owned()))?;
    let text = text.trim_start_matches('\u{feff}');
    let mut feed = if releases::is_one(text) {
        releases::parse(text, base, wanted)?
    } else {
        electron_builder::parse(text, base, wanted)?
    };
    feed.releases.sort_by(|one, other| other.version.cmp(&one.version));
    Ok(feed)
}

impl Wanted<'_> {
    /// The place of a file's ending among those that can be installed, the preferred first.
    pub(crate) fn place(&self, file: &str) -> usize {
        let name = file.to_ascii_lowercase();
        let place = self.endings.iter().position(|ending| name.ends_with(&ending.to_ascii_lowercase()));
        place.unwrap_or(self.endings.len())
    }

    /// Whether a file can be installed, by the end of its name, in any capitals. What is behind a `?` is no name.
    pub(crate) fn takes(&self, file: &str) -> bool {
        let name = file.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        self.endings.iter().any(|ending| name.ends_with(&ending.to_ascii_lowercase()))
    }
}

pub(crate) fn parse_version(text: &str) -> Result<Version, FeedError> {
    let version = Some(text).filter(|text| text.len() <= MAXIMUM_VERSION);
    version.and_then(|text| text.parse().ok()).ok_or_else(|| FeedError::Version(shortened(text)))
}

/// A file as a feed describes it.
fn artifact(
    file: &str,
    sha512: &str,
    size: u64,
    base: &Url,
    wanted: &Wanted<'_>,
) -> Result<Artifact, FeedError> {
    let shown: String = file.chars().take(100).collect();
    let url = base.join(file).map_err(|_| FeedError::OtherHost(shown.clone()))?;
    if !allows(base, wanted.hosts, &url) {
        return Err(FeedError::OtherHost(shown));
    }
    let sha512 = hash(sha512).ok_or_else(|| FeedError::Hash(shown.clone()))?;
    if size == 0 || size > MAXIMUM_ARTIFACT {
        return Err(FeedError::Size(shown, size));
    }
    Ok(Artifact { url, sha512, size })
}

/// Whether a file, or the target of a redirect, may be fetched from there: the host of the feed, or over https one that is
/// named.
#[must_use]
pub fn allows(base: &Url, hosts: &[String], url: &Url) -> bool {
    let origin = |url: &Url| (url.scheme().to_owned(), url.host_str().map(ToOwned::to_owned), url.port());
    let named = |host: &str| {
        let host = host.to_ascii_lowercase();
        hosts.iter().map(|named| named.to_ascii_lowercase()).any(|named| match named.strip_prefix('.') {
            Some(domain) => host == domain || host.ends_with(&named),
            None => host == named,
        })
    };
    origin(base) == origin(url) || url.scheme() == "https" && url.host_str().is_some_and(named)
}

pub(crate) fn hash(text: &str) -> Option<[u8; 64]> {
    let bytes = if text.len() == 128 {
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()?
    } else {
        STANDARD.decode(text).ok()?
    };
    bytes.try_into().ok()
}

/// A number with a fraction may be 6.1 or 6.10, so it is no version.
pub(crate) fn minimum(version: &Value) -> String {
    shortened(&match version {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            format!("({version})")
        }
    })
}

/// Text of the feed for messages.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAXIMUM_SHOWN).collect()
}

/// A share of devices in percent, as ten-thousandths. What is none lets no device through.
fn percent(value: &Value) -> u32 {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().trim_end_matches('%').parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 10,000")]
    number.filter(|number| (0.0..=100.0).contains(number)).map_or(0, |number| (number * 100.0).floor() as u32)
}

/// The members that are not known here and may keep a release from some devices.
pub(crate) fn brakes_among(names: impl IntoIterator<Item = String>) -> Vec<String> {
    names.into_iter().filter(|name| may_be_a_brake(name)).take(5).map(|name| shortened(&name)).collect()
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
mod tests;
