use std::io::Cursor;

use proptest::prelude::*;

use zstd::Encoder;

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
    let whole = zstd::encode_all(&new[..], 19).unwrap();
    assert!(patch.len() < whole.len() / 5, "{} and compressed {}", patch.len(), whole.len());
}

/// Bytes at places.
fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn numbers(file: &mut Vec<u8>, at: usize, numbers: &[u32]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    put(file, at, &bytes);
}

const FUNCTIONS: u32 = 3000;

/// Code that calls and jumps, and a table of its functions, for these addresses. The next version has some more instructions.
fn code_and_table(version: u32, code: u32, table: u32) -> (Vec<u8>, Vec<u32>) {
    let body = |function: u32| {
        let text = format!("does {}", function.wrapping_mul(0x9e37_79b9));
        let grown = if function % 400 == 7 { version as usize * 5 } else { 0 };
        text.into_bytes().into_iter().chain(std::iter::repeat_n(0x90, grown)).collect::<Vec<u8>>()
    };
    let mut starts = vec![code];
    for function in 0..FUNCTIONS {
        starts.push(starts[function as usize] + 23 + u32::try_from(body(function).len()).unwrap());
    }
    let mut bytes = Vec::new();
    for function in 0..FUNCTIONS {
        let start = starts[function as usize];
        let to = |address: u32, end: u32| address.wrapping_sub(start + end).to_le_bytes();
        let other = |step: u32| starts[(function.wrapping_mul(step) % FUNCTIONS) as usize];
        let data = table + function * 8;
        bytes.extend([&[0xe8][..], &to(other(7), 5), &[0x0f, 0x84], &to(other(11), 11)].concat());
        bytes.extend([&[0x48, 0x8d, 0x05][..], &to(data, 18), &[0xe9], &to(other(3), 23)].concat());
        bytes.extend(body(function));
    }
    (bytes, starts)
}

/// A program for Linux: one segment, with code and addresses.
fn elf(version: u32) -> Vec<u8> {
    let base = 0x40_0000;
    let (code, starts) = code_and_table(version, base + 0x1000, base + 0x4_0000);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    // A program of x86-64; its headers are at 0x40 (one) and at 0x80 (four), and the third section has the names.
    numbers(
        &mut file,
        0x10,
        &[0x3e_0002, 1, base + 0x1000, 0, 0x40, 0, 0x80, 0, 0, 0x38_0040, 0x40_0001, 0x3_0004],
    );
    numbers(&mut file, 0x40, &[1, 7, 0, 0, base, 0, base, 0, 0x5_0000, 0, 0x6_0000, 0, 0x1000, 0]);
    let length = u32::try_from(code.len()).unwrap();
    numbers(&mut file, 0xc0, &[1, 1, 6, 0, base + 0x1000, 0, 0x1000, 0, length, 0]);
    numbers(&mut file, 0x100, &[7, 1, 3, 0, base + 0x4_0000, 0, 0x4_0000, 0, FUNCTIONS * 8, 0]);
    numbers(&mut file, 0x140, &[13, 3, 0, 0, 0, 0, 0x200, 0, 32, 0]);
    put(&mut file, 0x200, b"\0.text\0.data\0.shstrtab\0");
    put(&mut file, 0x1000, &code);
    for (index, start) in starts.iter().take(FUNCTIONS as usize).enumerate() {
        numbers(&mut file, 0x4_0000 + index * 8, &[*start, 0]);
    }
    put(&mut file, 0x4_ffff, &[0]);
    file
}

/// A program for Windows: code, addresses, and where functions begin and end.
fn pe(version: u32) -> Vec<u8> {
    let (code, starts) = code_and_table(version, 0x1000, 0x4_0000);
    let mut file = b"MZ".to_vec();
    numbers(&mut file, 0x3c, &[0x40]);
    // Of x86-64, with three sections and an optional header of 240 bytes.
    numbers(&mut file, 0x40, &[0x4550, 0x3_8664, 0, 0, 0, 0x22_00f0]);
    numbers(&mut file, 0x58, &[0x20b]);
    numbers(&mut file, 0x58 + 24, &[0x4000_0000, 1, 0x1000, 0x200]);
    numbers(&mut file, 0x58 + 56, &[0x6_0000, 0x200]);
    numbers(&mut file, 0x58 + 108, &[16]);
    let length = u32::try_from(code.len()).unwrap();
    for (index, (name, address, length, kind)) in [
        (b".text\0\0\0", 0x1000, length, 0x6000_0020),
        (b".data\0\0\0", 0x4_0000, FUNCTIONS * 8, 0xc000_0040_u32),
        (b".pdata\0\0", 0x5_0000, FUNCTIONS * 12, 0x4000_0040),
    ]
    .into_iter()
    .enumerate()
    {
        let at = 0x58 + 240 + index * 40;
        put(&mut file, at, name);
        numbers(&mut file, at + 8, &[length, address, length, address, 0, 0, 0, kind]);
    }
    put(&mut file, 0x1000, &code);
    for (index, pair) in starts.windows(2).enumerate() {
        numbers(&mut file, 0x4_0000 + index * 8, &[0x4000_0000 + pair[0], 1]);
        numbers(
            &mut file,
            0x5_0000 + index * 12,
            &[pair[0], pair[1], 0x4_0000 + u32::try_from(index).unwrap()],
        );
    }
    file
}

