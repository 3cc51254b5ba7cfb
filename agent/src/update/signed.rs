//! A signed repository as a feed: where its metadata comes from, and where it is kept. What it means is decided by
//! [`updates::signed`].
//!
//! At `UpdateFeed` are two repositories of The Update Framework: `image/` and `director/`. The files are in `image/targets/`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use net::http::{Http, HttpError};
use platform::clock;
use platform::file::{self, Access};
use policy_schema::roots::{TrustedRoot, TrustedRoots};
use updates::feed::Wanted;
use updates::signed::compose::{Composed, compose};
use updates::signed::{
    Client, Error, FetchFuture, MemoryStore, MetadataStore, Repository, SignedError, is_root, is_unchanged,
};
use url::Url;

/// No clock that is right says an earlier time. Raised with each version of the agent.
const EARLIEST: Timestamp = Timestamp::constant(1_793_491_200, 0);
/// So many releases that are not taken are named in the log.
const MAXIMUM_LOGGED: usize = 5;
/// A check of both repositories may take so long, whatever they send.
const LIMIT: Duration = Duration::from_mins(10);
/// The file that every check asks for, and how many bytes it may have.
const TIMESTAMP: &str = "timestamp.json";
const MAXIMUM_TIMESTAMP: u64 = 64 * 1024;
/// Where each root is kept that was accepted.
const HISTORY: &str = "root_history";
/// A file of metadata has at most this many bytes: the limit of its largest role.
const MAXIMUM_KEPT: u64 = 5_000_000;

/// Asks both repositories for news, and gives what they name together. `folder`: where what they say is kept; without one, what was
/// learned before is not known.
pub(super) async fn fetch(
    http: &Http,
    feed: &Url,
    roots: &TrustedRoots,
    folder: Option<&Path>,
    app: &str,
    wanted: &Wanted<'_>,
) -> Result<(Url, Composed), SignedError> {
    let base = folder_of(feed);
    let clock = clock::now().max(EARLIEST);
    let fetching = async {
        let mut timestamps = Timestamps::default();
        if let Some(folder) = folder {
            timestamps = ask(http, &base, roots, folder).await?;
        }
        // The director first: whoever publishes names a release there when the image repository has it. What one of them knows of the time
        // holds for both.
        let is_unchanged = timestamps.image.is_some();
        let kept =
            |name, root| folder.filter(|_| is_unchanged).map(|folder| Folder(of_root(folder, name, root)));
        let mut mirror = Mirror::new(http, &base, "director")?;
        (mirror.timestamp, mirror.kept) = (timestamps.director, kept("director", &roots.director));
        let mut director = open(mirror, "director", &roots.director, folder).await?;
        let now = director.refresh(clock).await?;
        let mut mirror = Mirror::new(http, &base, "image")?;
        (mirror.timestamp, mirror.kept) = (timestamps.image, kept("image", &roots.image));
        let mut image = open(mirror, "image", &roots.image, folder).await?;
        let now = image.refresh(now).await?;
        let files = join(&base, "image/")?;
        compose((&mut image, &mut director), app, &files, wanted, now).await
    };
    let composed = tokio::time::timeout(LIMIT, fetching).await.unwrap_or_else(|_| {
        let reason = format!("it did not respond within {} seconds", LIMIT.as_secs());
        Err(SignedError::Unreachable("signed", Error::transport(reason)))
    })?;
    for refused in composed.refused.iter().take(MAXIMUM_LOGGED) {
        tracing::warn!("the signed repository: {refused}");
    }
    Ok((base, composed))
}

/// Timestamps that are known before their repositories are read: that of the director is the first thing that is asked for, and if it
/// says that there is no news, both are those of before.
#[derive(Default)]
struct Timestamps {
    director: Option<Vec<u8>>,
    image: Option<Vec<u8>>,
}

async fn ask(
    http: &Http,
    base: &Url,
    roots: &TrustedRoots,
    folder: &Path,
) -> Result<Timestamps, SignedError> {
    let kept = |name: &'static str, root| {
        let kept = Folder(of_root(folder, name, root)).load(TIMESTAMP);
        kept.map_err(|error| SignedError::Store(name, error.to_string()))
    };
    let (director, image) = (kept("director", &roots.director)?, kept("image", &roots.image)?);
    let mirror = Mirror::new(http, base, "director")?;
    let sent = mirror.get(TIMESTAMP, MAXIMUM_TIMESTAMP).await;
    let sent = sent.map_err(|error| SignedError::Unreachable("director", error))?;
    let image = image.filter(|image| {
        sent.as_ref()
            .zip(director.as_ref())
            .is_some_and(|(sent, director)| is_unchanged(sent, director, image))
    });
    Ok(Timestamps { director: sent, image })
}

