//! Doing what was planned. Slow work becomes a task that sends an event when it is finished.

use jiff::Timestamp;
use policy_schema::{Code, Problem};

use super::{Agent, Event};
use crate::plan::Step;
use crate::{app, clock, report, update};

impl Agent {
    pub(super) fn apply(&mut self, step: Step, now: Timestamp) {
        let (place, result) = match step {
            Step::WriteConfiguration { path, bytes } => {
                let result = app::write(&self.paths, &path, &bytes, now);
                (path.display().to_string(), result)
            }
            Step::RemoveConfiguration { path } => {
                let result = app::remove(&self.paths, &path, now);
                (path.display().to_string(), result)
            }
            Step::WriteValues { place, change } => {
                let result = app::write_values(&self.paths, &place, &change, now);
                (place, result)
            }
            Step::Note(noted) => {
                let result = app::note(&self.paths, &noted);
                (noted.place, result)
            }
            Step::CheckForUpdate => return self.check_for_update(),
            Step::SendReport => return self.send_report(now),
        };
        match result {
            Ok(()) => {
                tracing::info!("the app's managed configuration {place} was brought up to date");
            }
            Err(error) => {
                let problem = Problem::new(Code::AppConfigurationUnwritable, error.to_string())
                    .at(place)
                    .using("the configuration that the app had before; the next try is in a minute");
                tracing::error!("{problem}");
                self.app_problems.push(problem);
                self.app_retry = Some(clock::after(now, 60));
            }
        }
    }

    fn check_for_update(&mut self) {
        let policy = self.snapshot.resolved.policy.clone();
        let Some(descriptor) = self.descriptor() else { return };
        let Some(system) = descriptor.system() else { return };
        let feed = policy.update_feed.as_ref().or(system.feed.as_ref()).and_then(|feed| feed.parse().ok());
        let (Some(feed), Some(installation)) = (feed, &system.installation) else { return };
        self.update.due = None;
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

    fn send_report(&mut self, now: Timestamp) {
        let policy = &self.snapshot.resolved.policy;
        let Some(receiver) = report::receiver(policy) else { return };
        let Some(queue) = self.report.queue.take() else { return };
        self.report.due = None;
        let material = report::Material {
            paths: self.paths.clone(),
            status: self.status(now),
            news: std::mem::take(&mut self.report.news),
            identity: policy.report_identity,
            posture: policy.report_posture,
            interval: receiver.interval,
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let delivery = report::make_and_send(receiver, queue, material).await;
            drop(events.send(Event::ReportFinished(delivery)).await);
        });
    }
}