#[test]
fn moved_addresses_make_patches_of_linux_and_windows_programs_small() {
    for (system, old, new) in [("Linux", elf(1), elf(2)), ("Windows", pe(1), pe(2))] {
        let patch = make(&old, &new).unwrap();
        assert!(patch.starts_with(&MAGIC_WITH_ADDRESSES), "{system}");
        assert_eq!(applied(&old, &patch, new.len()).unwrap(), new, "{system}");
        // The same, no longer known as programs.
        let unknown = |file: &[u8]| [b"??", &file[2..]].concat();
        let plain = make(&unknown(&old), &unknown(&new)).unwrap();
        assert!(plain.starts_with(&MAGIC), "{system}");
        assert!(patch.len() < plain.len() / 5, "{system}: {} and {} without", patch.len(), plain.len());
        // A program becomes something else, and back.
        for (old, new) in [(&old, &unknown(&new)), (&unknown(&old), &new)] {
            assert_eq!(&applied(old, &make(old, new).unwrap(), new.len()).unwrap(), new, "{system}");
        }
    }
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

/// Patches that were made by the first version that could make any, and by the first one that knew addresses. They are read for ever.
#[test]
fn patches_of_earlier_versions_are_still_applied() {
    for (old, patch, new) in [
        (program(1), &include_bytes!("first-version.patch")[..], program(2)),
        (elf(1), include_bytes!("with-addresses.patch"), elf(2)),
    ] {
        assert_eq!(applied(&old, patch, new.len()).unwrap(), new);
    }
}

#[test]
fn damaged_patch_or_another_old_file_is_an_error_or_gives_another_file() {
    damage(&program(1), &program(2));
    damage(&elf(1), &elf(2));
}

fn damage(old: &[u8], new: &[u8]) {
    let patch = make(old, new).unwrap();
    assert!(matches!(applied(old, &patch, new.len() + 1), Err(PatchError::Length { .. })));
    assert!(matches!(applied(&old[..100], &patch, new.len()), Err(PatchError::Malformed(_))));
    assert!(matches!(applied(old, new, new.len()), Err(PatchError::Malformed(_))));
    for length in (0..patch.len()).step_by(patch.len().div_ceil(197)) {
        match applied(old, &patch[..length], new.len()) {
            // Nothing of what is missing was needed.
            Ok(made) => assert!(made == new && length > patch.len() / 2, "{length}"),
            Err(error) => assert!(matches!(error, PatchError::Malformed(_)), "{length}: {error}"),
        }
    }
    let mut other = patch.clone();
    for at in (0..patch.len()).step_by(patch.len().div_ceil(197)) {
        other[at] ^= 0x55;
        if let Ok(made) = applied(old, &other, new.len()) {
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

/// Addresses that lead nowhere, overlap or are at the end of all numbers cost a wrong file and no more.
#[test]
fn hostile_addresses_are_refused_or_ignored() {
    let patch = |layout: &[u64], steps: &[u64], length: u64| {
        let mut header = MAGIC_WITH_ADDRESSES.to_vec();
        let mut bytes = Vec::new();
        for number in steps {
            write_number(&mut bytes, *number);
        }
        let [steps, rest] = [&bytes[..], &[0; 64]].map(|bytes| zstd::encode_all(bytes, 1).unwrap());
        for number in [steps.len() as u64, rest.len() as u64, length] {
            header.extend(number.to_le_bytes());
        }
        for number in layout {
            write_number(&mut header, *number);
        }
        [header, steps, rest.clone(), rest].concat()
    };
    let old = [0xe8, 1, 0, 0, 0, 0xff, 0x05, 0xf0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0x10, 0, 0];
    let (last, large) = (u64::from(u32::MAX), u64::MAX);
    let everywhere = [0, 1, 0, last, 0, large];
    let areas = [3, 0, 6, 0, 6, 10, 1, 16, last, 2];
    for (case, layout, is_refused) in [
        ("none", vec![0, 0, 0, 0, 0], false),
        ("everywhere", [&everywhere[..], &everywhere, &areas].concat(), false),
        (
            "at the end",
            [&[large, 1, 0, last, large, large][..], &[large, 1, last, last, large, 0], &areas].concat(),
            false,
        ),
        ("of no bytes", [&[5, 2, 0, 0, 0, 9, 4, 0, 4, 9][..], &everywhere, &areas].concat(), false),
        ("of an unknown kind", [&everywhere[..], &everywhere, &[1, 0, 9, 3]].concat(), true),
        ("too many", [&[0, 65][..], &[1; 400]].concat(), true),
        ("over each other", [&everywhere[..], &everywhere, &[2, 0, 9, 0, 8, 9, 1]].concat(), true),
        ("too many areas", [&everywhere[..], &everywhere, &[65], &[0; 400]].concat(), true),
        ("beyond four gigabytes", [&[0, 1, last + 1, 0, 0, 0][..], &everywhere, &areas].concat(), true),
        ("cut", vec![0, 64], true),
    ] {
        let made = applied(&old, &patch(&layout, &[0, 12, 3, zigzag(-9), 17, 0], 32), 32);
        match made {
            Ok(made) => assert!(!is_refused && made.len() == 32, "{case}"),
            Err(error) => assert!(is_refused && matches!(error, PatchError::Malformed(_)), "{case}: {error}"),
        }
    }
    let many: Vec<u64> = [0, 1, 0].repeat(addresses::MAXIMUM_STEPS + 1);
    let steps: Vec<u64> =
        many.chunks(3).enumerate().flat_map(|(index, _)| [index.min(1) as u64, 1, 0]).collect();
    let length = steps.len() / 3;
    let refused = applied(&old, &patch(&[0, 0, 0, 0, 0], &steps, length as u64), length);
    assert!(matches!(refused, Err(PatchError::Malformed("it has too many steps"))), "{refused:?}");
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
    fn every_damaged_program_has_a_patch(
        damage in proptest::collection::vec((0_usize..0x220, any::<u8>()), 0..4),
        is_windows: bool,
    ) {
        let (mut old, new) = if is_windows { (pe(1), pe(2)) } else { (elf(1), elf(2)) };
        for (at, byte) in damage {
            old[at] = byte;
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
