//! Installs what the operating system's own installers install: a program that Windows runs, a package of Windows Installer, of
//! macOS, of Debian or of rpm.
//!
//! In: a [`Verified`] file, and who may have made it. Out: the version that the system then says is installed, or why it is not.
//! Called by [`super::target`]. An installer that was accepted is kept, so that the version can be put back without anybody's
//! help. Only a [`Kept`] one is ever started.

mod command;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use platform::installer::Installer as Running;
use platform::paths::Paths;
use platform::{app, file, install as system, installed, installer};
use ring::digest::{Context, SHA512};
use semver::Version;
use updates::journal::Offer;

use super::download::Verified;
use super::publisher::{self, PublisherError};
use crate::app::descriptor::{self, Descriptor, System};
use crate::app::process;
use crate::state::private_folder;
use command::{CommandLine, Exit, Format};

/// How long one waits in all for another installation to end, and at most at once.
const BUSY_LIMIT: Duration = Duration::from_mins(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an installer of an earlier run, or an uninstaller that works on in the background, is waited for.
const RUNNING_LIMIT: Duration = Duration::from_hours(1);
const REMOVAL_LIMIT: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_secs(2);
/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 * 1024;

/// Why an installer did not install its version.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstallerError {
    #[error("{name} is no installer of this system")]
    Format { name: String },
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    #[error("the installer cannot be kept")]
    Keep(#[source] io::Error),
    #[error("the installer cannot be run")]
    Run(#[source] io::Error),
    #[error("another installation is under way on this device")]
    Busy,
    #[error("{0}")]
    Hindered(String),
    #[error("{why}; {found}")]
    Failed { why: String, found: Found },
}

/// What is installed after an installer failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What was there before.
    Before(Option<Version>),
    /// Something else: it is broken.
    Else(Option<Version>),
}

impl std::fmt::Display for Found {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Before(Some(version)) => write!(formatter, "{version} is still installed"),
            Self::Before(None) => formatter.write_str("no version is installed, as before"),
            Self::Else(Some(version)) => write!(formatter, "{version} is installed now"),
            Self::Else(None) => formatter.write_str("no version is installed any more"),
        }
    }
}

/// An app that the operating system installs.
pub(super) struct Installer<'a> {
    pub(super) paths: &'a Paths,
    pub(super) app: &'a Descriptor,
    pub(super) system: &'a System,
    pub(super) about: &'a descriptor::Installer,
}

