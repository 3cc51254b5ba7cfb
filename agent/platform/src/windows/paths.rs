//! The path of everything. `--root DIR` puts the whole layout below a folder, and its part of the registry below a key
//! that is named after the folder, for tests and the demo.

mod ffi;

use std::io;
use std::path::{Path, PathBuf};

use windows_registry::USERS;

use super::security;
use crate::environment;
use crate::paths::{Paths, no_user_folder};

/// The name of this operating system in app descriptors.
pub const SYSTEM: &str = "windows";

/// Where a user's own preferences are, for messages.
pub(crate) const PREFERENCES: &str = r"HKCU\SOFTWARE\Steward";

/// The disk of the system.
pub const SYSTEM_DISK: &str = "C:\\";

impl Paths {
    /// A key of `HKEY_LOCAL_MACHINE`, below the root's key if there is one. Only administrators can write either.
    #[must_use]
    pub fn key(&self, key: &str) -> String {
        match self.label() {
            Some(label) => format!(r"SOFTWARE\Steward Roots\{label}\{key}"),
            None => key.to_owned(),
        }
    }

    /// The folder of what the agent keeps between starts. Windows itself says where: a service may have another environment than
    /// users, and they have to find what it leaves.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        let data = ffi::program_data().unwrap_or_else(|| PathBuf::from(r"C:\ProgramData"));
        self.under_root(&data).join("Steward")
    }

    /// The folder of the agent's own versions besides the one that its package installed. Not with the state: rules for programs, such as
    /// those of `AppLocker`, allow what is in this folder.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.programs().join("versions")
    }

    /// The program that the package installed.
    #[must_use]
    pub fn packaged_program(&self) -> PathBuf {
        self.programs().join("steward.exe")
    }

    fn programs(&self) -> PathBuf {
        let programs = environment::directory("ProgramFiles");
        self.under_root(&programs.unwrap_or_else(|| PathBuf::from(r"C:\Program Files"))).join("Steward")
    }

    /// The machine service's local API.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.pipe("agent")
    }

    /// The broker's local API of the user who runs this process.
    #[must_use]
    pub fn broker_socket(&self) -> PathBuf {
        self.pipe(&format!("broker-{}", security::own_user().unwrap_or_default()))
    }

    /// None: the machine service asks the broker at its API, which nobody else serves.
    #[must_use]
    pub fn session_socket(&self) -> Option<PathBuf> {
        None
    }

    /// The local APIs of all users who may have a broker running: of those whose part of the registry is loaded, as it is from logon to
    /// logoff. A registry that cannot be read has none.
    #[must_use]
    pub fn session_sockets(&self) -> Vec<PathBuf> {
        let Ok(users) = USERS.keys() else { return Vec::new() };
        let is_person = |id: &String| PERSONS.iter().any(|start| id.starts_with(start));
        // Their classes have a part of their own.
        let users = users.filter(|id| is_person(id) && !id.ends_with("_Classes"));
        users.map(|id| self.pipe(&format!("broker-{id}"))).collect()
    }

    /// The same.
    #[must_use]
    pub fn broker_sockets(&self) -> Vec<PathBuf> {
        self.session_sockets()
    }

    /// The folder of the user's saved session. Where the user has none ([`Paths::check_session_folder`]), a path at which nothing
    /// can be.
    #[must_use]
    pub fn session_folder(&self) -> PathBuf {
        let data = environment::directory(USER_DATA).unwrap_or_else(|| PathBuf::from(r"\\?\no user folder"));
        self.under_root(&data).join("Steward")
    }

    /// Makes sure that the user has a folder for sessions.
    ///
    /// # Errors
    /// There is none: why.
    pub fn check_session_folder(&self) -> io::Result<()> {
        match environment::directory(USER_DATA) {
            Some(_) => Ok(()),
            None => Err(no_user_folder(USER_DATA)),
        }
    }

    fn pipe(&self, name: &str) -> PathBuf {
        let label = self.label().map_or_else(String::new, |label| format!("{label}-"));
        PathBuf::from(format!("{PIPES}steward-{label}{name}"))
    }

    /// The root as one word.
    fn label(&self) -> Option<String> {
        let root = self.root()?.to_string_lossy().into_owned();
        Some(root.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '_' }).collect())
    }
}

/// What names the folder of the user's data that stays on this device.
const USER_DATA: &str = "LOCALAPPDATA";
/// A path as one word of cmd and of PowerShell. No name of a file has a quotation mark in it.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./\\-:".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("\"{text}\"") }
}

const PIPES: &str = r"\\.\pipe\";
/// How the IDs of persons begin, of a domain or device and of Entra ID (Microsoft, "Security identifiers").
const PERSONS: [&str; 2] = ["S-1-5-21-", "S-1-12-1-"];
