//! Where sessions are kept between starts: one encrypted file for each account (AES-256-GCM) whose key lies in the
//! operating system's secret store.
//!
//! A file is bound to the user and the installation of the system by associated data. A store that is missing or
//! locked is a state that is explained, never a sign-out: the file stays as it is. Without a store, policy decides:
//! memory only, or a key beside the file.
//!
//! Before anything happens that must not be lost, [`Vault::prepare`] makes sure of the key and of room on disk
//! ([`Reserve`]); what comes of it then needs neither the store nor more room. Room that is found at a start tells that
//! a renewal was cut off. Every sign-in gets a new key; the one before is removed once nothing needs it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use platform::paths::Paths;
use platform::reserve::{self, Reserve};
use platform::secret::Secret;
use platform::vault as store;
use platform::{file, posture, state};
use policy_schema::settings::VaultFallback;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::session::Session;
pub(crate) use error::{Degraded, VaultError};
use net::chain;
use protocol::session::Kept;
use sealed::{Header, Held, KEY_BYTES, KeyPlace, Slot, header, open, seal};

mod error;
mod sealed;

/// How long the secret store may take; a prompt that the user ignores takes for ever.
const STORE_LIMIT: Duration = Duration::from_secs(5);
/// How long a store that did not respond gets no request.
const STORE_PAUSE: Duration = Duration::from_mins(1);
/// The name of the service under which keys lie in the secret store.
pub const SERVICE: &str = "dev.steward.broker";
/// What a session may grow by, in bytes: other tokens are longer or shorter.
const GROWTH: usize = 16 * 1024;

/// The vault of one user.
pub(super) struct Vault {
    folder: PathBuf,
    quiet_until: Option<Instant>,
    /// The keys of the files that were opened or written, by account.
    keys: HashMap<String, Held>,
}

/// A session from the vault.
pub(super) struct Loaded {
    pub(super) session: Session,
    pub(super) kept: Kept,
    /// Whether a renewal was cut off: its new refresh token is unknown, and the old one may hold for seconds only.
    pub(super) interrupted: bool,
}

/// What saving a session needs, made sure of before it is known.
pub(super) struct Prepared {
    held: Held,
    before: Option<Held>,
    reserve: Reserve,
    /// What the sealed file is bound to besides its key.
    context: Vec<u8>,
    degraded: Option<Degraded>,
}

