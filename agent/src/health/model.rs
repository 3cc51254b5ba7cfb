//! THE model of health: facts of each part, and a tree of components with their states. Everything that shows or
//! sends health encodes this; nothing adds to it. Part of the published JSON Schema.

use std::collections::BTreeSet;

use jiff::Timestamp;
use policy_schema::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::doctor::Confidence;
use crate::policy::PlaceSummary;

/// The version of this model. Grows when a field changes its meaning; new fields alone do not change it.
pub(crate) const FORMAT: u32 = 1;
/// More problems than this are counted, not listed.
pub(crate) const MAXIMUM_PROBLEMS: usize = 100;

/// What the machine service knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Status {
    /// The version of this format.
    pub(crate) format: u32,
    /// The agent's version.
    pub(crate) agent_version: String,
    /// When the agent started.
    pub(crate) started_at: Timestamp,
    /// When these facts last changed.
    pub(crate) observed_at: Timestamp,
    pub(crate) policy: PolicyFacts,
    pub(crate) app: AppFacts,
    pub(crate) update: UpdateFacts,
    pub(crate) report: ReportFacts,
    /// What is wrong, the worst first.
    pub(crate) problems: Vec<Problem>,
    /// How many problems there are; more than the list holds if it was cut.
    pub(crate) problem_count: usize,
}

/// What was read as policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PolicyFacts {
    /// Equal on devices with equal policy; secrets do not count.
    pub(crate) hash: String,
    pub(crate) read_at: Timestamp,
    /// Every place that exists, weakest first.
    pub(crate) places: Vec<PlaceSummary>,
    /// How many settings hold a value from policy.
    pub(crate) settings: usize,
    pub(crate) organization: Option<String>,
    pub(crate) support_contact: Option<String>,
}

/// The managed app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AppFacts {
    pub(crate) name: String,
    pub(crate) title: String,
    /// Why there is nothing to manage on this operating system.
    pub(crate) not_applicable: Option<String>,
    /// Where the managed configuration lies, if there is one.
    pub(crate) configuration: Option<String>,
    /// The version that is installed, as far as the agent installs it.
    pub(crate) version: Option<String>,
}

/// The app's updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct UpdateFacts {
    /// Whether the agent looks after versions here.
    pub(crate) managed: bool,
    pub(crate) mode: String,
    /// A look at the feed, a download or an installation is going on.
    pub(crate) running: bool,
    /// What came of the last look.
    pub(crate) message: Option<String>,
    pub(crate) offered: Option<String>,
    pub(crate) held: BTreeSet<String>,
    pub(crate) looked_at: Option<Timestamp>,
    pub(crate) next: Option<Timestamp>,
}

/// The delivery of reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportFacts {
    /// Where reports go; `null` if none are sent.
    pub(crate) url: Option<String>,
    /// Reports that wait on disk.
    pub(crate) queued: usize,
    pub(crate) delivered_at: Option<Timestamp>,
    pub(crate) next: Option<Timestamp>,
}

/// What a person's broker knows. It has no tokens in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SignIn {
    pub(crate) state: SignInState,
    /// The person's address, or the subject where there is no address.
    pub(crate) account: Option<String>,
    /// Others who are signed in as well.
    #[serde(default)]
    pub(crate) other_accounts: Vec<String>,
    /// The issuer that vouches for it.
    pub(crate) issuer: Option<String>,
    pub(crate) signed_in_at: Option<Timestamp>,
    /// When the access token ends; it is renewed before.
    pub(crate) token_expires_at: Option<Timestamp>,
    /// Where the session is kept.
    pub(crate) kept: Option<Kept>,
    /// Whether it can be renewed: there is a refresh token.
    #[serde(default)]
    pub(crate) lasting: bool,
    pub(crate) problems: Vec<Problem>,
}

/// Whether somebody is signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SignInState {
    SignedIn,
    SigningIn,
    SignedOut,
    NotConfigured,
}

/// Where a session is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kept {
    /// Encrypted, its key in the operating system's secret store.
    SecretStore,
    /// Encrypted, its key beside it.
    File,
    /// Not at all: it ends with the broker.
    Memory,
}

/// What `steward status --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Overview {
    /// Whether the machine service answers. If not, its facts are the last that it wrote.
    pub(crate) agent_running: bool,
    pub(crate) status: Option<Status>,
    /// `null` if no broker of this person runs.
    pub(crate) sign_in: Option<SignIn>,
    pub(crate) health: Component,
}

/// What a receiver gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Report {
    /// The version of this format.
    pub(crate) format: u32,
    /// A random identity that this installation gave itself.
    pub(crate) device_id: String,
    /// Changes with every start of the operating system.
    pub(crate) boot_id: Option<String>,
    /// Changes when the sequence starts anew.
    pub(crate) epoch: String,
    /// Counts the reports of an epoch. A receiver drops what it has already seen.
    pub(crate) sequence: u64,
    pub(crate) sent_at: Timestamp,
    /// The agent's promise: without a report until then, the device is offline.
    pub(crate) next_report_by: Timestamp,
    pub(crate) status: Status,
    pub(crate) sign_in: Vec<SignIn>,
    /// What the problems of all parts come from, as far as that is known without asking anybody.
    #[serde(default)]
    pub(crate) diagnoses: Vec<KnownCause>,
    pub(crate) posture: Option<posture::Posture>,
    pub(crate) health: Component,
}

