//! When the file of metrics is written: after a change, and after the interval of reports. It waits for no receiver.

use jiff::Timestamp;
use platform::clock;
use policy_schema::Problem;

use super::observe::Observed;
use super::recurring::{self, Recurring};
use super::{Service, event::Event};
use crate::health::sinks::textfile::{self, TextfileOutcome};

/// A file that could not be written is tried again this soon, in seconds.
const RETRY: u64 = 5 * 60;
/// So long after a change it is written, in seconds: changes come in groups.
const SETTLED: u64 = 1;

/// What is known about the file.
#[derive(Debug)]
pub(super) struct Textfile {
    schedule: Recurring,
    problem: Option<Problem>,
    /// Policy names none, and the one of before is gone.
    is_gone: bool,
}

impl Textfile {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { schedule: Recurring::Waiting { due: now }, problem: None, is_gone: false }
    }
}

impl Service {
    /// When it is written next. Without a setting, only once: what an earlier run may have written is removed then.
    pub(super) fn textfile_due(&self) -> Option<Timestamp> {
        let wanted = &self.snapshot.resolved.policy.report_textfile;
        self.textfile.schedule.due().filter(|_| wanted.is_some() || !self.textfile.is_gone)
    }

    pub(super) fn textfile_problem(&self) -> Option<&Problem> {
        self.textfile.problem.as_ref()
    }

    /// Something has changed that the file does not say yet.
    pub(super) fn textfile_is_old(&mut self, now: Timestamp) {
        let due = clock::after(now, SETTLED);
        self.textfile.schedule = self.textfile.schedule.step(recurring::Event::PolicyChanged { due });
    }

    pub(super) fn update_textfile(&mut self, observed: &Observed) {
        let wanted = self.snapshot.resolved.policy.report_textfile.clone();
        self.textfile.schedule = self.textfile.schedule.step(recurring::Event::Started);
        self.textfile.is_gone = wanted.is_none();
        let inputs = self.report_inputs(self.status(observed), &observed.journal);
        let (identity, events) = (self.identity.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = textfile::update(wanted, inputs, identity).await;
            drop(events.send(Event::TextfileUpdated(outcome)).await);
        });
    }

    pub(super) fn textfile_updated(&mut self, outcome: TextfileOutcome) {
        let interval = u64::from(self.snapshot.resolved.policy.report_interval_minutes) * 60;
        let pause = if outcome.problem.is_some() { RETRY.min(interval) } else { interval };
        if let Some(problem) =
            outcome.problem.as_ref().filter(|problem| Some(*problem) != self.textfile.problem.as_ref())
        {
            tracing::warn!("{}: {problem}", problem.code.as_str());
        }
        self.textfile.is_gone &= outcome.problem.is_none();
        self.textfile.problem = outcome.problem;
        let (now, next) = (outcome.finished_at, clock::after(outcome.finished_at, pause));
        self.textfile.schedule = self.textfile.schedule.step(recurring::Event::Finished { now, next });
    }

    /// A clock that was set back must not leave it due in years.
    pub(super) fn textfile_no_later_than(&mut self, latest: Timestamp) {
        self.textfile.schedule = self.textfile.schedule.no_later_than(latest);
    }
}
