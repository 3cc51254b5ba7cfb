//! Repositories that are signed as The Update Framework says (TUF, specification 1.0.34).
//!
//! In: where metadata comes from ([`Repository`]) and is kept ([`MetadataStore`]), the root that policy trusts, and the time. Out: what a
//! repository names, verified ([`Client`]), and what two of them name together ([`compose`]). The verification itself is
//! sigstore-tuf's; here is what it leaves to its users: cryptography ([`crypto`]), a store that must not fail, a time that is not set
//! back, and devices that were away for years.

use jiff::Timestamp;
use policy_schema::roots::TrustedRoot;
use ring::digest;
use sigstore_tuf::{Updater, UpdaterConfig};
use std::collections::BTreeMap;

pub use sigstore_tuf::transport::FetchFuture;
pub use sigstore_tuf::{Error, MemoryStore, MetadataStore, Repository, TargetFile};

use kept::{Failure, Kept, text};

pub use kept::SIGNED_AT;

pub mod compose;
mod crypto;
mod kept;
pub mod publish;

/// The member of the director's `timestamp.json` with the SHA-256 of the image repository's. A repository without it works as well.
const IMAGE: &str = "x-steward-image";
/// Where the root is kept that policy trusts. No role of TUF has a name with a slash there.
const TRUSTED: &str = "trusted/root.json";
/// A root has at most this many bytes.
const MAXIMUM_ROOT: u64 = 512_000;
/// A device that was away for years follows so many rotations of root keys at once.
const MAXIMUM_ROTATIONS: u32 = 1024;
/// Why a repository cannot be used for new versions. What runs goes on running.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// It cannot be reached.
    #[error("the {0} repository cannot be read")]
    Unreachable(&'static str, #[source] Error),
    /// What it says is not signed as it has to be, or not by whom.
    #[error("the {0} repository is not accepted")]
    Refused(&'static str, #[source] Error),
    /// It was not signed again in time, or somebody holds back what is newer.
    #[error(
        "the {repository} repository has expired: its {role} was valid until {expires}, and it is {now}{}",
        if *by_clock { "" } else { ", as a timestamp says that was signed before" }
    )]
    Expired {
        /// Which one.
        repository: &'static str,
        /// The role, as TUF names it.
        role: String,
        /// Until when it was valid.
        expires: Timestamp,
        /// The time.
        now: Timestamp,
        /// The clock of the device says so, not something that was signed before.
        by_clock: bool,
    },
    /// What was learned could not be kept, or not be read: an older state could be played again.
    #[error("what the {0} repository said cannot be kept on this device: {1}")]
    Store(&'static str, String),
}

/// Whether a file is the root that policy names.
#[must_use]
pub fn is_root(bytes: &[u8], root: &TrustedRoot) -> bool {
    digest::digest(&digest::SHA256, bytes).as_ref() == root.sha256
}

/// Whether there is no news, by the timestamps of director and image that were verified before, and the one that the director sends now. The
/// director's says which one the image repository has, if whoever published both said so.
#[must_use]
pub fn is_unchanged(sent: &[u8], director: &[u8], image: &[u8]) -> bool {
    let said: Option<serde_json::Value> = serde_json::from_slice(director).ok();
    let named = said.as_ref().and_then(|said| said.get("signed")?.get(IMAGE)?.as_str());
    sent == director && named == Some(&*sha256(image))
}

