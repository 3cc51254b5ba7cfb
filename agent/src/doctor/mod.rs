//! The doctor: what is the matter with sign-in, app and network, and what to do.
//!
//! In: a policy (of the machine service, or a file that nobody has installed yet) and what can be seen from here. Out:
//! findings, one for each check, each with its diagnoses. What can be the matter is data ([`catalogue`]); the checks
//! only gather evidence and name a cause. They run side by side, each with its own limit, and change nothing but what
//! `--sign-in` is asked to. Called by `steward doctor`, by `steward setup` and for `steward support-bundle`; reports
//! hold what the machine's own problems come from ([`of_problems`]).

pub(crate) mod catalogue;
mod device;
mod network;
mod probe;
mod provider;
mod session;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agent_platform::paths::Paths;
use policy_schema::{Code, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app::descriptor::Descriptor;
use crate::broker::configuration::Configuration;
use crate::health::model::Status;
use crate::support::Redaction;
pub(crate) use probe::unseen;

/// How long one group of checks may take. A sign-in waits for a person.
const LIMIT: Duration = Duration::from_secs(25);
const LIMIT_WITH_A_PERSON: Duration = Duration::from_mins(6);

/// What is examined.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) paths: Paths,
    pub(crate) configuration: Configuration,
    /// What is wrong with the policy itself, and how many settings it has.
    pub(crate) policy_problems: Vec<Problem>,
    pub(crate) settings: usize,
    /// Addresses besides the identity provider's that policy names: report receiver and update feed.
    pub(crate) addresses: Vec<String>,
    pub(crate) app: Option<&'static Descriptor>,
    /// The policy is a file, and nothing of it has to be in effect here.
    pub(crate) before_roll_out: bool,
    /// What the machine service knows, if it runs.
    pub(crate) status: Option<Status>,
    pub(crate) expected_email: Option<String>,
    /// What a person was told by a browser or the app.
    pub(crate) said: Option<String>,
    /// Sign in, and renew the session.
    pub(crate) sign_in: bool,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Finding {
    /// The check, by a stable name.
    pub(crate) check: String,
    pub(crate) outcome: Outcome,
    /// In one line.
    pub(crate) summary: String,
    /// What was looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) evidence: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) diagnoses: Vec<Diagnosis>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Nothing is wrong.
    Pass,
    /// It does not apply here, or something else has to be put right first.
    Skipped,
    /// Works, but not as it should; or something may be wrong.
    Warning,
    /// Does not work.
    Failure,
}

/// What is the matter, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Diagnosis {
    /// The cause, by a stable name.
    pub(crate) id: String,
    pub(crate) symptom: String,
    pub(crate) evidence: Vec<String>,
    pub(crate) cause: String,
    pub(crate) confidence: Confidence,
    pub(crate) fix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
}

/// How sure a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Confidence {
    /// A guess from what usually lies behind it.
    Heuristic,
    /// Everything points to it.
    Likely,
    /// It was seen.
    Certain,
}

impl Finding {
    fn new(check: &str, outcome: Outcome, summary: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            outcome,
            summary: summary.into(),
            evidence: Vec::new(),
            diagnoses: Vec::new(),
        }
    }

    fn pass(check: &str, summary: impl Into<String>) -> Self {
        Self::new(check, Outcome::Pass, summary)
    }

    fn skipped(check: &str, summary: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skipped, summary)
    }

    fn because(self, diagnosis: Diagnosis) -> Self {
        self.because_of([diagnosis])
    }

    fn because_of(mut self, diagnoses: impl IntoIterator<Item = Diagnosis>) -> Self {
        self.diagnoses.extend(diagnoses);
        self
    }

    fn seen(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

impl Diagnosis {
    /// It says nothing about the policy: the question did not get through.
    pub(crate) fn is_of_network(&self) -> bool {
        catalogue::is_of_network(&self.id)
    }
}

impl Subject {
    fn diagnose(&self, id: &str, confidence: Confidence, evidence: impl Into<Evidence>) -> Diagnosis {
        catalogue::diagnosis(id, &self.configuration, confidence, evidence.into().0)
    }
}

/// What speaks for a diagnosis: one line, or several.
struct Evidence(Vec<String>);

impl From<String> for Evidence {
    fn from(line: String) -> Self {
        Self(vec![line])
    }
}

impl From<Vec<String>> for Evidence {
    fn from(lines: Vec<String>) -> Self {
        Self(lines)
    }
}

type Group = Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

/// Runs every check. `tell` hears which group has ended, and how many are left, while the others go on.
pub(crate) async fn examine(subject: Subject, tell: impl Fn(&str, usize)) -> Vec<Finding> {
    let subject = Arc::new(subject);
    let mut groups: Vec<(&'static str, Duration, Group)> = vec![
        ("policy", LIMIT, Box::pin(std::future::ready(policy(&subject)))),
        ("identity-provider", LIMIT, Box::pin(provider::examine(Arc::clone(&subject)))),
        ("network", LIMIT, Box::pin(network::examine(Arc::clone(&subject)))),
        ("device", LIMIT, Box::pin(device::examine(Arc::clone(&subject)))),
    ];
    if subject.sign_in || !subject.before_roll_out {
        let limit = if subject.sign_in { LIMIT_WITH_A_PERSON } else { LIMIT };
        groups.push(("session", limit, Box::pin(session::examine(Arc::clone(&subject)))));
    }
    run(groups, tell).await
}

/// The discovery document of an issuer.
pub(crate) async fn discovery(subject: &Subject, issuer: &str) -> Result<serde_json::Value, Diagnosis> {
    let scout = network::Scout::new(subject).map_err(|error| network::of_settings(subject, &error))?;
    provider::discovery(subject, &scout, issuer).await.map(|found| found.document)
}

/// The checks that need nothing but the network: whether what a policy says is what the identity provider says.
pub(crate) async fn examine_provider(subject: Subject, tell: impl Fn(&str, usize)) -> Vec<Finding> {
    let group: Group = Box::pin(provider::examine(Arc::new(subject)));
    run(vec![("identity-provider", LIMIT, group)], tell).await
}

async fn run(groups: Vec<(&'static str, Duration, Group)>, tell: impl Fn(&str, usize)) -> Vec<Finding> {
    let mut left = groups.len();
    let mut found: Vec<Option<Vec<Finding>>> = vec![None; left];
    let (sender, mut ended) = mpsc::channel(left.max(1));
    for (number, (name, limit, group)) in groups.into_iter().enumerate() {
        let sender = sender.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let findings = tokio::time::timeout(limit, group).await.unwrap_or_else(|_| {
                let taken = begun.elapsed().as_secs();
                vec![Finding::new(name, Outcome::Failure, format!("did not end within {taken} seconds"))]
            });
            // Nobody waits for it any more if this fails.
            drop(sender.send((number, name, findings)).await);
        });
    }
    drop(sender);
    while let Some((number, name, findings)) = ended.recv().await {
        left -= 1;
        tell(name, left);
        found[number] = Some(findings);
    }
    found.into_iter().flatten().flatten().collect()
}

