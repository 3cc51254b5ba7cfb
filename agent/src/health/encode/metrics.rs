//! The metrics of a report, whatever form they go in: the names and values are the same for Prometheus and for OTLP.

use policy_schema::Open;
use protocol::diagnosis::ReportedDiagnosis;
use protocol::health::{ComponentName, State};
use protocol::report::Report;
use protocol::session::SessionState;

use super::{codes_of, plain_code};

/// A gauge. Its whole name begins with `steward`.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) points: Vec<Point>,
}

/// A value with its labels.
pub(super) struct Point {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: f64,
}

impl Metric {
    /// The unit in UCUM: seconds since 1970, or a number of things.
    pub(super) fn unit(&self) -> &'static str {
        if self.name.ends_with("_seconds") { "s" } else { "1" }
    }
}

const SESSIONS: [(SessionState, &str); 4] = [
    (SessionState::SignedIn, "signed-in"),
    (SessionState::SigningIn, "signing-in"),
    (SessionState::SignedOut, "signed-out"),
    (SessionState::NotConfigured, "not-configured"),
];

/// All metrics. One without a value has no points.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point, and these are far below 2^52")]
pub(super) fn of(report: &Report) -> Vec<Metric> {
    let status = &report.status;
    let info =
        |label: &'static str, value: &str| Point { labels: vec![(label, value.to_owned())], value: 1.0 };
    let installed = status.app.installed.clone().unwrap_or_default();
    let app = Point { labels: vec![("app", status.app.name.clone()), ("version", installed)], value: 1.0 };
    let codes = codes_of(report).into_iter().map(|code| info("code", code)).collect();
    let diagnoses = report.diagnoses.iter().map(|one| info("id", plain_code(cause(one)))).collect();
    let metric = |name, help, points| Metric { name, help, points };
    let number = |name, help, value: f64| metric(name, help, vec![Point { labels: Vec::new(), value }]);
    let mut metrics = vec![
        metric("component_state", "1 for the state that a component is in.", states(report)),
        metric("agent_info", "The agent.", vec![info("version", &status.agent_version)]),
        metric("app_info", "The managed app; without a version if it is not installed.", vec![app]),
        metric("sessions", "Users by the state of their session.", sessions(report)),
        metric("problem_info", "1 for each code of a problem that is known.", codes),
        metric("diagnosis_info", "1 for each cause that is known.", diagnoses),
        metric("policy_info", "The policy that is applied.", vec![info("hash", &status.policy.hash)]),
        number("policy_settings", "Settings with a value from policy.", status.policy.settings as f64),
        number("problems", "Problems that are known.", report.problem_count() as f64),
        number("reports_queued", "Reports that wait on disk.", status.report.queued as f64),
    ];
    let sign_in = status.sign_in.as_ref();
    let moments = [
        ("observed_timestamp_seconds", "When the facts last changed.", Some(status.observed_at)),
        ("report_made_timestamp_seconds", "When this was written.", Some(report.sent_at)),
        ("report_next_timestamp_seconds", "When the next report is due.", status.report.next),
        (
            "report_delivered_timestamp_seconds",
            "When a report was last delivered.",
            status.report.delivered_at,
        ),
        (
            "sign_in_proven_timestamp_seconds",
            "When a user was last signed in.",
            sign_in.and_then(|facts| facts.proven_at),
        ),
        (
            "provider_checked_timestamp_seconds",
            "When the identity provider was last checked.",
            sign_in.and_then(|facts| facts.checked_at),
        ),
        ("update_checked_timestamp_seconds", "When the feed was last checked.", status.update.checked_at),
    ];
    metrics.extend(moments.map(|(name, help, moment)| {
        let value = moment.map(|moment| Point { labels: Vec::new(), value: moment.as_second() as f64 });
        metric(name, help, value.into_iter().collect())
    }));
    metrics
}

/// Users are counted elsewhere: a label for each would never end.
fn states(report: &Report) -> Vec<Point> {
    let inner =
        report.health.components.iter().flat_map(|part| std::iter::once(part).chain(&part.components));
    let parts = inner.filter(|part| part.name != ComponentName::User);
    let point = |name: &str, state: State, value| Point {
        labels: vec![("component", name.to_owned()), ("state", state.as_str().to_owned())],
        value,
    };
    std::iter::once(&report.health)
        .chain(parts)
        .flat_map(|part| {
            State::ALL
                .map(|state| point(part.name(), state, f64::from(u8::from(part.known_state() == state))))
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "no device has 2^52 users")]
fn sessions(report: &Report) -> Vec<Point> {
    let count = |state: SessionState| report.sign_in.iter().filter(|session| session.state == state).count();
    let point = |(state, name): (SessionState, &str)| Point {
        labels: vec![("state", name.to_owned())],
        value: count(state) as f64,
    };
    SESSIONS.map(point).into()
}

fn cause(diagnosis: &ReportedDiagnosis) -> &str {
    match &diagnosis.id {
        Open::Known(cause) => cause.as_str(),
        Open::Unknown(name) => name,
    }
}
