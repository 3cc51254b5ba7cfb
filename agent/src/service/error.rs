//! Why the machine service does not start.

use std::path::PathBuf;

use platform::lock::LockError;

/// Why the machine service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two agents would work against each other.
    #[error("another agent runs already; stop it first")]
    Running(#[source] LockError),
    /// The local API cannot be served, and there is no lock either.
    #[error("no local API at {}", path.display())]
    NoApi {
        /// The socket or pipe.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There is no room for the agent's state.
    #[error("no folder for the agent's state")]
    NoState(#[source] std::io::Error),
}
