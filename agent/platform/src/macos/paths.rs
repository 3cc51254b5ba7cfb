//! The path of everything. `--root DIR` puts the whole layout below a folder, for tests.

use std::io;
use std::path::{Path, PathBuf};

use crate::environment;
use crate::paths::{Paths, no_user_folder};
pub use crate::unix::shell::quoted;

/// The name of this operating system in app descriptors.
pub const SYSTEM: &str = "macos";

/// Where a user's own preferences are, for messages.
pub(crate) const PREFERENCES: &str =
    "the domain dev.steward.agent of your preferences (`defaults write dev.steward.agent KEY ...`)";

/// The disk of the system.
pub const SYSTEM_DISK: &str = "/";

impl Paths {
    /// The managed preferences of a domain.
    #[must_use]
    pub fn managed_preferences(&self, domain: &str) -> PathBuf {
        self.under_root(Path::new("/Library/Managed Preferences")).join(format!("{domain}.plist"))
    }

    /// The folder of what the agent keeps between starts.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.under_root(Path::new("/Library/Application Support/Steward"))
    }

    /// The folder of the agent's own versions besides the one that its package installed.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.state().join("versions")
    }

    /// The program that the package installed.
    #[must_use]
    pub fn packaged_program(&self) -> PathBuf {
        self.state().join("bin/steward")
    }

    /// The machine service's local API.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.under_root(Path::new("/var/run/steward/agent.sock"))
    }

    /// The broker's local API of the user who runs this process. It is in the user's home: macOS has no
    /// folder of the session, and a path in a temporary folder may be too long for a socket, which takes 104 bytes.
    #[must_use]
    pub fn broker_socket(&self) -> PathBuf {
        self.session_folder().join("broker.sock")
    }

    /// None: the machine service asks the broker at its API, which nobody else serves.
    #[must_use]
    pub fn session_socket(&self) -> Option<PathBuf> {
        None
    }

    /// The local APIs of all users who may have a broker running. A folder that cannot be listed has none.
    #[must_use]
    pub fn session_sockets(&self) -> Vec<PathBuf> {
        let Ok(homes) = fs_err::read_dir(self.under_root(Path::new("/Users"))) else { return Vec::new() };
        homes
            .filter_map(|home| Some(home.ok()?.path().join(SESSION).join("broker.sock")))
            .filter(|socket| socket.exists())
            .collect()
    }

    /// The same.
    #[must_use]
    pub fn broker_sockets(&self) -> Vec<PathBuf> {
        self.session_sockets()
    }

    /// The folder of the user's saved session.
    #[must_use]
    pub fn session_folder(&self) -> PathBuf {
        let home = environment::directory("HOME").unwrap_or_else(|| PathBuf::from("/var/empty"));
        self.under_root(&home).join(SESSION)
    }

    /// Makes sure that the user has a folder for sessions.
    ///
    /// # Errors
    /// There is none: why.
    pub fn check_session_folder(&self) -> io::Result<()> {
        match environment::directory("HOME") {
            Some(_) => Ok(()),
            None => Err(no_user_folder("HOME")),
        }
    }
}

/// The agent's folder in a user's home.
const SESSION: &str = "Library/Application Support/Steward";
