//! What two repositories name together, as Uptane does: the image repository says what is authentic, the director which of that a device
//! may run. Only what both name with the same path, length and hashes becomes a release.
//!
//! Both speak of an app in the member `custom.steward` of a target. Image: `app`, `version`, `system`, `architecture`,
//! `minimumSystemVersion`, and `patches`, each with the SHA-512 `from` of the file that it is for and with its `path`. Director: `channel`,
//! `published`, `rolloutPermyriad`, `salt`, `withdrawn`. Whoever has stolen the director's keys can therefore choose among authentic
//! releases, but give none another name. The path of a target begins with the name of its app, so that a role to which paths are delegated
//! speaks for no other app.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use policy_schema::version::Downgrade;
use semver::Version;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sigstore_tuf::TargetFile;
use url::Url;

use super::{Client, SignedError};
use crate::feed::{
    Artifact, Brakes, Feed, MAXIMUM_ARTIFACT, Patch, Wanted, brakes_among, minimum, parse_version, shortened,
};
use crate::{Release, patch};

/// The member of the image repository's own list with the oldest version of each app that may be installed: `{"lab-notes": "1.4.0"}`.
pub const MINIMUM: &str = "x-steward-minimum";
/// The member of the director's own list with the downgrades of each app: `{"lab-notes": ["2.2.0 to 2.1.0"]}`.
pub const DOWNGRADES: &str = "x-steward-downgrades";
/// A release has at most so many patches.
pub const MAXIMUM_PATCHES: u8 = 10;
/// More targets than this a director does not name.
const MAXIMUM_TARGETS: usize = 2000;

/// What a release is, as the image repository says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    app: String,
    version: String,
    system: Option<String>,
    architecture: Option<String>,
    minimum_system_version: Option<Value>,
    #[serde(default)]
    patches: Option<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A patch, as the image repository names it with the release.
#[derive(Deserialize)]
struct PatchName {
    from: String,
    path: String,
}

/// Which devices may have it, as the director says.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    channel: Option<String>,
    published: Option<Timestamp>,
    rollout_permyriad: Option<u32>,
    salt: Option<String>,
    withdrawn: bool,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// What a device can choose from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composed {
    /// The releases.
    pub feed: Feed,
    /// Older versions that the director leads back to.
    pub downgrades: Vec<Downgrade>,
    /// What the director names and a device does not take, with the reason.
    pub refused: Vec<String>,
}

/// Why a target of the director's is not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the image repository does not have it")]
    Unknown,
    #[error("the image repository has it with another length or hash")]
    Other,
    #[error("the image repository does not say what it is (`custom.steward`)")]
    Identity,
    #[error("what the director says of it (`custom.steward`) cannot be read")]
    Conditions,
    #[error(
        "the image repository says `{0}` of it, which may keep it from some devices and is not known to this version"
    )]
    Brake(String),
    #[error("there is another file of version {0} that ends alike")]
    Twice(Version),
    #[error("there is no SHA-512 of it")]
    Hash,
    #[error("it has {0} bytes")]
    Size(u64),
    #[error("its path is not one of names between slashes")]
    Path,
    #[error("{0} is below {1}, the oldest version that may be installed")]
    Minimum(Version, Version),
    #[error("`{0}` is no version")]
    Version(String),
}

