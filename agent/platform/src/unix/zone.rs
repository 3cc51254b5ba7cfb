//! The time zone of the device.

use std::io::Read as _;
use std::path::Path;

use jiff::tz::TimeZone;

use crate::paths::Paths;

/// Many times larger than any file of the time zone database, in bytes.
const MAXIMUM_BYTES: u64 = 256 * 1024;

/// The time zone of the device (localtime(5)). UTC if none is set or it cannot be read, as for the C library.
#[must_use]
pub fn local(paths: &Paths) -> TimeZone {
    let path = paths.under_root(Path::new("/etc/localtime"));
    let mut bytes = Vec::new();
    let read = fs_err::File::open(path).and_then(|file| file.take(MAXIMUM_BYTES).read_to_end(&mut bytes));
    read.ok().and_then(|_| TimeZone::tzif("local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of the time zone database (RFC 9636) that has nothing but a rule.
    fn file(rule: &str) -> Vec<u8> {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        block.extend([0, 0, 0, 0, 0, 0]);
        block.extend(b"UTC\0");
        let mut file = block.repeat(2);
        file.extend(format!("\n{rule}\n").bytes());
        file
    }

    #[test]
    fn zone_of_the_device_is_read_and_else_it_is_utc() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        assert_eq!(local(&paths), TimeZone::UTC);
        fs_err::create_dir(root.path().join("etc")).unwrap();
        let path = root.path().join("etc/localtime");
        fs_err::write(&path, file("CET-1CEST,M3.5.0,M10.5.0/3")).unwrap();
        let local_time = |time: &str| local(&paths).to_datetime(time.parse().unwrap()).to_string();
        assert_eq!(local_time("2026-07-01T12:00:00Z"), "2026-07-01T14:00:00");
        assert_eq!(local_time("2026-12-01T12:00:00Z"), "2026-12-01T13:00:00");
        fs_err::write(&path, "not a time zone").unwrap();
        assert_eq!(local(&paths), TimeZone::UTC);
    }
}
