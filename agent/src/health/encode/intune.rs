//! Discovery output of Intune's custom compliance.

use policy_schema::export::compliance;
use protocol::report::Report;
use protocol::session::SessionStatus;
use serde_json::{Map, Value, json};

use super::codes;

/// Discovery output of Intune's custom compliance: one line, one flat object.
pub(super) fn encode(report: &Report) -> String {
    Value::Object(facts(report)).to_string() + "\n"
}

/// Every fact of the table. What this report does not have stays as it is where no agent answers.
pub(super) fn facts(report: &Report) -> Map<String, Value> {
    let facts = compliance::FACTS.iter().map(|fact| (fact.name.to_owned(), fact.absent.value()));
    let mut object: Map<String, Value> = facts.collect();
    let mut set = |name: &str, value: Value| {
        if let Some(known) = object.get_mut(name) {
            *known = value;
        }
    };
    // Before an agent has run, nothing is known. Intune compares versions: one that is not known is below each.
    if !report.status.agent_version.is_empty() {
        set("AgentVersion", json!(report.status.agent_version));
        set("ProblemCodes", json!(codes(report)));
        set("ProblemCount", json!(report.problem_count()));
    }
    if let Some(version) = &report.status.app.version {
        set("AppVersion", json!(version.to_string()));
    }
    set("Health", json!(report.health.state()));
    for part in report.health.components.iter().flat_map(|part| std::iter::once(part).chain(&part.components))
    {
        set(&format!("{}State", pascal(part.name())), json!(part.state()));
    }
    set("ObservedAt", json!(report.status.observed_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    set("PolicyHash", json!(report.status.policy.hash));
    set("SignedIn", json!(report.sign_in.iter().any(SessionStatus::is_signed_in)));
    object
}

/// The rules for it. This version of the agent is the oldest that complies.
pub(super) fn rules() -> String {
    String::from_utf8_lossy(&compliance::rules(env!("CARGO_PKG_VERSION"))).into_owned()
}

fn pascal(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(usize::from(!word.is_empty()));
            first.to_ascii_uppercase() + rest
        })
        .collect()
}