fn policy(subject: &Subject) -> Vec<Finding> {
    let serious: Vec<&Problem> =
        subject.policy_problems.iter().filter(|problem| problem.severity.is_at_least_warning()).collect();
    let errors = serious.iter().filter(|problem| problem.severity.is_error()).count();
    let outcome = match (errors, serious.len()) {
        (0, 0) => Outcome::Pass,
        (0, _) => Outcome::Warning,
        (_, _) => Outcome::Failure,
    };
    let summary = match serious.len() {
        0 => format!("{} settings, nothing wrong with them", subject.settings),
        count => format!("{} settings, {errors} errors, {} warnings", subject.settings, count - errors),
    };
    let mut findings =
        vec![Finding::new("policy", outcome, summary).because_of(serious.iter().filter_map(|problem| {
            let known = catalogue::of_problem(problem, &subject.configuration)?;
            let what = match &problem.key {
                Some(key) => format!("`{key}`: {}", problem.message),
                None => problem.message.clone(),
            };
            let hint = problem.hint.clone().unwrap_or(known.fix.clone());
            let evidence = std::iter::once(what).chain(problem.place.clone()).collect();
            Some(Diagnosis { evidence, fix: hint, ..known })
        }))];
    if let Err(problem) = subject.configuration.client() {
        let message = problem.to_string().lines().next().unwrap_or_default().to_owned();
        findings.push(
            Finding::new("configuration", Outcome::Failure, "sign-in is not configured")
                .because(subject.diagnose("not-configured", Confidence::Certain, message)),
        );
    }
    if let Some(said) = &subject.said {
        findings.push(told(
            subject,
            "said",
            Outcome::Failure,
            said,
            "what was said is not known to mean anything in particular",
        ));
    }
    findings
}

/// What a text that somebody was shown speaks of.
fn told(subject: &Subject, check: &str, outcome: Outcome, text: &str, unknown: &str) -> Finding {
    let causes = catalogue::spoken_of(text);
    let redaction = Redaction::new(subject.configuration.client_secret.clone());
    if causes.is_empty() {
        return Finding::skipped(check, unknown);
    }
    let seen = probe::excerpt(&redaction.text(text));
    let diagnoses = causes.iter().map(|id| subject.diagnose(id, Confidence::Likely, seen.clone()));
    Finding::new(check, outcome, "what was said has a known meaning").because_of(diagnoses)
}

/// What problems that are known already come from, for reports: without asking anybody.
pub(crate) fn of_problems<'p>(
    configuration: &Configuration,
    problems: impl Iterator<Item = &'p Problem>,
) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = Vec::new();
    for problem in problems.filter(|problem| problem.severity.is_at_least_warning()) {
        let Some(diagnosis) = catalogue::of_problem(problem, configuration) else { continue };
        if !found.iter().any(|known| known.id == diagnosis.id) {
            found.push(diagnosis);
        }
    }
    found
}

/// What to do about a refusal in an identity provider's own words, if they are known.
pub(crate) fn fix_for(configuration: &Configuration, message: &str) -> Option<String> {
    let problem = Problem::new(Code::SignInDenied, message);
    let known = catalogue::of_problem(&problem, configuration)?;
    (known.confidence == Confidence::Certain).then_some(known.fix)
}

/// The worst of all findings.
pub(crate) fn worst(findings: &[Finding]) -> Outcome {
    let outcomes = findings.iter().map(|finding| finding.outcome);
    outcomes.filter(|outcome| *outcome != Outcome::Skipped).max().unwrap_or(Outcome::Pass)
}