/// Composes the releases of an app for a device. `base`: where the image repository is, with a slash at its end; its files are in
/// `targets/` below. `now`: as [`Client::refresh`] gives it.
///
/// # Errors
/// A repository cannot be read or verified, or says what cannot be followed.
pub async fn compose(
    (image, director): (&mut Client, &mut Client),
    app: &str,
    base: &Url,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Result<Composed, SignedError> {
    let malformed = |repository: &'static str, reason: String| {
        SignedError::Refused(repository, sigstore_tuf::Error::Malformed(reason))
    };
    let of_app = |value: Option<&Value>| value.and_then(|apps| apps.get(app)).cloned();
    let minimum: Option<Version> = match of_app(image.member(MINIMUM)) {
        Some(value) => {
            Some(read(&value).ok_or_else(|| malformed("image", format!("its {MINIMUM}: {value}")))?)
        }
        None => None,
    };
    let downgrades: Vec<Downgrade> = match of_app(director.member(DOWNGRADES)) {
        Some(value) => {
            read(&value).ok_or_else(|| malformed("director", format!("its {DOWNGRADES}: {value}")))?
        }
        None => Vec::new(),
    };
    let mut named = director.targets();
    // Whoever may sign for one app says nothing about another.
    named.retain(|path, _| path.split_once('/').is_some_and(|(first, _)| first == app));
    if named.len() > MAXIMUM_TARGETS {
        return Err(malformed("director", format!("it names more than {MAXIMUM_TARGETS} targets")));
    }
    let mut composed = Composed { downgrades, ..Composed::default() };
    let mut unknown = BTreeSet::new();
    // By version, and then by how much its ending is preferred.
    let mut found: BTreeMap<(Version, usize), Vec<(String, Release)>> = BTreeMap::new();
    for path in named.into_keys() {
        // At the time that holds for both.
        let Some(directed) = director.target(&path, now).await? else { continue };
        let Some(authentic) = image.target(&path, now).await? else {
            composed.refused.push(refused(&path, &Refusal::Unknown));
            continue;
        };
        let both = Both { path: &path, authentic: &authentic, directed: &directed };
        match both.release((image, base), app, wanted, minimum.as_ref()) {
            Ok(Some(Composable { mut release, unknown: others, patches })) => {
                unknown.extend(others);
                release.patches = named_patches(image, base, (app, authentic.length), &patches, now).await?;
                found
                    .entry((release.version.clone(), wanted.place(&path)))
                    .or_default()
                    .push((path, release));
            }
            Ok(None) => {}
            Err(refusal) => composed.refused.push(refused(&path, &refusal)),
        }
    }
    for ((version, _), files) in found {
        if composed.feed.releases.last().is_some_and(|last| last.version == version) {
            continue;
        }
        match <[_; 1]>::try_from(files) {
            Ok([(_, release)]) => composed.feed.releases.push(release),
            // Nobody knows which of them is meant.
            Err(files) => {
                let twice = files.iter().map(|(path, _)| refused(path, &Refusal::Twice(version.clone())));
                composed.refused.extend(twice);
            }
        }
    }
    composed.feed.releases.reverse();
    composed.feed.unknown = brakes_among(unknown);
    Ok(composed)
}

/// What leads to a file from earlier ones. Only the image repository names patches: what comes out of one has the hash that both name. One
/// that cannot be used is left out.
async fn named_patches(
    image: &mut Client,
    base: &Url,
    (app, whole): (&str, u64),
    named: &Value,
    now: Timestamp,
) -> Result<Vec<Patch>, SignedError> {
    let named = named.as_array().into_iter().flatten().take(MAXIMUM_PATCHES.into()).filter_map(read);
    let mut patches = Vec::new();
    for PatchName { from, path } in named {
        if path.split_once('/').is_none_or(|(first, _)| first != app) {
            continue;
        }
        let target = match image.target(&path, now).await {
            Ok(Some(target)) => target,
            Err(error @ SignedError::Store(..)) => return Err(error),
            // Without a patch there is still the whole file.
            Ok(None) | Err(_) => continue,
        };
        let size = target.length;
        let sha512 = target.hashes.get("sha512").and_then(|text| crate::feed::hash(text));
        if let (Some(from), Some(sha512), Ok(url)) =
            (crate::feed::hash(&from), sha512, url(&path, &target, image, base))
            && patch::is_worth(size, whole)
        {
            patches.push(Patch { from, artifact: Artifact { url, sha512, size } });
        }
    }
    Ok(patches)
}

fn refused(path: &str, refusal: &Refusal) -> String {
    format!("{}: {refusal}", shortened(path))
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

/// A release that both repositories name, with what they say besides.
struct Composable {
    release: Release,
    /// Members of the director's that are not known here.
    unknown: Vec<String>,
    /// As the image repository names them.
    patches: Value,
}

/// What both repositories say of a target.
struct Both<'a> {
    path: &'a str,
    authentic: &'a TargetFile,
    directed: &'a TargetFile,
}