use super::posture;

/// What a problem comes from; `steward doctor` on the device says more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct KnownCause {
    /// The cause, by a stable name.
    pub(crate) id: String,
    pub(crate) confidence: Confidence,
}

/// How a component is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Pass,
    NotApplicable,
    Pending,
    Unknown,
    Stale,
    Error,
    Fail,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NotApplicable => "not-applicable",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Error => "error",
            Self::Fail => "fail",
        }
    }
}

/// One component with its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) state: State,
    /// The problem's code, where the state is `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// Why, as a sentence.
    pub(crate) reason: String,
    pub(crate) observed_at: Timestamp,
    /// Who looked: `agent` with the machine's rights, `broker` with the person's.
    pub(crate) source: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) components: Vec<Component>,
}

/// The tree over all facts. Pure.
pub(crate) fn assess(
    status: Option<&Status>,
    agent_running: bool,
    sign_in: &[SignIn],
    now: Timestamp,
) -> Component {
    let mut components = match status {
        None => vec![component("agent", State::Unknown, "it has left no facts", now)],
        Some(status) if !agent_running => {
            let mut stale = assess_parts(status);
            stale.remove(0);
            for component in &mut stale {
                if matches!(component.state, State::Pass | State::Fail | State::Pending) {
                    component.state = State::Stale;
                }
            }
            stale.insert(0, component("agent", State::Fail, "it does not run", now));
            stale
        }
        Some(status) => assess_parts(status),
    };
    components.push(assess_sign_in(sign_in, now));

    let worst = components.iter().map(|part| part.state).max().unwrap_or(State::Unknown);
    let blamed = components.iter().find(|part| part.state == worst).cloned();
    let (state, code, reason) = match (worst, blamed) {
        (State::Fail | State::Error | State::Stale, Some(part)) => {
            (worst, part.code, format!("{}: {}", part.name, part.reason))
        }
        // A part that is unknown or still under way makes no device unhealthy; without the agent nothing is known.
        _ if status.is_none() => (State::Unknown, None, "the agent has left no facts".to_owned()),
        _ => (State::Pass, None, "everything works that policy asks for".to_owned()),
    };
    Component {
        name: "device".to_owned(),
        state,
        code,
        reason,
        observed_at: status.map_or(now, |status| status.observed_at),
        source: "agent".to_owned(),
        components,
    }
}

fn assess_parts(status: &Status) -> Vec<Component> {
    let part = |name: &str, quiet: (State, String)| {
        let worst = status
            .problems
            .iter()
            .filter(|problem| problem.severity.is_error())
            .find(|problem| problem.code.as_str().split('.').next() == Some(name));
        match worst {
            Some(problem) => Component {
                code: Some(problem.code.as_str().to_owned()),
                ..component(name, State::Fail, &sentence(problem), status.observed_at)
            },
            None => component(name, quiet.0, &quiet.1, status.observed_at),
        }
    };
    vec![
        part("agent", (State::Pass, "it runs".to_owned())),
        part("policy", (State::Pass, format!("{} settings", status.policy.settings))),
        part("app", quiet_app(&status.app)),
        part("update", quiet_update(&status.update)),
        part("report", quiet_report(&status.report, &status.problems)),
    ]
}

fn quiet_app(app: &AppFacts) -> (State, String) {
    match (&app.not_applicable, &app.configuration) {
        (Some(reason), _) => (State::NotApplicable, reason.clone()),
        (None, Some(_)) => (State::Pass, format!("{} is configured", app.title)),
        (None, None) => (State::NotApplicable, format!("policy says nothing that {} reads", app.title)),
    }
}

fn quiet_update(update: &UpdateFacts) -> (State, String) {
    match (&update.message, update.managed) {
        (_, false) => (State::NotApplicable, "no versions are managed here".to_owned()),
        (None, true) => (State::Pending, "the feed was not looked at yet".to_owned()),
        (Some(message), true) => (State::Pass, message.clone()),
    }
}

fn quiet_report(report: &ReportFacts, problems: &[Problem]) -> (State, String) {
    let late = problems.iter().find(|problem| problem.code.as_str() == "report.undelivered");
    match (&report.url, late, report.delivered_at) {
        (None, _, _) => (State::NotApplicable, "no reports are sent".to_owned()),
        (Some(_), Some(problem), _) => (State::Pending, sentence(problem)),
        (Some(_), None, Some(_)) => (State::Pass, "delivered".to_owned()),
        (Some(_), None, None) => (State::Pending, "none was delivered yet".to_owned()),
    }
}

