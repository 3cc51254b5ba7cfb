//! Discovery output of Intune's custom compliance.

use protocol::report::Report;
use protocol::session::SessionStatus;
use serde_json::{Map, Value, json};

use super::codes;

/// Discovery output of Intune's custom compliance: one line, one flat object, every key always there.
pub(super) fn encode(report: &Report) -> String {
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    // Intune compares versions; one that is not known is below each.
    let known = |version: String| if version.is_empty() { "0.0.0".to_owned() } else { version };
    set("AgentVersion", json!(known(report.status.agent_version.clone())));
    set(
        "AppVersion",
        json!(known(report.status.app.version.as_ref().map(ToString::to_string).unwrap_or_default())),
    );
    set("Health", json!(report.health.state()));
    for part in &report.health.components {
        set(&format!("{}State", pascal(part.name())), json!(part.state()));
    }
    set("ObservedAt", json!(report.status.observed_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    set("PolicyHash", json!(report.status.policy.hash));
    set("ProblemCodes", json!(codes(report)));
    set("ProblemCount", json!(report.problem_count()));
    set("SignedIn", json!(report.sign_in.iter().any(SessionStatus::is_signed_in)));
    Value::Object(object).to_string() + "\n"
}

fn pascal(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(usize::from(!word.is_empty()));
            first.to_ascii_uppercase() + rest
        })
        .collect()
}
