//! Metrics in the text format of Prometheus.
//!
//! Results of `writeln!` are ignored here: writing to a `String` cannot fail.

use std::fmt::Write as _;

use policy_schema::Open;
use protocol::diagnosis::ReportedDiagnosis;
use protocol::health::{ComponentName, State};
use protocol::report::Report;
use protocol::session::SessionState;

use super::{codes_of, plain_code};

pub(super) fn encode(report: &Report) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, lines: &[(String, String)]| {
        let _ = writeln!(text, "# HELP steward_{name} {help}\n# TYPE steward_{name} gauge");
        for (labels, value) in lines {
            let _ = writeln!(text, "steward_{name}{labels} {value}");
        }
    };
    // Users are counted below: a label for each would never end.
    let inner =
        report.health.components.iter().flat_map(|part| std::iter::once(part).chain(&part.components));
    let parts: Vec<(String, String)> = std::iter::once(&report.health)
        .chain(inner.filter(|part| part.name != ComponentName::User))
        .flat_map(|part| {
            State::ALL.map(|state| {
                let labels = format!("{{component=\"{}\",state=\"{}\"}}", part.name(), state.as_str());
                (labels, u8::from(part.known_state() == state).to_string())
            })
        })
        .collect();
    metric("component_state", "1 for the state that a component is in.", &parts);
    let info = |label: &str, value: &str| (format!("{{{label}=\"{}\"}}", escaped(value)), "1".to_owned());
    metric("agent_info", "The agent.", &[info("version", &report.status.agent_version)]);
    let app = &report.status.app;
    let installed = app.installed.as_deref().unwrap_or_default();
    let labels = format!("{{app=\"{}\",version=\"{}\"}}", escaped(&app.name), escaped(installed));
    metric(
        "app_info",
        "The managed app; without a version if it is not installed.",
        &[(labels, "1".to_owned())],
    );
    let sessions: Vec<(String, String)> = SESSIONS
        .iter()
        .map(|(state, name)| {
            let count = report.sign_in.iter().filter(|session| session.state == *state).count();
            (format!("{{state=\"{name}\"}}"), count.to_string())
        })
        .collect();
    metric("sessions", "Users by the state of their session.", &sessions);
    let codes: Vec<_> = codes_of(report).into_iter().map(|code| info("code", code)).collect();
    metric("problem_info", "1 for each code of a problem that is known.", &codes);
    let diagnoses: Vec<_> = report.diagnoses.iter().map(|one| info("id", plain_code(cause(one)))).collect();
    metric("diagnosis_info", "1 for each cause that is known.", &diagnoses);
    let hash = format!("{{hash=\"{}\"}}", report.status.policy.hash);
    metric("policy_info", "The policy that is applied.", &[(hash, "1".to_owned())]);
    let number = |name: &str, help: &str, value: f64| (name.to_owned(), help.to_owned(), value);
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point, and these are far below 2^52")]
    let numbers = [
        number("policy_settings", "Settings with a value from policy.", report.status.policy.settings as f64),
        number("problems", "Problems that are known.", report.problem_count() as f64),
        number("reports_queued", "Reports that wait on disk.", report.status.report.queued as f64),
        number(
            "observed_timestamp_seconds",
            "When the facts last changed.",
            report.status.observed_at.as_second() as f64,
        ),
    ];
    for (name, help, value) in numbers {
        metric(&name, &help, &[(String::new(), value.to_string())]);
    }
    let sign_in = report.status.sign_in.as_ref();
    let delivery = &report.status.report;
    let moments = [
        ("report_made_timestamp_seconds", "When this was written.", Some(report.sent_at)),
        ("report_next_timestamp_seconds", "When the next report is due.", delivery.next),
        ("report_delivered_timestamp_seconds", "When a report was last delivered.", delivery.delivered_at),
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
        (
            "update_checked_timestamp_seconds",
            "When the feed was last checked.",
            report.status.update.checked_at,
        ),
    ];
    for (name, help, moment) in moments {
        let value = moment.map(|moment| (String::new(), moment.as_second().to_string()));
        metric(name, help, value.as_slice());
    }
    text
}

const SESSIONS: [(SessionState, &str); 4] = [
    (SessionState::SignedIn, "signed-in"),
    (SessionState::SigningIn, "signing-in"),
    (SessionState::SignedOut, "signed-out"),
    (SessionState::NotConfigured, "not-configured"),
];

/// A value of a label (Prometheus, "Exposition formats").
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn cause(diagnosis: &ReportedDiagnosis) -> &str {
    match &diagnosis.id {
        Open::Known(cause) => cause.as_str(),
        Open::Unknown(name) => name,
    }
}