impl Installer<'_> {
    /// The version that the operating system says is installed.
    pub(super) fn installed_version(&self) -> Option<Version> {
        let Descriptor { title, .. } = self.app;
        let package = self.system.package.as_deref();
        let known = installed::App { package, folders: &self.system.programs, title };
        let text = app::installed_version(self.paths, &known)?;
        Some(self.system.version_of(&text))
    }

    /// The app's program.
    pub(super) fn program(&self) -> PathBuf {
        self.paths.under_root(self.about.program.as_ref())
    }

    /// Installs a verified file. Gives whether the device has to be restarted to finish.
    pub(super) async fn install(
        &self,
        verified: Verified,
        publishers: &[String],
        previous: Option<&Version>,
    ) -> Result<bool, InstallerError> {
        let version = verified.version().clone();
        let folder = self.kept_folder(&version);
        let kept = blocking({
            let publishers = publishers.to_owned();
            move || Kept::accept(verified, &folder, &publishers)
        });
        self.run(&kept.await.map_err(InstallerError::Keep)??, &version, previous).await
    }

    /// Goes on with an installation that a crash interrupted: the installer was accepted before it. `None` if none was.
    pub(super) async fn install_again(
        &self,
        offer: &Offer,
        previous: Option<&Version>,
    ) -> Option<Result<bool, InstallerError>> {
        let kept = self.kept(&offer.version).await.ok().flatten()?;
        // A version may have been published again with another file.
        let is_the_same = STANDARD.encode(&kept.hash) == offer.sha512;
        if is_the_same { Some(self.run(&kept, &offer.version, previous).await) } else { None }
    }

    /// `previous` is what was there before the first attempt, of which a crash may have left anything.
    async fn run(
        &self,
        kept: &Kept,
        version: &Version,
        previous: Option<&Version>,
    ) -> Result<bool, InstallerError> {
        let exit = self.run_installer(kept).await?;
        let after = self.installed_version();
        let is_there = after.as_ref().is_some_and(|after| after.cmp_precedence(version).is_eq());
        let why = match exit {
            Exit::Busy => return Err(InstallerError::Busy),
            Exit::Hindered(why) if after.as_ref() == previous => return Err(InstallerError::Hindered(why)),
            Exit::Done if is_there => return Ok(false),
            // What is in use is replaced then.
            Exit::RestartNeeded => return Ok(true),
            Exit::Done => {
                "the installer says that it succeeded, but the system does not know the version".to_owned()
            }
            Exit::Hindered(why) | Exit::Failed(why) => why,
        };
        let found = if after.as_ref() == previous { Found::Before(after) } else { Found::Else(after) };
        Err(InstallerError::Failed { why, found })
    }

    async fn run_installer(&self, kept: &Kept) -> Result<Exit, InstallerError> {
        let root = self.paths.root();
        let log = self.folder().join("windows-installer.log");
        self.run_line(kept.format, &kept.path, kept.format.install(&kept.path, root, &log)).await
    }

    /// Runs a command line for an installer. While something else is being installed, it waits for a while.
    async fn run_line(&self, format: Format, file: &Path, line: CommandLine) -> Result<Exit, InstallerError> {
        // One that an earlier run of the agent started is never disturbed.
        if !eventually(RUNNING_LIMIT, || !process::runs_with(file)).await {
            return Err(InstallerError::Busy);
        }
        let log = self.folder().join("installer.log");
        let what =
            Running { name: &self.app.name, program: line.program, arguments: line.arguments, log: &log };
        let (mut waited, mut pause) = (Duration::ZERO, POLL);
        loop {
            let ended = installer::run(self.paths, &what).await.map_err(InstallerError::Run)?;
            let said = command::summary(&ended.said, file);
            tracing::info!("the installer of {} ended with {:?}: {said}", self.app.title, ended.code);
            let exit = format.exit(ended.code, &said);
            if exit != Exit::Busy || waited >= BUSY_LIMIT {
                return Ok(exit);
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether the version that is to be there is there, and starts.
    pub(super) async fn confirm(&self, version: &Version) -> io::Result<()> {
        let there = self.installed_version();
        if there.as_ref().is_none_or(|there| !there.cmp_precedence(version).is_eq()) {
            let there = there.map_or_else(|| "no version".to_owned(), |there| there.to_string());
            return Err(io::Error::other(format!("the system says that {there} is installed")));
        }
        let program = self.program();
        match &self.about.self_check {
            Some(arguments) => system::try_start(&program, arguments).await,
            None if program.exists() => Ok(()),
            None => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", program.display())))
            }
        }
    }

    /// Puts the previous version back with the installer that was kept, or removes the app if there was none.
    pub(super) async fn roll_back(&self, previous: Option<&Version>) -> io::Result<()> {
        let present = match self.installed_version() {
            Some(present) => self.kept(&present).await?,
            None => None,
        };
        let Some(previous) = previous else {
            return match present {
                Some(present) => self.remove(&present).await,
                None => Err(not_kept("the installer of the version that is installed")),
            };
        };
        let kept =
            self.kept(previous).await?.ok_or_else(|| not_kept(&format!("the installer of {previous}")))?;
        // Windows Installer puts no older version over a newer one.
        if let (Format::Msi, Some(present)) = (kept.format, &present)
            && let Err(error) = self.remove(present).await
        {
            tracing::warn!("what is installed cannot be removed: {error}");
        }
        match self.run_installer(&kept).await.map_err(io::Error::other)? {
            Exit::Done | Exit::RestartNeeded => {}
            Exit::Busy => return Err(io::Error::other(InstallerError::Busy)),
            Exit::Hindered(why) | Exit::Failed(why) => return Err(io::Error::other(why)),
        }
        let there = self.installed_version();
        if there.as_ref().is_some_and(|there| there.cmp_precedence(previous).is_eq()) {
            return Ok(());
        }
        let there = there.map_or_else(|| "no version".to_owned(), |there| there.to_string());
        Err(io::Error::other(format!("the installer of {previous} ran, but {there} is installed")))
    }

    async fn remove(&self, present: &Kept) -> io::Result<()> {
        let uninstaller = self.about.uninstaller.as_ref().map(|path| self.paths.under_root(path.as_ref()));
        let (root, package) = (self.paths.root(), self.system.package.as_deref());
        let line = present.format.remove(&present.path, root, uninstaller.as_deref(), package);
        let line = line.ok_or_else(|| not_kept("a program that removes the app"))?;
        let exit = self.run_line(present.format, &present.path, line).await.map_err(io::Error::other)?;
        // The uninstaller of NSIS works on in a copy of itself (NSIS Users Manual, section 3.2.2).
        if eventually(REMOVAL_LIMIT, || self.installed_version().is_none()).await {
            return Ok(());
        }
        Err(io::Error::other(format!("the app is still there: {exit:?}")))
    }

    /// Whether a version can be put back.
    pub(super) fn is_there(&self, version: &Version) -> bool {
        only_file(&self.kept_folder(version)).is_some()
    }

    /// Removes the installers of other versions than these.
    pub(super) fn clean_up(&self, keep: &[Version]) {
        let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
        let Ok(entries) = fs_err::read_dir(self.folder()) else { return };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            if !keep.contains(&entry.file_name().to_string_lossy().into_owned())
                && let Err(error) = fs_err::remove_dir_all(entry.path())
            {
                tracing::warn!("an old installer cannot be removed: {error}");
            }
        }
    }

    /// The installer of a version, if it was kept and is as it was.
    async fn kept(&self, version: &Version) -> io::Result<Option<Kept>> {
        let folder = self.kept_folder(version);
        blocking(move || Kept::find(&folder)).await?
    }

    fn folder(&self) -> PathBuf {
        private_folder(self.paths).join("installers").join(&self.app.name)
    }

    fn kept_folder(&self, version: &Version) -> PathBuf {
        self.folder().join(version.to_string())
    }
}

