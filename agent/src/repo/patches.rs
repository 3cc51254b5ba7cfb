//! Patches from the last versions of an app to a new one: files beside those of the releases, named by the image repository alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use platform::file;
use policy_schema::counted;
use semver::Version;
use serde_json::{Map, Value, json};
use updates::patch::{self, PatchError};
use updates::signed::publish;

use super::{List, Part, Repository};

/// So many versions back.
pub(crate) const VERSIONS: u8 = 5;
/// Ten times of what it takes for programs.
const LIMIT: Duration = Duration::from_mins(2);
const LIMIT_FOR_A_MEBIBYTE: Duration = Duration::from_secs(10);
const TOO_SLOW: &str = "it takes too long, as it does where files have long runs of the same bytes";
const TOO_LARGE: &str = "No patches were made: the file is too large.";

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
        most: u8,
    ) -> anyhow::Result<(Vec<Placed>, Vec<String>)> {
        let (mut placed, mut notes) = (Vec::new(), Vec::new());
        let olds = earlier(list, path, identity, most);
        let whole = size(target);
        if olds.is_empty() {
            return Ok((placed, notes));
        }
        if whole > patch::MAXIMUM_MADE {
            notes.push(TOO_LARGE.to_owned());
            return Ok((placed, notes));
        }
        let new = fs_err::read(self.file(path, target)?)?;
        if patch::is_compressed(&new) {
            notes.push(
                "No patches were made: the file is compressed, and they would save nothing.".to_owned(),
            );
            return Ok((placed, notes));
        }
        let new = Arc::<[u8]>::from(new);
        for (from, old_path, old_target) in olds {
            let made = if size(old_target) > patch::MAXIMUM_MADE {
                Err(anyhow::anyhow!("that file is too large"))
            } else {
                let old = self.file(old_path, old_target).and_then(|old| Ok(fs_err::read(old)?));
                match old.map(|old| make_in_time(old, Arc::clone(&new), limit(whole))) {
                    Ok(Some(made)) => made.map_err(Into::into),
                    Ok(None) => {
                        notes.push(format!(
                            "No patch was made from {from}, nor from those before it: {TOO_SLOW}."
                        ));
                        return Ok((placed, notes));
                    }
                    Err(error) => Err(error),
                }
            };
            let made = made.and_then(|bytes| {
                let length = bytes.len();
                anyhow::ensure!(
                    patch::is_worth(u64::try_from(length)?, whole),
                    "it would have {}, which saves too little",
                    counted(length, "byte")
                );
                self.place_patch((path, identity), &from, old_target, &bytes)
            });
            match made {
                Ok(made) => placed.push(made),
                Err(error) => notes.push(format!("No patch was made from {from}: {error:#}.")),
            }
        }
        Ok((placed, notes))
    }

    fn place_patch(
        &self,
        (path, identity): (&str, &Map<String, Value>),
        from: &Version,
        old: &Value,
        bytes: &[u8],
    ) -> anyhow::Result<Placed> {
        let old = old.get("hashes").and_then(|hashes| hashes.get("sha512")?.as_str());
        let old = old.context("there is no SHA-512 of the old file")?;
        // Of one version there may be several files.
        let path = format!("{path}.from-{from}-{}.patch", old.get(..8).unwrap_or(old));
        let beside = self.folder.join(".patch");
        let placed =
            fs_err::write(&beside, bytes).map_err(Into::into).and_then(|()| self.place(&beside, &path));
        file::remove(&beside)?;
        let (size, hashes) = placed?;
        // Without `app`: nobody takes it for a release.
        let custom = json!({ "patch": { "from": from, "to": identity.get("version") } });
        let target = publish::target(size, &hashes.sha256, &hashes.sha512, &custom);
        let named = json!({ "from": old, "path": path });
        Ok(Placed { from: from.clone(), size, target: (path, target), named })
    }

    /// Where the file of a target is.
    fn file(&self, path: &str, target: &Value) -> anyhow::Result<PathBuf> {
        let sha256 = target.get("hashes").and_then(|hashes| hashes.get("sha256")?.as_str());
        let (folder, name) = path.rsplit_once('/').context("a path has a folder")?;
        let sha256 = sha256.with_context(|| format!("there is no SHA-256 of {path}"))?;
        Ok(self.path(Part::Image, &format!("targets/{folder}/{sha256}.{name}")))
    }
}

