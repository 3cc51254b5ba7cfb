//! Reads zip archives. The library reads the directory and each entry; what it keeps in memory, names and limits are dealt with here.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use platform::file;
use zip::ZipArchive;

use super::{
    Limited, Link, MAXIMUM_ENTRIES, MAXIMUM_NAME, MAXIMUM_UNPACKED, Name, UnpackError, add_link, inside,
    text, write_file,
};

/// How much of an archive may be read to find out what is in it, in bytes. The library keeps that in memory.
const MAXIMUM_DIRECTORY: u64 = 24 * 1024 * 1024;

/// Unpacks files and folders, and returns the links that are still to be made.
pub(super) fn unpack_files(archive: impl Read + Seek, folder: &Path) -> Result<Vec<Link>, UnpackError> {
    file::create_folder(folder, file::Access::Public)?;
    let left = Rc::new(Cell::new(MAXIMUM_DIRECTORY));
    let bounded = Bounded { inner: archive, left: Rc::clone(&left) };
    let mut archive = ZipArchive::new(bounded).map_err(io::Error::from)?;
    if archive.len() > MAXIMUM_ENTRIES {
        return Err(UnpackError::TooManyEntries);
    }
    // Entries are not kept in memory.
    left.set(u64::MAX);
    let (mut links, mut unpacked) = (Vec::new(), MAXIMUM_UNPACKED);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(io::Error::from)?;
        let name = entry.name_raw().to_vec();
        let path = folder.join(inside(&name)?);
        if entry.is_dir() {
            file::create_folder(&path, file::Access::Public)?;
        } else if entry.is_symlink() {
            let mut target = Vec::new();
            (&mut entry).take(MAXIMUM_NAME as u64 + 1).read_to_end(&mut target)?;
            let target = text(&target).ok_or_else(|| UnpackError::Name(Name::new(&target)))?;
            add_link(&mut links, Link { path, target: PathBuf::from(target) })?;
        } else {
            // An archive that was made on Windows says nothing about it.
            let executable = entry.unix_mode().is_none_or(|mode| mode & 0o111 != 0);
            let mut limited = Limited { inner: &mut entry, left: unpacked };
            write_file(&mut limited, &path, executable)?;
            unpacked = limited.left;
        }
    }
    Ok(links)
}

/// A file of which only so much may be read.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.ok_or_else(|| io::Error::other(UnpackError::TooLarge))?);
        Ok(count)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use platform::install as system;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::{Kind, unpack_program};
    use super::*;

    fn archive(build: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        build(&mut writer);
        writer.finish().unwrap().into_inner()
    }

    fn add(writer: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, mode: u32, content: &str) {
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        writer.start_file(name, stored.unix_permissions(mode)).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }

    fn unpack(bytes: Vec<u8>, folder: &Path) -> Result<PathBuf, UnpackError> {
        unpack_program(Cursor::new(bytes), Kind::Zip, &folder.join("new"), "bin/app")
    }

    #[test]
    fn files_modes_folders_and_links_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = archive(|writer| {
            writer.add_directory("app-1.0/empty/", SimpleFileOptions::default()).unwrap();
            add(writer, "app-1.0/bin/app", 0o755, "program");
            add(writer, "app-1.0/text", 0o600, "text");
            writer.add_symlink("app-1.0/start", "bin/app", SimpleFileOptions::default()).unwrap();
        });
        let root = unpack(bytes, folder.path()).unwrap();
        assert!(root.ends_with("app-1.0") && root.join("empty").is_dir());
        let read = |name: &str| fs_err::read_to_string(root.join(name)).unwrap();
        assert_eq!((read("bin/app"), read("text")), ("program".to_owned(), "text".to_owned()));
        let executable = |name: &str| system::is_executable(&fs_err::metadata(root.join(name)).unwrap());
        assert!(executable("bin/app") && !executable("text"));
        assert_eq!(read("start"), "program");
    }

    #[test]
    fn hostile_archive_is_refused_with_the_reason() {
        let program = |writer: &mut ZipWriter<Cursor<Vec<u8>>>| add(writer, "bin/app", 0o755, "program");
        let outside = archive(|writer| add(writer, "../outside", 0o644, "x"));
        let link = archive(|writer| {
            program(writer);
            writer.add_symlink("passwords", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        });
        let mut damaged = archive(program);
        let content = damaged.windows(7).position(|window| window == b"program").unwrap();
        damaged[content] ^= 1;
        for (bytes, expected) in [
            (outside, "outside its folder: ../outside"),
            (link, "leads outside its folder"),
            (archive(|writer| add(writer, "other", 0o755, "x")), "no program bin/app"),
            (damaged, "checksum"),
            (b"PK\x03\x04 and no more".to_vec(), ""),
            (Vec::new(), ""),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let error = unpack(bytes, folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.is_empty(), "{error}");
            assert!(!folder.path().join("outside").exists());
        }
    }

    #[test]
    fn directory_that_would_fill_memory_is_refused() {
        let mut reader = Bounded { inner: io::repeat(0), left: Rc::new(Cell::new(10)) };
        let mut buffer = [0; 8];
        assert!(reader.read(&mut buffer).is_ok() && reader.read(&mut buffer).is_err());
    }
}