impl Both<'_> {
    /// The release; `None` if it is of another app or for other devices.
    fn release(
        &self,
        (image, base): (&Client, &Url),
        app: &str,
        wanted: &Wanted<'_>,
        minimum_version: Option<&Version>,
    ) -> Result<Option<Composable>, Refusal> {
        let Self { path, authentic, directed } = *self;
        let of_steward = |target: &TargetFile| target.custom.as_ref()?.get("steward").cloned();
        let identity: Identity =
            of_steward(authentic).and_then(|value| read(&value)).ok_or(Refusal::Identity)?;
        let fits = |named: &Option<String>, own: &str| named.as_ref().is_none_or(|named| named == own);
        if identity.app != app
            || !fits(&identity.system, wanted.system)
            || !fits(&identity.architecture, wanted.architecture)
            || !wanted.takes(path)
        {
            return Ok(None);
        }
        if authentic.length != directed.length || authentic.hashes != directed.hashes {
            return Err(Refusal::Other);
        }
        if let Some(brake) = brakes_among(identity.others.into_keys()).pop() {
            return Err(Refusal::Brake(brake));
        }
        let conditions: Conditions = match (of_steward(directed), &directed.custom) {
            (Some(value), _) => read(&value).ok_or(Refusal::Conditions)?,
            (None, None) => Conditions::default(),
            // A name that is misspelt would widen it.
            (None, Some(_)) => return Err(Refusal::Conditions),
        };
        if conditions.withdrawn {
            return Ok(None);
        }
        let version =
            parse_version(&identity.version).map_err(|_| Refusal::Version(shortened(&identity.version)))?;
        if let Some(minimum) = minimum_version.filter(|minimum| version < **minimum) {
            return Err(Refusal::Minimum(version, minimum.clone()));
        }
        let sha512 = authentic.hashes.get("sha512").and_then(|text| crate::feed::hash(text));
        let size = authentic.length;
        if size == 0 || size > MAXIMUM_ARTIFACT {
            return Err(Refusal::Size(size));
        }
        let artifact =
            Artifact { url: url(path, authentic, image, base)?, sha512: sha512.ok_or(Refusal::Hash)?, size };
        let release = Release {
            version,
            channel: conditions.channel.map(|channel| shortened(&channel)),
            published: conditions.published,
            salt: conditions.salt,
            artifact,
            patches: Vec::new(),
            brakes: Brakes {
                // A share of more than all is a mistake, and mistakes widen nothing.
                staging: conditions.rollout_permyriad.map(|share| if share > 10_000 { 0 } else { share }),
                minimum_system: identity.minimum_system_version.as_ref().map(minimum),
            },
        };
        let unknown = conditions.others.into_keys().collect();
        Ok(Some(Composable { release, unknown, patches: identity.patches.unwrap_or_default() }))
    }
}

/// Where the file of a target is: with its hash before its name, if the repository does that (TUF 6.2.1).
fn url(path: &str, target: &TargetFile, image: &Client, base: &Url) -> Result<Url, Refusal> {
    let names: Vec<&str> = path.split('/').collect();
    let is_name = |name: &&str| {
        !matches!(*name, "" | "." | "..")
            && !name.contains(|letter: char| letter == '\\' || letter.is_control())
    };
    let (last, folders) = names.split_last().ok_or(Refusal::Path)?;
    if !names.iter().all(is_name) {
        return Err(Refusal::Path);
    }
    let hash = ["sha256", "sha512"].into_iter().find_map(|name| target.hashes.get(name));
    let last = match hash.filter(|_| image.has_consistent_snapshots()) {
        Some(hash) if hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => format!("{hash}.{last}"),
        Some(_) => return Err(Refusal::Hash),
        None => (*last).to_owned(),
    };
    let mut url = base.clone();
    let mut path = url.path_segments_mut().map_err(|()| Refusal::Path)?;
    path.pop_if_empty().push("targets").extend(folders).push(&last);
    drop(path);
    Ok(url)
}