async fn open(
    mirror: Mirror,
    name: &'static str,
    root: &TrustedRoot,
    folder: Option<&Path>,
) -> Result<Client, SignedError> {
    Ok(match folder {
        Some(folder) => Client::open(name, mirror, Folder(of_root(folder, name, root)), root).await?,
        None => Client::open(name, mirror, MemoryStore::new(), root).await?,
    })
}

/// Where what a repository said is kept. Another root is another repository, and what one said is no limit for the other; but a later root of
/// one that is known is that one.
fn of_root(folder: &Path, name: &str, root: &TrustedRoot) -> PathBuf {
    let own = folder.join(format!("{name}-{}", root.to_string().replace(':', "-")));
    if own.exists() {
        return own;
    }
    let knows = |kept: &PathBuf| {
        let is_of_name =
            kept.file_name().is_some_and(|kept| kept.to_string_lossy().starts_with(&format!("{name}-")));
        let later = kept.join(HISTORY).join(format!("{}.root.json", root.version));
        is_of_name && fs_err::read(later).is_ok_and(|bytes| is_root(&bytes, root))
    };
    let kept = fs_err::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    kept.into_iter().find(knows).unwrap_or(own)
}

/// An address as that of a folder.
fn folder_of(feed: &Url) -> Url {
    let mut base = feed.clone();
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    base
}

fn join(base: &Url, path: &str) -> Result<Url, SignedError> {
    base.join(path).map_err(|error| SignedError::Unreachable("image", Error::transport(error.to_string())))
}

/// A repository on a web server.
struct Mirror {
    http: Http,
    base: Url,
    /// Its timestamp, where it is known.
    timestamp: Option<Vec<u8>>,
    /// Where there is no news: what is kept, which has every root that there is.
    kept: Option<Folder>,
}

impl Mirror {
    fn new(http: &Http, base: &Url, name: &str) -> Result<Self, SignedError> {
        let base = join(base, &format!("{name}/"))?;
        Ok(Self { http: http.clone(), base, timestamp: None, kept: None })
    }

    async fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let url = self.base.join(path).map_err(|error| Error::transport(format!("{path}: {error}")))?;
        match self.http.get(&url, usize::try_from(limit).unwrap_or(usize::MAX)).await {
            Ok(bytes) => Ok(Some(bytes)),
            // Stores of files say 403 of what is not there.
            Err(HttpError::Status { status: 403 | 404 | 410, .. }) => Ok(None),
            Err(error) => Err(Error::transport_with_source(path.to_owned(), error)),
        }
    }
}

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            match (&self.timestamp, &self.kept) {
                (Some(known), _) if name == TIMESTAMP => Ok(Some(known.clone())),
                (_, Some(kept)) if name.ends_with(".root.json") => kept.load(&format!("{HISTORY}/{name}")),
                _ => self.get(name, max_length).await,
            }
        })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        // Files are downloaded as those of every feed, piece by piece.
        Box::pin(async { Ok(None) })
    }
}

/// Keeps metadata durably: whoever could bring back what was there before could play an old state again.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
        if name.split('/').all(is_name) {
            return Ok(name.split('/').fold(self.0.clone(), |path, part| path.join(part)));
        }
        Err(Error::Malformed(format!("no file can be called {name:?}")))
    }
}

/// Creates a folder and those above it, durably.
fn create(folder: &Path) -> io::Result<()> {
    let above = platform::paths::folder_of(folder);
    if !above.exists() {
        create(above)?;
    }
    file::create_folder(folder, Access::Private)?;
    file::sync_folder(above)
}

impl MetadataStore for Folder {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name)?;
        let failed = |error: io::Error| Error::io(path.display().to_string(), error);
        let length = match fs_err::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if length > MAXIMUM_KEPT {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        fs_err::read(&path).map(Some).map_err(failed)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name)?;
        let parent = platform::paths::folder_of(&path);
        if !parent.exists() {
            create(parent).map_err(|error| Error::io(parent.display().to_string(), error))?;
        }
        file::replace(&path, bytes, Access::Private)
            .map_err(|error| Error::io(path.display().to_string(), error))
    }
}
