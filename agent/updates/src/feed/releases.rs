//! Steward's own feed: JSON with any number of releases, for apps of one's own.
//!
//! ```json
//! {"format": 1, "releases": [{"version": "2.1.0", "channel": "stable", "published": "2026-11-01T08:00:00Z",
//!   "files": [{"system": "linux", "architecture": "x86_64", "url": "app-2.1.0.tar.gz", "sha512": "...", "size": 1234}]}]}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    Brakes, Feed, FeedError, MAXIMUM_RELEASES, Release, Wanted, artifact, brakes_among, minimum,
    parse_version, percent, shortened,
};

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "format")]
    _format: u64,
    releases: Vec<Entry>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    version: String,
    channel: Option<String>,
    published: Option<String>,
    /// Not for installation any more.
    #[serde(default)]
    withdrawn: bool,
    rollout_percent: Option<Value>,
    rollout_salt: Option<String>,
    minimum_system_version: Option<Value>,
    files: Vec<File>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct File {
    system: Option<String>,
    architecture: Option<String>,
    url: String,
    sha512: String,
    size: u64,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Whether a text is such a feed: a JSON object with the member `releases`. A feed of electron-builder may be JSON as well, which
/// is YAML.
pub(super) fn is_one(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Members {
        #[serde(rename = "releases")]
        _releases: serde::de::IgnoredAny,
    }
    // One with a mistake in it is better explained as JSON.
    text.trim_start().starts_with('{')
        && (serde_json::from_str::<Members>(text).is_ok() || text.contains("\"releases\""))
}

pub(super) fn parse(text: &str, base: &Url, wanted: &Wanted<'_>) -> Result<Feed, FeedError> {
    #[derive(Deserialize)]
    struct Version {
        format: u64,
    }
    let format = |error: serde_json::Error| FeedError::Format(error.to_string().chars().take(200).collect());
    let version: Version = serde_json::from_str(text).map_err(format)?;
    if version.format != 1 {
        return Err(FeedError::Newer(version.format));
    }
    let document: Document = serde_json::from_str(text).map_err(format)?;
    if document.releases.len() > MAXIMUM_RELEASES {
        return Err(FeedError::TooMany);
    }
    let mut unknown: BTreeSet<String> = document.others.into_keys().collect();
    let mut feed = Feed::default();
    let any = document.releases.iter().any(|entry| !entry.withdrawn);
    for entry in document.releases.into_iter().filter(|entry| !entry.withdrawn) {
        let version = parse_version(&entry.version)?;
        let fits = |named: &Option<String>, own: &str| named.as_ref().is_none_or(|named| named == own);
        let usable = |file: &File| {
            fits(&file.system, wanted.system)
                && fits(&file.architecture, wanted.architecture)
                && wanted.takes(&file.url)
        };
        unknown.extend(entry.others.into_keys());
        let Some(file) = entry.files.into_iter().find(usable) else { continue };
        unknown.extend(file.others.into_keys());
        feed.releases.push(Release {
            version,
            channel: entry.channel.map(|channel| shortened(&channel)),
            published: entry.published.and_then(|date| date.parse().ok()),
            salt: entry.rollout_salt,
            artifact: artifact(&file.url, &file.sha512, file.size, base, wanted)?,
            patches: Vec::new(),
            brakes: Brakes {
                staging: entry.rollout_percent.as_ref().map(percent),
                minimum_system: entry.minimum_system_version.as_ref().map(minimum),
            },
        });
    }
    if any && feed.releases.is_empty() {
        let device = format!(" for {} on {}", wanted.system, wanted.architecture);
        return Err(FeedError::NoArtifact(wanted.endings.join(" or "), device));
    }
    // Twice the same version: nobody knows which file it is.
    let versions: BTreeSet<_> = feed.releases.iter().map(|release| &release.version).collect();
    if versions.len() < feed.releases.len() {
        return Err(FeedError::Format("it lists a version twice for this device".to_owned()));
    }
    feed.unknown = brakes_among(unknown);
    Ok(feed)
}
