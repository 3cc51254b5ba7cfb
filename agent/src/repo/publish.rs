//! Brings a repository to where devices find it: into the folder of a web server, or into one archive for a network without the other.
//! Each file comes before what names it, so that at no moment something is named there that is not there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use platform::file;

use super::{Part, Repository, copy_public, hashes};

/// What names what: the files of the image repository, its metadata, then what the director says.
const ORDER: [(Part, Kind); 9] = [
    (Part::Image, Kind::Files),
    (Part::Image, Kind::Metadata(".root.json")),
    (Part::Image, Kind::Metadata(".targets.json")),
    (Part::Image, Kind::Metadata(".snapshot.json")),
    (Part::Image, Kind::Metadata("timestamp.json")),
    (Part::Director, Kind::Metadata(".root.json")),
    (Part::Director, Kind::Metadata(".targets.json")),
    (Part::Director, Kind::Metadata(".snapshot.json")),
    (Part::Director, Kind::Metadata("timestamp.json")),
];

#[derive(Clone, Copy)]
enum Kind {
    Files,
    /// How the name ends.
    Metadata(&'static str),
}

impl Repository {
    /// Copies what a web server serves into another folder. Gives how many files were copied.
    pub(crate) fn copy_to(&self, folder: &Path) -> anyhow::Result<usize> {
        let inside = std::path::absolute(folder)?.starts_with(std::path::absolute(&self.folder)?);
        ensure!(!inside, "{} is in the folder of the repository itself", folder.display());
        self.ensure_newer_than(folder)?;
        let mut count = 0;
        for name in self.files()? {
            let (from, to) = (self.public().join(&name), folder.join(&name));
            if !is_same(&from, &to)? {
                copy(&from, &to).with_context(|| format!("{} cannot be published", name.display()))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// What is published is never replaced by something older: a device would refuse it. This repository may be an old backup.
    fn ensure_newer_than(&self, folder: &Path) -> anyhow::Result<()> {
        for part in Part::ALL {
            let there = Self { folder: folder.to_owned(), lock: None };
            let published = folder.join(part.name());
            let is_there = |file: &Path| published.join(file.file_name().unwrap_or_default());
            for path in list(&published)? {
                let own = self.public().join(part.name()).join(path.file_name().unwrap_or_default());
                ensure!(
                    !name(&path).ends_with(".root.json") || own.exists() && is_same(&own, &is_there(&own))?,
                    "{} was published by another repository, or this one is an old backup; nothing was copied. What is published can be copied \
                     back into {}",
                    path.display(),
                    self.public().display()
                );
            }
            let timestamp = published.join("timestamp.json");
            if timestamp.exists() {
                let version = |repository: &Self, path: &Path| -> anyhow::Result<u64> {
                    Ok(repository.role_at("timestamp", path)?.version)
                };
                let own = version(self, &self.path(part, "timestamp.json"))?;
                let published = version(&there, &timestamp)?;
                ensure!(
                    published <= own,
                    "{} has version {published}, and this repository {own}: it is an old backup; nothing was copied. What is published can be \
                     copied back into {}",
                    timestamp.display(),
                    self.public().display()
                );
            }
        }
        Ok(())
    }

    /// Puts what a web server serves into one archive (tar). Gives how many files are in it.
    pub(crate) fn bundle(&self, to: &Path) -> anyhow::Result<usize> {
        let names = self.files()?;
        ensure!(!to.is_dir(), "{} is a folder; name a file", to.display());
        let beside =
            to.with_file_name(format!(".{}.new", to.file_name().unwrap_or_default().to_string_lossy()));
        let write = || -> anyhow::Result<()> {
            let mut archive = tar::Builder::new(fs_err::File::create(&beside)?);
            archive.mode(tar::HeaderMode::Deterministic);
            for name in &names {
                archive.append_path_with_name(self.public().join(name), name)?;
            }
            archive.into_inner()?.sync_all()?;
            Ok(fs_err::rename(&beside, to)?)
        };
        if let Err(error) = write() {
            file::remove(&beside)?;
            return Err(error);
        }
        file::sync_folder(to)?;
        Ok(names.len())
    }

    /// The files that a web server serves, each before what names it, by their paths below its folder.
    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for (part, kind) in ORDER {
            let folder = self.public().join(part.name());
            let mut found = match kind {
                Kind::Files => below(&folder.join("targets"))?,
                Kind::Metadata(ending) => {
                    let mut found = list(&folder)?;
                    found.retain(|path| path.is_file() && name(path).ends_with(ending));
                    found
                }
            };
            found.sort();
            for path in found {
                files.push(path.strip_prefix(self.public())?.to_owned());
            }
        }
        Ok(files)
    }
}

/// All files in a folder and in those in it, but for those that are being written.
fn below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in list(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else if !name(&path).starts_with('.') {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    entries.collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a file is there already.
fn is_same(from: &Path, to: &Path) -> anyhow::Result<bool> {
    let Ok(there) = fs_err::metadata(to) else { return Ok(false) };
    if there.len() != fs_err::metadata(from)?.len() {
        return Ok(false);
    }
    Ok(hashes(from)?.1.sha256 == hashes(to)?.1.sha256)
}

/// Copies a file so that it is there as a whole or not at all.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = platform::paths::folder_of(to);
    fs_err::create_dir_all(folder)?;
    let beside = folder.join(".new");
    copy_public(from, &beside)?;
    fs_err::rename(&beside, to)?;
    Ok(file::sync_folder(to)?)
}
