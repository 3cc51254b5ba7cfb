use std::collections::BTreeSet;

use axum::extract::Query;
use axum::http::Uri;
use proptest::prelude::*;

use super::view::{self, Number};
use super::*;
use crate::arrival::Facts;
use crate::filter::{At, Filter};

const MINUTE: i64 = 60_000;
const START: i64 = 1_800_000_000_000;

/// Something that a device says, at a minute.
#[derive(Clone, Debug)]
struct Said {
    minute: i64,
    device: u8,
    epoch: u8,
    sequence: i64,
    promise: i64,
    /// What it says; nothing for a heartbeat.
    facts: Option<(u8, u8)>,
    digest: u8,
}

impl Said {
    fn arrival(&self) -> Arrival {
        let facts = self.facts.map(|(state, problem)| {
            let states = ["pass", "fail", "error", "stale", "unknown", "pending"];
            let problems = (0..problem % 3).map(|code| (format!("code-{code}"), "error".to_owned()));
            Box::new(Facts {
                state: states[usize::from(state) % states.len()].to_owned(),
                agent_version: format!("1.{}.0", state % 3),
                app_version: if state % 2 == 0 { String::new() } else { "2.0 & more".to_owned() },
                policy: format!("hash-{}", problem % 2),
                system: "Linux".to_owned(),
                problems: problems.collect(),
                body: Vec::new(),
            })
        });
        let at = START + self.minute * MINUTE;
        Arrival {
            device: format!("device-{}", self.device),
            epoch: format!("epoch-{}", self.epoch),
            sequence: self.sequence,
            sent_at: at,
            received_at: at,
            promised_until: at + self.promise * MINUTE,
            digest: format!("digest-{}", self.digest),
            facts,
        }
    }
}

fn database(said: &[Said]) -> (tempfile::TempDir, Connection, Vec<Kept>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.sqlite");
    let mut connection = Connection::open(&path).unwrap();
    // Nothing is lost here.
    connection.pragma_update(None, "synchronous", "off").unwrap();
    migrate(&mut connection, &path).unwrap();
    let kept =
        said.iter().map(|one| write::commit(&mut connection, [&one.arrival()].into_iter()).unwrap()[0]);
    let kept = kept.collect();
    (folder, connection, kept)
}

/// The filter of a link.
fn filter_of(link: &str) -> Filter {
    Query::<Filter>::try_from_uri(&link.parse::<Uri>().unwrap()).unwrap().0
}

