//! The file of a release, from one that is there already and a patch: a tenth of the download, or less.
//!
//! What comes out is verified as every download is, so a patch that does not fit costs its own download and no more.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::http::HttpError;
use platform::file;
use ring::digest::{Context, SHA512};
use updates::feed::Patch;
use updates::journal::Offer;
use updates::patch;

use super::{DownloadError, PIECE, Places, Staged, Verified, from_network, limit};

/// How often a patch is asked for.
const TRIES: u32 = 2;

/// Why a patch does not help.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be downloaded")]
    Download(#[from] DownloadError),
    #[error("it cannot be applied")]
    Apply(#[from] patch::PatchError),
    #[error("what comes out of it is another file")]
    Other,
    #[error("a file cannot be read or written")]
    File(#[from] io::Error),
}

/// Fills an empty download from a file that is there, if one of the patches is for that and works. Gives the download, empty again if none
/// does.
pub(super) async fn fill(
    places: &Places<'_>,
    offer: &Offer,
    staging: &Path,
    staged: Staged,
) -> Result<Staged, DownloadError> {
    let Some((old, patches)) = places.patches else { return Ok(staged) };
    // There while one is applied: if that ended the agent, it does not do so again.
    let begun = staged.path.with_extension("patch-begun");
    if begun.exists() {
        return Ok(staged);
    }
    let Some(patch) = fitting(old, patches).await else { return Ok(staged) };
    let size = patch.artifact.size;
    let made = match fetch(places, patch, offer, staging).await {
        Ok(fetched) => {
            fs_err::write(&begun, "").map_err(DownloadError::Create)?;
            apply((old, fetched), offer, staged).await
        }
        Err(error) => {
            // Windows removes a file once nobody has it open.
            drop(staged);
            Err(error)
        }
    };
    file::remove(&begun).map_err(DownloadError::Create)?;
    match made {
        Ok(staged) => {
            tracing::info!("version {} was made from a patch of {size} bytes", offer.version);
            Ok(staged)
        }
        Err(Unusable::Download(DownloadError::Interrupted)) => Err(DownloadError::Interrupted),
        Err(error) => {
            tracing::warn!("the patch {} does not help: {}", patch.artifact.url, net::chain(&error));
            Staged::fresh(staging, offer)
        }
    }
}

/// The patch that is for this file.
async fn fitting<'p>(old: &Path, patches: &'p [Patch]) -> Option<&'p Patch> {
    let old = Some(old.to_owned()).filter(|_| !patches.is_empty())?;
    let hashing = tokio::task::spawn_blocking(move || -> io::Result<[u8; 64]> {
        let mut hash = Hash(Context::new(&SHA512));
        io::copy(&mut fs_err::File::open(old)?, &mut hash)?;
        hash.0.finish().as_ref().try_into().map_err(io::Error::other)
    });
    let hash = hashing.await.ok()?.ok()?;
    patches.iter().find(|patch| patch.from == hash)
}

async fn fetch(
    places: &Places<'_>,
    patch: &Patch,
    offer: &Offer,
    staging: &Path,
) -> Result<Verified, Unusable> {
    let wanted = Offer {
        url: patch.artifact.url.clone(),
        sha512: STANDARD.encode(patch.artifact.sha512),
        size: patch.artifact.size,
        ..offer.clone()
    };
    let limit = limit(wanted.size);
    let mut tries = 0;
    loop {
        tries += 1;
        let part = Staged::beside(staging)?;
        let fetching = from_network(places, &wanted.url, &wanted, part, None, |_, _| Ok(()));
        let fetched = tokio::time::timeout(limit, fetching).await;
        match fetched.unwrap_or(Err(DownloadError::TooSlow { seconds: limit.as_secs() })) {
            // A connection that ended costs less than the whole file does.
            Err(DownloadError::Http(error))
                if tries < TRIES && !matches!(error, HttpError::Status { .. }) => {}
            fetched => return Ok(fetched?.verify(&wanted)?),
        }
    }
}

async fn apply(
    (old, mut fetched): (&Path, Verified),
    offer: &Offer,
    mut staged: Staged,
) -> Result<Staged, Unusable> {
    let (old, length) = (fs_err::File::open(old)?, offer.size);
    let applying = tokio::task::spawn_blocking(move || -> Result<Staged, Unusable> {
        let mut new = BufWriter::with_capacity(PIECE, To(&mut staged));
        patch::apply(old, fetched.rewind()?, &mut new, length)?;
        new.flush()?;
        drop(new);
        Ok(staged)
    });
    let mut staged = applying.await.map_err(io::Error::other)??;
    staged.sync().await?;
    if STANDARD.encode(staged.hash.clone().finish()) == offer.sha512 {
        Ok(staged)
    } else {
        Err(Unusable::Other)
    }
}

struct Hash(Context);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to a download, and computes its hash on the way.
struct To<'s>(&'s mut Staged);

impl Write for To<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
