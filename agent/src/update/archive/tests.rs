use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

type Builder = tar::Builder<GzEncoder<Vec<u8>>>;

fn archive(add: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    add(&mut builder);
    builder.into_inner().unwrap().finish().unwrap()
}

fn entry(builder: &mut Builder, kind: EntryType, name: &str, target: &str) {
    with_bytes(builder, kind, name, target, b"");
}

fn with_bytes(builder: &mut Builder, kind: EntryType, name: &str, target: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o4777);
    header.set_size(bytes.len() as u64);
    // The builder's own checks would refuse these names.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

fn unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<PathBuf, UnpackError>) {
    let outer = tempfile::tempdir().unwrap();
    let result = unpack_program(io::Cursor::new(bytes), Kind::TarGz, &outer.path().join("in"), "app");
    (outer, result)
}

#[test]
fn hostile_archive_is_refused_and_writes_nothing_outside_its_folder() {
    let long = "n".repeat(99);
    let cases = [
        (EntryType::Regular, "../escaped", "", "outside its folder"),
        (EntryType::Regular, "/tmp/escaped-by-steward-test", "", "outside its folder"),
        (EntryType::Regular, "..\\escaped", "", "no name of a file"),
        (EntryType::Regular, "a\nb", "", "no name of a file: a\\nb"),
        (EntryType::Symlink, "link", "/etc/passwd", "leads outside"),
        (EntryType::Symlink, "link", "../escaped", "leads outside"),
        (EntryType::Symlink, "link", "nothing", "leads outside"),
        (EntryType::Symlink, "link", "link", "leads outside"),
        (EntryType::Symlink, &long, "../../etc/passwd", "leads outside"),
        (EntryType::Link, "link", "/etc/passwd", "outside its folder"),
        (EntryType::Link, "link", "../../etc/passwd", "outside its folder"),
        (EntryType::Fifo, "pipe", "", "neither a file, a folder nor a link"),
        (EntryType::Char, "device", "", "neither a file, a folder nor a link"),
        (EntryType::GNUSparse, "holes", "", "neither a file, a folder nor a link"),
    ];
    for (kind, name, target, expected) in cases {
        let bytes = archive(|builder| {
            entry(builder, EntryType::Regular, "app", "");
            entry(builder, kind, name, target);
        });
        let (outer, result) = unpack(&bytes);
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!outer.path().join("escaped").exists());
    }
}

/// As it is written, `out` leads to `a`; through the other link, to the folder around the archive's.
#[test]
fn link_that_leads_outside_through_another_is_refused() {
    let bytes = archive(|builder| {
        entry(builder, EntryType::Regular, "app", "");
        entry(builder, EntryType::Regular, "a/b/file", "");
        entry(builder, EntryType::Symlink, "a/top", "..");
        entry(builder, EntryType::Symlink, "out", "a/top/..");
    });
    let (_outer, result) = unpack(&bytes);
    assert!(matches!(result, Err(UnpackError::LeadsOutside { .. })), "{result:?}");
}

/// A file below a name that is a link is a file in a folder, and the link then fails. Found by review: a link below a link
/// was made where that led to, before both were refused.
#[test]
fn nothing_is_made_through_a_link() {
    for (kind, names) in [
        (EntryType::Regular, ["link/written", "link/folder/written"]),
        (EntryType::Symlink, ["link/below", "link/folder/below"]),
        (EntryType::Directory, ["link/folder", "link/other"]),
    ] {
        let outer = tempfile::tempdir().unwrap();
        let target = outer.path().join("target");
        fs_err::create_dir(&target).unwrap();
        let bytes = archive(|builder| {
            entry(builder, EntryType::Regular, "app", "");
            entry(builder, EntryType::Symlink, "link", "../target");
            for name in names {
                entry(builder, kind, name, "../app");
            }
        });
        unpack_program(io::Cursor::new(bytes.as_slice()), Kind::TarGz, &outer.path().join("in"), "app")
            .unwrap_err();
        assert_eq!(fs_err::read_dir(target).unwrap().count(), 0, "{kind:?}");
    }
}

