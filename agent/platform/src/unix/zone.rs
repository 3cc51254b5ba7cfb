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
