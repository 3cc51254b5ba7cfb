//! Downloads the artifact of a release and verifies it.
//!
//! In: an [`Offer`], where its file may be ([`Places`]), and a private folder. Out: a [`Verified`] file that has the size and the
//! hash of the feed. Called by [`super::run`].
//!
//! The file is private. It stays open from the first byte to the installation, so no process can exchange it. It is written as
//! it arrives, and its hash is computed on the way: memory does not grow with its size. What arrived of an earlier download
//! is used, after its hash was computed again.

use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::http::{Body, Http, HttpError};
use percent_encoding::percent_decode_str;
use platform::{clock, file, install};
use ring::digest::{Context, SHA512};
use semver::Version;
use updates::feed::{Patch, allows};
use updates::journal::Offer;
use url::Url;

use super::journals::JournalError;

mod patched;

/// A download that is slower than so many bytes a second, over the whole of it, is given up.
const SLOWEST: u64 = 8 * 1024;
/// How long a small one may take.
const SHORTEST_LIMIT: Duration = Duration::from_mins(10);
/// What has arrived is made durable after so many bytes at the latest, and after so long.
const CHECKPOINT: u64 = 16 * 1024 * 1024;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
/// How much is read from a file at once, in bytes.
const PIECE: usize = 256 * 1024;

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
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("a web page came instead of the file; a network that asks for a sign-in of its own sends one")]
    WebPage,
    #[error("the feed promises {promised} bytes, but fewer arrived")]
    TooShort { promised: u64 },
    #[error("the feed promises {promised} bytes, but more arrived")]
    TooLong { promised: u64 },
    #[error("the download did not end within {seconds} seconds")]
    TooSlow { seconds: u64 },
    #[error("the SHA-512 of the file is not the one that the feed promises")]
    Hash,
    #[error("the feed has changed while its file was downloaded, so the two do not belong together")]
    Moved,
    #[error("policy has changed, or an administrator asked for something; the download goes on after that")]
    Interrupted,
}

impl DownloadError {
    /// Whether the file is another one than the feed describes.
    pub(super) fn is_other_file(&self) -> bool {
        match self {
            Self::TooShort { .. } | Self::TooLong { .. } | Self::Hash => true,
            Self::Create(_)
            | Self::NoSpace { .. }
            | Self::Http(_)
            | Self::Write(_)
            | Self::Journal(_)
            | Self::WebPage
            | Self::TooSlow { .. }
            | Self::Interrupted
            | Self::Moved => false,
        }
    }
}

/// Where the file of a release may be, and how fast it may come.
pub(super) struct Places<'a> {
    pub(super) http: &'a Http,
    pub(super) feed: &'a Url,
    /// Hosts besides the feed's.
    pub(super) hosts: &'a [String],
    /// Folders and addresses that are tried before the feed's.
    pub(super) sources: &'a [String],
    /// A file that is there, and what may lead from it to that of the release.
    pub(super) patches: Option<(&'a Path, &'a [Patch])>,
    /// In bytes a second.
    pub(super) bandwidth: Option<u64>,
    /// While there is such a file, nothing is downloaded: what led to this download may not hold any more.
    pub(super) stop: &'a Path,
}

/// A file that has the size and the hash that the feed promises. Only [`Staged::verify`] makes one.
pub(super) struct Verified {
    staged: Staged,
    version: Version,
    /// As the feed names the file.
    name: String,
}

impl Verified {
    /// Its SHA-512.
    pub(super) fn hash(&self) -> Vec<u8> {
        self.staged.hash.clone().finish().as_ref().to_owned()
    }

    /// Closes it; gives where it is.
    pub(super) fn into_path(self) -> PathBuf {
        self.staged.path
    }

    /// The version that it installs.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// The name of the file in the feed.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The file, at its start.
    pub(super) fn rewind(&mut self) -> io::Result<&mut fs_err::File> {
        self.staged.file.rewind()?;
        Ok(&mut self.staged.file)
    }
}

/// Downloads the rest of an artifact, from `part` on, and verifies the whole. `checkpoint` is told what has become durable.
pub(super) async fn download(
    places: &Places<'_>,
    offer: &Offer,
    staging: &Path,
    part: (u64, Option<String>),
    mut checkpoint: impl FnMut(u64, Option<String>) -> Result<(), JournalError>,
) -> Result<Verified, DownloadError> {
    let (offset, etag) = part;
    let mut staged = Staged::open(staging, offer)?;
    if staged.length == offer.size {
        staged = staged.keep(offer.size).await?;
        if let Ok(verified) = staged.verify(offer) {
            return Ok(verified);
        }
        // A power loss can leave a file of the right size without its content.
        staged = Staged::open(staging, offer)?;
        staged.clear()?;
    }
    let usable = if etag.is_some() { offset.min(staged.length) } else { 0 };
    staged = if usable == 0 {
        // Windows removes a file once nobody has it open.
        drop(staged);
        Staged::fresh(staging, offer)?
    } else {
        staged.keep(usable).await?
    };
    staged.reserve(staging, offer.size)?;
    let limit = limit(offer.size);
    for source in places.sources {
        // A share whose server is away may never answer.
        match tokio::time::timeout(limit, from_source(places, source, offer, staging)).await {
            Ok(Ok(Some(verified))) => return Ok(verified),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!("{source} does not help: {}", net::chain(&error)),
            Err(_) => tracing::warn!("{source} did not answer within {} seconds", limit.as_secs()),
        }
    }
    // What has arrived of the whole file is not thrown away for a patch.
    if staged.length == 0 {
        checkpoint(0, None)?;
        staged = patched::fill(places, offer, staging, staged).await?;
        if staged.length > 0 {
            return staged.verify(offer);
        }
    }
    let fetching = from_network(places, &offer.url, offer, staged, etag, checkpoint);
    let fetched = tokio::time::timeout(limit, fetching).await;
    fetched.unwrap_or(Err(DownloadError::TooSlow { seconds: limit.as_secs() }))?.verify(offer)
}

