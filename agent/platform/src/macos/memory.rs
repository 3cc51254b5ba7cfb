//! Memory that is not written to swap space.

pub(crate) use crate::unix::memory::{lock, unlock};

/// The size of a page on Apple silicon; on Intel, four pages.
pub(crate) const PAGE_BYTES: usize = 16384;
