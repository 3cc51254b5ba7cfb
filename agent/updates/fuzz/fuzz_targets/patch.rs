//! Patches: whatever one says, what comes out has the length that was promised, and nothing else happens.
#![no_main]

use std::io::Cursor;

use updates::patch;

/// What it is applied to.
const OLD: &[u8] = include_bytes!("../seeds/metadata/root.json");
/// No more is promised.
const MOST: u64 = 100_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // What the patch says itself, so that this does not stop at the header.
    let promised = bytes.get(32..40).and_then(|length| length.try_into().ok()).map_or(0, u64::from_le_bytes) % MOST;
    let mut new = Vec::new();
    if patch::apply(Cursor::new(OLD), Cursor::new(bytes), &mut new, promised).is_ok() {
        assert_eq!(new.len() as u64, promised);
    }
    assert!(new.len() as u64 <= promised);
});
