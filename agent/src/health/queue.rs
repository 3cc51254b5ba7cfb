//! Reports that wait on disk: one file each, bounded in number, the oldest dropped and counted.
//!
//! A report that says the same as the one before it replaces it, so a week without a network leaves the transitions
//! and one last report, not a file for each hour. A file that cannot be read is put aside; the agent always starts.

use std::io;
use std::path::{Path, PathBuf};

use agent_platform::file;
use serde::{Deserialize, Serialize};

use super::model::Report;
use crate::policy::hex;

const MAXIMUM: usize = 64;

/// The queue and the identity under which it reports.
pub(crate) struct Queue {
    folder: PathBuf,
    identity: Identity,
    /// Reports that were dropped since the start.
    pub(crate) dropped: usize,
}

/// Who reports, and how far it has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) device_id: String,
    pub(crate) epoch: String,
    pub(crate) sequence: u64,
}

impl Queue {
    /// Takes up the queue of an earlier run. A device without identity gets one, made of the random bytes.
    ///
    /// # Errors
    /// The identity could not be saved.
    pub(crate) fn open(private: &Path, random: [u8; 24]) -> (Self, io::Result<()>) {
        let folder = private.join("reports");
        let path = private.join("identity.json");
        let read = match fs_err::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) => Err(error),
        };
        let lost = match &read {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Something is there: it is kept, and not replaced if it only could not be read.
            Err(error) => Some(io::Error::other(format!("the identity for reports is lost: {error}"))),
        };
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::UnexpectedEof)
            && let Err(error) = fs_err::rename(&path, path.with_extension("damaged"))
        {
            tracing::warn!("{error}");
        }
        let identity = read.unwrap_or_else(|_| {
            let (device, epoch) = random.split_at(16);
            let device = device.try_into().map(uuid::Builder::from_random_bytes).expect("16 of 24 bytes");
            Identity { device_id: device.into_uuid().to_string(), epoch: hex(epoch), sequence: 0 }
        });
        let queue = Self { folder, identity, dropped: 0 };
        let saved = if path.exists() { Ok(()) } else { queue.save_identity() };
        (queue, lost.map_or(saved, Err))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Counts one on. The number is durable before a report bears it, so no two reports ever share one.
    pub(crate) fn next_sequence(&mut self) -> io::Result<u64> {
        self.identity.sequence += 1;
        self.save_identity()?;
        Ok(self.identity.sequence)
    }

    /// Adds a report.
    pub(crate) fn add(&mut self, report: &Report) -> io::Result<()> {
        file::create_folder(&self.folder, file::Access::Private)?;
        let waiting = self.waiting();
        let path = self.folder.join(format!("{:020}.json", report.sequence));
        file::replace(&path, &serde_json::to_vec(report)?, file::Access::Private)?;
        if let Some(last) = waiting.last()
            && Self::read(last).is_some_and(|last| says_the_same(&last, report))
        {
            file::remove(last)?;
        }
        let waiting = self.waiting();
        for oldest in waiting.iter().take(waiting.len().saturating_sub(MAXIMUM)) {
            file::remove(oldest)?;
            self.dropped += 1;
        }
        Ok(())
    }

    /// The files that wait, oldest first.
    pub(crate) fn waiting(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs_err::read_dir(&self.folder) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        files
    }

    /// One report; a file that is none is put aside.
    pub(crate) fn read(path: &Path) -> Option<Report> {
        let bytes = fs_err::read(path).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(report) => Some(report),
            Err(error) => {
                tracing::warn!("{} is no report and was put aside: {error}", path.display());
                if let Err(error) = fs_err::rename(path, path.with_extension("damaged")) {
                    tracing::warn!("{error}");
                }
                None
            }
        }
    }

    fn save_identity(&self) -> io::Result<()> {
        let private = self.folder.parent().unwrap_or(&self.folder);
        file::create_folder(private, file::Access::Private)?;
        file::replace(
            &private.join("identity.json"),
            &serde_json::to_vec_pretty(&self.identity)?,
            file::Access::Private,
        )
    }
}

/// Whether two reports tell a receiver the same about the device; times and counters do not count.
pub(crate) fn says_the_same(one: &Report, other: &Report) -> bool {
    fingerprint(one) == fingerprint(other)
}

fn fingerprint(report: &Report) -> impl PartialEq {
    let states: Vec<_> = report
        .health
        .components
        .iter()
        .map(|part| (part.name.clone(), part.state, part.code.clone()))
        .collect();
    let codes: Vec<_> =
        report.status.problems.iter().map(|problem| (problem.code.clone(), problem.key.clone())).collect();
    let app = (report.status.app.version.clone(), report.status.app.name.clone());
    (report.status.policy.hash.clone(), states, codes, app, report.boot_id.clone())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::health::model::{sample, sample_report};

    fn report(sequence: u64, hash: &str) -> Report {
        let mut status = sample();
        status.policy.hash = hash.to_owned();
        sample_report(status, sequence)
    }

    #[test]
    fn identity_and_sequence_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (mut queue, saved) = Queue::open(folder.path(), [1; 24]);
        saved.unwrap();
        assert_eq!(queue.next_sequence().unwrap(), 1);
        let (mut again, _) = Queue::open(folder.path(), [2; 24]);
        assert_eq!(again.identity().device_id, queue.identity().device_id);
        assert_eq!(again.next_sequence().unwrap(), 2);
    }

    #[test]
    fn a_week_without_network_leaves_transitions_and_the_last_report() {
        let folder = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(folder.path(), [1; 24]);
        for sequence in 1..=672 {
            let hash = if sequence < 300 { "one" } else { "two" };
            queue.add(&report(sequence, hash)).unwrap();
        }
        let kept: Vec<_> = queue.waiting().iter().map(|path| Queue::read(path).unwrap().sequence).collect();
        assert_eq!(kept, [299, 672]);
        assert_eq!(queue.dropped, 0);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(folder.path(), [1; 24]);
        for sequence in 1..=70 {
            queue.add(&report(sequence, &sequence.to_string())).unwrap();
        }
        assert_eq!((queue.waiting().len(), queue.dropped), (64, 6));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(folder.path(), [1; 24]);
        queue.add(&report(1, "a")).unwrap();
        let path = queue.waiting().remove(0);
        fs_err::write(&path, "{\"half").unwrap();
        assert!(Queue::read(&path).is_none());
        assert!(queue.waiting().is_empty() && path.with_extension("damaged").exists());
    }
}
