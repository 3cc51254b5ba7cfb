//! Readers of documents: bytes in, [`crate::raw::RawPolicy`] out. Portable, without IO, safe on arbitrary bytes.

pub mod drop_in;
pub mod property_list;
pub mod registry;
pub mod registry_pol;

use crate::raw::{ReadError, ReadErrorKind};

/// The most bytes that one policy document may have.
pub const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// The name, in any capitals, of the table or dictionary with recommended values.
pub const RECOMMENDED: &str = "Recommended";

fn syntax(message: impl Into<String>, hint: Option<&str>) -> ReadError {
    ReadError { kind: ReadErrorKind::Syntax, message: message.into(), hint: hint.map(ToOwned::to_owned) }
}
