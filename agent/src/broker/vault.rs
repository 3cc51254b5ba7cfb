//! Where sessions are kept between starts: one encrypted file for each account (AES-256-GCM) whose key lies in the
//! operating system's secret store.
//!
//! A file is bound to the person and the installation of the system by associated data. A store that is missing or
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

use agent_platform::paths::Paths;
use agent_platform::reserve::{self, Reserve};
use agent_platform::vault as store;
use agent_platform::{file, posture};
use policy_schema::settings::VaultFallback;
use policy_schema::{Code, Problem};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tokio::time::Instant;

use super::session::Session;
use crate::clock;
use crate::health::model::Kept;
use crate::http::chain;

/// How long the secret store may take; a prompt that nobody answers takes for ever.
const STORE_LIMIT: Duration = Duration::from_secs(5);
/// How long a store that did not answer is left alone.
const STORE_PAUSE: Duration = Duration::from_mins(1);
const VERSION: u8 = 1;
pub(crate) const SERVICE: &str = "dev.steward.broker";
/// What a session may grow by, in bytes: other tokens are longer or shorter.
const GROWTH: usize = 16 * 1024;

type Key = [u8; 32];

/// The vault of one person.
pub(super) struct Vault {
    folder: PathBuf,
    quiet_until: Option<Instant>,
    /// The keys of the files that were opened or written, by account.
    keys: HashMap<String, Held>,
}

/// A key and where it lies. Two slots take turns, so that one key is there until the next is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    place: KeyPlace,
    slot: Slot,
    key: Key,
}

/// Which kind of place the key of a file is in; the second byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyPlace {
    SecretStore = 1,
    File = 2,
}

/// Which of two keys; the third byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    A = 1,
    B = 2,
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
    degraded: Option<Problem>,
}

