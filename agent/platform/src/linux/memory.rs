//! Memory that is not written to swap space.

pub(crate) use crate::unix::memory::{lock, unlock};

/// The size of a page on nearly every Linux device. Where pages are larger, two secrets may share one.
pub(crate) const PAGE_BYTES: usize = 4096;
