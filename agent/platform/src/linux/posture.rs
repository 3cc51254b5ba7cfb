//! What the system's own files say about the device.

use std::io;
use std::path::Path;

use nix::time::{ClockId, clock_gettime};

/// The ID of this boot: it changes with every start of the system (random(4)). `None` if it cannot be read.
#[must_use]
pub fn boot_id() -> Option<String> {
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

/// Seconds since this boot, sleep included. `None` if the system does not say.
#[must_use]
pub fn seconds_since_boot() -> Option<i64> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(|time| time.tv_sec())
}

/// The ID of this installation of the system (machine-id(5)); `None` if it has none.
///
/// # Errors
/// It cannot be read. That does not mean that there is none.
pub fn machine_id() -> io::Result<Option<String>> {
    read(Path::new("/etc/machine-id"))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_or_empty_file_holds_no_id_and_unreadable_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        assert_eq!(read(&path).unwrap(), None);
        for (text, id) in [("\n", None), ("6f1c\n", Some("6f1c"))] {
            fs_err::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), id);
        }
        fs_err::write(&path, [0xff]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(read(folder.path()).is_err());
    }
}
