//! What follows from an event: the next journal, and what to do once it is durable.

use jiff::Timestamp;
use policy_schema::Extra;
use protocol::update::{Command, Happened, HistoryEntry, Hold};
use semver::Version;

use super::{ATTEMPTS, Action, Attempts, Event, Journal, Offer, Quarantine, Restart, State, Wait};
use crate::Reason;
use crate::decision::{Decision, Verdict};

/// So many events are kept, and so many quarantined versions and files that failed.
const KEPT: usize = 100;

impl Journal {
    /// The next journal, and what to do once it is durable.
    #[must_use]
    pub fn step(mut self, event: Event<'_>, now: Timestamp) -> (Self, Vec<Action>) {
        let actions = match event {
            Event::Resumed => self.resume(now),
            Event::Decided(decision) => self.decided(&decision, now),
            Event::Progress { offset, etag } => self.progress(offset, etag),
            Event::Fetched { wait } => self.fetched(wait.as_ref()),
            Event::FetchFailed { reason, lasting } => self.fetch_failed(reason, lasting, now),
            Event::Ready { installed } => self.ready(installed, now),
            Event::NotReady(why) => {
                if let State::Verified { offer } = &self.state {
                    self.state = State::Waiting { offer: offer.clone(), why: (&why).into(), fetched: true };
                }
                Vec::new()
            }
            Event::Installed => self.installed(),
            Event::RestartNeeded { boot } => self.restart_needed(boot, now),
            Event::InstallFailed { reason, lasting } => self.install_failed(reason, lasting, now),
            Event::Damaged { reason } | Event::DoesNotStart { reason } => self.roll_back(reason),
            Event::FirstStartFailed { version, reason } => self.first_start_failed(&version, reason),
            Event::Confirmed => self.confirmed(now),
            Event::RolledBack => self.rolled_back(now),
            Event::NotRolledBack { reason, lasting } => self.not_rolled_back(reason, lasting, now),
            Event::Commanded { command, installed } => self.commanded(command, installed, now),
        };
        (self, actions)
    }

    /// Something that a crash interrupted is done again; everything else waits for the next check of the feed.
    fn resume(&mut self, now: Timestamp) -> Vec<Action> {
        match &self.state {
            State::Installing { offer, .. } => {
                let offer = offer.clone();
                // Whatever the crash was, it may have been this file.
                let tried = self.tried(&offer.sha512, "its installation was interrupted", now);
                tried.installations = tried.installations.saturating_add(1);
                if tried.installations > ATTEMPTS {
                    // An installer may have left anything.
                    return self.roll_back("its installation was interrupted again and again".to_owned());
                }
                vec![Action::Install { offer }]
            }
            State::Confirming { version, .. } => vec![Action::Confirm { version: version.clone() }],
            State::RollingBack { previous, .. } => vec![Action::RollBack { previous: previous.clone() }],
            State::Verified { offer } => {
                self.state = State::Offered { offer: offer.clone(), wait: None };
                Vec::new()
            }
            State::Idle
            | State::Offered { .. }
            | State::Downloading { .. }
            | State::Waiting { .. }
            | State::Committed { .. }
            | State::RolledBack { .. } => Vec::new(),
        }
    }

