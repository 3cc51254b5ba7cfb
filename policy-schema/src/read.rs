//! Readers of documents: bytes in, [`crate::raw::RawPolicy`] out. Portable, without IO, safe on arbitrary bytes.

pub mod document;
pub mod drop_in;
mod not_toml;
pub mod property_list;
pub mod registry;
pub mod registry_file;
pub mod registry_pol;

use crate::problem::{Code, Problem};
use crate::raw::{ReadError, ReadErrorKind};

pub use not_toml::may_be_shown;

/// The most bytes that one policy document may have.
pub const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// The name, in any capitals, of the table or dictionary with recommended values.
pub const RECOMMENDED: &str = "Recommended";

fn syntax(message: impl Into<String>, hint: Option<&str>) -> ReadError {
    let error = ReadError::new(ReadErrorKind::Syntax, message);
    ReadError { hint: hint.map(ToOwned::to_owned), ..error }
}

/// A document in which nothing is.
fn empty() -> ReadError {
    ReadError::new(ReadErrorKind::Empty, "the file is empty")
        .hint("write the policy again; to withdraw it, remove the file itself")
}

/// The text of a document in UTF-16 with a byte order mark.
fn utf16(bytes: &[u8]) -> Option<String> {
    let (mark, rest) = bytes.split_at_checked(2)?;
    let units = |read: fn([u8; 2]) -> u16| {
        let pairs = rest.chunks_exact(2);
        pairs.remainder().is_empty().then(|| pairs.map(|pair| read([pair[0], pair[1]])).collect::<Vec<u16>>())
    };
    let units = match mark {
        [0xff, 0xfe] => units(u16::from_le_bytes)?,
        [0xfe, 0xff] => units(u16::from_be_bytes)?,
        _ => return None,
    };
    String::from_utf16(&units).ok()
}

/// A document in which nothing is for Steward.
fn foreign(message: impl Into<String>) -> Problem {
    Problem::new(Code::PolicyForeign, message)
}
