//! Reports that wait on disk: one state file each, with its number and a checksum in its name. They are bounded in number, bytes and age;
//! the oldest is dropped and counted.
//!
//! A report that says the same as the one before it replaces it, so a week without a network leaves the transitions
//! and one last report, not a file for each hour. A file that cannot be read, or is not what was written, is kept aside and reported; the
//! agent always starts. What a newer agent put there, before a rollback, is sent as it came.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use platform::clock;
use platform::file::{self, Access};
use platform::random::hex;
use platform::state::{StateError, StateFile};
use policy_schema::Problem;
use protocol::report::Report;

use super::identity::{self, Identity, Origin};
use crate::state;

/// So many reports may wait.
const MAXIMUM: usize = 64;
/// So much may wait, in bytes. The newest report always may.
const MAXIMUM_BYTES: u64 = 1024 * 1024;
/// So long a report may wait, unless it is the newest, in seconds.
const MAXIMUM_AGE: i64 = 30 * 24 * 60 * 60;

/// The queue and the identity under which it reports.
pub(crate) struct Queue {
    folder: PathBuf,
    file: StateFile<Identity>,
    identity: Identity,
    /// Why the identity of before is not used.
    lost: Option<StateError>,
    /// Reports that were dropped since the start.
    pub(crate) dropped: usize,
    /// How often each report failed while others were taken.
    failures: HashMap<PathBuf, u32>,
    /// Whether the identity is on disk, so that it is the same after a restart.
    durable: bool,
    /// The identity of reports that cannot be counted on disk.
    in_memory: Option<Identity>,
}

impl Queue {
    /// Takes up the queue of an earlier run. A device without identity gets one, made of the random bytes. Also gives what
    /// is wrong with the identity.
    pub(crate) fn open(private: &Path, random: [u8; 24], origin: Origin) -> (Self, Option<Problem>) {
        let file = identity::file(private);
        let (known, lost) = match file.load() {
            Ok(known) => (known, None),
            Err(error) => (None, Some(error)),
        };
        let before = known.clone();
        let identity = match known {
            Some(known) => known.found_on(&origin, &random),
            None => Identity::new(&random, origin),
        };
        let changed = before.as_ref() != Some(&identity);
        let new = before.is_none_or(|before| before.device_id != identity.device_id);
        if let Some(other) = identity.cloned_from.as_ref().filter(|_| new) {
            tracing::warn!(
                "this device has the files of device {other}; it reports as {}",
                identity.device_id
            );
        }
        let is_copy = new && identity.cloned_from.is_some();
        let mut queue = Self {
            folder: private.join("reports"),
            file,
            identity,
            lost,
            dropped: 0,
            failures: HashMap::new(),
            durable: !new,
            in_memory: None,
        };
        queue.take_up(is_copy);
        let problem = match &queue.lost {
            Some(error) => {
                let using = if error.is_in_place() {
                    "nothing: no report is made until it can be read, or is removed"
                } else {
                    "a new one: a receiver sees a new device"
                };
                Some(state::unreadable("the identity for reports is lost", error).using(using))
            }
            None if changed => {
                let saved = queue.save_identity();
                queue.durable = saved.is_ok() || !new;
                saved.err().map(|error| state::unwritable(queue.file.path(), &error))
            }
            None => None,
        };
        (queue, problem)
    }

