//! Where a session is kept between starts: an encrypted file (AES-256-GCM) whose key lies in the operating system's
//! secret store.
//!
//! The file is bound to the person and the installation of the system by associated data. A store that is missing or
//! locked is a state that is explained, never a sign-out: the file stays as it is. Without a store, policy decides:
//! memory only, or a key beside the file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agent_platform::paths::Paths;
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
const SERVICE: &str = "dev.steward.broker";

type Key = [u8; 32];

/// The vault of one person.
pub(super) struct Vault {
    folder: PathBuf,
    /// The person, within the secret store and the associated data.
    person: String,
    quiet_until: Option<Instant>,
}

/// Which key a file is sealed with; the second byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyPlace {
    SecretStore = 1,
    File = 2,
}

impl Vault {
    pub(super) fn new(paths: &Paths) -> Self {
        let folder = paths.session_folder();
        Self { person: format!("session key for {}", folder.display()), folder, quiet_until: None }
    }

    /// The saved session and where it is kept; `None` if there is none.
    ///
    /// # Errors
    /// There is one, but it cannot be opened. It stays, unless it is damaged: then it is put aside.
    pub(super) async fn load(&mut self) -> Result<Option<(Session, Kept)>, Problem> {
        let path = self.path();
        let sealed = match fs_err::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(&error.to_string())),
        };
        let (place, key) = match sealed.get(1) {
            Some(1) => (KeyPlace::SecretStore, self.stored_key().await?),
            Some(2) => (KeyPlace::File, self.key_file()?),
            Some(_) | None => return Err(self.put_aside()),
        };
        // A store that has no key now may have it once it is unlocked: nothing is thrown away.
        let key = key.ok_or_else(|| unavailable("the secret store has no key for the saved session"))?;
        match open(&sealed, &key, &self.context()) {
            Some(session) => Ok(Some((session, place.kept()))),
            None => Err(self.put_aside()),
        }
    }

    /// Saves a session durably, as policy allows. A problem says that it is kept in a weaker way, or not at all.
    pub(super) async fn save(
        &mut self,
        session: &Session,
        fallback: VaultFallback,
    ) -> (Kept, Option<Problem>) {
        let (place, key, degraded) = match self.key_for_saving(fallback).await {
            Ok(found) => found,
            Err(problem) => return (Kept::Memory, Some(problem)),
        };
        let sealed = seal(session, &key, place, &self.context());
        let written = file::create_folder(&self.folder, file::Access::Private)
            .and_then(|()| file::replace(&self.path(), &sealed, file::Access::Private));
        match written {
            Ok(()) => (place.kept(), degraded),
            Err(error) => (Kept::Memory, Some(unavailable(&error.to_string()))),
        }
    }

    /// Forgets the session. The key stays: it opens nothing any more.
    pub(super) fn forget(&self) -> io::Result<()> {
        file::remove(&self.path())
    }

    async fn key_for_saving(
        &mut self,
        fallback: VaultFallback,
    ) -> Result<(KeyPlace, Key, Option<Problem>), Problem> {
        match self.stored_key().await {
            Ok(Some(key)) => Ok((KeyPlace::SecretStore, key, None)),
            Ok(None) => {
                let key: Key = clock::random();
                match self.ask_store(move |person| store::set(SERVICE, person, &key)).await {
                    Ok(()) => Ok((KeyPlace::SecretStore, key, None)),
                    Err(problem) => self.fall_back(fallback, problem),
                }
            }
            Err(problem) => self.fall_back(fallback, problem),
        }
    }

    fn fall_back(
        &self,
        fallback: VaultFallback,
        problem: Problem,
    ) -> Result<(KeyPlace, Key, Option<Problem>), Problem> {
        if fallback == VaultFallback::Refuse {
            return Err(problem
                .using("memory: after a restart people sign in again")
                .hint("start or unlock the keyring, or set `VaultFallback` to `encrypted-file`".to_owned()));
        }
        let key = if let Some(key) = self.key_file()? {
            key
        } else {
            let key: Key = clock::random();
            file::create_folder(&self.folder, file::Access::Private)
                .and_then(|()| file::replace(&self.key_path(), &key, file::Access::Private))
                .map_err(|error| unavailable(&error.to_string()))?;
            key
        };
        let degraded = Problem::new(Code::VaultDegraded, problem.message)
            .using("an encrypted file with its key beside it, as `VaultFallback` says");
        Ok((KeyPlace::File, key, Some(degraded)))
    }

    async fn stored_key(&mut self) -> Result<Option<Key>, Problem> {
        match self.ask_store(|person| store::get(SERVICE, person)).await? {
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
        question: impl FnOnce(&str) -> Result<T, store::VaultError> + Send + 'static,
    ) -> Result<T, Problem> {
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return Err(unavailable(&format!("the {} does not answer", store::NAME)));
        }
        let person = self.person.clone();
        let asked = tokio::task::spawn_blocking(move || question(&person));
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

    fn key_file(&self) -> Result<Option<Key>, Problem> {
        match fs_err::read(self.key_path()) {
            Ok(bytes) => Ok(bytes.try_into().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }

    fn put_aside(&self) -> Problem {
        let aside = self.path().with_extension("damaged");
        let problem = Problem::new(
            Code::VaultCorrupt,
            "the saved session is damaged, or belongs to another person or device",
        )
        .hint("sign in again".to_owned());
        match fs_err::rename(self.path(), &aside) {
            Ok(()) => problem.using(format!("no session; the file was put aside as {}", aside.display())),
            Err(error) => problem.using(format!("no session: {error}")),
        }
    }

    /// What a sealed session is bound to besides its key.
    fn context(&self) -> Vec<u8> {
        format!("steward session|{}|{}", self.person, posture::machine_id().unwrap_or_default()).into_bytes()
    }

    fn path(&self) -> PathBuf {
        self.folder.join("session.sealed")
    }

    fn key_path(&self) -> PathBuf {
        self.folder.join("session.key")
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

/// Version, place of the key, nonce, ciphertext with its tag. Key and place are authenticated with the context.
fn seal(session: &Session, key: &Key, place: KeyPlace, context: &[u8]) -> Vec<u8> {
    let header = [VERSION, place as u8];
    let nonce: [u8; NONCE_LEN] = clock::random();
    let mut text = serde_json::to_vec(session).expect("a session has only strings and times");
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(header, context), &mut text)
        .expect("a session is far below the limit of AES-GCM");
    [header.as_slice(), &nonce, &text].concat()
}

fn open(sealed: &[u8], key: &Key, context: &[u8]) -> Option<Session> {
    let (header, rest) = sealed.split_first_chunk::<2>()?;
    let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
    if header[0] != VERSION {
        return None;
    }
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = cipher(key).open_in_place(nonce, aad(*header, context), &mut text).ok()?;
    serde_json::from_slice(opened).ok()
}

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length"))
}

fn aad(header: [u8; 2], context: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([header.as_slice(), context].concat())
}

fn unavailable(reason: &str) -> Problem {
    Problem::new(Code::VaultUnavailable, reason)
        .hint("start or unlock the keyring; the saved session is kept".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7; 32];

    #[test]
    fn a_sealed_session_opens_with_its_key_and_context_only() {
        let session = Session::sample();
        let sealed = seal(&session, &KEY, KeyPlace::SecretStore, b"ada");
        assert!(open(&sealed, &KEY, b"ada").is_some_and(|opened| opened.subject == session.subject));
        assert!(open(&sealed, &[8; 32], b"ada").is_none());
        assert!(open(&sealed, &KEY, b"eve").is_none());
        let text = String::from_utf8_lossy(&sealed).into_owned();
        assert!(!text.contains("refresh-canary"));
    }

    #[test]
    fn every_changed_byte_and_every_shorter_file_is_refused() {
        let sealed = seal(&Session::sample(), &KEY, KeyPlace::File, b"ada");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(open(&changed, &KEY, b"ada").is_none(), "byte {position}");
            assert!(open(&sealed[..position], &KEY, b"ada").is_none());
        }
    }

    #[test]
    fn the_same_session_never_looks_the_same_twice() {
        let one = seal(&Session::sample(), &KEY, KeyPlace::File, b"ada");
        assert_ne!(one, seal(&Session::sample(), &KEY, KeyPlace::File, b"ada"));
    }
}
