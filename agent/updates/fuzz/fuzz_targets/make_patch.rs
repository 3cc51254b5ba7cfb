//! Patches between any two files, programs or not: what is made gives the new one.
#![no_main]

use std::io::Cursor;

use updates::patch;

libfuzzer_sys::fuzz_target!(|files: (&[u8], &[u8])| {
    let (old, new) = files;
    if let Ok(made) = patch::make(old, new) {
        let mut again = Vec::new();
        patch::apply(Cursor::new(old), Cursor::new(made), &mut again, new.len() as u64).expect("it fits");
        assert_eq!(again, new);
    }
});
