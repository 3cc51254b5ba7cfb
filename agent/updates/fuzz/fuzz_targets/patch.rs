//! Patches: whatever one says, what comes out has the length that was promised, and nothing else happens.
#![no_main]

use std::io::Cursor;

use updates::patch;

/// What it is applied to.
const OLD: &[u8] = include_bytes!("patch.rs");
/// What is promised.
const LENGTH: u64 = 4000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut new = Vec::new();
    if patch::apply(Cursor::new(OLD), Cursor::new(bytes), &mut new, LENGTH).is_ok() {
        assert_eq!(new.len() as u64, LENGTH);
    }
    assert!(new.len() as u64 <= LENGTH);
});
