//! Where the versions of an app go: into folders of the agent's ([`super::folder`]), or to the operating system, through its
//! installers ([`super::installer`]). Those of the agent itself go beside its program ([`super::agent`]). Called by [`super::drive`], which does the same for both.

use std::io;
use std::path::PathBuf;

use platform::paths::Paths;
use semver::Version;
use updates::journal::Offer;

use super::agent::{self, AgentError};
use super::download::Verified;
use super::folder::{self, FolderError};
use super::installer::{Found, Installer, InstallerError};
use crate::app::descriptor::{self, Descriptor, Installation};
use crate::version;

/// Why a version was not installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstallError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("version {version} of the agent cannot be installed")]
    Agent { version: Version, source: AgentError },
    #[error("version {version} cannot be installed")]
    Installer { version: Version, source: InstallerError },
    #[error("the download of version {version} is gone")]
    Gone { version: Version, folder: PathBuf },
}

impl InstallError {
    /// Whether the same file would fail again.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Folder(error) => error.is_lasting(),
            Self::Agent { source, .. } => source.is_lasting(),
            Self::Installer {
                source: InstallerError::Failed { .. } | InstallerError::Format { .. }, ..
            } => true,
            Self::Installer { .. } | Self::Gone { .. } => false,
        }
    }

    /// Whether the installation has to be gone on with: nothing else may be begun before.
    pub(super) fn is_unfinished(&self) -> bool {
        matches!(self, Self::Installer { source: InstallerError::Unfinished(_), .. })
    }

    /// Whether the version before is not there any more, or not whole.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Installer { source: InstallerError::Failed { found: Found::Else(_), .. }, .. })
    }
}

/// Where the versions of one app go.
pub(super) enum Target<'a> {
    Folder {
        paths: &'a Paths,
        about: &'a descriptor::VersionFolders,
    },
    Installer(Installer<'a>),
    /// The agent itself.
    Agent(&'a Paths),
}

impl<'a> Target<'a> {
    /// Where the versions of an app go on this operating system; `None` if nothing is known of that.
    pub(super) fn of(paths: &'a Paths, app: &'a Descriptor) -> Option<Self> {
        let system = app.system()?;
        Some(match system.installation.as_ref()? {
            Installation::Folder(about) => Self::Folder { paths, about },
            Installation::Installer(about) => Self::Installer(Installer { paths, app, system, about }),
            Installation::Agent => Self::Agent(paths),
        })
    }

    /// The version that is installed.
    pub(super) fn installed_version(&self) -> Option<Version> {
        match self {
            Self::Folder { paths, about } => folder::installed_version(paths, about),
            Self::Installer(installer) => installer.installed_version(),
            Self::Agent(_) => Some(version::own().clone()),
        }
    }

    /// Whether a version can be put back.
    pub(super) fn is_there(&self, version: &Version) -> bool {
        match self {
            Self::Folder { paths, about } => folder::is_there(paths, about, version),
            Self::Installer(installer) => installer.is_there(version),
            // What comes back is what the watchdog starts.
            Self::Agent(_) => true,
        }
    }

    /// Whether who made a file matters, besides its hash.
    pub(super) fn has_publishers(&self) -> bool {
        matches!(self, Self::Installer(_))
    }

    /// Whether the app must not run while a version is put back: an installer replaces files that are in use.
    pub(super) fn replaces_files(&self) -> bool {
        matches!(self, Self::Installer(_))
    }

    /// Installs a verified file. Gives whether the device has to be restarted to finish.
    pub(super) async fn install(
        &self,
        verified: Verified,
        publishers: &[String],
        previous: Option<&Version>,
    ) -> Result<bool, InstallError> {
        let version = verified.version().clone();
        match self {
            Self::Folder { paths, about } => {
                Ok(folder::install(paths, about, verified).await.map(|()| false)?)
            }
            Self::Installer(installer) => {
                let ended = installer.install(verified, publishers, previous).await;
                ended.map_err(|source| InstallError::Installer { version, source })
            }
            Self::Agent(paths) => {
                let installed = agent::install(paths, verified).await;
                installed.map(|()| false).map_err(|source| InstallError::Agent { version, source })
            }
        }
    }

    /// Goes on with an installation that a crash interrupted, if its file is not needed for that.
    pub(super) async fn install_again(
        &self,
        offer: &Offer,
        previous: Option<&Version>,
    ) -> Option<Result<bool, InstallError>> {
        match self {
            Self::Folder { .. } | Self::Agent(_) => None,
            Self::Installer(installer) => {
                let ended = installer.install_again(offer, previous).await?;
                let version = offer.version.clone();
                Some(ended.map_err(|source| InstallError::Installer { version, source }))
            }
        }
    }

    /// Makes a version that was installed the current one, if it is not: what was never tried must not be judged.
    pub(super) fn make_current(&self, version: &Version) -> Result<(), InstallError> {
        match self {
            Self::Folder { paths, about } => Ok(folder::switch(paths, about, version)?),
            Self::Installer(_) | Self::Agent(_) => Ok(()),
        }
    }

    /// Tries whether the current version is the one that it is to be, and starts. Gives `false` while nobody can know.
    pub(super) async fn confirm(&self, version: &Version) -> io::Result<bool> {
        match self {
            Self::Folder { paths, about } => folder::try_start(paths, about).await.map(|()| true),
            Self::Installer(installer) => installer.confirm(version).await.map(|()| true),
            Self::Agent(paths) => agent::confirm(paths, version),
        }
    }

    /// Puts the previous version back, or none, if there was none.
    pub(super) async fn roll_back(&self, previous: Option<&Version>) -> io::Result<()> {
        match self {
            Self::Folder { paths, about } => folder::roll_back(paths, about, previous),
            Self::Installer(installer) => installer.roll_back(previous).await,
            // The watchdog has done so.
            Self::Agent(_) => Ok(()),
        }
    }

    /// Removes what is kept of other versions than these.
    pub(super) fn clean_up(&self, keep: &[Version]) {
        match self {
            Self::Folder { paths, about } => folder::clean_up(paths, about, keep),
            Self::Installer(installer) => installer.clean_up(keep),
            Self::Agent(paths) => watchdog::clean_up(paths),
        }
    }

    /// What may be the file that the version here was installed from: patches lead from it to a later one.
    pub(super) fn single_file(&self) -> Option<PathBuf> {
        match self {
            // An `AppImage` is what it was. An archive is gone once it was unpacked, and an installer writes other files.
            Self::Folder { paths, about } => Some(folder::program(paths, about)),
            Self::Installer(_) => None,
            Self::Agent(_) => std::env::current_exe().ok(),
        }
    }

    /// The app's program.
    pub(super) fn program(&self) -> PathBuf {
        match self {
            Self::Folder { paths, about } => folder::program(paths, about),
            Self::Installer(installer) => installer.program(),
            Self::Agent(paths) => paths.packaged_program(),
        }
    }
}