/// How long a download may take.
fn limit(size: u64) -> Duration {
    SHORTEST_LIMIT + Duration::from_secs(size / SLOWEST)
}

/// Opens a download that is there already, and verifies it.
pub(super) async fn verify_again(staging: &Path, offer: &Offer) -> Result<Verified, DownloadError> {
    Staged::open(staging, offer)?.keep(offer.size).await?.verify(offer)
}

/// Removes every download.
pub(super) fn discard(staging: &Path) {
    let Ok(entries) = fs_err::read_dir(staging) else { return };
    for entry in entries.flatten() {
        if let Err(error) = file::remove(&entry.path()) {
            tracing::warn!("a download cannot be removed: {error}");
        }
    }
}

/// The file of an administrator's source, if it is there and the right one.
async fn from_source(
    places: &Places<'_>,
    source: &str,
    offer: &Offer,
    staging: &Path,
) -> Result<Option<Verified>, DownloadError> {
    let Some(name) = offer.url.path_segments().and_then(|mut path| path.next_back()) else { return Ok(None) };
    // In a signed repository the hash stands before the name (TUF 6.2).
    let name = match name.split_once('.') {
        Some((hash, own))
            if matches!(hash.len(), 64 | 128) && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            own
        }
        Some(_) | None => name,
    };
    if name.is_empty() {
        return Ok(None);
    }
    let staged = if source.contains("://") {
        let base = if source.ends_with('/') { source.to_owned() } else { format!("{source}/") };
        let Ok(url) = base.parse::<Url>().and_then(|base| base.join(name)) else { return Ok(None) };
        let staged = Staged::beside(staging)?;
        from_network(places, &url, offer, staged, None, |_, _| Ok(())).await?
    } else {
        // As a browser saves it: `My%20App.exe` is a file with a space in its name.
        let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
        if name.contains(['/', '\\']) || name == ".." {
            return Ok(None);
        }
        let path = Path::new(source).join(name);
        let mut staged = Staged::beside(staging)?;
        let size = offer.size;
        let copying = tokio::task::spawn_blocking(move || {
            // Neither a device nor a pipe, which could be read for ever.
            if !fs_err::metadata(&path)?.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            let mut file = fs_err::File::open(&path)?.take(size + 1);
            let mut piece = vec![0; PIECE];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(staged),
                    count => staged.write(&piece[..count])?,
                }
            }
        });
        let copied = copying.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        copied.map_err(DownloadError::Create)?
    };
    staged.verify(offer).map(Some)
}

async fn from_network(
    places: &Places<'_>,
    url: &Url,
    offer: &Offer,
    mut staged: Staged,
    etag: Option<String>,
    mut checkpoint: impl FnMut(u64, Option<String>) -> Result<(), JournalError>,
) -> Result<Staged, DownloadError> {
    let part = etag.as_deref().map(|etag| (staged.length, etag));
    let allowed = |to: &Url| allows(url, places.hosts, to) || allows(places.feed, places.hosts, to);
    let mut body = match places.http.open(url, part, allowed).await {
        // What the server sends does not fit what is there, and would not the next time either.
        Err(HttpError::Range { .. }) => {
            staged.clear()?;
            places.http.open(url, None, allowed).await?
        }
        opened => opened?,
    };
    if body.is_web_page() {
        return Err(DownloadError::WebPage);
    }
    if body.offset() != staged.length {
        staged.clear()?;
    }
    let promised = offer.size;
    match body.length().map(|length| body.offset() + length) {
        Some(length) if length < promised => return Err(DownloadError::TooShort { promised }),
        Some(length) if length > promised => return Err(DownloadError::TooLong { promised }),
        Some(_) | None => {}
    }
    let etag = body.etag();
    checkpoint(staged.length, etag.clone())?;
    let received =
        receive(places, &mut body, promised, &mut staged, |length| checkpoint(length, etag.clone())).await;
    // Also after a failure: the next time goes on from here.
    let length = staged.sync().await?;
    received?;
    checkpoint(length, etag)?;
    Ok(staged)
}

