//! The machine's policy: a key of the registry that only administrators can write.

use std::io;

use policy_schema::raw::{RawPolicy, ReadError, ReadErrorKind};
use policy_schema::read::registry::{Tree, read as read_tree};
use windows_registry::{Key, LOCAL_MACHINE};

use super::group_policy;
use super::registry::{self, KeyWatch, is_absent};
use crate::directory::Reading;
use crate::directory::key_below_machine;
use crate::no_drop_ins::only;
pub use crate::no_drop_ins::{is_policy_folder, place_exists, read_folder};
use crate::paths::Paths;
use crate::watch::Hint;

/// What the source is called on this operating system, for messages.
pub const WHERE: &str = r"HKLM\SOFTWARE\Policies\Steward, by Group Policy or Intune";

/// Whether the values of a source come and go one by one. A refresh of Group Policy can take all of them away for some seconds.
pub const VALUES_COME_ONE_BY_ONE: bool = true;

/// The policy key.
const KEY: &str = r"SOFTWARE\Policies\Steward";
/// Groups of values: `Recommended`, a list inside it, and what is nested too deep, to tell of it.
const MAXIMUM_DEPTH: usize = 3;

/// Reads every source, while Group Policy does not write if that can be had: where it writes for long, or does not let this
/// process in, values that it has just removed may be missing.
#[must_use]
pub fn read(paths: &Paths) -> Reading {
    let reading = paths.clone();
    group_policy::paused(move || read_now(&reading)).unwrap_or_else(|| read_now(paths))
}

fn read_now(paths: &Paths) -> Reading {
    let key = paths.key(KEY);
    let name = format!(r"HKLM\{key}");
    let contents = match read_key(LOCAL_MACHINE, &key) {
        Ok(policy) => policy.map(Ok),
        Err(error) => {
            Some(Err(ReadError::new(ReadErrorKind::Unreadable, format!("cannot be read: {error}"))))
        }
    };
    only(name, contents)
}

/// The policy in a key that an administrator names, as `HKLM\SOFTWARE\Policies\Steward`; `None` if it is no name of a key.
#[must_use]
pub fn read_named_key(name: &str) -> Option<Result<RawPolicy, ReadError>> {
    let key = key_below_machine(name)?;
    let unreadable = |text: String| ReadError::new(ReadErrorKind::Unreadable, text);
    Some(match read_key(LOCAL_MACHINE, key) {
        Ok(Some(policy)) => Ok(policy),
        Ok(None) => Err(unreadable("there is no such key, or it has no values".to_owned())),
        Err(error) => Err(unreadable(format!("cannot be read: {error}"))),
    })
}

/// The policy in a key; `None` if there is no key, or no value in it or below.
pub(super) fn read_key(part: &Key, key: &str) -> io::Result<Option<RawPolicy>> {
    let tree = match part.open(key) {
        Ok(key) => tree(&key, MAXIMUM_DEPTH)?,
        Err(error) if is_absent(error.code().0) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let policy = read_tree(&tree);
    Ok(Some(policy).filter(|policy| !policy.is_empty()))
}

fn tree(key: &Key, depth: usize) -> io::Result<Tree> {
    let values = registry::values(key)?;
    let mut subkeys = Vec::new();
    if depth > 0 {
        for name in registry::subkeys(key)? {
            match key.open(&name) {
                Ok(subkey) => subkeys.push((name, tree(&subkey, depth - 1)?)),
                // It was just deleted.
                Err(error) if is_absent(error.code().0) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Tree { values, subkeys })
}

/// A watch over the policy key, and over the nearest key above it that exists.
pub struct Watch {
    watch: Result<KeyWatch, String>,
}

impl Watch {
    /// What to do where it fails.
    pub const HINT: &str = "restart the agent";

    /// Makes a watch that calls `nudge` from a thread of its own. Nothing is watched before [`Watch::arm`]. Values come
    /// one by one, so after any of them there may be more.
    #[must_use]
    pub fn new(_: &Paths, nudge: impl Fn(Hint) + Send + 'static) -> Self {
        Self { watch: KeyWatch::new(move || nudge(Hint::Unsettled)).map_err(|error| error.to_string()) }
    }

    /// Watches what exists now. Call it before each read: a notification comes only once.
    pub fn arm(&mut self, paths: &Paths) {
        let Ok(watch) = &mut self.watch else { return };
        let key = paths.key(KEY);
        watch.arm(|| registry::open(key.clone()), || registry::open_above(&key));
    }

    /// Why changes are not noticed at once.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match &self.watch {
            Ok(watch) => watch.failure(),
            Err(error) => Some(error),
        }
    }
}
