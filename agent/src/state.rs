//! Where the agent keeps its private state, and what to say when that fails.

use std::io;
use std::path::{Path, PathBuf};

use net::chain;
use platform::paths::Paths;
use platform::state::StateError;
use policy_schema::{Code, Problem};

/// What the agent keeps for itself: last good values with their secrets, downloads, reports that wait.
pub(crate) fn private_folder(paths: &Paths) -> PathBuf {
    paths.state().join("private")
}

/// A state file could not be written.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Problem {
    let problem = Problem::new(Code::AgentStateUnwritable, error.to_string()).at(path.display().to_string());
    if error.kind() == io::ErrorKind::ResourceBusy {
        let hint = "close the program that has the file open, a backup or a virus scanner for example; the agent tries again";
        return problem.using("what was there before, until then").hint(hint.to_owned());
    }
    problem
}

/// A state file could not be read. `what` is in it.
pub(crate) fn unreadable(what: &str, error: &StateError) -> Problem {
    Problem::new(Code::AgentStateUnreadable, format!("{what}: {}", chain(error)))
        .at(error.path().display().to_string())
}
