//! The path of everything. `--root DIR` puts the whole layout below a folder, for tests and the demo.

use std::io;
use std::path::{Path, PathBuf};

use crate::environment;
use crate::paths::Paths;
pub use crate::unix::shell::quoted;

/// The name of this operating system in app descriptors.
pub const SYSTEM: &str = "linux";

/// The name of the socket for the machine service.
const SESSION_SOCKET: &str = "session.sock";
const BROKER_SOCKET: &str = "broker.sock";

/// Where a user's own preferences are, for messages.
pub(crate) const PREFERENCES: &str = "~/.config/steward/preferences.toml";

/// The disk of the system.
pub const SYSTEM_DISK: &str = "/";

impl Paths {
    /// The folders with policy drop-ins, weakest first.
    #[must_use]
    pub fn policy_folders(&self) -> Vec<PathBuf> {
        ["/usr/lib/steward/policy.d", "/run/steward/policy.d", "/etc/steward/policy.d"]
            .iter()
            .map(|path| self.under_root(Path::new(path)))
            .collect()
    }

    /// The folder of what the agent keeps between starts.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.under_root(Path::new("/var/lib/steward"))
    }

    /// The folder of the agent's own versions besides the one that its package installed.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.state().join("versions")
    }

    /// The program that the package installed.
    #[must_use]
    pub fn packaged_program(&self) -> PathBuf {
        self.under_root(Path::new("/usr/bin/steward"))
    }

    /// The machine service's local API.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.under_root(Path::new("/run/steward/agent.sock"))
    }

    /// The broker's local API of the user who runs this process.
    #[must_use]
    pub fn broker_socket(&self) -> PathBuf {
        self.runtime_folder().join(BROKER_SOCKET)
    }

    /// Where the broker tells the machine service how the session is doing. Not at its API: systemd listens there, and would
    /// start a broker because somebody wants to know whether one runs.
    #[must_use]
    pub fn session_socket(&self) -> Option<PathBuf> {
        Some(self.runtime_folder().join(SESSION_SOCKET))
    }

    /// Where the brokers of all users tell how their sessions are doing. A folder that cannot be listed has none.
    #[must_use]
    pub fn session_sockets(&self) -> Vec<PathBuf> {
        self.sockets(SESSION_SOCKET)
    }

    /// The local APIs of the brokers of all users. One that does not run starts when it is called.
    #[must_use]
    pub fn broker_sockets(&self) -> Vec<PathBuf> {
        self.sockets(BROKER_SOCKET)
    }

    fn sockets(&self, name: &str) -> Vec<PathBuf> {
        let Ok(folders) = fs_err::read_dir(self.runtime_folders()) else { return Vec::new() };
        folders
            .filter_map(|folder| Some(folder.ok()?.path().join("steward").join(name)))
            .filter(|socket| socket.exists())
            .collect()
    }

    /// The folder of the user's saved session.
    #[must_use]
    pub fn session_folder(&self) -> PathBuf {
        let user = nix::unistd::geteuid();
        match self.root() {
            Some(root) => root.join(format!("home/{user}/.local/state/steward")),
            None => environment::directory("XDG_STATE_HOME")
                .or_else(|| environment::directory("HOME").map(|home| home.join(".local/state")))
                .unwrap_or_else(|| PathBuf::from(format!("/run/user/{user}")))
                .join("steward"),
        }
    }

    /// Makes sure that the user has a folder for sessions.
    ///
    /// # Errors
    /// Never: every user has `/run/user/UID`.
    pub fn check_session_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn runtime_folder(&self) -> PathBuf {
        let runtime = match self.root() {
            None => environment::directory("XDG_RUNTIME_DIR"),
            Some(_) => None,
        };
        runtime
            .unwrap_or_else(|| self.runtime_folders().join(nix::unistd::geteuid().to_string()))
            .join("steward")
    }

    fn runtime_folders(&self) -> PathBuf {
        self.under_root(Path::new("/run/user"))
    }
}