    fn decided(&mut self, decision: &Decision<'_>, now: Timestamp) -> Vec<Action> {
        if self.is_committed_to_finish() {
            return self.resume(now);
        }
        let wait = match decision.verdict {
            Verdict::Stay => return self.withdraw(&decision.reason, now),
            Verdict::Announce | Verdict::Prepare => Some(Wait::from(&decision.reason)),
            Verdict::Install => None,
        };
        let Some(release) = decision.release else { return Vec::new() };
        let digest = release.artifact.digest();
        // Until now it was only announced, or there was nothing of it.
        let announced = matches!(self.state, State::Waiting { fetched: false, .. });
        let since = self.wanted_since(&digest).filter(|_| !announced).unwrap_or(now).min(now);
        let offer = Offer::of(release, since);
        let mut actions = Vec::new();
        if self.offer().is_none_or(|before| before.sha512 != digest) {
            if self.offer().is_some() {
                actions.push(Action::Discard);
            }
            self.note(Happened::Offered, Some(release.version.clone()), decision.reason.to_string(), now);
            self.state = State::Idle;
        }
        if let (Verdict::Announce, Some(why)) = (decision.verdict, &wait) {
            let fetched = matches!(self.state, State::Waiting { fetched: true, .. });
            self.state = State::Waiting { offer, why: why.clone(), fetched };
            return actions;
        }
        let (offset, etag) = match &self.state {
            State::Downloading { offset, etag, .. } => (*offset, etag.clone()),
            // The whole file is there, and is verified once more.
            State::Waiting { fetched: true, .. } => (offer.size, None),
            State::Idle
            | State::Offered { .. }
            | State::Verified { .. }
            | State::Waiting { .. }
            | State::Installing { .. }
            | State::Confirming { .. }
            | State::RollingBack { .. }
            | State::Committed { .. }
            | State::RolledBack { .. } => (0, None),
        };
        if let (State::Waiting { fetched: true, .. }, Some(why)) = (&self.state, &wait) {
            self.state = State::Waiting { offer, why: why.clone(), fetched: true };
            return actions;
        }
        self.state = if offset > 0 {
            State::Downloading { offer: offer.clone(), wait, offset, etag: etag.clone() }
        } else {
            State::Offered { offer: offer.clone(), wait }
        };
        actions.push(Action::Fetch { offer, offset, etag });
        actions
    }

    /// Nothing is wanted any more. That is no failure, and no end of what is installed already.
    fn withdraw(&mut self, reason: &Reason, now: Timestamp) -> Vec<Action> {
        // A hold ends, and what was downloaded is still wanted then.
        if matches!(reason, Reason::Held { .. }) {
            return Vec::new();
        }
        let Some(offer) = self.offer().cloned() else { return Vec::new() };
        self.state = State::Idle;
        self.note(Happened::Withdrawn, Some(offer.version), reason.to_string(), now);
        vec![Action::Discard]
    }

    fn progress(&mut self, offset: u64, etag: Option<String>) -> Vec<Action> {
        if let State::Offered { offer, wait } | State::Downloading { offer, wait, .. } = &self.state {
            let (offer, wait) = (offer.clone(), wait.clone());
            self.state = State::Downloading { offer, wait, offset, etag };
        }
        Vec::new()
    }

    /// The download took its time: whether it is installed now was decided again.
    fn fetched(&mut self, wait: Option<&Reason>) -> Vec<Action> {
        let (State::Offered { offer, .. } | State::Downloading { offer, .. }) = &self.state else {
            return Vec::new();
        };
        let offer = offer.clone();
        if let Some(why) = wait.map(Wait::from) {
            self.state = State::Waiting { offer, why, fetched: true };
            return Vec::new();
        }
        self.state = State::Verified { offer };
        vec![Action::Check]
    }

    fn fetch_failed(&mut self, reason: String, lasting: bool, now: Timestamp) -> Vec<Action> {
        let (State::Offered { offer, wait } | State::Downloading { offer, wait, .. }) = &self.state else {
            return Vec::new();
        };
        let (offer, wait) = (offer.clone(), wait.clone());
        if !lasting {
            // What is there stays, for the next time.
            return Vec::new();
        }
        let tried = self.tried(&offer.sha512, &reason, now);
        tried.other_files = tried.other_files.saturating_add(1);
        self.note(Happened::Failed, Some(offer.version.clone()), reason, now);
        self.state = State::Offered { offer, wait };
        vec![Action::Discard]
    }

    fn ready(&mut self, installed: Option<Version>, now: Timestamp) -> Vec<Action> {
        let State::Verified { offer } = &self.state else { return Vec::new() };
        let offer = offer.clone();
        let tried = self.tried(&offer.sha512, "its installation did not end", now);
        tried.installations = tried.installations.saturating_add(1);
        self.state = State::Installing { offer: offer.clone(), previous: installed };
        vec![Action::Install { offer }]
    }