fn assess_sign_in(sign_in: &[SignIn], now: Timestamp) -> Component {
    let source = "broker".to_owned();
    let part = |state, reason: &str| Component {
        source: source.clone(),
        ..component("sign-in", state, reason, now)
    };
    let failed = sign_in.iter().flat_map(|one| &one.problems).find(|problem| problem.severity.is_error());
    if let Some(problem) = failed {
        let code = Some(problem.code.as_str().to_owned());
        return Component { code, ..part(State::Fail, &sentence(problem)) };
    }
    if sign_in.is_empty() {
        return part(State::Unknown, "no broker runs, so nobody can tell");
    }
    if sign_in.iter().any(|one| one.state == SignInState::SignedIn) {
        return part(State::Pass, "signed in");
    }
    part(State::Pending, "nobody is signed in yet")
}

fn sentence(problem: &Problem) -> String {
    match &problem.key {
        Some(key) => format!("`{key}`: {}", problem.message),
        None => problem.message.clone(),
    }
}

fn component(name: &str, state: State, reason: &str, observed_at: Timestamp) -> Component {
    Component {
        name: name.to_owned(),
        state,
        code: None,
        reason: reason.to_owned(),
        observed_at,
        source: "agent".to_owned(),
        components: Vec::new(),
    }
}

/// Facts for the tests of this module and of the encoders.
#[cfg(test)]
pub(crate) fn sample() -> Status {
    let at = Timestamp::UNIX_EPOCH;
    Status {
        format: FORMAT,
        agent_version: "1.2.3".to_owned(),
        started_at: at,
        observed_at: at,
        policy: PolicyFacts {
            hash: "abc".to_owned(),
            read_at: at,
            places: Vec::new(),
            settings: 3,
            organization: None,
            support_contact: None,
        },
        app: AppFacts {
            name: "lab-notes".to_owned(),
            title: "Lab Notes".to_owned(),
            not_applicable: None,
            configuration: Some("/etc/x.json".to_owned()),
            version: Some("2.0.0".to_owned()),
        },
        update: UpdateFacts {
            managed: true,
            mode: "automatic".to_owned(),
            running: false,
            message: Some("2.0.0 is up to date".to_owned()),
            offered: Some("2.0.0".to_owned()),
            held: BTreeSet::new(),
            looked_at: Some(at),
            next: None,
        },
        report: ReportFacts { url: None, queued: 0, delivered_at: None, next: None },
        problems: Vec::new(),
        problem_count: 0,
    }
}

/// A report of such facts.
#[cfg(test)]
pub(crate) fn sample_report(status: Status, sequence: u64) -> Report {
    Report {
        format: FORMAT,
        device_id: "d".to_owned(),
        boot_id: None,
        epoch: "e".to_owned(),
        sequence,
        sent_at: Timestamp::UNIX_EPOCH,
        next_report_by: Timestamp::UNIX_EPOCH,
        health: assess(Some(&status), true, &[], Timestamp::UNIX_EPOCH),
        status,
        sign_in: Vec::new(),
        diagnoses: Vec::new(),
        posture: None,
    }
}

#[cfg(test)]
mod tests {
    use policy_schema::Code;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn part(component: &Component, name: &str) -> State {
        component.components.iter().find(|part| part.name == name).unwrap().state
    }

    #[test]
    fn a_device_where_all_is_well_passes_although_nobody_is_signed_in() {
        let health = assess(Some(&sample()), true, &[], NOW);
        assert_eq!(health.state, State::Pass);
        assert_eq!(part(&health, "sign-in"), State::Unknown);
        assert_eq!(part(&health, "report"), State::NotApplicable);
    }

    #[test]
    fn a_problem_fails_its_own_part_only_and_is_named_at_the_root() {
        let mut status = sample();
        status.problems.push(Problem::new(Code::UpdateHashMismatch, "another SHA-512"));
        let health = assess(Some(&status), true, &[], NOW);
        assert_eq!(
            (health.state, part(&health, "update"), part(&health, "policy")),
            (State::Fail, State::Fail, State::Pass)
        );
        assert_eq!(health.code.as_deref(), Some("update.hash-mismatch"));
        assert_eq!(health.reason, "update: another SHA-512");
    }

    #[test]
    fn facts_of_an_agent_that_does_not_run_are_stale_and_never_pass() {
        let health = assess(Some(&sample()), false, &[], NOW);
        assert_eq!(health.state, State::Fail);
        assert_eq!(part(&health, "policy"), State::Stale);
        assert_eq!(assess(None, false, &[], NOW).state, State::Unknown);
    }

    #[test]
    fn notes_and_warnings_fail_nothing() {
        let mut status = sample();
        status.problems.push(Problem::new(Code::PolicyConflict, "x"));
        status.problems.push(Problem::new(Code::ReportUndelivered, "x"));
        assert_eq!(assess(Some(&status), true, &[], NOW).state, State::Pass);
    }
}
