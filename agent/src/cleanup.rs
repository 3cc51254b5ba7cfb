//! Removes what Steward wrote, before it is uninstalled: what it set for the managed app, and its own state. Policy stays, which
//! belongs to the administrator, and so do versions of the app.
//!
//! In: the layout of files. Out: what was removed. Called by `steward cleanup`.

use std::io;

use platform::file::Access;
use platform::lock::{Lock, LockError};
use platform::paths::Paths;
use platform::role::Role;
use platform::state::StateError;
use platform::{log_file, native, service};

use crate::app::{observe, ownership, write};
use crate::health::sinks::textfile;
use crate::service::plan::{Step, leave_old_location};
use crate::state::private_folder;

/// Why not everything was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanupError {
    /// The agent would write everything again.
    #[error("the agent runs; stop it first")]
    Running(#[source] LockError),
    /// Nobody knows what the agent wrote for the app.
    #[error(
        "nobody knows what Steward wrote for the app; remove that by hand, then the record, and try again"
    )]
    NoRecord(#[source] StateError),
    /// The system refused.
    #[error("{what} could not be removed")]
    Refused {
        /// What.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Removes what the machine service wrote. Gives what that was.
///
/// # Errors
/// The agent runs, or something could not be removed; what was removed before that stays so.
pub(crate) fn of_machine(paths: &Paths) -> Result<Vec<String>, CleanupError> {
    let mut removed = Vec::new();
    let state = paths.state();
    if !state.exists() {
        return Ok(removed);
    }
    let lock = Lock::take(&private_folder(paths).join("agent.lock"), Access::Private);
    let lock = lock.map_err(|error| match error {
        LockError::Held { .. } => CleanupError::Running(error),
        LockError::Refused { path, source } => CleanupError::Refused { what: path, source },
    })?;
    let record = ownership::peek(paths).map_err(CleanupError::NoRecord)?;
    if let Some(record) = record.filter(|record| record.values.is_some() && !record.observed_only) {
        // What cannot be read cannot be removed, and without the record nobody would know of it.
        let read = native::read(paths, &record.location);
        read.map_err(|source| CleanupError::Refused { what: record.location.clone(), source })?;
    }
    // Without an app, what was written for one is what was left of it.
    let observed = observe::observe(paths, None, None, false);
    for step in leave_old_location(&observed) {
        let (what, done) = match step {
            Step::RemoveConfiguration { path } => (path.display().to_string(), write::remove(&path)),
            Step::WriteValues { location, change } => {
                let names = change.gone.join(", ");
                (format!("{names} in {location}"), write::write_values(paths, &location, &change))
            }
            Step::WriteConfiguration { .. }
            | Step::Record(_)
            | Step::CheckForUpdate
            | Step::SendReport
            | Step::CheckProvider
            | Step::CheckForAgentUpdate
            | Step::ServeSinks => continue,
        };
        done.map_err(|source| CleanupError::Refused { what: what.clone(), source })?;
        removed.push(what);
    }
    let textfile = textfile::remove(paths)
        .map_err(|source| CleanupError::Refused { what: "the file of metrics".to_owned(), source })?;
    removed.extend(textfile.map(|path| path.display().to_string()));
    if let Some(log) = service::log_file(paths, Role::Agent) {
        let what = log.display().to_string();
        log_file::remove(&log).map_err(|source| CleanupError::Refused { what, source })?;
    }
    // Windows removes no file that is open.
    drop(lock);
    let versions = paths.versions();
    if versions.exists() {
        let what = versions.display().to_string();
        fs_err::remove_dir_all(&versions)
            .map_err(|source| CleanupError::Refused { what: what.clone(), source })?;
        removed.push(what);
    }
    let what = state.display().to_string();
    fs_err::remove_dir_all(&state).map_err(|source| CleanupError::Refused { what: what.clone(), source })?;
    removed.push(what);
    Ok(removed)
}
