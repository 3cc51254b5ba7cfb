//! The feed of electron-builder: YAML with one release, as `latest.yml`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    Brakes, Feed, FeedError, Release, Wanted, artifact, brakes_among, minimum, parse_version, percent,
};

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

pub(super) fn parse(text: &str, base: &Url, wanted: &Wanted<'_>) -> Result<Feed, FeedError> {
    let document: Document = serde_saphyr::from_str(text).map_err(|error| {
        FeedError::Format(error.to_string().lines().next().unwrap_or_default().chars().take(200).collect())
    })?;
    let version = parse_version(&document.version)?;
    let file = document
        .files
        .iter()
        .find(|file| wanted.takes(&file.url))
        .ok_or_else(|| FeedError::NoArtifact(wanted.endings.join(" or "), String::new()))?;
    let release = Release {
        version,
        channel: None,
        // A date that cannot be read counts as none, so that a deferral waits and does not guess.
        published: document.release_date.and_then(|date| date.parse().ok()),
        salt: None,
        artifact: artifact(&file.url, &file.sha512, file.size, base, wanted)?,
        patches: Vec::new(),
        brakes: Brakes {
            staging: document.staging_percentage.as_ref().map(percent),
            minimum_system: document.minimum_system_version.as_ref().map(minimum),
        },
    };
    Ok(Feed { releases: vec![release], unknown: brakes_among(document.others.into_keys()) })
}
