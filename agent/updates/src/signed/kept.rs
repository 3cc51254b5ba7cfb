//! What is kept of a repository between checks, and what it must not lose: versions that were seen, and the time.
//!
//! sigstore-tuf goes on when a file cannot be kept, and forgets a snapshot that its timestamp does not name any more. Here both are
//! errors of the check.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_tuf::metadata::Metadata;
use sigstore_tuf::{Error, MetadataStore, Root, Snapshot};

/// The member of `timestamp.json` that says when it was signed (RFC 3339). A repository without it works as well.
pub const SIGNED_AT: &str = "x-steward-signed-at";
/// Where the latest signed time is kept. No role of TUF has a name with a slash there.
const TIME: &str = "trusted/time.json";
/// The roles whose latest file is kept.
const ROLES: [&str; 4] = ["root.json", "timestamp.json", "snapshot.json", "targets.json"];

/// A store whose failures are remembered, and that writes what has changed.
#[derive(Clone)]
pub(super) struct Kept {
    inner: Arc<dyn MetadataStore>,
    failure: Arc<Mutex<Option<Failure>>>,
}

/// Why a check must not be used.
#[derive(Debug)]
pub(super) enum Failure {
    /// A file cannot be read or written.
    Store(String),
    /// What is new is older than what was seen.
    Rollback(Error),
}

/// The latest time that was signed, and by which keys: those of another root say nothing about it.
#[derive(Deserialize, Serialize)]
struct SignedTime {
    at: Timestamp,
    keys: Vec<String>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Kept").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl Kept {
    pub(super) fn new(inner: impl MetadataStore + 'static) -> Self {
        Self { inner: Arc::new(inner), failure: Arc::default() }
    }

    fn remember(&self, failure: impl FnOnce() -> Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(failure);
    }

    /// What went wrong since this was asked last.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The latest time that was signed with the keys that a root names.
    pub(super) fn signed_at(&self, root: &Root) -> Option<Timestamp> {
        let kept: SignedTime = serde_json::from_slice(&self.load(TIME).ok()??).ok()?;
        (kept.keys == keys(root)).then_some(kept.at)
    }

    /// Notes the time of a timestamp that was verified. Not after its own end.
    pub(super) fn note(&self, timestamp: &sigstore_tuf::Timestamp, root: &Root) {
        let at = timestamp.extra.get(SIGNED_AT).and_then(|at| at.as_str()?.parse::<Timestamp>().ok());
        let Some(at) = at.map(|at| at.min(timestamp.expires)) else { return };
        if self.signed_at(root).is_some_and(|known| known >= at) {
            return;
        }
        // It has no part that cannot be written.
        let bytes = serde_json::to_vec(&SignedTime { at, keys: keys(root) }).unwrap_or_default();
        // Its failure is remembered.
        let _ = self.store(TIME, &bytes);
    }

    /// Whether a snapshot takes back what the one that is kept names, if the keys of now have signed both (TUF 5.5.5).
    fn rollback(&self, new: &[u8]) -> Option<Error> {
        let root = Metadata::<Root>::from_slice(&self.inner.load("root.json").ok()??).ok()?;
        let kept = Metadata::<Snapshot>::from_slice(&self.inner.load("snapshot.json").ok()??).ok()?;
        let role = root.signed().role("snapshot")?;
        kept.verify_threshold(&root.signed().keys, role, "snapshot").ok()?;
        let new = Metadata::<Snapshot>::from_slice(new).ok()?;
        kept.signed().meta.iter().find_map(|(name, before)| {
            let now = new.signed().meta.get(name).map_or(0, |now| now.version);
            (now < before.version).then(|| Error::Rollback {
                role: format!("{name} (of the snapshot that was seen)"),
                trusted: before.version,
                new: now,
            })
        })
    }
}

fn keys(root: &Root) -> Vec<String> {
    let mut keys = root.role("timestamp").map(|role| role.keyids.clone()).unwrap_or_default();
    keys.sort();
    keys
}

impl MetadataStore for Kept {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let loaded = self.inner.load(name);
        loaded.inspect_err(|error| self.remember(|| Failure::Store(text(name, error))))
    }

    /// Files of delegated roles are fetched when they are needed, and not kept: others choose their names.
    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        let is_own =
            ROLES.contains(&name) || name.starts_with("root_history/") || name.starts_with("trusted/");
        if !is_own || self.load(name)?.as_deref() == Some(bytes) {
            return Ok(());
        }
        if name == "snapshot.json"
            && let Some(rollback) = self.rollback(bytes)
        {
            self.remember(|| Failure::Rollback(rollback));
            return Err(Error::Malformed("an older state".to_owned()));
        }
        let stored = self.inner.store(name, bytes);
        stored.inspect_err(|error| self.remember(|| Failure::Store(text(name, error))))
    }
}

/// An error with its source, about a file.
pub(super) fn text(name: &str, error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{name}: {error}{}", source.unwrap_or_default())
}