    fn installed(&mut self) -> Vec<Action> {
        let State::Installing { offer, previous } = &self.state else { return Vec::new() };
        let (version, previous) = (offer.version.clone(), previous.clone());
        self.state = State::Confirming { version: version.clone(), previous };
        vec![Action::Confirm { version }]
    }

    fn restart_needed(&mut self, boot: Option<String>, now: Timestamp) -> Vec<Action> {
        let State::Installing { offer, previous } = &self.state else { return Vec::new() };
        let (version, previous) = (offer.version.clone(), previous.clone());
        self.state = State::Confirming { version: version.clone(), previous };
        // Should it not be there after that, the same file is not tried for ever.
        let tried = self.attempts.clone();
        let actions = self.commit("; a restart of the device finishes that", now);
        self.attempts = tried;
        self.restart = boot.map(|boot| Restart { version, boot });
        actions
    }

    fn install_failed(&mut self, reason: String, lasting: bool, now: Timestamp) -> Vec<Action> {
        let State::Installing { offer, .. } = &self.state else { return Vec::new() };
        let offer = offer.clone();
        let tried = self.tried(&offer.sha512, &reason, now);
        if !lasting {
            // It was no fault of the file.
            tried.installations = tried.installations.saturating_sub(1);
        }
        self.note(Happened::Failed, Some(offer.version.clone()), reason, now);
        self.state = State::Offered { offer, wait: None };
        if lasting { vec![Action::Discard] } else { Vec::new() }
    }

    fn confirmed(&mut self, now: Timestamp) -> Vec<Action> {
        self.commit("", now)
    }

    fn commit(&mut self, more: &str, now: Timestamp) -> Vec<Action> {
        let State::Confirming { version, previous } = &self.state else { return Vec::new() };
        let (version, previous) = (version.clone(), previous.clone());
        // What was wrong before has been replaced.
        self.quarantined.retain(|one| one.version > version);
        self.attempts.clear();
        self.restart = None;
        let message = previous.as_ref().map_or_else(
            || format!("version {version} was installed{more}"),
            |previous| format!("version {version} was installed, {previous} before{more}"),
        );
        self.note(Happened::Installed, Some(version.clone()), message, now);
        self.previous.clone_from(&previous);
        self.state = State::Committed { version: version.clone(), previous: previous.clone() };
        let keep = std::iter::once(version).chain(previous).collect();
        vec![Action::Discard, Action::CleanUp { keep }]
    }

    fn roll_back(&mut self, reason: String) -> Vec<Action> {
        let Some((version, previous)) = self.replacement() else { return Vec::new() };
        let (version, previous) = (version.clone(), previous.cloned());
        self.state = State::RollingBack { version, previous: previous.clone(), reason, failures: 0 };
        vec![Action::RollBack { previous }]
    }

    /// Only of an update that was just made: later, something else may be the cause.
    fn first_start_failed(&mut self, failed: &Version, reason: String) -> Vec<Action> {
        let State::Committed { version, previous: Some(previous) } = &self.state else { return Vec::new() };
        if version != failed {
            return Vec::new();
        }
        let (version, previous) = (version.clone(), Some(previous.clone()));
        self.state = State::RollingBack { version, previous: previous.clone(), reason, failures: 0 };
        vec![Action::RollBack { previous }]
    }

    fn rolled_back(&mut self, now: Timestamp) -> Vec<Action> {
        let State::RollingBack { version, previous, reason, .. } = &self.state else { return Vec::new() };
        let (version, previous, reason) = (version.clone(), previous.clone(), reason.clone());
        self.quarantine_version(version.clone(), reason.clone(), now);
        self.note(Happened::RolledBack, Some(version.clone()), reason.clone(), now);
        self.previous = None;
        self.state = State::RolledBack { version: version.clone(), previous: previous.clone(), reason };
        // A user may have the app open still.
        vec![Action::Discard, Action::CleanUp { keep: previous.into_iter().chain([version]).collect() }]
    }

