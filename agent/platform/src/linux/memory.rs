//! Memory that is not written to swap space.

pub(crate) use crate::unix::memory::{lock, page_bytes, unlock};