#[test]
fn links_inside_are_made_and_a_hard_link_is_a_copy() {
    let bytes = archive(|builder| {
        entry(builder, EntryType::Symlink, "current", "versions/A");
        with_bytes(builder, EntryType::Regular, "versions/A/lib", "", b"library");
        entry(builder, EntryType::Symlink, "versions/A/again", "../../current/lib");
        entry(builder, EntryType::Link, "app", "versions/A/lib");
    });
    let (_outer, result) = unpack(&bytes);
    let root = result.unwrap();
    for name in ["current/lib", "versions/A/again", "app"] {
        assert_eq!(fs_err::read_to_string(root.join(name)).unwrap(), "library", "{name}");
    }
    assert!(fs_err::symlink_metadata(root.join("app")).unwrap().is_file());
}

#[test]
fn only_folder_of_the_archive_is_left_out() {
    let bytes = archive(|builder| {
        entry(builder, EntryType::Regular, "Quick-2.1.0/app", "");
        entry(builder, EntryType::Symlink, "Quick-2.1.0/link", "app");
    });
    let (outer, result) = unpack(&bytes);
    assert_eq!(result.unwrap(), outer.path().join("in/Quick-2.1.0"));

    // This link would lead elsewhere, because the folder gets another name.
    let bytes = archive(|builder| {
        entry(builder, EntryType::Regular, "Quick-2.1.0/app", "");
        entry(builder, EntryType::Symlink, "Quick-2.1.0/link", "../Quick-2.1.0/app");
    });
    assert!(matches!(unpack(&bytes).1, Err(UnpackError::LeadsOutside { .. })));
}

#[test]
fn long_names_are_read_and_too_long_ones_refused_without_holding_them() {
    let name = format!("{}/{}", "f".repeat(120), "n".repeat(200));
    let bytes = archive(|builder| {
        entry(builder, EntryType::Regular, "app", "");
        with_bytes(builder, EntryType::GNULongName, "././@LongLink", "", format!("{name}\0").as_bytes());
        entry(builder, EntryType::Regular, "short", "");
        let record = format!("path=p/{name}\n");
        let record = format!("{} {record}", record.len() + 4);
        with_bytes(builder, EntryType::XHeader, "pax", "", record.as_bytes());
        entry(builder, EntryType::Regular, "short", "");
    });
    let root = unpack(&bytes).1.unwrap();
    assert!(!root.join("short").exists());

    for (kind, length) in
        [(EntryType::GNULongName, 5000), (EntryType::GNULongLink, 70_000), (EntryType::XHeader, 70_000)]
    {
        let bytes = archive(|builder| {
            with_bytes(builder, kind, "long", "", "x".repeat(length).as_bytes());
            entry(builder, EntryType::Regular, "app", "");
        });
        let error = unpack(&bytes).1.unwrap_err().to_string();
        assert!(
            error.contains("damaged or too long") || error.contains("no name of a file"),
            "{kind:?}: {error}"
        );
        assert!(error.len() < 300, "{kind:?}: {}", error.len());
    }
}

#[test]
fn size_in_an_extension_that_differs_is_refused() {
    let bytes = archive(|builder| {
        with_bytes(builder, EntryType::XHeader, "pax", "", b"11 size=99\n");
        entry(builder, EntryType::Regular, "app", "");
    });
    assert!(matches!(unpack(&bytes).1, Err(UnpackError::Header(_))));
}

#[test]
fn everything_that_is_unpacked_counts() {
    let mut limited = Limited { inner: io::repeat(0).take(1000), left: 999 };
    let error = io::copy(&mut limited, &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[test]
fn unpacked_program_is_executable_without_set_user_id() {
    use std::os::unix::fs::PermissionsExt as _;
    let bytes = archive(|builder| entry(builder, EntryType::Regular, "app", ""));
    let (_outer, root) = unpack(&bytes);
    let mode = fs_err::metadata(root.unwrap().join("app")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-user-ID, not writable by others");
}

#[test]
fn truncated_archive_is_an_error() {
    let bytes = archive(|builder| entry(builder, EntryType::Regular, "app", ""));
    assert!(unpack(&bytes[..bytes.len() / 2]).1.is_err());
    let mut whole = Vec::new();
    flate2::read::GzDecoder::new(
        archive(|builder| with_bytes(builder, EntryType::Regular, "app", "", &[7; 600])).as_slice(),
    )
    .read_to_end(&mut whole)
    .unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    io::Write::write_all(&mut encoder, &whole[..800]).unwrap();
    assert!(unpack(&encoder.finish().unwrap()).1.is_err(), "the file is shorter than its header says");
}
