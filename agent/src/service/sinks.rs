//! When the sinks are served that keep no queue: the file of metrics, the collector of OpenTelemetry and the OpAMP server. After a change,
//! and after the interval of reports. None of them waits for another, nor for the receiver of reports.

use std::time::Duration;

use jiff::Timestamp;
use platform::{clock, random};
use policy_schema::Problem;
use protocol::report::Destination;

use super::event::Event;
use super::observe::Observed;
use super::recurring::{self, Recurring};
use super::{Service, delivery};
use crate::health::sinks::opamp::{self, Client, Pushed, Server};
use crate::health::sinks::otlp::{self, Collector, Told};
use crate::health::sinks::{Kind, SinkOutcome, Target, textfile};

/// So long after a change a sink is served, in milliseconds: changes come in groups.
const SETTLED: u64 = 1000;
/// A change reaches the collector of a fleet within so many milliseconds more.
const SPREAD: u64 = 3000;
/// So long after a failure has ended a sink says so, in seconds.
const CURED: u64 = 1;
/// A server that asks for everything, again and again, gets it this often, in seconds.
const EVERYTHING: u64 = 10;

/// What is known about a sink.
#[derive(Debug)]
pub(super) struct Sink {
    schedule: Recurring,
    failures: u32,
    problem: Option<Problem>,
    /// For whom it was served last.
    target: Option<Target>,
}

/// All of them.
pub(super) struct Sinks {
    textfile: Sink,
    otlp: Sink,
    told: Told,
    opamp: Sink,
    /// Away while the server is served.
    client: Option<Client>,
}

impl Sink {
    fn new(now: Timestamp, target: Option<Target>) -> Self {
        Self { schedule: Recurring::Waiting { due: now }, failures: 0, problem: None, target }
    }

    /// When it has something to do: at once for another target, or to leave the last one. Nothing while it is served.
    fn due(&self, target: Option<&Target>) -> Option<Timestamp> {
        let due = self.schedule.due()?;
        if target != self.target.as_ref() {
            return Some(Timestamp::MIN);
        }
        Some(due).filter(|_| target.is_some() || self.failures > 0)
    }

    /// Something has changed that it does not say yet.
    fn is_old(&mut self, due: Timestamp) {
        self.schedule = self.schedule.step(recurring::Event::Changed { due });
    }

    /// After an attempt. `interval`: in seconds; `phase`: the device's own place in it.
    fn finished(&mut self, outcome: &SinkOutcome, interval: u64, phase: u64, random: u64) {
        let now = outcome.finished_at;
        if !outcome.retry {
            self.failures = 0;
            let own = || delivery::next_slot(now, interval, phase);
            let next = outcome.interval.map_or_else(own, |seconds| clock::after(now, seconds));
            self.schedule = self.schedule.step(recurring::Event::Finished { now, next });
            return;
        }
        let asked = outcome.retry_after.unwrap_or(0);
        let pause = delivery::pause(self.failures, random).max(asked).min(interval.max(asked));
        self.failures = self.failures.saturating_add(1);
        self.schedule = Recurring::Waiting { due: clock::after(now, pause) };
    }
}

impl Sinks {
    /// An earlier run may have left a file that policy does not name any more; a collector has nothing that could be left.
    pub(super) fn new(now: Timestamp) -> Self {
        let of_earlier_run = Some(Target::plain(""));
        Self {
            textfile: Sink::new(now, of_earlier_run),
            otlp: Sink::new(now, None),
            told: Told::default(),
            opamp: Sink::new(now, None),
            client: None,
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Sink {
        match kind {
            Kind::Textfile => &mut self.textfile,
            Kind::Otlp => &mut self.otlp,
            Kind::Opamp => &mut self.opamp,
        }
    }

    /// Something has changed that no sink says yet.
    pub(super) fn are_old(&mut self, now: Timestamp) {
        let after = |milliseconds| now.checked_add(Duration::from_millis(milliseconds)).unwrap_or(now);
        self.textfile.is_old(after(SETTLED));
        for sink in [&mut self.otlp, &mut self.opamp] {
            // A server that fails is not called earlier because a whole fleet has changed.
            if sink.failures == 0 {
                sink.is_old(after(SETTLED + u64::from_le_bytes(random::bytes()) % SPREAD));
            }
        }
    }

    /// A clock that was set back must not leave anything due in years.
    pub(super) fn no_later_than(&mut self, latest: Timestamp) {
        for sink in [&mut self.textfile, &mut self.otlp, &mut self.opamp] {
            sink.schedule = sink.schedule.no_later_than(latest);
        }
    }

    /// What is wrong with them.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        [&self.textfile, &self.otlp, &self.opamp].into_iter().filter_map(|sink| sink.problem.as_ref())
    }

    /// What an OpAMP server says unasked; nothing while it is served.
    pub(super) async fn pushed(&mut self) -> Pushed {
        match &mut self.client {
            Some(client) => client.pushed().await,
            None => std::future::pending().await,
        }
    }

    /// The agent stops.
    pub(super) async fn leave(self) {
        if let Some(client) = self.client.filter(|_| self.opamp.failures == 0) {
            client.leave().await;
        }
    }
}

impl Service {
    /// The sinks that have something to do, with the time.
    fn sinks_due(&self) -> impl Iterator<Item = (Kind, Timestamp)> {
        let policy = &self.snapshot.resolved.policy;
        let Sinks { textfile, otlp, opamp, .. } = &self.sinks;
        let sinks = [(Kind::Textfile, textfile), (Kind::Otlp, otlp), (Kind::Opamp, opamp)];
        sinks
            .into_iter()
            .filter_map(|(kind, sink)| Some((kind, sink.due(Target::of(kind, policy).as_ref())?)))
    }

