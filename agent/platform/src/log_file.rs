//! A log file that does not grow for ever, where no service manager keeps the log. Portable.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::os::file::{self, Access};
use crate::paths::folder_of;

/// The file is moved aside at this size, and the one that was moved aside before goes.
const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// An open log file. Each write is one entry.
#[derive(Clone)]
pub struct LogFile(Arc<Mutex<State>>);

struct State {
    path: PathBuf,
    file: fs_err::File,
    bytes: u64,
}

impl LogFile {
    /// Opens a log for more, and makes it if there is none. Only its owner, on Windows also administrators, can read it.
    ///
    /// # Errors
    /// The system refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        file::create_folder(folder_of(path), Access::Private)?;
        let file = file::open_log(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(State { path: path.to_owned(), file, bytes }))))
    }
}

impl Write for LogFile {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bytes + entry.len() as u64 > MAXIMUM_BYTES && state.bytes > 0 {
            // Where that fails, the entry is written all the same; the next one tries again.
            drop(state.rotate());
        }
        state.file.write_all(entry)?;
        state.bytes += entry.len() as u64;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    fn rotate(&mut self) -> io::Result<()> {
        if fs_err::rename(&self.path, old(&self.path)).is_err() {
            // Another program has one of the two open. Then the log begins anew: it must not fill the disk.
            fs_err::OpenOptions::new().write(true).truncate(true).open(&self.path)?;
        }
        self.file = file::open_log(&self.path)?;
        self.bytes = self.file.metadata()?.len();
        Ok(())
    }
}

/// Where the entries before are.
fn old(path: &Path) -> PathBuf {
    path.with_extension("old.log")
}

/// Removes a log with the part that was moved aside.
///
/// # Errors
/// The system refused.
pub fn remove(path: &Path) -> io::Result<()> {
    file::remove(path)?;
    file::remove(&old(path))
}

/// The ends of the logs that can be read, by name.
pub fn ends(
    files: [(&'static str, Option<PathBuf>); 2],
    bytes: u64,
) -> impl Iterator<Item = (&'static str, String)> {
    files.into_iter().filter_map(move |(name, path)| Some((name, end_of(&path?, bytes)?)))
}

/// The end of a log, also of the part that was moved aside; `None` if it cannot be read.
fn end_of(path: &Path, bytes: u64) -> Option<String> {
    let now = fs_err::read(path).ok()?;
    let before = fs_err::read(old(path)).unwrap_or_default();
    let text = String::from_utf8_lossy(&[before, now].concat()).into_owned();
    let from = text.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
    Some(text[text.ceil_char_boundary(from)..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_goes_on_after_a_restart_and_never_has_more_than_two_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/agent.log");
        LogFile::open(&path).unwrap().write_all(b"first\n").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"second\n").unwrap();
        assert_eq!(end_of(&path, 100).unwrap(), "first\nsecond\n");
        let line = [b'x'; 1000];
        for _ in 0..4000 {
            log.write_all(&line).unwrap();
        }
        log.write_all(b"last\n").unwrap();
        let names = fs_err::read_dir(folder.path().join("logs")).unwrap().count();
        assert_eq!(names, 2);
        for path in [&path, &old(&path)] {
            assert!(fs_err::metadata(path).unwrap().len() <= MAXIMUM_BYTES);
        }
        let end = end_of(&path, 1_500_000).unwrap();
        assert!(end.ends_with("last\n") && end.len() > 1_000_000);
    }
}