fn sha256(bytes: &[u8]) -> String {
    publish::hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// A repository, as far as it was verified.
#[derive(Debug)]
pub struct Client {
    name: &'static str,
    updater: Updater,
    store: Kept,
}

impl Client {
    /// Opens a repository by the hash of a root that policy trusts. `name`: for messages. The root itself comes from the repository, the
    /// first time.
    ///
    /// # Errors
    /// There is no such root.
    pub async fn open(
        name: &'static str,
        repository: impl Repository + 'static,
        store: impl MetadataStore + 'static,
        root: &TrustedRoot,
    ) -> Result<Self, SignedError> {
        let failed = |error: Error| SignedError::Store(name, text(TRUSTED, &error));
        if let Some(kept) = store.load(TRUSTED).map_err(failed)?.filter(|bytes| is_root(bytes, root)) {
            return Self::new(name, repository, store, &kept);
        }
        let file = format!("{}.root.json", root.version);
        let unreachable = |error| SignedError::Unreachable(name, error);
        let fetched = repository.fetch_metadata(&file, MAXIMUM_ROOT).await.map_err(unreachable)?;
        let bytes = fetched.ok_or_else(|| unreachable(Error::transport(format!("it has no {file}"))))?;
        if !is_root(&bytes, root) {
            let other = format!("its {file} is not the one that `UpdateTrustedRoots` names");
            return Err(SignedError::Refused(name, Error::Malformed(other)));
        }
        store.store(TRUSTED, &bytes).map_err(failed)?;
        Self::new(name, repository, store, &bytes)
    }

    /// Opens a repository. `root`: the root that is trusted, which must be one version of the repository's own; what is kept is verified
    /// from there.
    ///
    /// # Errors
    /// The root is none.
    pub fn new(
        name: &'static str,
        repository: impl Repository + 'static,
        store: impl MetadataStore + 'static,
        root: &[u8],
    ) -> Result<Self, SignedError> {
        crypto::install();
        let store = Kept::new(store);
        let updater = Updater::new(repository, root).map_err(|error| SignedError::Refused(name, error))?;
        let mut configuration = UpdaterConfig::default();
        configuration.max_root_rotations = MAXIMUM_ROTATIONS;
        let updater = updater.with_config(configuration).with_store(store.clone());
        Ok(Self { name, updater, store })
    }

    /// Asks for news, and verifies them. `clock`: the time of the device, or a later one that another repository knows. Gives the time
    /// that holds now: no earlier than what was ever signed, so that a clock that was set back brings nothing old back.
    ///
    /// # Errors
    /// Nothing new may be installed.
    pub async fn refresh(&mut self, clock: Timestamp) -> Result<Timestamp, SignedError> {
        loop {
            let root = self.updater.trusted().root().version;
            let now = clock.max(self.store.signed_at(self.updater.trusted().root()).unwrap_or(clock));
            let refreshed = self.updater.refresh(now).await;
            self.check_store()?;
            match refreshed {
                Ok(()) => {
                    let trusted = self.updater.trusted();
                    if let Some(timestamp) = trusted.timestamp() {
                        self.store.note(timestamp, trusted.root());
                    }
                    let known = self.store.signed_at(trusted.root());
                    self.check_store()?;
                    return Ok(now.max(known.unwrap_or(now)));
                }
                // The keys that said when something was signed are not trusted any more.
                Err(Error::Expired { .. }) if self.updater.trusted().root().version > root => {}
                Err(error) => return Err(self.error(error, now, clock)),
            }
        }
    }

    /// What the repository says of a target, in its own list or in one that it delegates to.
    ///
    /// # Errors
    /// A list cannot be read or verified.
    pub async fn target(&mut self, path: &str, now: Timestamp) -> Result<Option<TargetFile>, SignedError> {
        let found = self.updater.get_target_info(path, now).await;
        self.check_store()?;
        found.map_err(|error| self.error(error, now, now))
    }

    /// What it names itself, by path.
    #[must_use]
    pub fn targets(&self) -> BTreeMap<String, TargetFile> {
        let targets = self.updater.trusted().targets_role("targets");
        targets.map(|targets| targets.targets.clone()).unwrap_or_default()
    }

    /// A member of its own list that TUF does not know.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&serde_json::Value> {
        self.updater.trusted().targets_role("targets")?.extra.get(name)
    }

    /// Whether names of targets begin with their hash.
    #[must_use]
    pub fn has_consistent_snapshots(&self) -> bool {
        self.updater.trusted().root().consistent_snapshot
    }

    fn check_store(&self) -> Result<(), SignedError> {
        match self.store.failure() {
            None => Ok(()),
            Some(Failure::Store(failure)) => Err(SignedError::Store(self.name, failure)),
            Some(Failure::Rollback(error)) => Err(SignedError::Refused(self.name, error)),
        }
    }

    fn error(&self, error: Error, now: Timestamp, clock: Timestamp) -> SignedError {
        let repository = self.name;
        if let Error::Expired { role, expires } = error {
            return SignedError::Expired { repository, role, expires, now, by_clock: now == clock };
        }
        if matches!(error, Error::Transport { .. } | Error::Io { .. }) {
            return SignedError::Unreachable(repository, error);
        }
        SignedError::Refused(repository, error)
    }
}
