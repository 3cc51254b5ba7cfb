use proptest::prelude::*;
use protocol::update::Happened;

use super::*;
use crate::decide::tests::release;
use crate::decision::Verdict;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn decision(verdict: Verdict, release: &Release) -> Event<'_> {
    let version = release.version.clone();
    let reason = match verdict {
        Verdict::Stay => Reason::UpToDate { installed: version },
        Verdict::Announce => Reason::Available { version },
        Verdict::Prepare => {
            Reason::Deadline { version, at: NOW, local: jiff::civil::DateTime::ZERO, same_day: true }
        }
        Verdict::Install => Reason::Due { version },
    };
    Event::Decided(Decision { verdict, release: Some(release), reason })
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// Steps through events; gives the journal and the names of all stages and actions.
fn run(mut journal: Journal, events: Vec<Event<'_>>) -> (Journal, Vec<String>) {
    let mut found = Vec::new();
    for event in events {
        let actions;
        (journal, actions) = journal.step(event, NOW);
        let names = actions.iter().map(|action| match action {
            Action::Fetch { offset, .. } => format!("fetch from {offset}"),
            Action::Check => "check".to_owned(),
            Action::Install { offer } => format!("install {}", offer.version),
            Action::Confirm { version } => format!("confirm {version}"),
            Action::RollBack { previous } => format!("roll back to {previous:?}"),
            Action::Discard => "discard".to_owned(),
            Action::CleanUp { keep } => format!("keep {}", keep.len()),
        });
        found.push(format!("{:?}: {}", journal.stage(), names.collect::<Vec<_>>().join(", ")));
    }
    (journal, found)
}

fn fetched() -> Event<'static> {
    Event::Fetched { wait: None }
}

/// The download came, and time has not.
fn early() -> Event<'static> {
    Event::Fetched { wait: Some(Reason::Held { until: None }) }
}

fn ready() -> Event<'static> {
    Event::Ready { installed: Some(version("1.0.0")) }
}

#[test]
fn update_goes_from_offer_to_commit() {
    let new = release("2.0.0");
    let progress = |offset| Event::Progress { offset, etag: Some("\"x\"".to_owned()) };
    let (journal, found) = run(
        Journal::default(),
        vec![
            decision(Verdict::Install, &new),
            progress(5),
            progress(9),
            fetched(),
            ready(),
            Event::Installed,
            Event::Confirmed,
            decision(Verdict::Stay, &new),
        ],
    );
    assert_eq!(
        found,
        [
            "Offered: fetch from 0",
            "Downloading: ",
            "Downloading: ",
            "Verified: check",
            "Installing: install 2.0.0",
            "Confirming: confirm 2.0.0",
            "Committed: discard, keep 2",
            "Committed: ",
        ]
    );
    assert_eq!(journal.previous, Some(version("1.0.0")));
    let messages: Vec<&str> = journal.history.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!(messages, ["2.0.0 is out", "version 2.0.0 was installed, 1.0.0 before"]);
}

#[test]
fn download_comes_before_the_wait_and_goes_on_where_it_ended() {
    let new = release("2.0.0");
    let (journal, found) = run(
        Journal::default(),
        vec![
            decision(Verdict::Prepare, &new),
            Event::Progress { offset: 7, etag: None },
            Event::FetchFailed { reason: "the network is away".to_owned(), lasting: false },
            Event::Resumed,
            decision(Verdict::Prepare, &new),
            early(),
            decision(Verdict::Prepare, &new),
            Event::Resumed,
            decision(Verdict::Install, &new),
            fetched(),
            Event::NotReady(Reason::AppOpen { version: new.version.clone(), deadline: None }),
            decision(Verdict::Install, &new),
            fetched(),
            ready(),
        ],
    );
    assert_eq!(
        found,
        [
            "Offered: fetch from 0",
            "Downloading: ",
            "Downloading: ",
            "Downloading: ",
            "Downloading: fetch from 7",
            "Waiting: ",
            "Waiting: ",
            "Waiting: ",
            "Downloading: fetch from 1",
            "Verified: check",
            "Waiting: ",
            "Downloading: fetch from 1",
            "Verified: check",
            "Installing: install 2.0.0",
        ]
    );
    assert!(journal.attempts.iter().all(|tried| tried.installations == 1), "{journal:?}");
}