async fn receive(
    places: &Places<'_>,
    body: &mut Body,
    size: u64,
    staged: &mut Staged,
    mut checkpoint: impl FnMut(u64) -> Result<(), JournalError>,
) -> Result<(), DownloadError> {
    let started = clock::monotonic();
    let (mut arrived, mut durable, mut durable_at) = (0_u64, staged.length, started);
    loop {
        let chunk = match body.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(()),
            Err(error) => {
                let length = staged.sync().await?;
                checkpoint(length)?;
                return Err(error.into());
            }
        };
        staged.write(&chunk).map_err(DownloadError::Write)?;
        if staged.length > size {
            // More than the feed promises cannot be right, so the disk does not need to hold the rest.
            return Ok(());
        }
        let now = clock::monotonic();
        if staged.length - durable >= CHECKPOINT || now.saturating_sub(durable_at) >= CHECKPOINT_INTERVAL {
            durable = staged.sync().await?;
            durable_at = now;
            checkpoint(durable)?;
            if places.stop.exists() {
                return Err(DownloadError::Interrupted);
            }
        }
        arrived += chunk.len() as u64;
        if let Some(bandwidth) = places.bandwidth {
            let due = Duration::from_millis(arrived.saturating_mul(1000) / bandwidth.max(1));
            tokio::time::sleep(due.saturating_sub(clock::monotonic().saturating_sub(started))).await;
        }
    }
}

/// A private file with what has arrived so far, and the hash of that.
struct Staged {
    file: fs_err::File,
    path: PathBuf,
    length: u64,
    hash: Context,
}

impl Staged {
    /// Opens the download of an offer, or creates an empty one.
    fn open(staging: &Path, offer: &Offer) -> Result<Self, DownloadError> {
        file::create_folder(staging, file::Access::Private).map_err(DownloadError::Create)?;
        Self::at(&Self::path(staging, offer))
    }

    /// An empty download of an offer. What was there may still be written by a task that nobody waits for any more; it is another file.
    fn fresh(staging: &Path, offer: &Offer) -> Result<Self, DownloadError> {
        file::remove(&Self::path(staging, offer)).map_err(DownloadError::Create)?;
        Self::open(staging, offer)
    }

    /// Safe in a name, and another file has another one.
    fn path(staging: &Path, offer: &Offer) -> PathBuf {
        let name: String = offer.sha512.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        staging.join(name)
    }

    /// An empty file for what an administrator's source has, which is not mixed with what came from the feed.
    fn beside(staging: &Path) -> Result<Self, DownloadError> {
        let path = staging.join("source");
        file::remove(&path).map_err(DownloadError::Create)?;
        Self::at(&path)
    }

    fn at(path: &Path) -> Result<Self, DownloadError> {
        let opened = fs_err::OpenOptions::new().read(true).write(true).open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => file::create_private(path),
            opened => opened,
        };
        let file = file.map_err(DownloadError::Create)?;
        let length = file.metadata().map_err(DownloadError::Create)?.len();
        Ok(Self { file, path: path.to_owned(), length, hash: Context::new(&SHA512) })
    }

    /// Keeps the first bytes, and computes their hash again.
    async fn keep(mut self, length: u64) -> Result<Self, DownloadError> {
        let kept = tokio::task::spawn_blocking(move || {
            if self.length != length {
                self.file.set_len(length)?;
            }
            self.hash = Context::new(&SHA512);
            self.file.rewind()?;
            let mut piece = vec![0; PIECE];
            loop {
                match self.file.read(&mut piece)? {
                    0 => break,
                    count => self.hash.update(&piece[..count]),
                }
            }
            self.length = length;
            self.file.seek(SeekFrom::End(0))?;
            Ok(self)
        });
        kept.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(DownloadError::Create)
    }

    fn clear(&mut self) -> Result<(), DownloadError> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(DownloadError::Create)?;
        self.length = 0;
        self.hash = Context::new(&SHA512);
        Ok(())
    }

    /// The disk must have room for the rest of the archive and for what is inside it.
    fn reserve(&self, staging: &Path, size: u64) -> Result<(), DownloadError> {
        let free = install::free_space(staging).map_err(DownloadError::Create)?;
        let needed = size.saturating_mul(4).saturating_sub(self.length);
        if free < needed {
            return Err(DownloadError::NoSpace { folder: staging.to_owned(), free, needed });
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Makes durable what has arrived; gives its length. The disk may take its time, and nothing waits for it.
    async fn sync(&mut self) -> Result<u64, DownloadError> {
        let file = self.file.try_clone().map_err(DownloadError::Write)?;
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(DownloadError::Write)?;
        Ok(self.length)
    }

    fn verify(self, offer: &Offer) -> Result<Verified, DownloadError> {
        let promised = offer.size;
        if self.length < promised {
            return Err(DownloadError::TooShort { promised });
        }
        if self.length > promised {
            return Err(DownloadError::TooLong { promised });
        }
        if STANDARD.encode(self.hash.clone().finish()) != offer.sha512 {
            return Err(DownloadError::Hash);
        }
        Ok(Verified { version: offer.version.clone(), name: offer.url.path().to_owned(), staged: self })
    }
}