impl Vault {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { folder: paths.session_folder(), quiet_until: None, keys: HashMap::new() }
    }

    /// The saved sessions besides those that are known, and what is wrong with those that cannot be opened. They stay,
    /// unless they are damaged: then they are put aside.
    pub(super) async fn load(&mut self, known: &[String]) -> (Vec<Loaded>, Vec<(String, VaultError)>) {
        let (mut sessions, mut errors) = (Vec::new(), Vec::new());
        for account in self.accounts().into_iter().filter(|account| !known.contains(account)) {
            match self.load_one(&account).await {
                Ok(loaded) => sessions.extend(loaded),
                Err(error) => errors.push((account, error)),
            }
        }
        (sessions, errors)
    }

    /// Whether a session of an account is on disk.
    pub(super) fn has(&self, account: &str) -> bool {
        self.path(account).exists()
    }

    /// Whether a renewal was interrupted, as far as can be known without a key.
    pub(super) fn was_interrupted(&self) -> bool {
        self.accounts().iter().any(|account| reserve::place(&self.path(account)).exists())
    }

    async fn load_one(&mut self, account: &str) -> Result<Option<Loaded>, VaultError> {
        let path = self.path(account);
        let next = reserve::place(&path);
        let interrupted = next.exists();
        // A renewal that was cut off after it was written, before it took its place.
        if interrupted && let Some(loaded) = self.open_file(account, &next).await? {
            let moved = file::rename(&next, &path).and_then(|()| file::sync_folder(&path));
            moved.map_err(|error| VaultError::unavailable(error.to_string()))?;
            return Ok(Some(loaded));
        }
        if !path.exists() {
            // A sign-in that was cut off: there is nothing to keep.
            file::remove(&next).map_err(|error| VaultError::unavailable(error.to_string()))?;
            return Ok(None);
        }
        match self.open_file(account, &path).await? {
            Some(loaded) => Ok(Some(Loaded { interrupted, ..loaded })),
            // Without the identity of the device nothing can be opened; that is no damage.
            None if matches!(posture::machine_id(), Ok(None)) => Err(VaultError::unavailable(
                "this device has no machine ID, so the saved session cannot be opened",
            )),
            None => Err(self.quarantine(account)),
        }
    }

    /// Opens a file; `None` if it is damaged.
    async fn open_file(&mut self, account: &str, path: &Path) -> Result<Option<Loaded>, VaultError> {
        let sealed = fs_err::read(path).map_err(|error| VaultError::unavailable(error.to_string()))?;
        let (place, slot) = match header(&sealed) {
            Header::Key(place, slot) => (place, slot),
            Header::Newer(version) => return Err(VaultError::Newer(version)),
            Header::Damaged => return Ok(None),
        };
        let context = self.context(account)?;
        let key = match place {
            KeyPlace::SecretStore => self.stored_key(account, slot).await?,
            KeyPlace::File => self.key_file(account, slot)?,
        };
        // A store that has no key now may have it once it is unlocked: nothing is thrown away.
        let key = key.ok_or_else(|| {
            let reason = "the secret store has no key for the saved session".to_owned();
            let hint = format!("{}; if it was created again, `steward login` signs in again", store::UNLOCK);
            VaultError::Unavailable { reason, using: None, hint }
        })?;
        let Some(session) = open(&sealed, &key, &context) else { return Ok(None) };
        self.keys.insert(account.to_owned(), Held { place, slot, key });
        Ok(Some(Loaded { session, kept: place.kept(), interrupted: false }))
    }

    /// Makes sure that a session of an account can be saved whatever happens to the store and the disk meanwhile. A
    /// new sign-in gets a new key.
    ///
    /// # Errors
    /// It could not be saved: why, and what happens instead.
    pub(super) async fn prepare(
        &mut self,
        account: &str,
        size: usize,
        new_key: bool,
        fallback: VaultFallback,
    ) -> Result<Prepared, VaultError> {
        // Asked for now: what cannot be sealed must not use up a refresh token.
        let context = self.context(account)?;
        let before = self.keys.get(account).cloned();
        let usable = before.clone().filter(|held| {
            !new_key && (held.place == KeyPlace::SecretStore || fallback == VaultFallback::EncryptedFile)
        });
        let taken = file::create_folder(&self.folder, file::Access::Private)
            .and_then(|()| Reserve::take(&self.path(account), size + GROWTH));
        let reserve = taken.map_err(|error| VaultError::no_room(&error))?;
        let (held, degraded) = match usable {
            Some(held) => (held, None),
            None => match self.new_key(account, fallback).await {
                Ok(found) => found,
                Err(error) => {
                    reserve.give_back().unwrap_or_else(|error| tracing::warn!("{error}"));
                    return Err(error);
                }
            },
        };
        Ok(Prepared { held, before, reserve, context, degraded })
    }

    /// Saves a session in the room that was taken, and forgets the key before. What is wrong with how it is kept, if
    /// anything.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) async fn commit(
        &mut self,
        prepared: Prepared,
        session: &Session,
    ) -> io::Result<(Kept, Option<Degraded>)> {
        let account = session.id();
        prepared.reserve.fill(&seal(session, &prepared.held, &prepared.context))?;
        let kept = prepared.held.place.kept();
        self.keys.insert(account.clone(), prepared.held.clone());
        if let Some(before) = prepared.before.filter(|before| *before != prepared.held) {
            self.remove_key(&account, before.place, before.slot).await;
        }
        Ok((kept, prepared.degraded))
    }

    /// Forgets an account: its files and its keys.
    ///
    /// # Errors
    /// The system refused. Gives whether its keys were removed as well: without its file, one that was not opens nothing.
    pub(super) async fn forget(&mut self, account: &str) -> io::Result<bool> {
        let path = self.path(account);
        let place = self.place_of_key(account).map(|(place, _)| place);
        file::remove(&path)?;
        file::remove(&reserve::place(&path))?;
        file::remove(&path.with_extension("damaged"))?;
        let held = self.keys.remove(account).map(|held| held.place);
        let mut without_key = true;
        for slot in [Slot::A, Slot::B] {
            file::remove(&self.key_path(account, slot))?;
            if place.or(held) == Some(KeyPlace::SecretStore) {
                without_key &= self.remove_key(account, KeyPlace::SecretStore, slot).await;
            }
        }
        Ok(without_key)
    }

    /// Where the key of the saved session lies, as its file says.
    fn place_of_key(&self, account: &str) -> Option<(KeyPlace, Slot)> {
        match header(&fs_err::read(self.path(account)).ok()?) {
            Header::Key(place, slot) => Some((place, slot)),
            Header::Newer(_) | Header::Damaged => None,
        }
    }

    /// What lies in the vault now for an account that another process may have renewed.
    pub(super) async fn read_again(&mut self, account: &str) -> Option<Session> {
        let path = self.path(account);
        if !path.exists() {
            return None;
        }
        Some(self.open_file(account, &path).await.ok()??.session)
    }

    async fn new_key(
        &mut self,
        account: &str,
        fallback: VaultFallback,
    ) -> Result<(Held, Option<Degraded>), VaultError> {
        // What is saved must stay readable until it is replaced, also if nobody could open it so far.
        let slot = match self.place_of_key(account).map(|(_, slot)| slot) {
            Some(Slot::A) => Slot::B,
            Some(Slot::B) | None => Slot::A,
        };
        let key = Secret::new(Zeroizing::new(platform::random::bytes::<KEY_BYTES>()).as_slice());
        let name = self.entry(account, slot);
        let stored = key.clone();
        let error = match self.ask_store(move || store::set(SERVICE, &name, stored.bytes())).await {
            Ok(()) => return Ok((Held { place: KeyPlace::SecretStore, slot, key }, None)),
            Err(error) => error,
        };
        if fallback == VaultFallback::Refuse {
            return Err(VaultError::Unavailable {
                reason: error.to_string(),
                using: Some("memory: after a restart the user signs in again"),
                hint: format!("{}, or set `VaultFallback` to `encrypted-file`", store::UNLOCK),
            });
        }
        file::create_folder(&self.folder, file::Access::Private)
            .and_then(|()| file::replace(&self.key_path(account, slot), key.bytes(), file::Access::Private))
            .map_err(|error| VaultError::unavailable(error.to_string()))?;
        Ok((Held { place: KeyPlace::File, slot, key }, Some(Degraded(error.to_string()))))
    }

    /// Whether it was removed.
    async fn remove_key(&mut self, account: &str, place: KeyPlace, slot: Slot) -> bool {
        let name = self.entry(account, slot);
        let removed = match place {
            KeyPlace::SecretStore => {
                self.ask_store(move || store::remove(SERVICE, &name)).await.map_err(|error| error.to_string())
            }
            KeyPlace::File => file::remove(&self.key_path(account, slot)).map_err(|error| error.to_string()),
        };
        // It opens nothing any more, and is written over by the next but one.
        match removed {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("a key that is no longer needed could not be deleted: {error}");
                false
            }
        }
    }

    async fn stored_key(&mut self, account: &str, slot: Slot) -> Result<Option<Secret>, VaultError> {
        let name = self.entry(account, slot);
        match self.ask_store(move || store::get(SERVICE, &name)).await? {
            None => Ok(None),
            Some(bytes) => key_of(bytes)
                .map(Some)
                .ok_or_else(|| VaultError::unavailable("the entry in the secret store is not a key")),
        }
    }

    /// Asks the secret store on a thread of its own, within a limit; a store that hangs is then left alone for a while.
    async fn ask_store<T: Send + 'static>(
        &mut self,
        request: impl FnOnce() -> Result<T, store::VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return Err(VaultError::unavailable(format!("the {} does not respond", store::NAME)));
        }
        let asked = tokio::task::spawn_blocking(request);
        match tokio::time::timeout(STORE_LIMIT, asked).await {
            Ok(Ok(Ok(answer))) => {
                self.quiet_until = None;
                Ok(answer)
            }
            Ok(Ok(Err(error))) => Err(VaultError::unavailable(chain(&error))),
            Ok(Err(_)) => Err(VaultError::unavailable(format!("asking the {} failed", store::NAME))),
            Err(_) => {
                self.quiet_until = Some(Instant::now() + STORE_PAUSE);
                Err(VaultError::unavailable(format!(
                    "the {} did not answer within {} seconds; is it waiting to be unlocked?",
                    store::NAME,
                    STORE_LIMIT.as_secs()
                )))
            }
        }
    }

    fn key_file(&self, account: &str, slot: Slot) -> Result<Option<Secret>, VaultError> {
        match fs_err::read(self.key_path(account, slot)) {
            Ok(bytes) => Ok(key_of(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VaultError::unavailable(error.to_string())),
        }
    }

    fn quarantine(&self, account: &str) -> VaultError {
        let path = self.path(account);
        let removed = file::remove(&reserve::place(&path));
        let using = match (state::move_aside(&path, "damaged"), removed) {
            (Some(aside), Ok(())) => format!("no session; the file was kept as {}", aside.display()),
            (Some(_), Err(error)) => format!("no session: {error}"),
            (None, _) => format!("no session: {} could not be moved", path.display()),
        };
        VaultError::Corrupt { using }
    }

    /// The accounts that have a file, by name.
    pub(super) fn accounts(&self) -> Vec<String> {
        let Ok(entries) = fs_err::read_dir(&self.folder) else { return Vec::new() };
        let mut accounts: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| {
                let (account, kind) = name.rsplit_once('.')?;
                matches!(kind, "sealed" | "next").then(|| account.to_owned())
            })
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }

    /// What a sealed session is bound to besides its key: account, user and device.
    fn context(&self, account: &str) -> Result<Vec<u8>, VaultError> {
        let machine = posture::machine_id()
            .map_err(|error| VaultError::unavailable(format!("this device has no machine ID: {error}")))?;
        let (folder, machine) = (self.folder.display(), machine.unwrap_or_default());
        Ok(format!("steward session|{account}|{folder}|{machine}").into_bytes())
    }

    /// The name of a key within the secret store.
    fn entry(&self, account: &str, slot: Slot) -> String {
        format!("session key {account} {slot:?} for {}", self.folder.display())
    }

    fn path(&self, account: &str) -> PathBuf {
        self.folder.join(format!("{account}.sealed"))
    }

    fn key_path(&self, account: &str, slot: Slot) -> PathBuf {
        self.folder.join(format!("{account}-{slot:?}.key").to_lowercase())
    }
}

impl Prepared {
    /// Gives the room back, if nothing came of it.
    pub(super) fn abandon(self) {
        self.reserve.give_back().unwrap_or_else(|error| tracing::warn!("{error}"));
    }
}

/// A key, if the bytes are as many as a key has. They are overwritten.
fn key_of(bytes: Vec<u8>) -> Option<Secret> {
    let bytes = Zeroizing::new(bytes);
    (bytes.len() == KEY_BYTES).then(|| Secret::new(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a rollback the older version must not take the newer one's file for damage.
    #[tokio::test]
    async fn vault_with_a_file_of_newer_version_loads_nothing_and_moves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        let mut vault = Vault::new(&paths);
        fs_err::create_dir_all(paths.session_folder()).unwrap();
        let path = vault.path("0123456789abcdef");
        fs_err::write(&path, [2, 1, 1, 0, 0]).unwrap();
        let (sessions, errors) = vault.load(&[]).await;
        assert!(sessions.is_empty() && matches!(errors[0].1, VaultError::Newer(2)));
        assert_eq!(fs_err::read(&path).unwrap(), [2, 1, 1, 0, 0]);
    }
}
