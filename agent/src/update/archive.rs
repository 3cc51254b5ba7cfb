//! Unpacks an archive into an empty folder: regular files, folders, and links that stay inside it. An archive is a tar.gz, a zip
//! ([`zip`]), or a program that is everything itself (an `AppImage`).
//!
//! In: a verified file. Out: the folder that has the program in it, or why there is none. Called by [`super::folder`].
//!
//! The library reads headers; names and limits are dealt with here, because it keeps long names of any size in memory.
//! Links are made after everything else, so that nothing is ever written through one.

use std::fmt;
use std::io::{self, Read, Seek};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use platform::paths::folder_of;
use platform::{file, install as system};
use tar::{Entry, EntryType};

mod zip;

/// Everything in the archive, in bytes: the files, their names, and what is between them.
const MAXIMUM_UNPACKED: u64 = 8 * 1024 * 1024 * 1024;
/// Far more than any desktop app has.
const MAXIMUM_ENTRIES: usize = 200_000;
/// Links are kept in memory until everything else is there, so there may be fewer of them.
const MAXIMUM_LINKS: usize = 10_000;
/// What precedes an entry to extend its header, in bytes.
const MAXIMUM_EXTENSION: u64 = 64 * 1024;
/// `PATH_MAX` of Linux, in bytes.
const MAXIMUM_NAME: usize = 4096;
/// `NAME_MAX` of all systems, in bytes.
const MAXIMUM_NAME_PART: usize = 255;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("the archive has no program {0}")]
    NoProgram(String),
    #[error("the archive has more than {MAXIMUM_ENTRIES} entries")]
    TooManyEntries,
    #[error("the archive has more than {MAXIMUM_LINKS} links")]
    TooManyLinks,
    #[error("the archive unpacks to more than {MAXIMUM_UNPACKED} bytes")]
    TooLarge,
    #[error("the archive has an entry outside its folder: {0}")]
    Outside(Name),
    #[error("the archive has a link that leads outside its folder or to nothing: {link} to {target}")]
    LeadsOutside { link: Name, target: Name },
    #[error("the archive has {name}, which is neither a file, a folder nor a link ({kind:?})")]
    Kind { name: Name, kind: EntryType },
    #[error("the archive has a name that is no name of a file: {0}")]
    Name(Name),
    #[error("the header of {0} is damaged or too long")]
    Header(Name),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A name from an archive, which is as long as its maker likes. Shown are its first 100 characters.
#[derive(Debug)]
pub(super) struct Name(String);

