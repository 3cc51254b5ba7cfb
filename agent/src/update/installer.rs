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
use net::chain;
use platform::installer::Installer as Running;
use platform::paths::Paths;
use platform::{app, app_processes, file, install as system, installed, installer, random};
use ring::digest::{Context, SHA512};
use semver::{BuildMetadata, Prerelease, Version};
use updates::journal::Offer;

use super::download::Verified;
use super::publisher::{self, PublisherError};
use crate::app::descriptor::{self, Descriptor, System};
use crate::state::private_folder;
use command::{CommandLine, Exit, Format};

/// How long one waits in all for another installation to end, and at most at once.
const BUSY_LIMIT: Duration = Duration::from_mins(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an installer of an earlier run, or an uninstaller that works on in the background, is waited for.
const RUNNING_LIMIT: Duration = Duration::from_hours(1);
const REMOVAL_LIMIT: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_secs(2);
/// How the names of folders for the temporary files of installers begin.
const TEMPORARY: &str = "temporary-";
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
    #[error("a user has opened the app")]
    AppOpen,
    #[error("{0}")]
    Hindered(String),
    /// What is installed is neither the one nor the other version, and this one is tried again.
    #[error("{0}; what is installed is not whole, and the agent goes on")]
    Unfinished(String),
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
    /// The version that the operating system says is installed. A program that it knows no version of is older than every release:
    /// unknown is not absent.
    pub(super) fn installed_version(&self) -> Option<Version> {
        let Descriptor { title, .. } = self.app;
        let package = self.system.package.as_deref();
        let known = installed::App { package, folders: &self.system.programs, title };
        match app::installed_version(self.paths, &known) {
            Some(text) => Some(self.system.version_of(&text)),
            None => self.program().exists().then(|| Version::new(0, 0, 0)),
        }
    }

    /// Whether a version is installed. Some systems write no pre-release: `2.0.0-beta.1` is 2.0.0 to Windows Installer.
    fn is_installed(&self, version: &Version) -> bool {
        self.installed_version().is_some_and(|there| {
            let without = Version { pre: Prerelease::EMPTY, ..version.clone() };
            there.cmp_precedence(version).is_eq()
                || (there.pre.is_empty() && there.cmp_precedence(&without).is_eq())
        })
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
        let exit = self.run_installer(kept, version, previous).await;
        let after = self.installed_version();
        let unchanged = after.as_ref() == previous;
        let why = match exit {
            Err(InstallerError::Run(error)) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(InstallerError::Unfinished(error.to_string()));
            }
            Err(error) if unchanged => return Err(error),
            Err(error) => return Err(InstallerError::Unfinished(chain(&error))),
            Ok(Exit::Busy) if unchanged => return Err(InstallerError::Busy),
            Ok(Exit::Busy) => return Err(InstallerError::Unfinished(chain(&InstallerError::Busy))),
            Ok(Exit::Hindered(why)) if unchanged => return Err(InstallerError::Hindered(why)),
            Ok(Exit::Hindered(why)) => return Err(InstallerError::Unfinished(why)),
            Ok(Exit::Done) if self.is_installed(version) => return Ok(false),
            // What is in use is replaced then, and the version may be the old one until then.
            Ok(Exit::RestartNeeded) if unchanged || self.is_installed(version) => return Ok(true),
            Ok(Exit::Done | Exit::RestartNeeded) => {
                "the installer says that it succeeded, but the system does not know the version".to_owned()
            }
            Ok(Exit::Failed(why)) => why,
        };
        // The entry of a version says nothing about its files.
        let works = match previous {
            Some(previous) if unchanged => self.confirm(previous).await.is_ok(),
            Some(_) | None => unchanged,
        };
        let found = if works { Found::Before(after) } else { Found::Else(after) };
        Err(InstallerError::Failed { why, found })
    }

    /// Runs an installer. `untouched`: the version that a user may have opened meanwhile, which is then not replaced.
    async fn run_installer(
        &self,
        kept: &Kept,
        version: &Version,
        untouched: Option<&Version>,
    ) -> Result<Exit, InstallerError> {
        // Before anything makes way for it.
        if self.is_open(untouched) {
            return Err(InstallerError::AppOpen);
        }
        let root = self.paths.root();
        let log = self.folder().join("windows-installer.log");
        let aside = self.make_way(kept.format, version).await;
        let line = kept.format.install(&kept.path, root, &log);
        let exit = self.run_line(kept.format, line, untouched).await;
        if let Some((bundle, aside)) = aside {
            put_back(&bundle, &aside);
        }
        exit
    }

    /// Whether a user has a version open that is still whole.
    fn is_open(&self, untouched: Option<&Version>) -> bool {
        let is_whole = untouched.is_some() && self.installed_version().as_ref() == untouched;
        is_whole && self.system.app_processes(self.paths).running_since().is_some()
    }

    /// An installer puts no older version over a newer one: Windows Installer refuses, and that of macOS skips it silently. Gives a
    /// bundle and where it lies now.
    async fn make_way(&self, format: Format, version: &Version) -> Option<(PathBuf, PathBuf)> {
        let present = self.installed_version().filter(|present| present > version)?;
        match format {
            Format::Msi => {
                let present = self.kept(&present).await.ok().flatten()?;
                if let Err(error) = self.remove(&present).await {
                    tracing::warn!("what is installed cannot be removed: {error}");
                }
                None
            }
            Format::Pkg => {
                let bundle = self.program();
                let aside = bundle.with_extension("replaced");
                fs_err::rename(&bundle, &aside).ok()?;
                Some((bundle, aside))
            }
            Format::Nsis | Format::Deb | Format::Rpm => None,
        }
    }

    /// Runs a command line for an installer. While something else is being installed, it waits for a while.
    async fn run_line(
        &self,
        format: Format,
        line: CommandLine,
        untouched: Option<&Version>,
    ) -> Result<Exit, InstallerError> {
        // One that an earlier run of the agent started is never disturbed.
        let folder = self.folder();
        let mut waited = Duration::ZERO;
        while runs_from(&folder).await {
            if waited >= RUNNING_LIMIT {
                return Err(InstallerError::Busy);
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
        // Another one each time: what an installer started may use it for long.
        remove_temporaries(&folder);
        let temporary = folder.join(format!("{TEMPORARY}{:08x}", u32::from_le_bytes(random::bytes())));
        file::create_folder(&temporary, file::Access::Private).map_err(InstallerError::Run)?;
        let log = folder.join("installer.log");
        let what = Running {
            name: &self.app.name,
            program: line.program,
            arguments: line.arguments,
            log: &log,
            temporary: &temporary,
        };
        let (mut waited, mut pause) = (Duration::ZERO, POLL);
        let exit = loop {
            if self.is_open(untouched) {
                return Err(InstallerError::AppOpen);
            }
            let ended = installer::run(self.paths, &what).await.map_err(InstallerError::Run)?;
            let said = command::summary(&ended.said, &folder);
            tracing::info!("the installer of {} ended with {:?}: {said}", self.app.title, ended.code);
            let exit = format.exit(ended.code, &said);
            if exit != Exit::Busy || waited >= BUSY_LIMIT {
                break exit;
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        remove_temporaries(&folder);
        Ok(exit)
    }

    /// Whether the version that is to be there is there, and starts.
    pub(super) async fn confirm(&self, version: &Version) -> io::Result<()> {
        if !self.is_installed(version) {
            return Err(io::Error::other(format!("the system says that {} is installed", self.there())));
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

    fn there(&self) -> String {
        self.installed_version().map_or_else(|| "no version".to_owned(), |there| there.to_string())
    }

    /// Puts the previous version back with the installer that was kept, or removes the app if there was none.
    pub(super) async fn roll_back(&self, previous: Option<&Version>) -> io::Result<()> {
        let Some(previous) = previous else {
            let Some(present) = self.installed_version() else { return Ok(()) };
            return match self.kept(&present).await? {
                Some(present) => self.remove(&present).await,
                None => Err(not_kept(&format!("the installer of {present}"))),
            };
        };
        let kept =
            self.kept(previous).await?.ok_or_else(|| not_kept(&format!("the installer of {previous}")))?;
        match self
            .run_installer(&kept, previous, None)
            .await
            .map_err(|error| io::Error::other(chain(&error)))?
        {
            Exit::Done | Exit::RestartNeeded => {}
            Exit::Busy => return Err(io::Error::other(InstallerError::Busy)),
            Exit::Hindered(why) | Exit::Failed(why) => return Err(io::Error::other(why)),
        }
        if self.is_installed(previous) {
            return Ok(());
        }
        Err(io::Error::other(format!("the installer of {previous} ran, but {} is installed", self.there())))
    }

    async fn remove(&self, present: &Kept) -> io::Result<()> {
        let uninstaller = self.about.uninstaller.as_ref().map(|path| self.paths.under_root(path.as_ref()));
        let (root, package) = (self.paths.root(), self.system.package.as_deref());
        let line = present.format.remove(&present.path, root, uninstaller.as_deref(), package);
        let line = line.ok_or_else(|| not_kept("a program that removes the app"))?;
        let exit = self.run_line(present.format, line, None).await;
        let exit = exit.map_err(|error| io::Error::other(chain(&error)))?;
        // The uninstaller of NSIS works on in a copy of itself (NSIS Users Manual, section 3.2.2).
        let mut waited = Duration::ZERO;
        while waited < REMOVAL_LIMIT {
            if self.installed_version().is_none() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
        Err(io::Error::other(format!("the app is still there: {exit:?}")))
    }

    /// Whether a version can be put back.
    pub(super) fn is_there(&self, version: &Version) -> bool {
        only_file(&self.kept_folder(version)).is_some()
    }

    /// Removes the installers of other versions than these.
    pub(super) fn clean_up(&self, keep: &[Version]) {
        let keep: Vec<PathBuf> = keep.iter().map(|version| self.kept_folder(version)).collect();
        let Ok(entries) = fs_err::read_dir(self.folder()) else { return };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            if !keep.contains(&entry.path())
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

    /// Named without what only the feed knows of a version: what the system calls it finds it as well.
    fn kept_folder(&self, version: &Version) -> PathBuf {
        self.folder().join(Version { build: BuildMetadata::EMPTY, ..version.clone() }.to_string())
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
    empty_folder(folder)?;
    if fs_err::hard_link(staged, path).is_err() {
        fs_err::copy(staged, path)?;
        fs_err::File::open(path)?.sync_all()?;
    }
    file::sync_folder(path)?;
    file::sync_folder(folder)
}

/// Removes what installers left, but for what is still used.
fn remove_temporaries(folder: &Path) {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
        if let Err(error) = fs_err::remove_dir_all(entry.path()) {
            tracing::debug!("a temporary folder is still used: {error}");
        }
    }
}

/// A folder of the agent's own that has nothing in it.
fn empty_folder(folder: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => file::create_folder(folder, file::Access::Private),
    }
}

/// A bundle that made way comes back if nothing took its place.
fn put_back(bundle: &Path, aside: &Path) {
    let result = if bundle.exists() { fs_err::remove_dir_all(aside) } else { fs_err::rename(aside, bundle) };
    if let Err(error) = result {
        tracing::warn!("a bundle that made way stays where it is: {error}");
    }
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

/// Whether an installer of this folder runs.
async fn runs_from(folder: &Path) -> bool {
    let folder = folder.to_owned();
    blocking(move || app_processes::runs_with(&folder)).await.unwrap_or(true)
}

/// Lets nothing wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
