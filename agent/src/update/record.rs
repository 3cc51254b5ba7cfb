//! What the agent remembers between checks of the feed: quarantined versions, and a switch that is not finished.
//!
//! In and out: a state file in the agent's private folder. Used by [`super::run`], [`super::recover`] and the
//! observation of the device.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use net::chain;
use platform::file::Access;
use platform::paths::Paths;
use platform::state::{StateError, StateFile};
use policy_schema::Extra;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::state::private_folder;

/// The record of updates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UpdateRecord {
    /// Versions that did not start on this device. They are not tried again.
    #[serde(rename = "held")]
    pub(super) quarantined: BTreeSet<Version>,
    /// A version that is current and has not started yet.
    pub(super) probation: Option<Probation>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub(super) extra: Extra,
}

/// A switch that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Probation {
    pub(super) version: Version,
    pub(super) previous: Option<Version>,
}

/// The record cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the record of updates cannot be written")]
pub(super) struct RecordError {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

impl UpdateRecord {
    /// Loads the record. If it is lost, a version that failed to start is tried once more, which does no harm.
    pub(super) fn load(paths: &Paths) -> Self {
        Self::take_up(paths).unwrap_or_else(|error| {
            tracing::warn!("{}", chain(&error));
            Self::default()
        })
    }

    /// Loads the record, or says why it is lost.
    pub(super) fn take_up(paths: &Paths) -> Result<Self, StateError> {
        Ok(file(paths).load()?.unwrap_or_default())
    }

    /// Reads the record without moving a damaged one aside.
    pub(super) fn read(paths: &Paths) -> Result<Self, StateError> {
        Ok(file(paths).peek()?.unwrap_or_default())
    }

    /// Makes the record durable.
    pub(super) fn save(&self, paths: &Paths) -> Result<(), RecordError> {
        let file = file(paths);
        file.save(self).map_err(|source| RecordError { path: file.path().to_owned(), source })
    }
}

fn file(paths: &Paths) -> StateFile<UpdateRecord> {
    StateFile::new(private_folder(paths).join("update.json"), Access::Private)
}