    /// A version that is gone does not come back, and one that cannot be put back is not tried for ever: what is there stays,
    /// quarantined, until a later one is installed.
    fn not_rolled_back(&mut self, failure: String, lasting: bool, now: Timestamp) -> Vec<Action> {
        let State::RollingBack { version, previous, reason, failures } = &self.state else {
            return Vec::new();
        };
        let (version, previous, reason) = (version.clone(), previous.clone(), reason.clone());
        let failures = failures.saturating_add(1);
        self.note(Happened::Failed, Some(version.clone()), failure, now);
        if !lasting && failures < ATTEMPTS {
            self.state = State::RollingBack { version, previous, reason, failures };
            return Vec::new();
        }
        self.quarantine_version(version, reason, now);
        self.previous = None;
        self.state = State::Idle;
        vec![Action::Discard]
    }

    fn quarantine_version(&mut self, version: Version, reason: String, now: Timestamp) {
        self.quarantined.retain(|one| one.version != version);
        self.quarantined.push(Quarantine { version, at: Some(now), reason });
        trim(&mut self.quarantined);
    }

    fn commanded(&mut self, command: Command, installed: Option<Version>, now: Timestamp) -> Vec<Action> {
        match command {
            Command::Hold { until } => {
                self.hold = Some(Hold { since: now, until });
                let until = until.map_or_else(String::new, |until| {
                    until.strftime(" until %Y-%m-%d %H:%M UTC").to_string()
                });
                self.note(Happened::Held, None, format!("an administrator holds updates{until}"), now);
                Vec::new()
            }
            Command::Release { version } => {
                let message = match &version {
                    Some(version) => format!("an administrator lets {version} be installed again"),
                    None => "an administrator lets updates be installed again".to_owned(),
                };
                self.hold = None;
                self.attempts.clear();
                self.quarantined.retain(|one| Some(&one.version) != version.as_ref());
                self.note(Happened::Released, version, message, now);
                Vec::new()
            }
            Command::RollBack => {
                let (Some(version), Some(previous)) = (installed, self.previous.clone()) else {
                    return Vec::new();
                };
                if self.is_committed_to_finish() || version == previous {
                    return Vec::new();
                }
                let discard = self.offer().is_some().then_some(Action::Discard);
                let reason = "an administrator rolled it back".to_owned();
                self.state =
                    State::RollingBack { version, previous: Some(previous.clone()), reason, failures: 0 };
                discard.into_iter().chain([Action::RollBack { previous: Some(previous) }]).collect()
            }
        }
    }

    /// What is known about a file that was tried, with how that ended.
    fn tried(&mut self, sha512: &str, last: &str, at: Timestamp) -> &mut Attempts {
        let before = self.attempts.iter().position(|one| one.sha512 == sha512);
        let (installations, other_files) = before.map_or((0, 0), |index| {
            let Attempts { installations, other_files, .. } = self.attempts.remove(index);
            (installations, other_files)
        });
        trim(&mut self.attempts);
        let tried =
            Attempts { sha512: sha512.to_owned(), installations, other_files, last: last.to_owned(), at };
        self.attempts.push(tried);
        let last = self.attempts.len() - 1;
        &mut self.attempts[last]
    }

    fn note(&mut self, happened: Happened, version: Option<Version>, message: String, now: Timestamp) {
        let entry =
            HistoryEntry { at: now, happened: happened.into(), version, message, extra: Extra::default() };
        // The same again says nothing new.
        let same = |last: &HistoryEntry| HistoryEntry { at: now, ..last.clone() } == entry;
        if self.history.last().is_some_and(same) {
            self.history.pop();
        }
        self.history.push(entry);
        trim(&mut self.history);
    }
}

fn trim<T>(list: &mut Vec<T>) {
    let surplus = list.len().saturating_sub(KEPT);
    list.drain(..surplus);
}