#[test]
fn version_that_does_not_start_is_rolled_back_and_quarantined_until_a_later_one_starts() {
    let (new, next) = (release("2.0.0"), release("2.0.10"));
    let broken = || Event::DoesNotStart { reason: "a library is missing".to_owned() };
    let install = |release| vec![decision(Verdict::Install, release), fetched(), ready(), Event::Installed];
    let mut events = install(&new);
    events.extend([
        broken(),
        Event::NotRolledBack { reason: "the disk is full".to_owned(), lasting: false },
        Event::Resumed,
    ]);
    events.push(Event::RolledBack);
    let (journal, found) = run(Journal::default(), events);
    assert_eq!(
        found[4..],
        [
            "RollingBack: roll back to Some(Version { major: 1, minor: 0, patch: 0 })",
            "RollingBack: ",
            "RollingBack: roll back to Some(Version { major: 1, minor: 0, patch: 0 })",
            "RolledBack: discard, keep 2"
        ]
    );
    assert_eq!(journal.quarantine(&new.version).unwrap().reason, "a library is missing");
    let (journal, _) = run(journal, install(&next));
    assert!(journal.quarantine(&new.version).is_some(), "nobody knows yet");
    let (journal, _) = run(journal, vec![Event::Confirmed]);
    assert!(journal.quarantined.is_empty());
}

/// Otherwise no later release would ever be installed.
#[test]
fn version_whose_predecessor_is_gone_stays_and_a_later_one_is_installed() {
    let (new, next) = (release("2.0.0"), release("2.0.10"));
    let broken = Event::DoesNotStart { reason: "a library is missing".to_owned() };
    let gone = Event::NotRolledBack { reason: "version 1.0.0 is gone".to_owned(), lasting: true };
    let mut events =
        vec![decision(Verdict::Install, &new), fetched(), ready(), Event::Installed, broken, gone];
    events.extend([decision(Verdict::Install, &next), fetched()]);
    let (journal, found) = run(Journal::default(), events);
    assert_eq!(found[5..], ["Idle: discard", "Offered: fetch from 0", "Verified: check"]);
    assert!(journal.quarantine(&new.version).is_some());
}

#[test]
fn time_in_which_a_release_was_only_announced_does_not_count_for_its_deadline() {
    let new = release("2.0.0");
    let later = Timestamp::from_second(1000).unwrap();
    let (journal, _) = Journal::default().step(decision(Verdict::Announce, &new), NOW);
    let (journal, _) = journal.step(decision(Verdict::Prepare, &new), later);
    assert_eq!(journal.wanted_since(&new.artifact.digest()), Some(later));
}

#[test]
fn hold_keeps_what_was_downloaded_and_since_when_it_is_wanted() {
    let new = release("2.0.0");
    let held = Event::Decided(Decision {
        verdict: Verdict::Stay,
        release: None,
        reason: Reason::Held { until: None },
    });
    let (journal, found) = run(Journal::default(), vec![decision(Verdict::Prepare, &new), early(), held]);
    assert_eq!(found[2], "Waiting: ");
    assert_eq!(journal.wanted_since(&new.artifact.digest()), Some(NOW));
}

#[test]
fn same_file_is_tried_three_times_whatever_ends_the_attempt() {
    let new = release("2.0.0");
    let digest = new.artifact.digest();
    let start = || vec![decision(Verdict::Install, &new), fetched(), ready()];
    // The device crashes during the installation, again and again.
    let (journal, found) = run(Journal::default(), [start(), vec![Event::Resumed; 5]].concat());
    assert_eq!(
        found[3..],
        [
            "Installing: install 2.0.0",
            "Installing: install 2.0.0",
            "RollingBack: roll back to Some(Version { major: 1, minor: 0, patch: 0 })",
            "RollingBack: roll back to Some(Version { major: 1, minor: 0, patch: 0 })",
            "RollingBack: roll back to Some(Version { major: 1, minor: 0, patch: 0 })"
        ]
    );
    assert!(journal.attempts(&digest).unwrap().installations >= ATTEMPTS);
    // What is no fault of the file does not count.
    let failed = |lasting| Event::InstallFailed { reason: "x".to_owned(), lasting };
    let (journal, _) = run(Journal::default(), [start(), vec![failed(false)]].concat());
    assert_eq!(journal.attempts(&digest).unwrap().count(), 0);
    let (journal, _) = run(journal, [start(), vec![failed(true)], start(), vec![failed(true)]].concat());
    assert_eq!(journal.attempts(&digest).unwrap().installations, 2);
    let wrong = Event::FetchFailed { reason: "the hash differs".to_owned(), lasting: true };
    let (journal, _) = run(journal, vec![decision(Verdict::Install, &new), wrong]);
    let tried = journal.attempts(&digest).unwrap();
    assert_eq!((tried.installations, tried.other_files, tried.last.as_str()), (2, 1, "the hash differs"));
}

