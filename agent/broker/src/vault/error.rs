//! Why a session is not kept as it should be.

use std::io;

use policy_schema::{Code, Problem};

/// Why a session cannot be loaded or saved. Only the first one may go away by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    /// The secret store or the disk cannot be used now. What is saved stays.
    #[error("{reason}")]
    Unavailable {
        /// Why not.
        reason: String,
        /// What happens instead.
        using: Option<&'static str>,
        /// What to do.
        hint: String,
    },
    /// The saved session was quarantined.
    #[error("the saved session is damaged, or belongs to another user or device")]
    Corrupt {
        /// Where it lies now.
        using: String,
    },
    /// A newer version saved the session in a form that this one does not understand. It stays.
    #[error("a newer version of Steward saved the session (format {0})")]
    Newer(u8),
}

impl VaultError {
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        let hint = format!("{}; the saved session is kept", platform::vault::UNLOCK);
        Self::Unavailable { reason: reason.into(), using: None, hint }
    }

    pub(super) fn no_room(error: &io::Error) -> Self {
        let reason = format!("the session cannot be saved: {error}");
        let hint = if error.kind() == io::ErrorKind::ResourceBusy {
            "close the program that has the file open, a backup or a virus scanner for example; the saved session is kept"
        } else {
            "make room on the disk of your home folder; the saved session is kept"
        };
        Self::Unavailable { reason, using: None, hint: hint.to_owned() }
    }

    /// The problem to show.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Unavailable { using, hint, .. } => {
                let problem = Problem::new(Code::VaultUnavailable, self.to_string()).hint(hint.clone());
                using.map_or(problem.clone(), |using| problem.using(using))
            }
            Self::Corrupt { using } => Problem::new(Code::VaultCorrupt, self.to_string())
                .using(using.clone())
                .hint("sign in again".to_owned()),
            Self::Newer(_) => Problem::new(Code::VaultUnavailable, self.to_string())
                .using("no session; the file is kept for the newer version")
                .hint("update Steward again, or sign in again: `steward login`".to_owned()),
        }
    }
}

/// The session is saved, but less well than it could be: why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Degraded(pub(super) String);

impl Degraded {
    /// The problem to show.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(Code::VaultDegraded, self.0.clone())
            .using("an encrypted file with its key beside it, as `VaultFallback` says")
    }
}
