//! The one place that asks for randomness, and how bytes of it are written as a name.

use std::fmt::Write as _;

use ring::rand::{SecureRandom as _, SystemRandom};

/// Unpredictable bytes of the operating system.
///
/// # Panics
/// The operating system has no randomness: nothing that needs any can be right then.
#[must_use]
pub fn bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has no randomness");
    bytes
}

/// Bytes as hexadecimal digits, in small letters.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
