//! Patches from the last versions of an app to a new one: files beside those of the releases, named by the image repository alone.

use std::path::PathBuf;

use anyhow::Context as _;
use policy_schema::counted;
use semver::Version;
use serde_json::{Map, Value, json};
use updates::patch;
use updates::signed::publish;

use super::{List, Part, Repository};

/// So many versions back.
pub(crate) const VERSIONS: usize = 5;

/// A patch that is in its place.
pub(crate) struct Placed {
    /// The version that it is for.
    pub(crate) from: Version,
    /// In bytes.
    pub(crate) size: u64,
    /// Where it is in the list, and what that says of it.
    pub(crate) target: (String, Value),
    /// What the list says with the release.
    pub(crate) named: Value,
}

impl Repository {
    /// Makes patches to the file of a release from those of the last versions that are for the same devices. `identity`: what the image
    /// repository says of the release. What cannot be made is told, and keeps nothing from being added.
    pub(crate) fn make_patches(
        &self,
        list: &List,
        (path, target): (&str, &Value),
        identity: &Map<String, Value>,
        most: usize,
    ) -> anyhow::Result<(Vec<Placed>, Vec<String>)> {
        let (mut placed, mut told) = (Vec::new(), Vec::new());
        let mut olds = earlier(list, identity);
        olds.truncate(most);
        let whole = size(target);
        if olds.is_empty() || whole > patch::MAXIMUM_MADE {
            return Ok((placed, told));
        }
        let new = fs_err::read(self.file(path, target)?)?;
        if patch::is_compressed(&new) {
            told.push("no patches: the file is compressed, so they would be as large as the file".to_owned());
            return Ok((placed, told));
        }
        for (from, old_path, old_target) in olds {
            let made = if size(old_target) > patch::MAXIMUM_MADE {
                Err(anyhow::anyhow!("that is too large"))
            } else {
                let old = self.file(old_path, old_target).and_then(|old| Ok(fs_err::read(old)?));
                old.and_then(|old| Ok(patch::make(&old, &new)?))
            };
            let bytes = match made {
                Ok(bytes) => bytes,
                Err(error) => {
                    told.push(format!("no patch from {from}: {error:#}"));
                    continue;
                }
            };
            let size = u64::try_from(bytes.len())?;
            if !patch::is_worth(size, whole) {
                told.push(format!("no patch from {from}: it would have {}", counted(bytes.len(), "byte")));
                continue;
            }
            placed.push(self.place_patch((path, identity), from, old_target, &bytes)?);
        }
        Ok((placed, told))
    }

    fn place_patch(
        &self,
        (path, identity): (&str, &Map<String, Value>),
        from: Version,
        old: &Value,
        bytes: &[u8],
    ) -> anyhow::Result<Placed> {
        let path = format!("{path}.from-{from}.patch");
        let beside = self.folder.join(".patch");
        fs_err::write(&beside, bytes)?;
        let placed = self.place(&beside, &path);
        fs_err::remove_file(&beside)?;
        let (size, hashes) = placed?;
        // Without `app`: nobody takes it for a release.
        let custom = json!({ "patch": { "from": from, "to": identity.get("version") } });
        let target = publish::target(size, &hashes.sha256, &hashes.sha512, &custom);
        let old = old.get("hashes").and_then(|hashes| hashes.get("sha512"));
        let named = json!({ "from": old.context("there is no SHA-512 of the old file")?, "path": path });
        Ok(Placed { from, size, target: (path, target), named })
    }

    /// Where the file of a target is.
    fn file(&self, path: &str, target: &Value) -> anyhow::Result<PathBuf> {
        let sha256 = target.get("hashes").and_then(|hashes| hashes.get("sha256")?.as_str());
        let (folder, name) = path.rsplit_once('/').context("a path has a folder")?;
        let sha256 = sha256.with_context(|| format!("there is no SHA-256 of {path}"))?;
        Ok(self.path(Part::Image, &format!("targets/{folder}/{sha256}.{name}")))
    }
}

/// The versions before one for the same devices, the newest first.
fn earlier<'l>(list: &'l List, identity: &Map<String, Value>) -> Vec<(Version, &'l str, &'l Value)> {
    let version_of =
        |identity: &Map<String, Value>| identity.get("version")?.as_str()?.parse::<Version>().ok();
    let Some(version) = version_of(identity) else { return Vec::new() };
    let candidates = list.targets.iter().filter_map(|(path, target)| {
        let old = target.get("custom")?.get("steward")?.as_object()?;
        let is_same = |name: &str| old.get(name) == identity.get(name);
        let same = ["app", "system", "architecture"].into_iter().all(is_same);
        Some((version_of(old).filter(|old| same && *old < version)?, path.as_str(), target))
    });
    let mut earlier: Vec<_> = candidates.collect();
    earlier.sort_by(|one, other| other.0.cmp(&one.0));
    earlier
}

fn size(target: &Value) -> u64 {
    target.get("length").and_then(Value::as_u64).unwrap_or(u64::MAX)
}
