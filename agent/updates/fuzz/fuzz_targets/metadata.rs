//! Metadata of signed repositories: from a mirror that sends anything, and in a store that somebody has written to. The first byte says how
//! long the part is that the mirror sends; the rest is in the store.
#![no_main]

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use updates::signed::{Client, FetchFuture, MemoryStore, MetadataStore as _, Repository};

/// A root that is trusted, of a repository that was made for this.
const ROOT: &[u8] = include_bytes!("../seeds/metadata/root.json");

/// Sends the same, whatever is asked for.
struct Mirror(Vec<u8>);

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _: u64) -> FetchFuture<'a> {
        // Else there would be another root after each.
        let sent = (!name.ends_with("root.json") || name == "2.root.json").then(|| self.0.clone());
        Box::pin(async move { Ok(sent) })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first() else { return };
    let (sent, kept) = rest.split_at(rest.len() * usize::from(*length) / 255);
    let store = MemoryStore::new();
    for name in ["timestamp", "snapshot", "targets", "root_history/2.root.json"] {
        store.store(name, kept).expect("memory is enough");
    }
    let mut client = Client::new("fuzzed", Mirror(sent.to_vec()), store, ROOT).expect("the root is one");
    let refreshing = pin!(client.refresh(jiff::Timestamp::constant(1_800_000_000, 0)));
    // Nothing here waits for anything.
    if let Poll::Ready(Ok(_)) = refreshing.poll(&mut Context::from_waker(Waker::noop())) {
        panic!("nobody has signed that");
    }
});
