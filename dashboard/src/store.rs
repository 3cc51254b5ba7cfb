//! What is kept, in one file of SQLite. One thread writes: it takes all that waits, commits once, and then lets everybody know. Readers see
//! one snapshot each.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use platform::file::Access;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::arrival::Arrival;
use crate::log::{chain, log};

pub(crate) mod view;
mod write;

/// The version of the tables, and what makes each from the one before.
const SCHEMAS: [&str; 1] = [include_str!("store/schema-1.sql")];
/// What says that a file of SQLite is one of this program.
const MARK: i32 = i32::from_be_bytes(*b"Stwd");
/// So many arrivals wait at most: more are asked to come again.
const WAITING: usize = 8192;
/// So many arrivals are committed at once, at most.
const GROUP: usize = 1024;
/// While another process has the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of an arrival. It is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is new.
    New,
    /// It had arrived already.
    Duplicate,
    /// A heartbeat of a report that is not here.
    Unknown,
}

/// Why nothing was kept, or nothing was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("too many reports wait")]
    Full,
    #[error("the writer of the database has ended")]
    Ended,
    #[error("the database did not take it; the log says why")]
    NotKept,
    #[error(
        "the database {path} was written by a newer version (tables {found}, this version knows {known})"
    )]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error("the database cannot be read or written")]
    Database(#[from] rusqlite::Error),
    #[error("the database cannot be made")]
    File(#[from] std::io::Error),
    #[error("the file is a database of another program")]
    Foreign,
    #[error("the database has something that is none of ours: {0}")]
    Damaged(String),
}

/// The database.
pub(crate) struct Store {
    path: PathBuf,
    waiting: mpsc::Sender<Waiting>,
    readers: Mutex<Vec<Connection>>,
}

/// An arrival, and who waits for it.
pub(crate) struct Waiting {
    arrival: Arrival,
    kept: oneshot::Sender<Option<Kept>>,
}

impl Store {
    /// Opens the file, or makes it, and brings it to the newest tables.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        // Reports name users, where policy allows it. SQLite gives its other files the same rights.
        match platform::file::create_private(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        platform::file::correct_access(path, Access::Private)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        is_ours(&connection)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrate(&mut connection, path)?;
        let (waiting, arrivals) = mpsc::channel(WAITING);
        thread::spawn(move || write_all(&mut connection, arrivals));
        Ok(Self { path: path.to_owned(), waiting, readers: Mutex::default() })
    }

    /// Keeps what has arrived; returns once it is durable.
    pub(crate) async fn keep(&self, arrival: Arrival) -> Result<Kept, StoreError> {
        let (kept, outcome) = oneshot::channel();
        let waiting = Waiting { arrival, kept };
        self.waiting.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Full,
            mpsc::error::TrySendError::Closed(_) => StoreError::Ended,
        })?;
        outcome.await.map_err(|_| StoreError::Ended)?.ok_or(StoreError::NotKept)
    }

    /// Reads from one snapshot.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self.readers.lock().ok().and_then(|mut readers| readers.pop());
        let mut connection = kept.map_or_else(|| self.reader(), Ok)?;
        let found = read(&connection.transaction_with_behavior(TransactionBehavior::Deferred)?)?;
        if let Ok(mut readers) = self.readers.lock() {
            readers.push(connection);
        }
        Ok(found)
    }

    fn reader(&self) -> Result<Connection, StoreError> {
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(PATIENCE)?;
        Ok(connection)
    }
}

/// Whether it is empty, or a file of this program.
fn is_ours(connection: &Connection) -> Result<(), StoreError> {
    let mark: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if mark == MARK || tables == 0 { Ok(()) } else { Err(StoreError::Foreign) }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > SCHEMAS.len() {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMAS.len() });
    }
    for schema in &SCHEMAS[found..] {
        transaction.execute_batch(schema)?;
    }
    transaction.pragma_update(None, "application_id", MARK)?;
    transaction.pragma_update(None, "user_version", SCHEMAS.len())?;
    Ok(transaction.commit()?)
}

/// Writes until nobody sends any more.
fn write_all(connection: &mut Connection, mut arrivals: mpsc::Receiver<Waiting>) {
    while let Some(first) = arrivals.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = arrivals.try_recv() else { break };
            group.push(next);
        }
        for (waiting, kept) in commit(connection, group) {
            // Whoever has gone asks again.
            let _gone = waiting.kept.send(kept);
        }
    }
}

/// Commits a group at once. If that fails, each alone: one that cannot be kept keeps no other from it.
fn commit(connection: &mut Connection, group: Vec<Waiting>) -> Vec<(Waiting, Option<Kept>)> {
    match write::commit(connection, group.iter().map(|waiting| &waiting.arrival)) {
        Ok(kept) => group.into_iter().zip(kept.into_iter().map(Some)).collect(),
        Err(error) if group.len() == 1 => {
            log(&format!("a report was not kept: {}", chain(&error)));
            group.into_iter().map(|waiting| (waiting, None)).collect()
        }
        Err(_) => group.into_iter().flat_map(|waiting| commit(connection, vec![waiting])).collect(),
    }
}

#[cfg(test)]
mod tests;