impl Name {
    fn new(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl From<&Path> for Name {
    fn from(path: &Path) -> Self {
        Self(path.to_string_lossy().into_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(100).collect();
        write!(formatter, "{}{}", shown.escape_debug(), if shown.len() < self.0.len() { "…" } else { "" })
    }
}

/// The kinds of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TarGz,
    Zip,
    Program,
}

impl Kind {
    /// The kind of a file, by its name.
    pub(super) fn of(name: &str) -> Self {
        let ends = |ending: &str| {
            let start = name.len().checked_sub(ending.len());
            start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
        };
        if ends(".zip") {
            Self::Zip
        } else if ends(".AppImage") {
            Self::Program
        } else {
            Self::TarGz
        }
    }
}

/// Unpacks an archive that must have the program in it, and returns the folder that the program's path begins at: the
/// given one, or the only folder in it, as in the archives that `electron-builder` makes.
pub(super) fn unpack_program(
    archive: impl Read + Seek,
    kind: Kind,
    folder: &Path,
    program: &str,
) -> Result<PathBuf, UnpackError> {
    let links = match kind {
        Kind::TarGz => unpack_files(archive, folder)?,
        Kind::Zip => zip::unpack_files(archive, folder)?,
        Kind::Program => {
            let mut copied = Limited { inner: archive, left: MAXIMUM_UNPACKED };
            write_file(&mut copied, &folder.join(program), true)?;
            Vec::new()
        }
    };
    // All folders before the first link: no folder, and no link, is made through another link.
    links.iter().try_for_each(|link| create_parent(&link.path))?;
    links.iter().try_for_each(|link| system::create_link(&link.path, &link.target))?;
    let has_program = |root: &Path| fs_err::metadata(root.join(program)).is_ok_and(|found| found.is_file());
    let root = if has_program(folder) { Some(folder.to_owned()) } else { only_folder(folder)? };
    let root =
        root.filter(|root| has_program(root)).ok_or_else(|| UnpackError::NoProgram(program.to_owned()))?;
    links.iter().try_for_each(|link| link.check(&root))?;
    Ok(root)
}

/// A symbolic link of the archive.
struct Link {
    path: PathBuf,
    target: PathBuf,
}

impl Link {
    /// A link must stay inside, both as it is written and as the system follows it through other links.
    fn check(&self, root: &Path) -> Result<(), UnpackError> {
        let written = self.path.parent().and_then(|parent| parent.strip_prefix(root).ok()).map(|from| {
            let mut steps = from.components().chain(self.target.components());
            steps.try_fold(0_usize, |depth, step| match step {
                Component::Normal(_) => Some(depth + 1),
                Component::CurDir => Some(depth),
                Component::ParentDir => depth.checked_sub(1),
                Component::RootDir | Component::Prefix(_) => None,
            })
        });
        let followed = fs_err::canonicalize(&self.path);
        let root = fs_err::canonicalize(root)?;
        match (written.flatten(), followed) {
            (Some(_), Ok(end)) if end.starts_with(root) => Ok(()),
            _ => Err(UnpackError::LeadsOutside {
                link: self.path.as_path().into(),
                target: self.target.as_path().into(),
            }),
        }
    }
}

/// Unpacks files and folders, and returns the links that are still to be made.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of the library are not exhaustive")]
fn unpack_files(archive: impl Read, folder: &Path) -> Result<Vec<Link>, UnpackError> {
    file::create_folder(folder, file::Access::Public)?;
    let limited = Limited { inner: MultiGzDecoder::new(archive), left: MAXIMUM_UNPACKED };
    let mut archive = tar::Archive::new(limited);
    let (mut links, mut extension, mut copied) = (Vec::new(), Extension::default(), 0_u64);
    for (number, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if number >= MAXIMUM_ENTRIES {
            return Err(UnpackError::TooManyEntries);
        }
        if extension.take(&mut entry)? {
            continue;
        }
        let extension = std::mem::take(&mut extension);
        let name = extension.name.unwrap_or_else(|| entry.path_bytes().into_owned());
        if extension.size.is_some_and(|size| size != entry.size()) {
            return Err(UnpackError::Header(Name::new(&name)));
        }
        let path = folder.join(inside(&name)?);
        let target = extension.link.or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned));
        match kind(&entry, &name) {
            EntryType::Directory => file::create_folder(&path, file::Access::Public)?,
            EntryType::Regular => unpack_file(&mut entry, &path)?,
            EntryType::Symlink => {
                let target = target.unwrap_or_default();
                let target = text(&target).ok_or_else(|| UnpackError::Name(Name::new(&target)))?;
                add_link(&mut links, Link { path, target: PathBuf::from(target) })?;
            }
            EntryType::Link => {
                let target = folder.join(inside(&target.unwrap_or_default())?);
                copied = copied.saturating_add(fs_err::symlink_metadata(&target)?.len());
                if copied > MAXIMUM_UNPACKED {
                    return Err(UnpackError::TooLarge);
                }
                copy(&target, &path)?;
            }
            kind => return Err(UnpackError::Kind { name: Name::new(&name), kind }),
        }
    }
    Ok(links)
}

fn add_link(links: &mut Vec<Link>, link: Link) -> Result<(), UnpackError> {
    if links.len() >= MAXIMUM_LINKS {
        return Err(UnpackError::TooManyLinks);
    }
    links.push(link);
    Ok(())
}