impl Vault {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { folder: paths.session_folder(), quiet_until: None, keys: HashMap::new() }
    }

    /// The saved sessions besides those that are known, and what is wrong with those that cannot be opened. They stay, unless they are damaged:
    /// then they are put aside.
    pub(super) async fn load(&mut self, known: &[String]) -> (Vec<Loaded>, Vec<(String, Problem)>) {
        let (mut sessions, mut problems) = (Vec::new(), Vec::new());
        for account in self.accounts().into_iter().filter(|account| !known.contains(account)) {
            match self.load_one(&account).await {
                Ok(loaded) => sessions.extend(loaded),
                Err(problem) => problems.push((account, problem)),
            }
        }
        (sessions, problems)
    }

    /// Whether a renewal was cut off, as far as can be told without a key.
    pub(super) fn was_interrupted(&self) -> bool {
        self.accounts().iter().any(|account| reserve::place(&self.path(account)).exists())
    }

    async fn load_one(&mut self, account: &str) -> Result<Option<Loaded>, Problem> {
        let path = self.path(account);
        let next = reserve::place(&path);
        let interrupted = next.exists();
        // A renewal that was cut off after it was written, before it took its place.
        if interrupted && let Some(loaded) = self.open_file(account, &next).await? {
            let moved = fs_err::rename(&next, &path).and_then(|()| file::sync_folder(&path));
            moved.map_err(|error| unavailable(&error.to_string()))?;
            return Ok(Some(loaded));
        }
        if !path.exists() {
            // A sign-in that was cut off: there is nothing to keep.
            file::remove(&next).map_err(|error| unavailable(&error.to_string()))?;
            return Ok(None);
        }
        match self.open_file(account, &path).await? {
            Some(loaded) => Ok(Some(Loaded { interrupted, ..loaded })),
            None if posture::machine_id().is_none() => Err(unavailable(
                "this device does not say which it is, so the saved session cannot be opened",
            )),
            None => Err(self.put_aside(account)),
        }
    }

    /// Opens a file; `None` if it is damaged.
    async fn open_file(&mut self, account: &str, path: &Path) -> Result<Option<Loaded>, Problem> {
        let sealed = fs_err::read(path).map_err(|error| unavailable(&error.to_string()))?;
        let Some((place, slot)) = header(&sealed) else { return Ok(None) };
        let key = match place {
            KeyPlace::SecretStore => self.stored_key(account, slot).await?,
            KeyPlace::File => self.key_file(account, slot)?,
        };
        // A store that has no key now may have it once it is unlocked: nothing is thrown away.
        let key = key.ok_or_else(|| {
            unavailable("the secret store has no key for the saved session")
                .hint("unlock the keyring; if it was made anew, `steward login` signs in again".to_owned())
        })?;
        let Some(session) = open(&sealed, &key, &self.context(account)) else { return Ok(None) };
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
    ) -> Result<Prepared, Problem> {
        let before = self.keys.get(account).copied();
        let usable = before.filter(|held| {
            !new_key && (held.place == KeyPlace::SecretStore || fallback == VaultFallback::EncryptedFile)
        });
        let taken = file::create_folder(&self.folder, file::Access::Private)
            .and_then(|()| Reserve::take(&self.path(account), size + GROWTH));
        let reserve = taken.map_err(|error| {
            unavailable(&format!("the session cannot be saved: {error}"))
                .hint("make room on the disk of your home folder; the saved session is kept".to_owned())
        })?;
        let (held, degraded) = match usable {
            Some(held) => (held, None),
            None => match self.new_key(account, fallback).await {
                Ok(found) => found,
                Err(problem) => {
                    reserve.give_back().unwrap_or_else(|error| tracing::warn!("{error}"));
                    return Err(problem);
                }
            },
        };
        Ok(Prepared { held, before, reserve, degraded })
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
    ) -> io::Result<(Kept, Option<Problem>)> {
        let account = session.id();
        prepared.reserve.fill(&seal(session, prepared.held, &self.context(&account)))?;
        self.keys.insert(account.clone(), prepared.held);
        if let Some(before) = prepared.before.filter(|before| *before != prepared.held) {
            self.remove_key(&account, before.place, before.slot).await;
        }
        Ok((prepared.held.place.kept(), prepared.degraded))
    }

    /// Forgets an account: its files and its keys.
    pub(super) async fn forget(&mut self, account: &str) -> io::Result<()> {
        let path = self.path(account);
        let place = self.place_of_key(account).map(|(place, _)| place);
        file::remove(&path)?;
        file::remove(&reserve::place(&path))?;
        file::remove(&path.with_extension("damaged"))?;
        let held = self.keys.remove(account).map(|held| held.place);
        for slot in [Slot::A, Slot::B] {
            file::remove(&self.key_path(account, slot))?;
            if place.or(held) == Some(KeyPlace::SecretStore) {
                self.remove_key(account, KeyPlace::SecretStore, slot).await;
            }
        }
        Ok(())
    }

    /// Where the key of the saved session lies, as its file says.
    fn place_of_key(&self, account: &str) -> Option<(KeyPlace, Slot)> {
        header(&fs_err::read(self.path(account)).ok()?)
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
    ) -> Result<(Held, Option<Problem>), Problem> {
        // What is saved must stay readable until it is replaced, also if nobody could open it so far.
        let slot = match self.place_of_key(account).map(|(_, slot)| slot) {
            Some(Slot::A) => Slot::B,
            Some(Slot::B) | None => Slot::A,
        };
        let key: Key = clock::random();
        let name = self.entry(account, slot);
        let problem = match self.ask_store(move || store::set(SERVICE, &name, &key)).await {
            Ok(()) => return Ok((Held { place: KeyPlace::SecretStore, slot, key }, None)),
            Err(problem) => problem,
        };
        if fallback == VaultFallback::Refuse {
            return Err(problem
                .using("memory: after a restart people sign in again")
                .hint("start or unlock the keyring, or set `VaultFallback` to `encrypted-file`".to_owned()));
        }
        file::create_folder(&self.folder, file::Access::Private)
            .and_then(|()| file::replace(&self.key_path(account, slot), &key, file::Access::Private))
            .map_err(|error| unavailable(&error.to_string()))?;
        let degraded = Problem::new(Code::VaultDegraded, problem.message)
            .using("an encrypted file with its key beside it, as `VaultFallback` says");
        Ok((Held { place: KeyPlace::File, slot, key }, Some(degraded)))
    }

    async fn remove_key(&mut self, account: &str, place: KeyPlace, slot: Slot) {
        let name = self.entry(account, slot);
        let removed = match place {
            KeyPlace::SecretStore => {
                self.ask_store(move || store::remove(SERVICE, &name)).await.map_err(|problem| problem.message)
            }
            KeyPlace::File => file::remove(&self.key_path(account, slot)).map_err(|error| error.to_string()),
        };
        // It opens nothing any more, and is written over by the next but one.
        removed.unwrap_or_else(|error| tracing::warn!("a key that is no longer needed stays: {error}"));
    }

    async fn stored_key(&mut self, account: &str, slot: Slot) -> Result<Option<Key>, Problem> {
        let name = self.entry(account, slot);
        match self.ask_store(move || store::get(SERVICE, &name)).await? {
            None => Ok(None),
            Some(bytes) => bytes
                .try_into()
                .map(Some)
                .map_err(|_| unavailable("the secret store holds something else than a key")),
        }
    }

    /// Asks the secret store on a thread of its own, within a limit; a store that hangs is then left alone for a while.
    async fn ask_store<T: Send + 'static>(
        &mut self,
        question: impl FnOnce() -> Result<T, store::VaultError> + Send + 'static,
    ) -> Result<T, Problem> {
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return Err(unavailable(&format!("the {} does not answer", store::NAME)));
        }
        let asked = tokio::task::spawn_blocking(question);
        match tokio::time::timeout(STORE_LIMIT, asked).await {
            Ok(Ok(Ok(answer))) => {
                self.quiet_until = None;
                Ok(answer)
            }
            Ok(Ok(Err(error))) => Err(unavailable(&chain(&error))),
            Ok(Err(_)) => Err(unavailable(&format!("asking the {} failed", store::NAME))),
            Err(_) => {
                self.quiet_until = Some(Instant::now() + STORE_PAUSE);
                Err(unavailable(&format!(
                    "the {} did not answer within {} seconds; is it waiting to be unlocked?",
                    store::NAME,
                    STORE_LIMIT.as_secs()
                )))
            }
        }
    }

    fn key_file(&self, account: &str, slot: Slot) -> Result<Option<Key>, Problem> {
        match fs_err::read(self.key_path(account, slot)) {
            Ok(bytes) => Ok(bytes.try_into().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }

    fn put_aside(&self, account: &str) -> Problem {
        let path = self.path(account);
        let aside = path.with_extension("damaged");
        let problem = Problem::new(
            Code::VaultCorrupt,
            "the saved session is damaged, or belongs to another person or device",
        )
        .hint("sign in again".to_owned());
        match fs_err::rename(&path, &aside).and_then(|()| file::remove(&reserve::place(&path))) {
            Ok(()) => problem.using(format!("no session; the file was put aside as {}", aside.display())),
            Err(error) => problem.using(format!("no session: {error}")),
        }
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

    /// What a sealed session is bound to besides its key.
    fn context(&self, account: &str) -> Vec<u8> {
        let machine = posture::machine_id().unwrap_or_default();
        format!("steward session|{account}|{}|{machine}", self.folder.display()).into_bytes()
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

impl KeyPlace {
    fn kept(self) -> Kept {
        match self {
            Self::SecretStore => Kept::SecretStore,
            Self::File => Kept::File,
        }
    }
}

/// Where the key of a sealed file lies; `None` if it is none.
fn header(sealed: &[u8]) -> Option<(KeyPlace, Slot)> {
    let place = match sealed.get(1)? {
        1 => KeyPlace::SecretStore,
        2 => KeyPlace::File,
        _ => return None,
    };
    let slot = match sealed.get(2)? {
        1 => Slot::A,
        2 => Slot::B,
        _ => return None,
    };
    (sealed.first() == Some(&VERSION)).then_some((place, slot))
}

/// Version, place and slot of the key, nonce, ciphertext with its tag. What stands before is authenticated with the
/// context.
fn seal(session: &Session, held: Held, context: &[u8]) -> Vec<u8> {
    let header = [VERSION, held.place as u8, held.slot as u8];
    let nonce: [u8; NONCE_LEN] = clock::random();
    let mut text = serde_json::to_vec(session).expect("a session has only strings and times");
    cipher(&held.key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(header, context), &mut text)
        .expect("a session is far below the limit of AES-GCM");
    [header.as_slice(), &nonce, &text].concat()
}

fn open(sealed: &[u8], key: &Key, context: &[u8]) -> Option<Session> {
    let (header, rest) = sealed.split_first_chunk::<3>()?;
    let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
    if header[0] != VERSION {
        return None;
    }
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = cipher(key).open_in_place(nonce, aad(*header, context), &mut text).ok()?;
    serde_json::from_slice(opened).ok().filter(|session: &Session| !session.issued.is_empty())
}

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length"))
}

fn aad(header: [u8; 3], context: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([header.as_slice(), context].concat())
}

fn unavailable(reason: &str) -> Problem {
    Problem::new(Code::VaultUnavailable, reason)
        .hint("start or unlock the keyring; the saved session is kept".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Held = Held { place: KeyPlace::SecretStore, slot: Slot::A, key: [7; 32] };

    #[test]
    fn a_sealed_session_opens_with_its_key_and_context_only() {
        let session = Session::sample();
        let sealed = seal(&session, HELD, b"ada");
        assert_eq!(header(&sealed), Some((KeyPlace::SecretStore, Slot::A)));
        assert!(open(&sealed, &HELD.key, b"ada").is_some_and(|opened| opened.subject == session.subject));
        assert!(open(&sealed, &[8; 32], b"ada").is_none());
        assert!(open(&sealed, &HELD.key, b"eve").is_none());
        let text = String::from_utf8_lossy(&sealed).into_owned();
        assert!(!text.contains("refresh-canary"));
    }

    #[test]
    fn every_changed_byte_and_every_shorter_file_is_refused() {
        let sealed = seal(&Session::sample(), HELD, b"ada");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(open(&changed, &HELD.key, b"ada").is_none(), "byte {position}");
            assert!(open(&sealed[..position], &HELD.key, b"ada").is_none());
        }
    }

    #[test]
    fn the_same_session_never_looks_the_same_twice() {
        let one = seal(&Session::sample(), HELD, b"ada");
        assert_ne!(one, seal(&Session::sample(), HELD, b"ada"));
    }
}