    /// When the first of them has something to do.
    pub(super) fn next_sink_due(&self) -> Option<Timestamp> {
        self.sinks_due().map(|(_, due)| due).min()
    }

    /// The sinks that policy names, for whoever wants to see what is sent.
    pub(super) fn sink_destinations(&self) -> Vec<Destination> {
        let policy = &self.snapshot.resolved.policy;
        let destination = |setting: &str, url: String, form: &str, sink: &Sink| Destination {
            setting: setting.to_owned(),
            url,
            form: form.to_owned(),
            token: false,
            certificate: false,
            next: sink.schedule.due(),
            interval: u64::from(policy.report_interval_minutes) * 60,
            heartbeat: false,
            queued: 0,
        };
        let textfile = policy.report_textfile.clone();
        let textfile = textfile
            .map(|path| destination("ReportTextfile", path, "metrics (Prometheus)", &self.sinks.textfile));
        let collector = Collector::of(policy).map(|collector| Destination {
            token: policy.otlp_token.is_some(),
            ..destination("OtlpUrl", collector.shown(), "metrics and logs (OTLP)", &self.sinks.otlp)
        });
        let server = Server::of(policy).map(|server| {
            let shown = destination("OpampUrl", server.shown(), server.form(), &self.sinks.opamp);
            let heartbeat = self.sinks.client.as_ref().and_then(Client::heartbeat);
            Destination {
                token: policy.opamp_token.is_some(),
                interval: heartbeat.unwrap_or(shown.interval),
                ..shown
            }
        });
        textfile.into_iter().chain(server).chain(collector).collect()
    }

    /// Serves every sink whose time has come, each in a task of its own.
    pub(super) fn serve_sinks(&mut self, observed: &Observed) {
        let due: Vec<Kind> =
            self.sinks_due().filter(|(_, due)| *due <= observed.now).map(|(kind, _)| kind).collect();
        for kind in due {
            let policy = &self.snapshot.resolved.policy;
            let (path, collector) = (policy.report_textfile.clone(), Collector::of(policy));
            let (target, server) = (Target::of(kind, policy), Server::of(policy));
            let inputs = self.report_inputs(self.status(observed), &observed.journal);
            let (identity, events) = (self.identity.clone(), self.events.clone());
            let sink = self.sinks.of(kind);
            if sink.target != target {
                *sink = Sink::new(observed.now, target);
                if kind == Kind::Otlp {
                    self.sinks.told = Told::default();
                }
            }
            let told = self.sinks.told.clone();
            let client = self.sinks.client.take_if(|_| kind == Kind::Opamp);
            let task = async move {
                match (kind, collector, server) {
                    (Kind::Textfile, _, _) => textfile::update(path, inputs, identity).await,
                    (Kind::Otlp, Some(collector), _) => otlp::send(collector, inputs, identity, told).await,
                    (Kind::Opamp, _, Some(server)) => opamp::send(server, client, inputs, identity).await,
                    (Kind::Opamp, _, None) => {
                        if let Some(client) = client {
                            client.leave().await;
                        }
                        SinkOutcome::nothing()
                    }
                    (Kind::Otlp, None, _) => SinkOutcome::nothing(),
                }
            };
            let sink = self.sinks.of(kind);
            sink.schedule = sink.schedule.step(recurring::Event::Started);
            tokio::spawn(async move {
                drop(events.send(Event::SinkServed(kind, Box::new(task.await))).await);
            });
        }
    }

