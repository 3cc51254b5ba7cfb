use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn applied(old: &[u8], patch: &[u8], length: usize) -> Result<Vec<u8>, PatchError> {
    let mut new = Vec::new();
    apply(Cursor::new(old), Cursor::new(patch), &mut new, u64::try_from(length).unwrap())?;
    Ok(new)
}

/// Something like a program: tables and code, with addresses that are all moved in the next version.
fn program(version: u32) -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    for function in 0..4000_u32 {
        let address = function * 37 + version * 64;
        bytes.extend(b"\x55\x48\x89\xe5\xe8");
        bytes.extend(address.to_le_bytes());
        bytes.extend(format!("function {}", function.wrapping_mul(0x9e37_79b9)).as_bytes());
        if function % 500 == version {
            bytes.extend(format!("new in version {version}: {function}").as_bytes());
        }
    }
    bytes
}

#[test]
fn patch_of_a_program_is_small_and_gives_the_new_one() {
    let (old, new) = (program(1), program(2));
    let patch = make(&old, &new).unwrap();
    assert_eq!(applied(&old, &patch, new.len()).unwrap(), new);
    assert!(patch.len() < new.len() / 20, "{} of {}", patch.len(), new.len());
    let whole = zstd::encode_all(&new[..], LEVEL).unwrap();
    assert!(patch.len() < whole.len() / 5, "{} and compressed {}", patch.len(), whole.len());
}

#[test]
fn files_that_have_nothing_in_common_and_empty_ones_have_patches_as_well() {
    for (old, new) in
        [(&b"a"[..], &b""[..]), (b"a", b"a"), (b"abc", b"0123456789"), (&vec![7; 300_000], &vec![7; 70_000])]
    {
        let patch = make(old, new).unwrap();
        assert_eq!(applied(old, &patch, new.len()).unwrap(), new);
    }
    assert!(matches!(make(b"", b"a"), Err(PatchError::Io(_))));
}

/// A patch that was made by the first version that could make any. It is read for ever.
#[test]
fn patch_of_the_first_version_is_still_applied() {
    let patch = include_bytes!("first-version.patch");
    assert_eq!(applied(&program(1), patch, program(2).len()).unwrap(), program(2));
}

#[test]
fn damaged_patch_or_another_old_file_is_an_error_or_gives_another_file() {
    let (old, new) = (program(1), program(2));
    let patch = make(&old, &new).unwrap();
    assert!(matches!(applied(&old, &patch, new.len() + 1), Err(PatchError::Length { .. })));
    assert!(matches!(applied(&old[..100], &patch, new.len()), Err(PatchError::Malformed(_))));
    assert!(matches!(applied(&old, &new, new.len()), Err(PatchError::Malformed(_))));
    for length in (0..patch.len()).step_by(patch.len() / 97) {
        assert!(
            matches!(applied(&old, &patch[..length], new.len()), Err(PatchError::Malformed(_))),
            "{length}"
        );
    }
    let mut other = patch.clone();
    for at in (0..patch.len()).step_by(patch.len() / 97) {
        other[at] ^= 0x55;
        if let Ok(made) = applied(&old, &other, new.len()) {
            assert_eq!(made.len(), new.len());
        }
        other[at] ^= 0x55;
    }
}

/// Whoever makes patches could want more memory or time of a device than there is.
#[test]
fn hostile_streams_are_refused() {
    let compressed = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let patch = |steps: &[u8], added: &[u8], fresh: &[u8], length: u64| {
        let (steps, added, fresh) = (compressed(steps), compressed(added), compressed(fresh));
        let mut patch = MAGIC.to_vec();
        for number in [steps.len() as u64, added.len() as u64, length] {
            patch.extend(number.to_le_bytes());
        }
        [patch, steps, added, fresh].concat()
    };
    assert_eq!(applied(b"abc", &patch(&[0, 3, 2], &[0, 0, 1], b"xy", 5), 5).unwrap(), b"abdxy");
    let number = |number: u64| {
        let mut bytes = Vec::new();
        write_number(&mut bytes, number);
        bytes
    };
    let most = number(u64::MAX);
    let cases: [(&str, Vec<u8>); 8] = [
        ("nothing for ever", vec![0; 9000]),
        ("more than is left", vec![0, 3, 3]),
        ("two that overflow", [&[0], &most[..], &most].concat()),
        ("before the old file", vec![1, 1, 0]),
        ("after the old file", vec![4, 3, 0]),
        ("far after it", [&number(zigzag(i64::MAX))[..], &[1, 0]].concat()),
        ("far before it", [&number(zigzag(i64::MIN))[..], &[1, 0]].concat()),
        ("a number without end", vec![0xff; 40]),
    ];
    for (case, steps) in cases {
        let made = applied(b"abc", &patch(&steps, &[0; 9], &[0; 9], 5), 5);
        assert!(matches!(made, Err(PatchError::Malformed(_))), "{case}: {made:?}");
    }
    // A window of 128 MiB.
    let mut wide = Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    wide.write_all(&[0, 3, 2]).unwrap();
    let (wide, rest) = (wide.finish().unwrap(), compressed(&[0; 9]));
    let mut hostile = MAGIC.to_vec();
    for number in [wide.len() as u64, rest.len() as u64, 5] {
        hostile.extend(number.to_le_bytes());
    }
    let hostile = [hostile, wide, rest.clone(), rest].concat();
    assert!(matches!(applied(b"abc", &hostile, 5), Err(PatchError::Malformed(_))));
}

#[test]
fn patch_is_worth_its_while_below_sixty_percent() {
    for (patch, new, expected) in
        [(59, 100, true), (60, 100, false), (1, 50, false), (u64::MAX, u64::MAX, false)]
    {
        assert_eq!(is_worth(patch, new), expected, "{patch} of {new}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_pair_of_files_has_a_patch(
        old in proptest::collection::vec(0_u8..4, 1..400),
        parts in proptest::collection::vec((0_usize..400, 0_usize..100, any::<u8>()), 0..8),
    ) {
        let mut new = Vec::new();
        for (start, length, byte) in parts {
            let start = start.min(old.len());
            new.extend(&old[start..(start + length).min(old.len())]);
            new.push(byte);
        }
        let patch = make(&old, &new).unwrap();
        prop_assert_eq!(applied(&old, &patch, new.len()).unwrap(), new);
    }

    #[test]
    fn numbers_are_read_as_they_were_written(number: u64, signed: i64) {
        let mut bytes = Vec::new();
        write_number(&mut bytes, number);
        prop_assert_eq!(read_number(&mut &bytes[..]).unwrap(), number);
        prop_assert_eq!(from_zigzag(zigzag(signed)), signed);
    }
}