fn said() -> impl Strategy<Value = Vec<Said>> {
    let one = (
        0_i64..200,
        0_u8..4,
        0_u8..3,
        0_i64..6,
        1_i64..60,
        proptest::option::weighted(0.7, any::<(u8, u8)>()),
        0_u8..4,
    );
    proptest::collection::vec(one, 0..25).prop_map(|mut all| {
        all.sort_by_key(|one| one.0);
        all.into_iter()
            .map(|(minute, device, epoch, sequence, promise, facts, digest)| Said {
                minute,
                device,
                epoch,
                sequence,
                promise,
                facts,
                digest,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The owner of compliance opens a number and counts.
    #[test]
    fn every_number_is_as_large_as_the_list_that_it_links_to(said in said(), minute in -1_i64..260, is_now: bool) {
        let (_folder, mut connection, _) = database(&said);
        let snapshot = connection.transaction().unwrap();
        let at = At { moment: START + minute * MINUTE, is_now };
        let time = Filter::default();
        let overview = view::overview(&snapshot, &time, at).unwrap();
        let list = |filter: &Filter| view::list(&snapshot, filter, at, 0, usize::MAX).unwrap();
        let spreads = overview.spreads.iter().chain([&overview.problems]);
        let rows = overview.states.iter().chain(spreads.clone().flat_map(|spread| &spread.rows));
        let numbers = rows.flat_map(|row| &row.numbers).chain([&overview.all, &overview.conflicts]);
        for Number { count, link } in numbers {
            let listed = list(&filter_of(link));
            prop_assert_eq!((listed.total, listed.devices.len()), (*count, *count), "{}", link);
        }
        // Each table counts each device once.
        let all = list(&time).total;
        prop_assert_eq!(overview.states.iter().map(|row| row.numbers[2].count).sum::<usize>(), all);
        prop_assert_eq!(overview.all.count, all);
        for spread in &overview.spreads {
            prop_assert_eq!(spread.rows.iter().map(|row| row.numbers[0].count).sum::<usize>(), all, "{}", spread.title);
        }
        // What was, stays: all that came later changes nothing about it.
        if !is_now {
            let earlier: Vec<Said> = said.iter().filter(|one| one.minute <= minute).cloned().collect();
            let (_folder, mut connection, _) = database(&earlier);
            let then = view::list(&connection.transaction().unwrap(), &time, at, 0, usize::MAX).unwrap();
            let shown = |list: &view::List| -> Vec<_> {
                list.devices.iter().map(|one| (one.id.clone(), one.state.clone(), one.policy.clone())).collect()
            };
            prop_assert_eq!(shown(&list(&time)), shown(&then));
        }
    }

    #[test]
    fn each_number_of_an_epoch_is_kept_once(sequences in proptest::collection::vec(0_i64..12, 0..40)) {
        let said: Vec<Said> = sequences
            .iter()
            .map(|sequence| Said {
                minute: 0,
                device: 0,
                epoch: 0,
                sequence: *sequence,
                promise: 5,
                facts: Some((0, 0)),
                digest: u8::try_from(*sequence).unwrap(),
            })
            .collect();
        let (_folder, connection, kept) = database(&said);
        let mut seen = BTreeSet::new();
        for (sequence, kept) in sequences.iter().zip(kept) {
            let expected = if seen.insert(*sequence) { Kept::New } else { Kept::Duplicate };
            prop_assert_eq!(kept, expected, "{}", sequence);
        }
        let ranges: i64 = connection.query_row("SELECT count(*) FROM received", [], |row| row.get(0)).unwrap();
        let gaps = seen.iter().filter(|sequence| !seen.contains(&(**sequence - 1))).count();
        prop_assert_eq!(ranges, i64::try_from(gaps).unwrap());
        let reports: usize = connection.query_row("SELECT count(*) FROM report", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(reports, seen.len());
    }
}

fn report(minute: i64, epoch: u8, sequence: i64, digest: u8) -> Said {
    Said { minute, device: 0, epoch, sequence, promise: 10, facts: Some((digest, 0)), digest }
}

fn state(connection: &mut Connection, minute: i64, is_now: bool) -> (String, String, Option<String>) {
    let at = At { moment: START + minute * MINUTE, is_now };
    let snapshot = connection.transaction().unwrap();
    let list = view::list(&snapshot, &Filter::default(), at, 0, 9).unwrap();
    let conflict = Filter { conflict: Some("yes".to_owned()), ..Filter::default() };
    let conflicts = view::list(&snapshot, &conflict, at, 0, 9).unwrap();
    let one = &list.devices[0];
    (one.state.clone(), one.contact.clone(), conflicts.devices.first().map(|one| one.id.clone()))
}

#[test]
fn heartbeat_keeps_a_device_reporting_and_silence_shows() {
    let heartbeat = |minute, sequence| Said { facts: None, ..report(minute, 0, sequence, 0) };
    let (_folder, mut connection, kept) = database(&[
        heartbeat(0, 0),
        report(1, 0, 1, 0),
        heartbeat(9, 2),
        Said { digest: 3, ..heartbeat(12, 3) },
        Said { epoch: 1, ..heartbeat(12, 4) },
    ]);
    assert_eq!(kept, [Kept::Unknown, Kept::New, Kept::New, Kept::Unknown, Kept::Unknown]);
    for (minute, contact) in [(1, "reporting"), (18, "reporting"), (19, "silent"), (400, "silent")] {
        assert_eq!(state(&mut connection, minute, false).1, contact, "minute {minute}");
        assert_eq!(state(&mut connection, minute, true).1, contact, "minute {minute}");
    }
}

#[test]
fn report_that_cannot_be_kept_keeps_no_other_from_it() {
    let (_folder, mut connection, _) = database(&[report(0, 0, 1, 0)]);
    // Whatever the cause is: here, the next report but one has its problem already.
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection
        .execute("INSERT INTO problem (report, code, severity) VALUES (3, 'code-0', 'error')", [])
        .unwrap();
    let said = |device| Said { device, facts: Some((0, 1)), ..report(1, 0, 1, 0) };
    let group =
        [said(1), said(2), said(3)].map(|one| Waiting { arrival: one.arrival(), kept: oneshot::channel().0 });
    let kept: Vec<_> = commit(&mut connection, group.into()).into_iter().map(|(_, kept)| kept).collect();
    assert_eq!(kept, [Some(Kept::New), None, None]);
    connection.execute("DELETE FROM problem WHERE report = 3", []).unwrap();
    let again = Waiting { arrival: said(3).arrival(), kept: oneshot::channel().0 };
    assert_eq!(commit(&mut connection, vec![again])[0].1, Some(Kept::New));
}

/// One that found no room at first, while a later one got through.
#[test]
fn late_report_is_history_and_does_not_become_the_present() {
    let (_folder, mut connection, kept) =
        database(&[report(0, 0, 1, 0), report(2, 0, 3, 1), report(3, 0, 2, 2)]);
    assert_eq!(kept, [Kept::New; 3]);
    assert_eq!(state(&mut connection, 4, true).0, "fail");
    // Also after a heartbeat, and from an earlier start of the device.
    let heartbeat = Said { facts: None, ..report(2, 1, 5, 1) };
    let late = [Said { minute: 3, ..report(3, 1, 4, 0) }, report(4, 0, 2, 0)];
    let (_folder, mut after, kept) =
        database(&[report(0, 0, 1, 0), report(1, 1, 3, 1), heartbeat, late[0].clone()]);
    assert_eq!((kept[3], state(&mut after, 5, true).0), (Kept::New, "fail".to_owned()));
    let mut earlier = late[1].arrival();
    earlier.sent_at = START;
    assert_eq!(write::commit(&mut after, [&earlier].into_iter()).unwrap(), [Kept::New]);
    assert_eq!(state(&mut after, 5, true), ("fail".to_owned(), "reporting".to_owned(), None));
    // The same digest does not hide another state.
    let (_folder, mut lies, _) =
        database(&[report(0, 0, 1, 0), Said { facts: Some((1, 0)), ..report(1, 0, 2, 0) }]);
    assert_eq!(state(&mut lies, 2, true).0, "fail");
    let count: i64 = connection.query_row("SELECT count(*) FROM report", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
}

#[test]
fn two_devices_with_one_identity_are_a_conflict_and_a_restart_is_none() {
    let (_folder, mut connection, _) =
        database(&[report(0, 0, 1, 0), report(1, 1, 2, 1), report(2, 1, 3, 2)]);
    assert_eq!(state(&mut connection, 3, true).2, None);
    let turns = [report(0, 0, 1, 0), report(1, 1, 2, 1), report(2, 0, 2, 2), report(3, 1, 3, 0)];
    let (_folder, mut connection, _) = database(&turns);
    assert_eq!(state(&mut connection, 2, false).2, None);
    assert_eq!(state(&mut connection, 3, true).2.as_deref(), Some("device-0"));
    assert_eq!(state(&mut connection, 8 * 24 * 60, true).2, None);
    // A full disk: reports from memory have epochs of their own.
    let full =
        [report(0, 0, 1, 0), report(1, 1, 1, 1), report(2, 0, 2, 2), report(3, 2, 1, 1), report(4, 0, 3, 0)];
    let (_folder, mut connection, _) = database(&full);
    assert_eq!(state(&mut connection, 5, true), ("pass".to_owned(), "reporting".to_owned(), None));
}

#[test]
fn clock_of_the_server_that_goes_back_leaves_the_present_right() {
    let (_folder, mut connection, _) = database(&[report(100, 0, 1, 0), report(5, 0, 2, 1)]);
    assert_eq!(state(&mut connection, 6, true), ("fail".to_owned(), "reporting".to_owned(), None));
    let (_folder, mut connection, _) =
        database(&[report(100, 0, 1, 0), report(5, 0, 2, 1), report(101, 0, 3, 2)]);
    assert_eq!(state(&mut connection, 102, true), ("error".to_owned(), "reporting".to_owned(), None));
}

#[test]
fn database_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.sqlite");
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { found: 99, .. })));
    let other = folder.path().join("other.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE device (name TEXT)").unwrap();
    assert!(matches!(Store::open(&other), Err(StoreError::Foreign)));
    drop(Store::open(&folder.path().join("none/fleet.sqlite")).map(|_| ()).unwrap_err());
}
