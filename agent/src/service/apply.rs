//! Does what was planned, and says what came of it. Slow work becomes a task that sends an event when it is finished.

use std::io;

use jiff::Timestamp;
use platform::clock;
use policy_schema::{Code, Problem};
use protocol::update::Command;
use tokio::sync::oneshot;
use updates::OwnUpdater;

use super::event::Event;
use super::observe::Observed;
use super::plan::{self, Step};
use super::{Service, delivery, recurring};
use crate::app::configuration;
use crate::app::descriptor::Descriptor;
use crate::app::observe::Found;
use crate::app::ownership::{self, OwnershipRecord};
use crate::app::write;
use crate::app::write::Change;
use crate::health::sinks::http::{self, Receiver};
use crate::state::{private_folder, unwritable};
use crate::update;

/// When a step that failed is tried again, in seconds.
const RETRY: u64 = 60;
/// While an app has to be started again, its processes are listed this often. In seconds.
const RESTART_CHECK: u64 = 60;
/// While an update waits until the app is closed, its processes are listed this often. In seconds.
const OPEN_CHECK: u64 = 5;

impl Service {
    /// Takes one step. `observed` then has what it changed, so that nothing has to be observed again.
    pub(super) fn apply(&mut self, step: Step, observed: &mut Observed) {
        let now = observed.now;
        match step {
            Step::WriteConfiguration { path, bytes } => {
                let location = path.display().to_string();
                // Recorded first, so that it is found again even if this is the last step. When it changed is recorded
                // afterwards: the app does not wait for that.
                let known = observed.app.ownership.as_ref().map(|record| &record.location);
                if known != Some(&location) {
                    self.remember(OwnershipRecord::of_file(&location), observed);
                }
                let after = OwnershipRecord { changed_at: Some(now), ..OwnershipRecord::of_file(&location) };
                let result = write::write(&path, &bytes);
                self.outcome(&location, result, Changed::File(Some(bytes)), after, observed);
            }
            Step::RemoveConfiguration { path } => {
                let after = OwnershipRecord { changed_at: Some(now), ..OwnershipRecord::default() };
                let result = write::remove(&path);
                self.outcome(&path.display().to_string(), result, Changed::File(None), after, observed);
            }
            Step::WriteValues { location, change } => {
                let recorded = observed.app.ownership.as_ref();
                let before = OwnershipRecord::before_change(recorded, &location, &change.ours, now);
                self.remember(before, observed);
                let after = OwnershipRecord::after_change(&location, &change.ours, now);
                let result = write::write_values(&self.paths, &location, &change);
                self.outcome(&location, result, Changed::Values(change), after, observed);
            }
            Step::Record(record) => self.remember(record, observed),
            Step::CheckForUpdate => self.check_for_update(observed),
            Step::SendReport => self.send_report(observed),
            Step::CheckProvider => self.check_provider(),
            Step::CheckForAgentUpdate => self.check_for_agent_update(),
            Step::ServeSinks => self.serve_sinks(observed),
        }
    }

    /// Saves an ownership record. One that cannot be saved is kept until it can be: nothing waits for it.
    fn remember(&mut self, mut record: OwnershipRecord, observed: &mut Observed) {
        // Another change makes no difference to an app that has not been started since the first.
        record.was_open |= record.changed_at.is_some()
            && observed.app.ownership.as_ref().is_some_and(|known| known.was_open);
        self.unsaved_record = Some(record.clone());
        observed.app.ownership = Some(record);
        self.save_record();
    }

    /// Tries to save the record that could not be saved before.
    pub(super) fn save_record(&mut self) {
        let Some(record) = &self.unsaved_record else { return };
        self.record_problem = match ownership::save(&self.paths, record) {
            Ok(()) => {
                self.unsaved_record = None;
                None
            }
            Err(error) => Some(unwritable(ownership::file(&self.paths).path(), &error)),
        };
    }