/// An installer that was accepted, under a name that is its hash. While this is held, Windows lets nobody change the file; it
/// lies in the agent's private folder, which nobody else can open.
struct Kept {
    path: PathBuf,
    format: Format,
    hash: Vec<u8>,
    _open: fs_err::File,
}

impl Kept {
    /// Accepts a file that has the hash of the feed, if its publisher may install the app.
    fn accept(verified: Verified, folder: &Path, publishers: &[String]) -> Result<Self, InstallerError> {
        let format = Format::of(verified.name())
            .ok_or_else(|| InstallerError::Format { name: verified.name().to_owned() })?;
        let hash = verified.hash();
        let name = format!("{}.{}", URL_SAFE_NO_PAD.encode(&hash), format.ending());
        // From here on it is open for reading only, and nobody can open it for writing.
        let staged = verified.into_path();
        let open = file::open_unchangeable(&staged).map_err(InstallerError::Keep)?;
        if hash_of(&open).map_err(InstallerError::Keep)? != hash {
            return Err(InstallerError::Keep(io::Error::other("it was changed after it was verified")));
        }
        publisher::check_open(&open, &staged, publishers)?;
        let path = folder.join(name);
        keep(&staged, folder, &path).map_err(InstallerError::Keep)?;
        Ok(Self { path, format, hash, _open: open })
    }

    /// The one that is in a folder. One whose content is not what its name says is none.
    fn find(folder: &Path) -> io::Result<Option<Self>> {
        let Some(path) = only_file(folder) else { return Ok(None) };
        let (Some(format), Some(stem)) =
            (path.file_name().and_then(|name| Format::of(name.to_str()?)), path.file_stem())
        else {
            return Ok(None);
        };
        let open = file::open_unchangeable(&path)?;
        let hash = hash_of(&open)?;
        let is_right = URL_SAFE_NO_PAD.encode(&hash) == stem.to_string_lossy();
        Ok(is_right.then_some(Self { path, format, hash, _open: open }))
    }
}

/// Gives a file a second name, or copies it where there can be none, so that it is there also when the download is removed.
fn keep(staged: &Path, folder: &Path, path: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => file::create_folder(folder, file::Access::Private)?,
    }
    if fs_err::hard_link(staged, path).is_err() {
        fs_err::copy(staged, path)?;
        fs_err::File::open(path)?.sync_all()?;
    }
    file::sync_folder(path)
}

/// The file of a folder that has one.
fn only_file(folder: &Path) -> Option<PathBuf> {
    let mut entries = fs_err::read_dir(folder).ok()?.flatten();
    let first = entries.next()?.path();
    (entries.next().is_none() && first.is_file()).then_some(first)
}

fn hash_of(mut file: &fs_err::File) -> io::Result<Vec<u8>> {
    let mut hash = Context::new(&SHA512);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finish().as_ref().to_owned()),
            count => hash.update(&piece[..count]),
        }
    }
}

fn not_kept(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what} is not on this device"))
}

/// Waits until something holds. Gives whether it does at last.
async fn eventually(limit: Duration, holds: impl Fn() -> bool) -> bool {
    let mut waited = Duration::ZERO;
    while !holds() {
        if waited >= limit {
            return false;
        }
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
    true
}

/// Lets nothing wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
