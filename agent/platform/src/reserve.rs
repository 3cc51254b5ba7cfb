//! Room on disk that is taken before something happens that must not be lost. Portable.
//!
//! The file lies beside the one that it will replace. That it is there tells the next start that something was under
//! way; filling it needs no more room than it already has.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::os::file;

/// Room that was taken; it stays, also after a crash, until it is filled or given back.
#[derive(Debug)]
pub struct Reserve {
    file: fs_err::File,
    place: PathBuf,
    target: PathBuf,
}

/// Where the room for a file is taken.
#[must_use]
pub fn place(target: &Path) -> PathBuf {
    target.with_extension("next")
}

impl Reserve {
    /// Takes room for so many bytes of a file that nobody else may read. Its folder has to be there.
    ///
    /// # Errors
    /// There is no room, or the system refused.
    pub fn take(target: &Path, bytes: usize) -> io::Result<Self> {
        let place = place(target);
        file::remove(&place)?;
        let mut created = file::create_private(&place)?;
        let taken = created
            .write_all(&vec![0; bytes])
            .and_then(|()| created.sync_all())
            .and_then(|()| file::sync_folder(&place));
        match taken {
            Ok(()) => Ok(Self { file: created, place, target: target.to_owned() }),
            Err(error) => {
                // Best effort: the error that led here is the one to report.
                drop(fs_err::remove_file(&place));
                Err(error)
            }
        }
    }

    /// Writes the bytes into the room and puts it in the place of its target; both are lasting afterwards.
    ///
    /// # Errors
    /// The system refused. What was there before is then still there.
    pub fn fill(mut self, bytes: &[u8]) -> io::Result<()> {
        use std::io::Seek as _;
        self.file.rewind()?;
        self.file.write_all(bytes)?;
        self.file.set_len(bytes.len() as u64)?;
        self.file.sync_all()?;
        drop(self.file);
        file::rename(&self.place, &self.target)?;
        file::sync_folder(&self.target)
    }

    /// Gives the room back: nothing has happened.
    ///
    /// # Errors
    /// The system refused.
    pub fn give_back(self) -> io::Result<()> {
        drop(self.file);
        file::remove(&self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_beside_the_file_and_replaces_it_when_it_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.sealed");
        fs_err::write(&target, "old").unwrap();
        let reserve = Reserve::take(&target, 5000).unwrap();
        assert_eq!(fs_err::metadata(place(&target)).unwrap().len(), 5000);
        assert_eq!(fs_err::read(&target).unwrap(), b"old");
        reserve.fill(b"new").unwrap();
        assert_eq!(fs_err::read(&target).unwrap(), b"new");
        assert!(!place(&target).exists());
        Reserve::take(&target, 10).unwrap().give_back().unwrap();
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
        // One that a crash left is taken over.
        let left = Reserve::take(&target, 10).unwrap();
        drop(left);
        Reserve::take(&target, 10).unwrap().fill(b"newer").unwrap();
        assert_eq!(fs_err::read(&target).unwrap(), b"newer");
    }
}
