//! Downloads the artifact of a release and verifies it.
//!
//! In: a [`Release`] of the feed and a private folder. Out: a [`Verified`] file that has the size and the hash of the
//! feed. Called by [`super::run`].
//!
//! The file is new and private. It stays open from the first byte to the installation, so no process can exchange it.
//! It is written as it arrives, and its hash is computed on the way: memory does not grow with its size.

use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::http::{Http, HttpError};
use platform::{file, install};
use ring::digest;
use semver::Version;

use super::feed::{Artifact, Release};

/// A download that is slower than so many bytes a second, over the whole of it, is given up.
const SLOWEST: u64 = 16 * 1024;
/// How long a small one may take.
const SHORTEST_LIMIT: Duration = Duration::from_mins(10);

/// Why there is no verified file.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    #[error("the file for the download cannot be created")]
    Create(#[source] io::Error),
    #[error("{} has {free} bytes free, but download and unpacking need {needed}", folder.display())]
    NoSpace { folder: PathBuf, free: u64, needed: u64 },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the download cannot be written")]
    Write(#[source] io::Error),
    #[error("the feed promises {promised} bytes, but fewer arrived")]
    TooShort { promised: u64 },
    #[error("the feed promises {promised} bytes, but more arrived")]
    TooLong { promised: u64 },
    #[error("the download did not end within {seconds} seconds")]
    TooSlow { seconds: u64 },
    #[error("the SHA-512 of the file is not the one that the feed promises")]
    Hash,
}

/// A file that has the size and the hash that the feed promises. Only [`Downloaded::verify`] makes one.
pub(super) struct Verified {
    staged: StagedFile,
    version: Version,
}

impl Verified {
    /// The version that it installs.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// The file, at its start.
    pub(super) fn rewind(&mut self) -> io::Result<&mut fs_err::File> {
        self.staged.file.rewind()?;
        Ok(&mut self.staged.file)
    }
}

/// Downloads and verifies the artifact of a release.
pub(super) async fn download(
    http: &Http,
    release: &Release,
    staging: &Path,
) -> Result<Verified, DownloadError> {
    let staged = StagedFile::create(staging, release.artifact.size)?;
    let limit = SHORTEST_LIMIT + Duration::from_secs(release.artifact.size / SLOWEST);
    let fetched = tokio::time::timeout(limit, fetch(http, &release.artifact, staged)).await;
    fetched.unwrap_or(Err(DownloadError::TooSlow { seconds: limit.as_secs() }))?.verify(release)
}

/// A private file that is removed when it is dropped.
struct StagedFile {
    file: fs_err::File,
}

impl StagedFile {
    /// Creates an empty file. The disk must have room for the archive and for what is inside it.
    fn create(staging: &Path, size: u64) -> Result<Self, DownloadError> {
        file::create_folder(staging, file::Access::Private).map_err(DownloadError::Create)?;
        let path = staging.join("artifact");
        file::remove(&path).map_err(DownloadError::Create)?;
        let free = install::free_space(staging).map_err(DownloadError::Create)?;
        let needed = size.saturating_mul(4);
        if free < needed {
            return Err(DownloadError::NoSpace { folder: staging.to_owned(), free, needed });
        }
        Ok(Self { file: file::create_private(&path).map_err(DownloadError::Create)? })
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Err(error) = file::remove(self.file.path()) {
            tracing::warn!("a download cannot be removed: {error}");
        }
    }
}

/// A file that arrived and was not verified yet.
struct Downloaded {
    staged: StagedFile,
    length: u64,
    sha512: digest::Digest,
}

async fn fetch(
    http: &Http,
    artifact: &Artifact,
    mut staged: StagedFile,
) -> Result<Downloaded, DownloadError> {
    let mut body = http.open(&artifact.url).await?;
    let mut hash = digest::Context::new(&digest::SHA512);
    let mut length = 0;
    while let Some(chunk) = body.chunk().await? {
        length += chunk.len() as u64;
        hash.update(&chunk);
        if length > artifact.size {
            // More than the feed promises cannot be right, so the disk does not need to hold the rest.
            break;
        }
        staged.file.write_all(&chunk).map_err(DownloadError::Write)?;
    }
    staged.file.sync_all().map_err(DownloadError::Write)?;
    Ok(Downloaded { staged, length, sha512: hash.finish() })
}

impl Downloaded {
    fn verify(self, release: &Release) -> Result<Verified, DownloadError> {
        let promised = release.artifact.size;
        if self.length < promised {
            return Err(DownloadError::TooShort { promised });
        }
        if self.length > promised {
            return Err(DownloadError::TooLong { promised });
        }
        if self.sha512.as_ref() != release.artifact.sha512 {
            return Err(DownloadError::Hash);
        }
        Ok(Verified { staged: self.staged, version: release.version.clone() })
    }
}
