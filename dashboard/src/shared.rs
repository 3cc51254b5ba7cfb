//! What all requests share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use crate::arrival::Refusal;
use crate::store::Store;

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) refused: Refused,
    /// Where it is reached.
    pub(crate) address: SocketAddr,
}

/// How many bodies were refused since the start, and why.
#[derive(Default)]
pub(crate) struct Refused(Mutex<BTreeMap<Refusal, u64>>);

impl Refused {
    pub(crate) fn count(&self, refusal: Refusal) {
        if let Ok(mut counts) = self.0.lock() {
            *counts.entry(refusal).or_default() += 1;
        }
    }

    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock();
        counts.map_or_else(
            |_| Vec::new(),
            |all| all.iter().map(|(why, count)| (why.to_string(), *count)).collect(),
        )
    }
}