/// How long making a patch to a file of this size may take.
fn limit(bytes: u64) -> Duration {
    LIMIT + LIMIT_FOR_A_MEBIBYTE * u32::try_from(bytes / 1024 / 1024).unwrap_or(u32::MAX)
}

/// Makes a patch, if that does not take too long. What takes too long goes on until this process ends: nothing can stop it.
fn make_in_time(old: Vec<u8>, new: Arc<[u8]>, limit: Duration) -> Option<Result<Vec<u8>, PatchError>> {
    let (made, done) = mpsc::channel();
    // Nobody waits any more for what is late.
    thread::spawn(move || made.send(patch::make(&old, &new)));
    done.recv_timeout(limit).ok()
}

/// A file of the list: its version, its path, and what the list says of it.
type Listed<'l> = (Version, &'l str, &'l Value);

/// The files of an app for the same devices and of the same kind, the newest version first.
fn alike<'l>(list: &'l List, path: &str, identity: &Map<String, Value>) -> Vec<Listed<'l>> {
    let ending = |path: &str| Path::new(path).extension().map(ToOwned::to_owned);
    let alike = list.targets.iter().filter_map(|(other, target)| {
        let said = target.get("custom")?.get("steward")?.as_object()?;
        let is_same = |name: &str| said.get(name) == identity.get(name);
        let same =
            ["app", "system", "architecture"].into_iter().all(is_same) && ending(other) == ending(path);
        Some((version_of(said).filter(|_| same)?, other.as_str(), target))
    });
    let mut alike: Vec<_> = alike.collect();
    alike.sort_by(|one, other| other.0.cmp(&one.0));
    alike
}

/// Those of the last versions before one.
fn earlier<'l>(list: &'l List, path: &str, identity: &Map<String, Value>, most: u8) -> Vec<Listed<'l>> {
    let Some(version) = version_of(identity) else { return Vec::new() };
    let mut files = alike(list, path, identity);
    files.retain(|(old, ..)| *old < version);
    let mut versions: Vec<Version> = files.iter().map(|(version, ..)| version.clone()).collect();
    versions.dedup();
    versions.truncate(most.into());
    files.retain(|(version, ..)| versions.contains(version));
    files
}

fn version_of(identity: &Map<String, Value>) -> Option<Version> {
    identity.get("version")?.as_str()?.parse().ok()
}

/// Takes the patches to versions that are not among the last ones, nor the one at `path`, out of a list: each device reads all of it.
pub(crate) fn drop_old(list: &mut List, path: &str, identity: &Map<String, Value>) {
    let old = alike(list, path, identity).into_iter().skip(VERSIONS.into());
    let old: Vec<String> = old.filter(|(_, old, _)| *old != path).map(|(_, old, _)| old.to_owned()).collect();
    for path in old {
        let said =
            list.targets.get_mut(&path).and_then(|target| target.get_mut("custom")?.get_mut("steward"));
        let patches = said.and_then(|said| said.as_object_mut()?.remove("patches"));
        for patch in patches.iter().filter_map(Value::as_array).flatten() {
            if let Some(path) = patch.get("path").and_then(Value::as_str) {
                list.targets.remove(path);
            }
        }
    }
}

fn size(target: &Value) -> u64 {
    target.get("length").and_then(Value::as_u64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a megabyte of zeros keeps the search busy for minutes.
    #[test]
    fn patch_that_takes_too_long_is_given_up() {
        let (old, mut new) = (vec![0; 500_000], vec![0; 500_000]);
        new[250_000] = 1;
        assert!(make_in_time(old, new.into(), Duration::from_millis(1)).is_none());
        let made = make_in_time(b"old".to_vec(), Arc::from(&b"new"[..]), limit(0)).unwrap();
        assert!(made.is_ok());
    }
}
