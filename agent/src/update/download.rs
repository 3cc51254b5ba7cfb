//! From an address to a file that is known to be what the feed promised.
//!
//! The file is new, private and stays open from the first byte to the installation, so nobody can exchange it. It is
//! written as it arrives, with its hash computed on the way: memory does not grow with its size.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use agent_platform::{file, install};
use policy_schema::{Code, Problem};
use ring::digest;
use semver::Version;

use super::feed::{Artifact, Release};
use crate::http::{Http, chain};

/// A file that arrived; nothing is known about it yet.
struct Downloaded {
    file: fs_err::File,
    path: PathBuf,
    length: u64,
    sha512: digest::Digest,
}

/// A file that has the size and the hash that the feed promised. Only [`Downloaded::verify`] makes one.
pub(super) struct Verified {
    file: fs_err::File,
    path: PathBuf,
    version: Version,
}

impl Verified {
    /// The version that it installs.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// The file, at its start.
    pub(super) fn rewind(&mut self) -> std::io::Result<&mut fs_err::File> {
        self.file.rewind()?;
        Ok(&mut self.file)
    }
}

impl Drop for Verified {
    fn drop(&mut self) {
        discard(&self.path);
    }
}

/// Downloads and verifies the artifact of a release.
pub(super) async fn download(http: &Http, release: &Release, staging: &Path) -> Result<Verified, Problem> {
    let artifact = &release.artifact;
    let failed = |reason: String| {
        Problem::new(Code::UpdateDownloadFailed, reason)
            .at(artifact.url.as_str())
            .using("the version that is installed")
    };
    let prepared = prepare(staging, artifact.size).map_err(|error| failed(error.to_string()))?;
    match fetch(http, artifact, prepared).await {
        Ok(downloaded) => downloaded.verify(release),
        Err(reason) => {
            discard(&staging.join(NAME));
            Err(failed(reason))
        }
    }
}

const NAME: &str = "artifact";

/// An empty private file, and room for it and for what is inside it.
fn prepare(staging: &Path, size: u64) -> std::io::Result<fs_err::File> {
    file::create_folder(staging, file::Access::Private)?;
    let path = staging.join(NAME);
    file::remove(&path)?;
    let (free, needed) = (install::free_space(staging)?, size.saturating_mul(4));
    if free < needed {
        return Err(std::io::Error::other(format!(
            "{} has {free} bytes free, but download and unpacking need {needed}",
            staging.display()
        )));
    }
    file::create_private(&path)
}

async fn fetch(http: &Http, artifact: &Artifact, mut file: fs_err::File) -> Result<Downloaded, String> {
    let mut response = http.open(&artifact.url).await.map_err(|error| chain(&error))?;
    let mut hash = digest::Context::new(&digest::SHA512);
    let mut length = 0;
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error.without_url()))? {
        length += chunk.len() as u64;
        hash.update(&chunk);
        if length > artifact.size {
            // More than promised: it cannot be right, so the disk need not hold the rest.
            break;
        }
        file.write_all(&chunk).map_err(|error| error.to_string())?;
    }
    file.sync_all().map_err(|error| error.to_string())?;
    let path = file.path().to_owned();
    Ok(Downloaded { file, path, length, sha512: hash.finish() })
}

impl Downloaded {
    fn verify(self, release: &Release) -> Result<Verified, Problem> {
        let Artifact { url, sha512, size } = &release.artifact;
        let mismatch = |code, message: String| {
            discard(&self.path);
            Err(Problem::new(code, message)
                .at(url.as_str())
                .using("the version that is installed; the download was thrown away")
                .hint("publish the feed and its file together again".to_owned()))
        };
        if self.length != *size {
            let compared = if self.length > *size { "more" } else { "fewer" };
            let message = format!("the feed promises {size} bytes, but {compared} arrived");
            return mismatch(Code::UpdateSizeMismatch, message);
        }
        if self.sha512.as_ref() != sha512 {
            let message = "the file has another SHA-512 than the feed promises".to_owned();
            return mismatch(Code::UpdateHashMismatch, message);
        }
        Ok(Verified { file: self.file, path: self.path, version: release.version.clone() })
    }
}

fn discard(path: &Path) {
    if let Err(error) = file::remove(path) {
        tracing::warn!("a download stays behind: {error}");
    }
}
