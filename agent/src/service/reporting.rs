//! When a changed state is reported, and what follows a delivery.

use std::time::Duration;

use jiff::Timestamp;
use platform::random;
use policy_schema::{Code, Open, Problem};
use protocol::health::history::HealthHistory;
use protocol::health::{self, ComponentHealth, ComponentName, Protection, State};
use protocol::session::SessionState;
use protocol::status::Status;

use updates::Journal;

use super::{Service, delivery};
use crate::health::report::{PostureInput, ReportInputs};
use crate::health::sinks::http::DeliveryReport;
use crate::logging::STATES;

/// Milliseconds within which a changed state is reported, so that a fleet does not report in one instant.
const SPREAD: u16 = 3000;

/// What makes a report worth sending at once.
#[derive(PartialEq)]
pub(super) struct Fingerprint {
    policy: String,
    components: Vec<(Open<ComponentName>, Open<State>)>,
    /// Of each broker: whether a user is signed in, and who.
    sessions: Vec<(Open<SessionState>, Option<String>)>,
}

impl Service {
    /// A changed state is reported soon, not after the interval.
    pub(super) fn report_if_changed(&mut self, status: &Status, health: ComponentHealth, now: Timestamp) {
        let counts = |part: &ComponentHealth| part.name != ComponentName::Report;
        let components = health.components.into_iter().filter(counts).map(|part| (part.name, part.state));
        let sessions = self.sessions.sessions.iter();
        let fingerprint = Fingerprint {
            policy: status.policy.hash.clone(),
            components: components.collect(),
            sessions: sessions.map(|session| (session.state.clone(), session.account.clone())).collect(),
        };
        if self.last_reported.as_ref() == Some(&fingerprint) {
            return;
        }
        self.last_reported = Some(fingerprint);
        self.sinks.are_old(now);
        let spread = u16::from_le_bytes(random::bytes()) % SPREAD;
        let by = now.checked_add(Duration::from_millis(spread.into())).unwrap_or(now);
        self.delivery = self.delivery.step(delivery::Event::Changed { by });
    }

    /// What a report is made of.
    pub(super) fn report_inputs(&self, status: Status, journal: &Journal) -> ReportInputs {
        let policy = &self.snapshot.resolved.policy;
        ReportInputs {
            paths: self.paths.clone(),
            status: Some(status),
            agent_running: true,
            identity: policy.report_identity,
            posture: PostureInput::of(policy.report_posture),
            updates: journal.history.clone(),
            interval: u64::from(policy.report_interval_minutes) * 60,
        }
    }

    /// Notes what was found out about the protection of the device, if that was looked at.
    pub(super) fn note_posture(&mut self, protections: &[Protection], now: Timestamp) {
        if !protections.is_empty() && self.snapshot.resolved.policy.report_posture {
            let before = self.history.clone();
            let posture;
            (posture, self.history) = health::posture(protections, before.clone(), now);
            self.log_changes(&before, &posture);
        }
    }

    /// An entry of the log for each component whose state has changed, with its fields.
    pub(super) fn log_changes(&self, before: &HealthHistory, health: &ComponentHealth) {
        let parts =
            || health.components.iter().flat_map(|part| std::iter::once(part).chain(&part.components));
        for (name, old, new) in self.history.changes(before) {
            let Some(part) = std::iter::once(health).chain(parts()).find(|part| part.name == *name) else {
                continue;
            };
            let (component, state, before, reason) = (part.name(), new.as_str(), old.as_str(), &part.reason);
            let code = part.code.as_ref().map_or("", Open::as_str);
            if matches!(new, State::Fail | State::Error) {
                tracing::warn!(target: STATES, component, state, before, code, "{component} is {state}: {reason}");
            } else {
                tracing::info!(target: STATES, component, state, before, code, "{component} is {state}: {reason}");
            }
        }
    }

    pub(super) fn delivery_finished(&mut self, delivery: DeliveryReport) {
        let DeliveryReport { queue, problems, delivered, not_made, retry_after, finished_at, .. } = delivery;
        let is_of_other = !delivery.known.is_of(&self.snapshot.resolved.policy);
        self.receiver = delivery.known;
        self.report_attempted = true;
        self.certificate_until = delivery.certificate_until;
        self.note_posture(&delivery.protections, finished_at);
        self.identity = queue.identity().clone();
        self.queued = queue.waiting().len();
        if delivered {
            self.delivered_at = Some(finished_at);
        }
        self.report_problems = problems;
        if queue.dropped > 0 {
            let message = format!("{} reports were dropped, the oldest first", queue.dropped);
            self.report_problems.push(Problem::new(Code::ReportDropped, message));
        }
        self.queue = Some(queue);
        let outcome = match (not_made, self.queued, delivered) {
            (true, _, _) => delivery::Outcome::NotMade,
            (false, 0, _) => delivery::Outcome::Delivered,
            (false, _, true) => delivery::Outcome::InPart,
            (false, _, false) => delivery::Outcome::Left,
        };
        self.delivery = self.delivery.step(delivery::Event::Finished(delivery::End {
            at: finished_at,
            outcome,
            interval: u64::from(self.snapshot.resolved.policy.report_interval_minutes) * 60,
            phase: self.identity.phase(),
            retry_after,
            random: u64::from_le_bytes(random::bytes()),
        }));
        if is_of_other {
            self.delivery = self.delivery.step(delivery::Event::OtherReceiver { by: finished_at });
        }
    }
}
