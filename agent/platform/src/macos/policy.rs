//! The machine's policy: managed preferences, which only the MDM writes.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use policy_schema::raw::{RawPolicy, ReadError, ReadErrorKind};
use policy_schema::read::{MAXIMUM_BYTES, property_list};

use super::ffi;
use crate::directory::Reading;
use crate::no_drop_ins::only;
pub use crate::no_drop_ins::{is_policy_folder, place_exists, read_folder};
use crate::paths::Paths;
use crate::watch::{FolderWatch, Hint};

/// What the source is called on this operating system, for messages.
pub const WHERE: &str = "a profile for the preference domain dev.steward.agent";

/// Whether the values of a source come and go one by one: here a profile is replaced as a whole.
pub const VALUES_COME_ONE_BY_ONE: bool = false;

/// The preference domain of the agent.
const DOMAIN: &str = "dev.steward.agent";

/// The policy in a key of the Windows registry that an administrator names; `None` if it is no name of a key.
#[must_use]
pub fn read_named_key(name: &str) -> Option<Result<RawPolicy, ReadError>> {
    crate::directory::key_below_machine(name)?;
    let message = "this device has no registry; export the key to a .reg file on Windows, and check that";
    Some(Err(ReadError::new(ReadErrorKind::Unreadable, message.to_owned())))
}

/// Reads every source.
#[must_use]
pub fn read(paths: &Paths) -> Reading {
    let name = paths.managed_preferences(DOMAIN).display().to_string();
    // A profile without settings of ours says as little as none.
    let contents =
        managed(paths, DOMAIN).filter(|contents| !contents.as_ref().is_ok_and(RawPolicy::is_empty));
    only(name, contents)
}

/// The forced values of a preference domain; `None` if the MDM manages none of them.
pub(super) fn managed(paths: &Paths, domain: &str) -> Option<Result<RawPolicy, ReadError>> {
    let path = paths.managed_preferences(domain);
    let error = |kind, message: String| Some(Err(ReadError::new(kind, message)));
    let metadata = match fs_err::metadata(&path) {
        Ok(metadata) => metadata,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return None,
        Err(other) => return error(ReadErrorKind::Unreadable, other.to_string()),
    };
    if paths.root().is_none() && (metadata.uid() != 0 || metadata.mode() & 0o022 != 0) {
        return error(ReadErrorKind::Insecure, "other users than root can write to it".to_owned());
    }
    if metadata.len() > MAXIMUM_BYTES {
        return error(ReadErrorKind::TooLarge, format!("has {} bytes", metadata.len()));
    }
    let bytes = match fs_err::read(&path) {
        Ok(bytes) => bytes,
        Err(failure) => return error(ReadErrorKind::Unreadable, failure.to_string()),
    };
    let (policy, keys) = match (property_list::read(&bytes), property_list::keys(&bytes)) {
        (Ok(policy), Ok(keys)) => (policy, keys),
        (Err(failure), _) | (_, Err(failure)) => return Some(Err(failure)),
    };
    // A value that the system does not call forced did not come from the MDM, whatever the file says. The system knows
    // nothing of a layout below another root, which only tests have.
    if paths.root().is_none() {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        if let Some(key) = ffi::not_forced(domain, &keys) {
            let message = format!("has `{key}`, but not as a forced preference");
            let hint = "deploy it as a profile; `profiles show` lists what is installed";
            return Some(Err(ReadError::new(ReadErrorKind::Insecure, message).hint(hint)));
        }
    }
    Some(Ok(policy))
}

/// A watch over the folder of managed preferences. Every event is only a hint.
pub struct Watch(FolderWatch);

impl Watch {
    /// What to do where it fails.
    pub const HINT: &str = "restart the agent";

    /// Makes a watch that calls `nudge` from a thread of its own. Nothing is watched before [`Watch::arm`].
    #[must_use]
    pub fn new(paths: &Paths, nudge: impl Fn(Hint) + Send + 'static) -> Self {
        let file = paths.managed_preferences(DOMAIN);
        let interpret = move |event: &notify::Event| {
            let ours = event.paths.iter().any(|path| path.file_name() == file.file_name());
            ours.then(|| if file.exists() { Hint::Rearranged } else { Hint::Unsettled })
        };
        Self(FolderWatch::new(interpret, nudge))
    }

    /// Watches what exists now. Call it before each read.
    pub fn arm(&mut self, paths: &Paths) {
        self.0.arm(|| {
            let folder = paths.managed_preferences(DOMAIN);
            let nearest = folder.ancestors().skip(1).find(|path| path.is_dir()).map(PathBuf::from);
            nearest.into_iter().collect()
        });
    }

    /// Why changes are not noticed at once.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.0.failure()
    }
}