/// What an installer left is neither version: the one before comes back, and is not tried for ever either.
#[test]
fn damage_is_rolled_back_and_a_rollback_that_fails_ends_after_three_times() {
    let (new, later) = (release("2.0.0"), release("2.0.10"));
    let damaged = Event::Damaged { reason: "it failed".to_owned() };
    let failed = || Event::NotRolledBack { reason: "it is refused".to_owned(), lasting: false };
    let start = vec![decision(Verdict::Install, &new), fetched(), ready(), damaged];
    let (journal, found) = run(Journal::default(), start);
    assert!(found[3].starts_with("RollingBack: roll back to Some"), "{found:?}");
    let (back, _) = run(journal.clone(), vec![Event::RolledBack]);
    assert!(back.stage() == Stage::RolledBack && back.quarantine(&new.version).is_some());
    let (journal, found) = run(journal, vec![failed(), Event::Resumed, failed(), Event::Resumed, failed()]);
    assert_eq!(found.last().unwrap(), "Idle: discard", "{found:?}");
    assert!(journal.quarantine(&new.version).is_some());
    // A later release is tried.
    let (_, found) = run(journal, vec![decision(Verdict::Install, &later)]);
    assert_eq!(found, ["Offered: fetch from 0"]);
}

#[test]
fn version_that_needs_a_restart_is_not_judged_and_its_file_not_installed_for_ever() {
    let new = release("2.0.0");
    let round =
        || vec![decision(Verdict::Install, &new), fetched(), ready(), Event::RestartNeeded { boot: None }];
    let (journal, found) = run(Journal::default(), round());
    assert_eq!(found[3], "Committed: discard, keep 2");
    let message = &journal.history.last().unwrap().message;
    assert!(message.ends_with("1.0.0 before; a restart of the device finishes that"), "{message}");
    // The version is still not there: nobody has restarted the device.
    assert_eq!(journal.restart, None);
    let (journal, _) = run(journal, [round(), round()].concat());
    assert!(journal.attempts(&new.artifact.digest()).unwrap().exhausted(NOW).is_some());
}

#[test]
fn restart_that_is_needed_is_remembered_until_another_version_is_there() {
    let (new, later) = (release("2.0.0"), release("2.0.1"));
    let needed = Event::RestartNeeded { boot: Some("this start".to_owned()) };
    let (journal, _) =
        run(Journal::default(), vec![decision(Verdict::Install, &new), fetched(), ready(), needed]);
    assert!(journal.waits_for_restart(&new.version, Some("this start")));
    assert_eq!(journal.just_installed(), None);
    assert!(!journal.waits_for_restart(&new.version, Some("the next one")));
    assert!(!journal.waits_for_restart(&new.version, None));
    assert!(!journal.waits_for_restart(&later.version, Some("this start")));
    let installed =
        vec![decision(Verdict::Install, &later), fetched(), ready(), Event::Installed, Event::Confirmed];
    assert_eq!(run(journal, installed).0.restart, None);
}

#[test]
fn version_that_fails_at_its_first_start_is_rolled_back_if_it_was_just_installed() {
    let new = release("2.0.0");
    let installed =
        || vec![decision(Verdict::Install, &new), fetched(), ready(), Event::Installed, Event::Confirmed];
    let failed = |version: &str| Event::FirstStartFailed {
        version: version.parse().unwrap(),
        reason: "it ended".to_owned(),
    };
    let (journal, _) = run(Journal::default(), installed());
    assert_eq!(journal.just_installed(), Some(&new.version));
    // Another version.
    let (journal, found) = run(journal, vec![failed("1.9.9")]);
    assert_eq!(found, ["Committed: "]);
    let (journal, found) = run(journal, vec![failed("2.0.0"), Event::RolledBack]);
    assert_eq!(
        found,
        [
            "RollingBack: roll back to Some(Version { major: 1, minor: 0, patch: 0 })",
            "RolledBack: discard, keep 2"
        ]
    );
    assert_eq!(journal.quarantine(&new.version).unwrap().reason, "it ended");
    // Nothing is under way.
    assert_eq!(run(journal, vec![failed("2.0.0")]).1, ["RolledBack: "]);
}