    fn outcome(
        &mut self,
        location: &str,
        result: io::Result<()>,
        changed: Changed,
        after: OwnershipRecord,
        observed: &mut Observed,
    ) {
        match result {
            Ok(()) => {
                // It was in line with this policy already, so somebody else has changed what the app finds.
                if self.app_in_line == self.snapshot.hash && changed.differs_from(&observed.app.found) {
                    self.repaired += 1;
                    tracing::warn!(
                        "somebody changed the app's managed configuration {location}; it was put back"
                    );
                } else {
                    tracing::info!("the app's managed configuration {location} was brought up to date");
                }
                // Whether the app runs since before the change is observed in the next round, which begins now.
                self.retry_at = Some(observed.now);
                changed.apply(location, observed);
                self.remember(after, observed);
            }
            Err(error) => {
                let problem = Problem::new(Code::AppConfigurationUnwritable, error.to_string())
                    .at(location)
                    .using("the previous configuration; the agent tries again in a minute");
                tracing::error!("{problem}");
                self.app_problems.push(problem);
                self.retry_at = Some(clock::after(observed.now, RETRY));
            }
        }
    }

    /// An administrator wants the feed to be checked, and perhaps something to be done before.
    pub(super) fn update_requested(&mut self, command: Option<Command>, done: oneshot::Sender<()>) {
        self.agent_update_requested(command.as_ref());
        if !plan::updates(&self.snapshot.resolved, self.descriptor().and_then(Descriptor::system)) {
            // The caller may have gone.
            let _ = done.send(());
            return;
        }
        self.waiting_for_update.push(done);
        let now = clock::now();
        match command {
            // A check that is under way knows nothing of a command, so another one follows.
            Some(command) => {
                self.update_commands.push(command);
                self.check_for_update_again(now);
            }
            None => self.update_check = self.update_check.step(recurring::Event::Requested { now }),
        }
    }

    /// What other processes do is looked at again.
    pub(super) fn look_again(&mut self, observed: &Observed) {
        let waits = |problem: &Problem| {
            problem.code == Code::AppRestartPending || problem.code == Code::AppConfigurationUnreadable
        };
        if self.published.borrow().status.problems.iter().any(waits) {
            self.retry_at = self.retry_at.or(Some(clock::after(observed.now, RESTART_CHECK)));
        }
        let was_open = observed.app.ownership.as_ref().is_some_and(|record| record.was_open);
        if was_open && self.own_updater(observed) == OwnUpdater::UntilRestart {
            self.retry_at = earliest([self.retry_at, Some(clock::after(observed.now, RESTART_CHECK))]);
        }
        if observed.journal.waits_for_app() {
            self.retry_at = earliest([self.retry_at, Some(clock::after(observed.now, OPEN_CHECK))]);
        }
    }

    /// An update that waits until the app is closed goes on soon after that.
    pub(super) fn follow_app(&mut self, observed: &Observed) {
        let waits = observed.journal.waits_for_app();
        let (next, closed) = self.app_wait.step(waits, observed.app.running_since.is_some());
        self.app_wait = next;
        if closed {
            self.update_check = self.update_check.step(recurring::Event::Requested { now: observed.now });
        }
    }

    /// An update that waits for the app's own updater goes on soon after that is switched off.
    pub(super) fn follow_own_updater(&mut self, observed: &Observed) {
        let own_updater = self.own_updater(observed);
        let before = std::mem::replace(&mut self.own_updater_was, own_updater);
        if before != own_updater && observed.journal.offer().is_some() {
            self.update_check = self.update_check.step(recurring::Event::Requested { now: observed.now });
        }
    }

    fn own_updater(&self, observed: &Observed) -> OwnUpdater {
        let system = self.descriptor().and_then(Descriptor::system);
        system.map_or(OwnUpdater::Off, |system| configuration::own_updater(system, &observed.app))
    }

    /// What a check depends on has changed. One that is under way ends soon, and another one follows.
    pub(super) fn check_for_update_again(&mut self, now: Timestamp) {
        if self.update_check.due().is_none() {
            update::interrupt(&self.paths);
        }
        self.update_check = self.update_check.step(recurring::Event::Changed { due: now });
    }

