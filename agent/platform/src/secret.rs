//! A secret in memory: locked, so that it reaches no swap space, and overwritten when nobody needs it any more. Portable; how
//! memory is locked is in the folders.
//!
//! A system may refuse to lock more than a small amount (`RLIMIT_MEMLOCK`, the working set on Windows). A secret beyond that
//! is kept all the same: a device without swap space, or with an encrypted one, loses nothing by it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize as _, Zeroizing};

use crate::os::memory;

/// A token or a key. It cannot be printed; copies of it share one place in memory.
#[derive(Clone)]
pub struct Secret(Arc<Locked>);

/// Whole pages of memory with a secret in them. No other value lies in these pages, so unlocking them exposes no other
/// secret.
struct Locked {
    bytes: Box<[u8]>,
    /// Where the secret lies.
    secret: Range<usize>,
    /// The pages that are locked; empty if the system refused.
    pages: Range<usize>,
}

impl Secret {
    /// Keeps bytes. Whoever has them still is responsible for those.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let page = memory::page_bytes();
        let size = secret.len().max(1).next_multiple_of(page);
        let mut bytes = vec![0; size + page].into_boxed_slice();
        let offset = bytes.as_ptr().align_offset(page);
        // Where the first whole page cannot be found, nothing is locked.
        let (start, pages) = if offset < page { (offset, offset..offset + size) } else { (0, 0..0) };
        let locked = memory::lock(&bytes[pages.clone()]).is_ok();
        let secret_at = start..start + secret.len();
        bytes[secret_at.clone()].copy_from_slice(secret);
        Self(Arc::new(Locked { bytes, secret: secret_at, pages: if locked { pages } else { 0..0 } }))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes[self.0.secret.clone()]
    }

    /// The text; empty if the bytes are none.
    #[must_use]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// Whether the system keeps it out of swap space.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        !self.0.pages.is_empty()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.bytes.zeroize();
        memory::unlock(&self.bytes[self.pages.clone()]);
    }
}

/// The text that is given up is overwritten.
impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(Zeroizing::new(text).as_bytes())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_of_any_length_is_kept_alone_in_whole_locked_pages() {
        let page = memory::page_bytes();
        for length in [0, 1, 32, page, page + 1] {
            let text: String = "abc".chars().cycle().take(length).collect();
            let secret = Secret::from(text.as_str());
            assert_eq!((secret.expose(), secret.bytes()), (text.as_str(), text.as_bytes()));
            assert!(secret.is_locked(), "{length} bytes");
            let pages = &secret.0.bytes[secret.0.pages.clone()];
            assert_eq!(pages.as_ptr().align_offset(page), 0);
            assert_eq!(pages.len() % page, 0);
            assert_eq!(secret, serde_json::from_str(&serde_json::to_string(&secret).unwrap()).unwrap());
        }
    }

    #[test]
    fn secret_is_not_printed_and_differs_from_another() {
        let secret = Secret::from("canary");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret Secret");
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, Secret::from("canary2"));
    }
}