    /// Takes up what waits. Whatever became of the identity, the next report is the last of them: they are sent in the order of their
    /// numbers. Those of the device that this one is a copy of are that device's to send.
    fn take_up(&mut self, is_copy: bool) {
        for path in self.waiting() {
            self.identity.sequence = self.identity.sequence.max(number(&path).unwrap_or(0));
            if is_copy && file::remove(&path).is_ok() {
                self.dropped += 1;
            }
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The identity of a report that is sent without being counted on disk: the same device in an epoch of its own, so that
    /// no two reports ever share a number. `None` if it is not known which device this is.
    pub(crate) fn identity_in_memory(&mut self) -> Option<Identity> {
        if self.lost.is_some() || !self.durable {
            return None;
        }
        let epoch = || hex(&platform::random::bytes::<8>());
        let identity = self.in_memory.get_or_insert_with(|| Identity {
            epoch: epoch(),
            sequence: 0,
            ..self.identity.clone()
        });
        identity.sequence += 1;
        Some(identity.clone())
    }

    /// Counts a failure of a report that waits. How many there were.
    pub(crate) fn failed_again(&mut self, path: &Path) -> u32 {
        let failures = self.failures.entry(path.to_owned()).or_default();
        *failures += 1;
        *failures
    }

    /// Takes a report out of the queue and keeps its file. Where it is.
    pub(crate) fn put_aside(&mut self, path: &Path) -> io::Result<PathBuf> {
        let aside = number(path).map_or_else(
            || path.with_extension("refused"),
            |number| path.with_file_name(format!("{number:020}.refused")),
        );
        file::rename(path, &aside)?;
        self.failures.remove(path);
        // One is enough to see what is wrong with it.
        for other in fs_err::read_dir(&self.folder)?.flatten().map(|entry| entry.path()) {
            if other != aside && other.extension().is_some_and(|extension| extension == "refused") {
                file::remove(&other)?;
            }
        }
        Ok(aside)
    }

    /// Counts one on. The number is durable before a report bears it, so no two reports ever share one.
    pub(crate) fn next_sequence(&mut self) -> io::Result<()> {
        self.identity.sequence += 1;
        self.save_identity()
    }

    /// Adds a report. Also gives what is wrong with the one before, which is moved aside if it is none.
    pub(crate) fn add(&mut self, report: &Report) -> io::Result<Option<Problem>> {
        let waiting = self.waiting();
        let checksum = crc32fast::hash(&Self::file(&self.folder).to_bytes(report)?);
        let name = format!("{:020}-{checksum:08x}.json", report.sequence);
        Self::file(&self.folder.join(name)).save(report)?;
        let mut problem = None;
        if let Some(last) = waiting.last() {
            match Self::load(last) {
                // Without room for more, an old one more does no harm.
                Ok(Some(before)) if says_the_same(&before, report) => cleaned(file::remove(last)),
                Ok(_) => {}
                Err(error) => problem = Some(state::unreadable("a report that waits", &error)),
            }
        }
        // It is kept: what went wrong with others must not have it sent under its number in another form.
        cleaned(self.bound(clock::now()));
        Ok(problem)
    }

    /// Drops the oldest reports that are too many, too large or too old.
    fn bound(&mut self, now: Timestamp) -> io::Result<()> {
        let (mut bytes, mut kept) = (0, 0);
        for path in self.waiting().iter().rev() {
            let about = fs_err::metadata(path).ok();
            bytes += about.as_ref().map_or(0, std::fs::Metadata::len);
            let written = about.and_then(|about| Timestamp::try_from(about.modified().ok()?).ok());
            let age = written.map_or(0, |written| written.duration_until(now).as_secs());
            let fits = kept < MAXIMUM && bytes <= MAXIMUM_BYTES && age <= MAXIMUM_AGE;
            if kept == 0 || fits {
                kept += 1;
                continue;
            }
            file::remove(path)?;
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

    /// One report. A file that is none, or not the one that was written, is kept aside.
    pub(crate) fn load(path: &Path) -> Result<Option<Report>, StateError> {
        let is_other = |checksum| fs_err::read(path).is_ok_and(|bytes| crc32fast::hash(&bytes) != checksum);
        if checksum(path).is_some_and(is_other) {
            return Err(Self::file(path).quarantine("its checksum is not the one of its name"));
        }
        Self::file(path).load()
    }

    fn file(path: &Path) -> StateFile<Report> {
        StateFile::new(path.to_owned(), Access::Private)
    }

    fn save_identity(&self) -> io::Result<()> {
        if let Some(lost) = self.lost.as_ref().filter(|lost| lost.is_in_place()) {
            // It may be readable again tomorrow, and is the device that the receiver knows.
            return Err(io::Error::other(lost.to_string()));
        }
        self.file.save(&self.identity)
    }
}

/// Notes what could not be tidied up; the next report tries again.
fn cleaned(result: io::Result<()>) {
    result.unwrap_or_else(|error| tracing::warn!("a report that waits could not be removed: {error}"));
}

/// The number in the name of a file.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_stem()?.to_str()?;
    name.split_once('-').map_or(name, |(number, _)| number).parse().ok()
}

/// The checksum in the name of a file; files of before have none.
fn checksum(path: &Path) -> Option<u32> {
    let (_, checksum) = path.file_stem()?.to_str()?.split_once('-')?;
    u32::from_str_radix(checksum, 16).ok()
}

/// Whether two reports tell a receiver the same about the device. A report of before there were digests has none.
fn says_the_same(one: &Report, other: &Report) -> bool {
    !one.digest.is_empty() && one.digest == other.digest
}

#[cfg(test)]
mod tests {
    use protocol::report::sample_report;
    use protocol::status::sample_status;

    use super::*;

    fn report(sequence: u64, hash: &str) -> Report {
        let mut status = sample_status();
        status.policy.hash = hash.to_owned();
        Report { digest: hash.to_owned(), ..sample_report(status, sequence) }
    }

    fn queue() -> (tempfile::TempDir, Queue) {
        let folder = tempfile::tempdir().unwrap();
        let (queue, problem) = Queue::open(folder.path(), [1; 24], Origin::default());
        assert_eq!(problem, None);
        (folder, queue)
    }

    #[test]
    fn identity_and_sequence_survive_a_restart() {
        let (folder, mut queue) = queue();
        queue.next_sequence().unwrap();
        let (mut again, _) = Queue::open(folder.path(), [2; 24], Origin::default());
        assert_eq!(again.identity(), queue.identity());
        again.next_sequence().unwrap();
        assert_eq!(again.identity().sequence, 2);
    }

    /// Found by review: the first report of a new epoch took the place of one that waited, and came before the others.
    #[test]
    fn reports_that_wait_stay_first_after_a_restart_of_the_system_and_a_lost_identity() {
        let origin = |boot: &str| Origin { machine: Some("m".to_owned()), boot: Some(boot.to_owned()) };
        let folder = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(folder.path(), [1; 24], origin("1"));
        for hash in ["a", "b"] {
            queue.next_sequence().unwrap();
            queue.add(&report(queue.identity().sequence, hash)).unwrap();
        }
        let epoch = queue.identity().epoch.clone();
        let (mut queue, _) = Queue::open(folder.path(), [2; 24], origin("2"));
        assert_ne!(queue.identity().epoch, epoch);
        queue.next_sequence().unwrap();
        queue.add(&report(queue.identity().sequence, "c")).unwrap();
        fs_err::write(folder.path().join("identity.json"), "{").unwrap();
        let (mut queue, _) = Queue::open(folder.path(), [3; 24], origin("2"));
        queue.next_sequence().unwrap();
        queue.add(&report(queue.identity().sequence, "d")).unwrap();
        let digest = |path: &PathBuf| Queue::load(path).unwrap().unwrap().digest;
        assert_eq!(queue.waiting().iter().map(digest).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn copy_of_a_device_leaves_the_reports_of_the_original_to_it() {
        let origin = |machine: &str| Origin { machine: Some(machine.to_owned()), boot: None };
        let folder = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(folder.path(), [1; 24], origin("a"));
        queue.next_sequence().unwrap();
        queue.add(&report(1, "a")).unwrap();
        let (queue, _) = Queue::open(folder.path(), [2; 24], origin("b"));
        assert_eq!((queue.waiting().len(), queue.dropped), (0, 1));
    }

    #[test]
    fn identity_that_cannot_be_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("identity.json")).unwrap();
        let (mut queue, problem) = Queue::open(folder.path(), [1; 24], Origin::default());
        assert_eq!(problem.unwrap().code, policy_schema::Code::AgentStateUnreadable);
        assert!(queue.next_sequence().is_err() && folder.path().join("identity.json").is_dir());
    }

    #[test]
    fn week_without_network_leaves_transitions_and_the_last_report() {
        let (_folder, mut queue) = queue();
        for sequence in 1..=672 {
            let hash = if sequence < 300 { "one" } else { "two" };
            queue.add(&report(sequence, hash)).unwrap();
        }
        let sequence = |path: &PathBuf| Queue::load(path).unwrap().unwrap().sequence;
        let kept: Vec<_> = queue.waiting().iter().map(sequence).collect();
        assert_eq!(kept, [299, 672]);
        assert_eq!(queue.dropped, 0);
    }

    #[test]
    fn oldest_reports_are_dropped_and_counted() {
        let (_folder, mut queue) = queue();
        for sequence in 1..=70 {
            queue.add(&report(sequence, &sequence.to_string())).unwrap();
        }
        assert_eq!((queue.waiting().len(), queue.dropped), (64, 6));
    }

    #[test]
    fn damaged_report_is_kept_aside() {
        let (_folder, mut queue) = queue();
        queue.add(&report(1, "a")).unwrap();
        let path = queue.waiting().remove(0);
        fs_err::write(&path, "{\"half").unwrap();
        assert!(Queue::load(&path).is_err());
        assert!(queue.waiting().is_empty() && path.with_extension("damaged").exists());
        // Also by the next one, which looks at the one before.
        queue.add(&report(2, "a")).unwrap();
        fs_err::write(queue.waiting().remove(0), "").unwrap();
        let problem = queue.add(&report(3, "a")).unwrap().unwrap();
        assert_eq!(problem.code, policy_schema::Code::AgentStateUnreadable);
        assert_eq!(queue.waiting().len(), 1);
    }

    /// A disk that turns a bit in the middle of a text leaves JSON that can be read.
    #[test]
    fn report_with_a_bit_that_turned_is_not_sent() {
        let (_folder, mut queue) = queue();
        queue.add(&report(1, "a")).unwrap();
        let path = queue.waiting().remove(0);
        let text = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, text.replace("Lab Notes", "Lab Nodes")).unwrap();
        let error = Queue::load(&path).unwrap_err();
        assert!(matches!(error, StateError::Damaged { quarantined: Some(_), .. }), "{error}");
        assert!(queue.waiting().is_empty());
    }

    #[test]
    fn queue_is_bounded_in_bytes_and_age_but_keeps_the_newest_report() {
        let large = |sequence: u64| {
            let mut report = report(sequence, &sequence.to_string());
            report.status.app.title = "x".repeat(300_000);
            report
        };
        let (_folder, mut queue) = queue();
        for sequence in 1..=5 {
            queue.add(&large(sequence)).unwrap();
        }
        assert_eq!((queue.waiting().len(), queue.dropped), (3, 2));
        let numbers: Vec<_> = queue.waiting().iter().filter_map(|path| number(path)).collect();
        assert_eq!(numbers, [3, 4, 5]);
        let long_ago = clock::now().checked_sub(jiff::SignedDuration::from_secs(MAXIMUM_AGE + 60)).unwrap();
        let long_ago = std::time::SystemTime::from(long_ago);
        for path in queue.waiting() {
            fs_err::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .into_parts()
                .0
                .set_modified(long_ago)
                .unwrap();
        }
        queue.add(&report(6, "6")).unwrap();
        assert_eq!((queue.waiting().len(), queue.dropped), (1, 5));
        let mut huge = large(7);
        huge.status.app.title = "x".repeat(2_000_000);
        queue.add(&huge).unwrap();
        assert_eq!(queue.waiting().iter().filter_map(|path| number(path)).collect::<Vec<_>>(), [7]);
    }

    /// Found by trial: after a rollback, what a newer agent had queued was put aside as damaged.
    #[test]
    fn report_of_newer_agent_is_sent_as_it_came() {
        let (_folder, mut queue) = queue();
        queue.add(&report(1, "a")).unwrap();
        let path = queue.waiting().remove(0);
        let mut json: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        // The names of before have no checksum.
        let path = path.with_file_name("00000000000000000001.json");
        json["weather"] = "rain".into();
        json["status"]["policy"]["moon"] = 7.into();
        json["health"]["state"] = "drowsy".into();
        json["health"]["components"][0]["name"] = "lighthouse".into();
        json["status"]["problems"] = serde_json::json!([{ "code": "quantum.decohered", "severity": "grave", "message": "m", "angle": 3 }]);
        fs_err::write(&path, json.to_string()).unwrap();
        let report = Queue::load(&path).unwrap().unwrap();
        json.as_object_mut().unwrap().remove("version");
        assert_eq!(serde_json::to_value(&report).unwrap(), json);
    }
}