    fn check_for_update(&mut self, observed: &Observed) {
        let policy = self.snapshot.resolved.policy.clone();
        let Some(descriptor) = self.descriptor() else { return };
        let own_updater = self.own_updater(observed);
        let Some(mut job) = update::Job::new(&policy, descriptor, own_updater, &self.identity.device_id)
        else {
            return;
        };
        job.commands = std::mem::take(&mut self.update_commands);
        self.app_notices.brief(&mut job, observed.now);
        update::go_on(&self.paths);
        self.update_check = self.update_check.step(recurring::Event::Started);
        let (paths, events) = (self.paths.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = update::run(&paths, job).await;
            drop(events.send(Event::UpdateFinished(outcome)).await);
        });
    }

    /// A switch that a crash interrupted is finished before the feed is checked, and beside everything else.
    pub(super) fn recover(&mut self) {
        let Some(app) = self.descriptor().map(|descriptor| descriptor.name.clone()) else { return };
        if !update::is_interrupted(&self.paths, &app) {
            return;
        }
        self.update_check = self.update_check.step(recurring::Event::Started);
        let (paths, events) = (self.paths.clone(), self.events.clone());
        tokio::spawn(async move {
            let problem = update::recover(&paths, &app).await;
            drop(events.send(Event::UpdateRecovered(problem)).await);
        });
    }

    pub(super) fn update_finished(&mut self, now: Timestamp, next: Timestamp) {
        self.update_check = self.update_check.step(recurring::Event::Finished { now, next });
    }

    fn send_report(&mut self, observed: &Observed) {
        let policy = &self.snapshot.resolved.policy;
        let Some(receiver) = Receiver::of(policy, &self.receiver) else { return };
        let Some(queue) = self.queue.take() else { return };
        let inputs =
            self.delivery.is_dirty().then(|| self.report_inputs(self.status(observed), &observed.journal));
        self.delivery = self.delivery.step(delivery::Event::Started);
        let (events, private) = (self.events.clone(), private_folder(&self.paths));
        tokio::spawn(async move {
            let delivery = Box::pin(http::deliver(receiver, queue, inputs, private)).await;
            drop(events.send(Event::DeliveryFinished(Box::new(delivery))).await);
        });
    }
}

/// An update that waits until the app is closed, as far as this process sees the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AppWait {
    /// None waits, or the app was not looked at yet.
    #[default]
    Unknown,
    /// The app is open.
    Open,
    /// It was closed, and the update was to go on. If it waits still, the process that installs sees more than this one.
    Closed,
}

impl AppWait {
    /// The next state, and whether the update is to go on now.
    fn step(self, waits: bool, open: bool) -> (Self, bool) {
        match (waits, open) {
            (false, _) => (Self::Unknown, false),
            (true, true) => (Self::Open, false),
            (true, false) => (Self::Closed, self != Self::Closed),
        }
    }
}

/// What a step changed.
#[derive(Debug, PartialEq, Eq)]
enum Changed {
    /// What a file holds now.
    File(Option<Vec<u8>>),
    Values(Change),
}

impl Changed {
    /// Whether something else was found.
    fn differs_from(&self, found: &Found) -> bool {
        match (self, found) {
            (Self::File(content), Found::File(found)) => content != found,
            (Self::Values(change), _) => !change.set.is_empty() || !change.gone.is_empty(),
            (Self::File(_), _) => true,
        }
    }

    /// Makes it true of what was observed.
    fn apply(self, location: &str, observed: &mut Observed) {
        let here = observed.app.location.as_deref() == Some(location);
        match (self, &mut observed.app.found) {
            (Self::File(content), found @ Found::File(_)) if here => *found = Found::File(content),
            (Self::Values(change), Found::Registry(values)) if here => {
                values.extend(change.set);
                values.retain(|name, _| !change.gone.contains(name));
            }
            (Self::Values(change), _) => observed.app.left.retain(|name, _| !change.gone.contains(name)),
            (Self::File(_), _) => {}
        }
    }
}

/// When something is due, from what is under way.
pub(super) fn earliest(times: impl IntoIterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    times.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_goes_on_once_each_time_the_app_is_closed() {
        let mut wait = AppWait::default();
        let mut step = |waits, open| {
            let goes_on;
            (wait, goes_on) = wait.step(waits, open);
            goes_on
        };
        assert!(!step(false, false));
        assert!(!step(true, true) && step(true, false));
        // The other process sees the app, this one does not.
        assert!(!step(true, false) && !step(true, false));
        assert!(!step(true, true) && step(true, false));
        // It was closed before it was looked at.
        assert!(!step(false, false) && step(true, false));
    }
}
