//! The same report for everybody who collects it. Pure: a report in, text out.
//!
//! Results of `writeln!` are ignored here: writing to a `String` cannot fail.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::model::{Component, Report, SignInState, State};

/// Who collects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// The report as it is sent.
    Json,
    /// One flat line for a custom compliance script of Intune.
    Intune,
    /// The result of an extension attribute of Jamf Pro.
    Jamf,
    /// Metrics in the text format of Prometheus.
    Prometheus,
    /// For people.
    Text,
}

/// Encodes a report.
pub(crate) fn encode(report: &Report, encoding: Encoding) -> String {
    match encoding {
        Encoding::Json => serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
        Encoding::Intune => intune(report),
        Encoding::Jamf => jamf(report),
        Encoding::Prometheus => prometheus(report),
        Encoding::Text => text(report),
    }
}

/// Discovery output of Intune's custom compliance: one line, one flat object, every key always there.
fn intune(report: &Report) -> String {
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    set("AgentVersion", json!(report.status.agent_version));
    set("AppVersion", json!(report.status.app.version.as_deref().unwrap_or("0.0.0")));
    set("Health", json!(report.health.state.as_str()));
    for part in &report.health.components {
        set(&format!("{}State", pascal(&part.name)), json!(part.state.as_str()));
    }
    set("ObservedAt", json!(report.status.observed_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    set("PolicyHash", json!(report.status.policy.hash));
    set("ProblemCodes", json!(codes(report)));
    set("ProblemCount", json!(report.status.problem_count));
    set("SignedIn", json!(report.sign_in.iter().any(|one| one.state == SignInState::SignedIn)));
    Value::Object(object).to_string() + "\n"
}

/// `<result>` with one line of text. Codes and states need no escaping: they are our own words.
fn jamf(report: &Report) -> String {
    let codes = codes(report);
    let state = report.health.state.as_str();
    if codes.is_empty() {
        format!("<result>{state}</result>\n")
    } else {
        format!("<result>{state}: {codes}</result>\n")
    }
}

fn prometheus(report: &Report) -> String {
    const STATES: [State; 7] = [
        State::Pass,
        State::Fail,
        State::Unknown,
        State::NotApplicable,
        State::Error,
        State::Stale,
        State::Pending,
    ];
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
            STATES.map(|state| {
                let labels = format!("{{component=\"{}\",state=\"{}\"}}", part.name, state.as_str());
                (labels, u8::from(part.state == state).to_string())
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

fn text(report: &Report) -> String {
    fn line(text: &mut String, part: &Component, depth: usize) {
        let name = format!("{}{}", "  ".repeat(depth), part.name);
        let code = part.code.as_ref().map_or_else(String::new, |code| format!(" [{code}]"));
        let _ = writeln!(text, "{name:<12} {:<15} {}{code}", part.state.as_str(), part.reason);
        for inner in &part.components {
            line(text, inner, depth + 1);
        }
    }
    let mut text = String::new();
    line(&mut text, &report.health, 0);
    text
}

fn codes(report: &Report) -> String {
    let mut codes: Vec<&str> = report
        .status
        .problems
        .iter()
        .chain(report.sign_in.iter().flat_map(|one| &one.problems))
        .map(|problem| problem.code.as_str())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    codes.join(",")
}

fn pascal(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(usize::from(!word.is_empty()));
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use policy_schema::{Code, Problem};

    use super::*;
    use crate::health::model::{sample, sample_report};

    fn report(code: Option<Code>) -> Report {
        let mut status = sample();
        status.problems.extend(code.map(|code| Problem::new(code, "<&\"")));
        status.problem_count = status.problems.len();
        sample_report(status, 1)
    }

    #[test]
    fn intune_gets_one_flat_line_with_every_key_whatever_the_state() {
        let keys = |text: &str| -> Vec<String> {
            assert_eq!(text.lines().count(), 1);
            let value: Value = serde_json::from_str(text).unwrap();
            let object = value.as_object().unwrap();
            assert!(object.values().all(|value| !value.is_object() && !value.is_array() && !value.is_null()));
            object.keys().cloned().collect()
        };
        let healthy = encode(&report(None), Encoding::Intune);
        let failing = encode(&report(Some(Code::PolicySyntax)), Encoding::Intune);
        assert_eq!(keys(&healthy), keys(&failing));
        assert!(failing.contains("\"PolicyState\":\"fail\"") && failing.contains("policy.syntax"));
        assert!(healthy.contains("\"SignInState\":\"unknown\""), "unknown is neither pass nor fail");
    }

    #[test]
    fn jamf_gets_states_and_codes_only() {
        assert_eq!(encode(&report(None), Encoding::Jamf), "<result>pass</result>\n");
        assert_eq!(
            encode(&report(Some(Code::PolicySyntax)), Encoding::Jamf),
            "<result>fail: policy.syntax</result>\n"
        );
    }

    #[test]
    fn prometheus_gets_one_true_state_per_component() {
        let text = encode(&report(Some(Code::UpdateHashMismatch)), Encoding::Prometheus);
        assert!(text.contains("steward_component_state{component=\"update\",state=\"fail\"} 1\n"));
        let ones =
            text.lines().filter(|line| line.starts_with("steward_component_state") && line.ends_with(" 1"));
        assert_eq!(ones.count(), 7);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn people_get_a_line_per_component() {
        let text = encode(&report(Some(Code::PolicySyntax)), Encoding::Text);
        assert!(text.contains("policy     fail"), "{text}");
        assert!(text.lines().count() == 7);
    }
}