/// What kind an entry is. Old archives mark a folder by its name only, and a contiguous file is a file (POSIX, pax).
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of the library are not exhaustive")]
fn kind(entry: &Entry<'_, impl Read>, name: &[u8]) -> EntryType {
    match entry.header().entry_type() {
        EntryType::Regular if name.ends_with(b"/") => EntryType::Directory,
        EntryType::Continuous => EntryType::Regular,
        other => other,
    }
}

/// Nothing of the archive's owners, times and special bits is kept.
fn unpack_file(entry: &mut Entry<'_, impl Read>, path: &Path) -> Result<(), UnpackError> {
    let executable = entry.header().mode()? & 0o111 != 0;
    let size = entry.size();
    if write_file(entry, path, executable)? != size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

/// Writes a new file durably, and gives its length.
fn write_file(content: &mut impl Read, path: &Path, executable: bool) -> Result<u64, UnpackError> {
    create_parent(path)?;
    let mut unpacked = file::create_program(path, executable)?;
    let length = io::copy(content, &mut unpacked)?;
    unpacked.sync_all()?;
    Ok(length)
}

/// A hard link becomes a file of its own. Links are not there yet, so this reads a file of the archive or nothing.
fn copy(from: &Path, to: &Path) -> Result<(), UnpackError> {
    let mut source = fs_err::File::open(from)?;
    let executable = system::is_executable(&source.metadata()?);
    write_file(&mut source, to, executable).map(drop)
}

fn create_parent(path: &Path) -> io::Result<()> {
    file::create_folder(folder_of(path), file::Access::Public)
}

/// The only entry of a folder, if it is a folder.
fn only_folder(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut entries = fs_err::read_dir(folder)?;
    let (Some(entry), None) = (entries.next().transpose()?, entries.next()) else { return Ok(None) };
    Ok(entry.file_type()?.is_dir().then(|| entry.path()))
}

/// A relative path that stays below the folder it is joined to.
fn inside(name: &[u8]) -> Result<PathBuf, UnpackError> {
    let text = text(name).ok_or_else(|| UnpackError::Name(Name::new(name)))?;
    let path = Path::new(text);
    let parts = || path.components();
    if !parts().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(UnpackError::Outside(Name::new(name)));
    }
    if parts().any(|part| part.as_os_str().len() > MAXIMUM_NAME_PART) {
        return Err(UnpackError::Name(Name::new(name)));
    }
    Ok(path.to_owned())
}

/// A name as text: not too long, no control characters, and no backslash, which is a separator on one system only.
fn text(name: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(name).ok()?;
    let plain = text.len() <= MAXIMUM_NAME && !text.chars().any(|c| c.is_control() || c == '\\');
    plain.then_some(text)
}

/// What entries of their own say about the entry after them, in the ways of GNU tar and of POSIX (pax).
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extension {
    /// Takes an entry in, if it is one of these.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the types of the library are not exhaustive")]
    fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, UnpackError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.name = Some(until_zero(read(entry)?)),
            EntryType::GNULongLink => self.link = Some(until_zero(read(entry)?)),
            EntryType::XHeader => self.take_records(&read(entry)?, entry)?,
            // About all entries, such as the commit that `git archive` writes.
            EntryType::XGlobalHeader => drop(read(entry)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_records(&mut self, bytes: &[u8], entry: &Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let damaged = || UnpackError::Header(Name::new(&entry.path_bytes()));
        for record in tar::PaxExtensions::new(bytes) {
            let record = record.map_err(|_| damaged())?;
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let size = record.value().ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(damaged)?);
                }
                // A file with holes, whose bytes are not the file's.
                key if key.starts_with(b"GNU.sparse.") => {
                    let name = Name::new(&entry.path_bytes());
                    return Err(UnpackError::Kind { name, kind: EntryType::GNUSparse });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    if entry.size() > MAXIMUM_EXTENSION {
        return Err(UnpackError::Header(Name::new(&entry.path_bytes())));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// A reader that ends with an error after a number of bytes, whatever they are: small archives can unpack to anything.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left =
            self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(UnpackError::TooLarge))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
