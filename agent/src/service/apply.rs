//! Does what was planned, and says what came of it. Slow work becomes a task that sends an event when it is finished.

use std::io;

use jiff::Timestamp;
use platform::clock;
use policy_schema::{Code, Problem};

use super::event::Event;
use super::observe::Observed;
use super::plan::Step;
use super::{Service, delivery, recurring};
use crate::app::observe::Found;
use crate::app::ownership::OwnershipRecord;
use crate::app::write;
use crate::app::write::Change;
use crate::health::report::ReportInputs;
use crate::health::sinks::http::{self, Receiver};
use crate::update;

/// When a step that failed is tried again, in seconds.
const RETRY: u64 = 60;

impl Service {
    /// Takes one step. `observed` then has what it changed, so that nothing has to be observed again.
    pub(super) fn apply(&mut self, step: Step, observed: &mut Observed) {
        let now = observed.now;
        let record = observed.app.ownership.clone();
        let (location, result) = match step {
            Step::WriteConfiguration { path, bytes } => {
                let result = write::write(&self.paths, &path, &bytes, record.as_ref(), now);
                let written = result.map(|record| (record, Changed::File(Some(bytes))));
                (path.display().to_string(), written)
            }
            Step::RemoveConfiguration { path } => {
                let result = write::remove(&self.paths, &path, now);
                (path.display().to_string(), result.map(|record| (record, Changed::File(None))))
            }
            Step::WriteValues { location, change } => {
                let result = write::write_values(&self.paths, &location, &change, record.as_ref(), now);
                (location, result.map(|record| (record, Changed::Values(change))))
            }
            Step::Record(record) => {
                let location = record.location.clone();
                let result = write::record(&self.paths, record);
                (location, result.map(|record| (record, Changed::Nothing)))
            }
            Step::CheckForUpdate => return self.check_for_update(),
            Step::SendReport => return self.send_report(observed),
            Step::CheckProvider => return self.check_provider(),
        };
        self.outcome(&location, result, observed);
    }

    fn outcome(
        &mut self,
        location: &str,
        result: io::Result<(OwnershipRecord, Changed)>,
        observed: &mut Observed,
    ) {
        match result {
            Ok((record, changed)) => {
                if changed != Changed::Nothing {
                    tracing::info!("the app's managed configuration {location} was brought up to date");
                    // Whether the app runs since before the change is observed in the next round, which begins now.
                    self.app_retry = Some(observed.now);
                }
                changed.apply(location, observed);
                observed.app.ownership = Some(record);
            }
            Err(error) => {
                let problem = Problem::new(Code::AppConfigurationUnwritable, error.to_string())
                    .at(location)
                    .using("the previous configuration; the agent tries again in a minute");
                tracing::error!("{problem}");
                self.app_problems.push(problem);
                self.app_retry = Some(clock::after(observed.now, RETRY));
            }
        }
    }

    fn check_for_update(&mut self) {
        let policy = self.snapshot.resolved.policy.clone();
        let Some(descriptor) = self.descriptor() else { return };
        let Some(system) = descriptor.system() else { return };
        let feed = policy.update_feed.as_ref().or(system.feed.as_ref()).and_then(|feed| feed.parse().ok());
        let (Some(feed), Some(installation)) = (feed, &system.installation) else { return };
        self.update_check = self.update_check.step(recurring::Event::Started);
        let job = update::Job {
            paths: self.paths.clone(),
            policy,
            feed,
            app: descriptor.name.clone(),
            installation: installation.clone(),
            device_id: self.device_id.clone(),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let outcome = update::run(job).await;
            drop(events.send(Event::UpdateFinished(outcome)).await);
        });
    }

    fn send_report(&mut self, observed: &Observed) {
        let policy = &self.snapshot.resolved.policy;
        let Some(receiver) = Receiver::of(policy) else { return };
        let Some(queue) = self.queue.take() else { return };
        let inputs = self.delivery.is_dirty().then(|| ReportInputs {
            paths: self.paths.clone(),
            status: Some(self.status(observed)),
            agent_running: true,
            identity: policy.report_identity,
            posture: policy.report_posture,
            interval: receiver.interval,
        });
        self.delivery = self.delivery.step(delivery::Event::Started);
        let events = self.events.clone();
        tokio::spawn(async move {
            let delivery = http::deliver(receiver, queue, inputs).await;
            drop(events.send(Event::DeliveryFinished(delivery)).await);
        });
    }
}

/// What a step changed.
#[derive(Debug, PartialEq, Eq)]
enum Changed {
    Nothing,
    /// What a file holds now.
    File(Option<Vec<u8>>),
    Values(Change),
}

impl Changed {
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
            (Self::Nothing | Self::File(_), _) => {}
        }
    }
}

/// When something is due, from what is under way.
pub(super) fn earliest(times: impl IntoIterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    times.into_iter().flatten().min()
}
