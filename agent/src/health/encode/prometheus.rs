//! Metrics in the text format of Prometheus.
//!
//! Results of `writeln!` are ignored here: writing to a `String` cannot fail.

use std::fmt::Write as _;

use protocol::health::State;
use protocol::report::Report;

pub(super) fn encode(report: &Report) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, lines: &[(String, String)]| {
        let _ = writeln!(text, "# HELP steward_{name} {help}\n# TYPE steward_{name} gauge");
        for (labels, value) in lines {
            let _ = writeln!(text, "steward_{name}{labels} {value}");
        }
    };
    let parts: Vec<(String, String)> = std::iter::once(&report.health)
        .chain(&report.health.components)
        .flat_map(|part| {
            State::ALL.map(|state| {
                let labels = format!("{{component=\"{}\",state=\"{}\"}}", part.name(), state.as_str());
                (labels, u8::from(part.known_state() == state).to_string())
            })
        })
        .collect();
    metric("component_state", "1 for the state that a component is in.", &parts);
    let version = format!("{{version=\"{}\"}}", report.status.agent_version);
    metric("agent_info", "The agent.", &[(version, "1".to_owned())]);
    let hash = format!("{{hash=\"{}\"}}", report.status.policy.hash);
    metric("policy_info", "The policy that holds.", &[(hash, "1".to_owned())]);
    let number = |name: &str, help: &str, value: f64| (name.to_owned(), help.to_owned(), value);
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point, and these are far below 2^52")]
    let numbers = [
        number("policy_settings", "Settings with a value from policy.", report.status.policy.settings as f64),
        number("problems", "Problems that are known.", report.status.problem_count as f64),
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
    text
}
