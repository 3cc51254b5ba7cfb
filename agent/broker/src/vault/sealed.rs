//! PURE: the sealed file of a session. Version, place and slot of the key, nonce, ciphertext with its tag (AES-256-GCM).

use platform::random;
use platform::secret::Secret;
use protocol::session::Kept;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::session::Session;

/// The version of the form.
const VERSION: u8 = 1;
/// A first byte above this is no version but damage.
const LATEST_VERSION: u8 = 31;

/// The length of a key of AES-256.
pub(super) const KEY_BYTES: usize = 32;

/// A key and where it lies. Two slots take turns, so that one key is there until the next is in use.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) place: KeyPlace,
    pub(super) slot: Slot,
    /// Of [`KEY_BYTES`] bytes.
    pub(super) key: Secret,
}

/// Which kind of place the key of a file is in; the second byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyPlace {
    SecretStore = 1,
    File = 2,
}

/// Which of two keys; the third byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    A = 1,
    B = 2,
}

impl KeyPlace {
    pub(super) fn kept(self) -> Kept {
        match self {
            Self::SecretStore => Kept::SecretStore,
            Self::File => Kept::File,
        }
    }
}

/// What the first bytes of a sealed file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Where its key lies.
    Key(KeyPlace, Slot),
    /// A newer version sealed it.
    Newer(u8),
    /// It is no sealed file.
    Damaged,
}

pub(super) fn header(sealed: &[u8]) -> Header {
    match sealed {
        [VERSION, place, slot, ..] => {
            let place = match place {
                1 => KeyPlace::SecretStore,
                2 => KeyPlace::File,
                _ => return Header::Damaged,
            };
            let slot = match slot {
                1 => Slot::A,
                2 => Slot::B,
                _ => return Header::Damaged,
            };
            Header::Key(place, slot)
        }
        // The version before this one has never been.
        [version, ..] if *version > VERSION && *version <= LATEST_VERSION => Header::Newer(*version),
        _ => Header::Damaged,
    }
}

/// Version, place and slot of the key, nonce, ciphertext with its tag. What stands before is authenticated with the
/// context.
pub(super) fn seal(session: &Session, held: &Held, context: &[u8]) -> Vec<u8> {
    let header = [VERSION, held.place as u8, held.slot as u8];
    let nonce: [u8; NONCE_LEN] = random::bytes();
    let mut text = Zeroizing::new(serde_json::to_vec(session).expect("a session has only strings and times"));
    cipher(&held.key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(header, context), &mut *text)
        .expect("a session is far below the limit of AES-GCM");
    [header.as_slice(), &nonce, &text].concat()
}

pub(super) fn open(sealed: &[u8], key: &Secret, context: &[u8]) -> Option<Session> {
    let (header, rest) = sealed.split_first_chunk::<3>()?;
    let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
    if header[0] != VERSION {
        return None;
    }
    let mut text = Zeroizing::new(text.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = cipher(key).open_in_place(nonce, aad(*header, context), &mut text).ok()?;
    serde_json::from_slice(opened).ok().filter(|session: &Session| !session.access_tokens.is_empty())
}

fn cipher(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.bytes()).expect("the key has the cipher's length"))
}

fn aad(header: [u8; 3], context: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([header.as_slice(), context].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held { place: KeyPlace::SecretStore, slot: Slot::A, key: Secret::new(&[7; KEY_BYTES]) }
    }

    #[test]
    fn sealed_session_opens_with_its_key_and_context_only() {
        let session = Session::sample();
        let sealed = seal(&session, &held(), b"ada");
        assert_eq!(header(&sealed), Header::Key(KeyPlace::SecretStore, Slot::A));
        assert!(open(&sealed, &held().key, b"ada").is_some_and(|opened| opened.subject == session.subject));
        assert!(open(&sealed, &Secret::new(&[8; KEY_BYTES]), b"ada").is_none());
        assert!(open(&sealed, &held().key, b"eve").is_none());
        let text = String::from_utf8_lossy(&sealed).into_owned();
        assert!(!text.contains("refresh-canary"));
    }

    #[test]
    fn every_changed_byte_and_every_shorter_file_is_refused() {
        let sealed = seal(&Session::sample(), &held(), b"ada");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(open(&changed, &held().key, b"ada").is_none(), "byte {position}");
            assert!(open(&sealed[..position], &held().key, b"ada").is_none());
        }
    }

    #[test]
    fn same_session_is_sealed_differently_each_time() {
        let one = seal(&Session::sample(), &held(), b"ada");
        assert_ne!(one, seal(&Session::sample(), &held(), b"ada"));
    }

    #[test]
    fn header_tells_a_newer_version_from_damage() {
        assert_eq!(header(&[2, 9, 9, 9]), Header::Newer(2));
        assert_eq!(header(b"plain text"), Header::Damaged);
        assert_eq!(header(&[]), Header::Damaged);
    }
}