#[test]
fn withdrawn_or_replaced_offer_is_no_failure_and_leaves_nothing() {
    let (new, next) = (release("2.0.0"), release("2.0.10"));
    let (journal, found) = run(
        Journal::default(),
        vec![
            decision(Verdict::Prepare, &new),
            early(),
            decision(Verdict::Prepare, &next),
            decision(Verdict::Stay, &next),
        ],
    );
    assert_eq!(found[2..], ["Offered: discard, fetch from 0", "Idle: discard"]);
    assert!(journal.attempts.is_empty());
    assert_eq!(journal.history.last().unwrap().happened, Happened::Withdrawn);
}

#[test]
fn administrator_holds_releases_and_rolls_back() {
    let new = release("2.0.0");
    let command = |command| Event::Commanded { command, installed: Some(version("2.0.0")) };
    let installed = vec![
        decision(Verdict::Install, &new),
        fetched(),
        ready(),
        Event::Installed,
        Event::Confirmed,
        command(Command::RollBack),
        Event::RolledBack,
        // There is nothing before that.
        command(Command::RollBack),
    ];
    let (journal, found) = run(Journal::default(), installed);
    assert!(found[5].starts_with("RollingBack: roll back to Some"), "{found:?}");
    assert_eq!(found[6..], ["RolledBack: discard, keep 2", "RolledBack: "]);
    assert!(journal.quarantine(&new.version).is_some());
    let (journal, _) = run(journal, vec![command(Command::Hold { until: None })]);
    assert!(journal.hold(NOW).is_some());
    let (journal, _) = run(journal, vec![command(Command::Release { version: Some(new.version.clone()) })]);
    assert!(journal.hold(NOW).is_none() && journal.quarantined.is_empty());
}

#[test]
fn journal_survives_its_file() {
    let new = release("2.0.0");
    let broken = Event::DoesNotStart { reason: "x".to_owned() };
    let events = vec![decision(Verdict::Prepare, &new), early()];
    let more = vec![decision(Verdict::Install, &new), fetched(), ready(), Event::Installed, broken];
    for events in [vec![], events.clone(), [events, more].concat()] {
        let (journal, _) = run(Journal::default(), events);
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal, "{text}");
    }
}

proptest! {
    /// Events in any order, as a faulty shell might give them.
    #[test]
    fn no_order_of_events_installs_what_was_not_verified(
        kinds in prop::collection::vec(0_u8..20, 0..60),
    ) {
        let releases = [release("2.0.0"), release("2.0.10")];
        let mut journal = Journal::default();
        for kind in kinds {
            let event = match kind {
                0 => Event::Resumed,
                1 => decision(Verdict::Install, &releases[0]),
                2 => decision(Verdict::Prepare, &releases[0]),
                3 => decision(Verdict::Stay, &releases[0]),
                4 => decision(Verdict::Announce, &releases[1]),
                5 => Event::Progress { offset: 1, etag: None },
                6 => fetched(),
                7 => Event::FetchFailed { reason: "x".to_owned(), lasting: true },
                8 => ready(),
                9 => Event::Installed,
                10 => Event::InstallFailed { reason: "x".to_owned(), lasting: true },
                11 => Event::Confirmed,
                12 => Event::DoesNotStart { reason: "x".to_owned() },
                13 => Event::RolledBack,
                14 => Event::NotRolledBack { reason: "x".to_owned(), lasting: false },
                15 => Event::NotRolledBack { reason: "x".to_owned(), lasting: true },
                16 => Event::RestartNeeded { boot: Some("this start".to_owned()) },
                17 => Event::Damaged { reason: "x".to_owned() },
                18 => Event::FirstStartFailed { version: version("2.0.0"), reason: "x".to_owned() },
                _ => Event::Commanded { command: Command::RollBack, installed: Some(version("2.0.0")) },
            };
            let before = journal.stage();
            let (next, actions) = journal.step(event, NOW);
            for action in &actions {
                match action {
                    Action::Install { .. } => {
                        prop_assert!(matches!(before, Stage::Verified | Stage::Installing), "{:?}", before);
                        prop_assert_eq!(next.stage(), Stage::Installing);
                    }
                    Action::RollBack { .. } => prop_assert_eq!(next.stage(), Stage::RollingBack),
                    Action::Confirm { .. } => prop_assert_eq!(next.stage(), Stage::Confirming),
                    Action::Fetch { .. } | Action::Check | Action::Discard | Action::CleanUp { .. } => {}
                }
            }
            prop_assert!(next.history.len() <= 100);
            journal = next;
        }
    }
}