    pub(super) fn sink_served(&mut self, kind: Kind, outcome: SinkOutcome) {
        let interval = u64::from(self.snapshot.resolved.policy.report_interval_minutes) * 60;
        let phase = self.identity.phase();
        let sink = self.sinks.of(kind);
        let is_new = outcome.problem.is_some() && outcome.problem != sink.problem;
        if let Some(problem) = outcome.problem.as_ref().filter(|_| is_new) {
            tracing::warn!("{}: {problem}", problem.code.as_str());
        }
        sink.finished(&outcome, interval, phase, u64::from_le_bytes(random::bytes()));
        // What was sent just now still says that this sink fails.
        if sink.problem.is_some() && outcome.problem.is_none() {
            sink.is_old(clock::after(outcome.finished_at, CURED));
        }
        sink.problem = outcome.problem;
        self.note_posture(&outcome.protections, outcome.finished_at);
        if let Some(told) = outcome.told {
            self.sinks.told = told;
        }
        if let Some(client) = outcome.client {
            self.sinks.client = Some(client);
        }
    }

    /// An OpAMP server said something unasked, or its connection is over.
    pub(super) fn opamp_pushed(&mut self, pushed: Pushed) {
        let now = clock::now();
        let random = u64::from_le_bytes(random::bytes());
        let opamp = &mut self.sinks.opamp;
        let due = match pushed {
            Pushed::NothingToDo => {
                let heartbeat = self.sinks.client.as_ref().and_then(Client::heartbeat);
                heartbeat.map(|seconds| clock::after(now, seconds))
            }
            Pushed::Everything => Some(clock::after(now, EVERYTHING)),
            Pushed::Refused(problem) => {
                tracing::warn!("{}: {problem}", problem.code.as_str());
                opamp.problem = Some(problem);
                None
            }
            Pushed::Later(problem, asked) => {
                tracing::warn!("{}: {problem}", problem.code.as_str());
                let pause = delivery::pause(opamp.failures, random).max(asked.unwrap_or(0));
                opamp.problem = Some(problem);
                opamp.failures = opamp.failures.saturating_add(1);
                opamp.schedule = Recurring::Waiting { due: clock::after(now, pause) };
                None
            }
            // It may have been the server's restart, for a whole fleet.
            Pushed::Closed(reason, short) => {
                tracing::info!("the OpAMP server: {reason}");
                Some(clock::after(now, delivery::pause(short, random)))
            }
        };
        if let Some((due, present)) = due.zip(opamp.schedule.due()) {
            opamp.is_old(due.min(present));
        }
    }
}

#[cfg(test)]
mod tests {
    use policy_schema::Secret;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn outcome(retry: bool, retry_after: Option<u64>) -> SinkOutcome {
        SinkOutcome { retry, retry_after, finished_at: at(1000), ..SinkOutcome::nothing() }
    }

    #[test]
    fn failing_collector_keeps_its_pause_and_working_one_hears_of_a_change() {
        let mut sinks = Sinks::new(at(0));
        sinks.otlp.finished(&outcome(true, Some(600)), 3600, 1000, 0);
        sinks.are_old(at(1000));
        assert_eq!(sinks.otlp.schedule.due(), Some(at(1600)), "it wants to be left alone");
        // A change while an attempt is under way is not hurried either, if that attempt fails.
        sinks.otlp.schedule = sinks.otlp.schedule.step(recurring::Event::Started);
        sinks.are_old(at(1000));
        sinks.otlp.finished(&outcome(true, None), 3600, 1000, u64::MAX);
        assert!(sinks.otlp.schedule.due().unwrap() > at(1000));
        sinks.otlp.finished(&outcome(false, None), 3600, 1000, 0);
        assert_eq!(sinks.otlp.schedule.due(), Some(at(4600)), "the place of this device");
        sinks.are_old(at(1000));
        assert!(sinks.otlp.schedule.due().unwrap() < at(1010));
        // A file is this device's own matter.
        sinks.textfile.finished(&outcome(true, None), 3600, 1000, 1500);
        sinks.are_old(at(1000));
        assert_eq!(sinks.textfile.schedule.due(), Some(at(1001)));
    }

    #[test]
    fn sink_is_served_at_once_for_another_target_and_not_at_all_without_one() {
        let target = |address: &str, token: &str| Target {
            token: Some(Secret::new(token.to_owned())),
            ..Target::plain(address)
        };
        let (one, other, new) = (target("one", "a"), target("other", "a"), target("one", "b"));
        let mut sink = Sink::new(at(0), Some(one.clone()));
        sink.finished(&outcome(true, Some(600)), 3600, 1000, 0);
        assert_eq!(sink.due(Some(&one)), Some(at(1600)));
        for target in [Some(&other), Some(&new), None] {
            assert_eq!(sink.due(target), Some(Timestamp::MIN), "what one wants says nothing about another");
        }
        let gone = Sink::new(at(0), None);
        assert_eq!(gone.due(None), None);
        // What could not be removed is tried again.
        let failing = Sink { failures: 1, ..gone };
        assert_eq!(failing.due(None), Some(at(0)));
        let busy = Sink { schedule: Recurring::InProgress { again: false }, ..failing };
        assert_eq!(busy.due(Some(&one)), None);
    }
}
