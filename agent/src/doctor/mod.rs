//! The doctor: finds out what is wrong with sign-in, app and network, and what to do.
//!
//! In: a policy that is in effect, or a policy file that is not installed yet. Out: one finding for each check, with
//! its diagnoses. Called by `steward doctor`, `steward setup` and `steward support-bundle`.
//!
//! The causes are data ([`protocol::diagnosis`]): a check only collects evidence and names a cause. Groups of checks
//! run side by side, each with its own limit. They change nothing, except for a sign-in with `--sign-in`.

mod device;
mod excerpt;
mod network;
mod probe;
mod provider;
mod publishers;
pub(crate) mod reference;
mod session;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use broker::configuration::Configuration;
use platform::paths::Paths;
use policy_schema::{Problem, counted};
use protocol::diagnosis::{self, Cause, Confidence, Diagnosis, match_causes, match_words};
use protocol::status::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app::descriptor::Descriptor;
use crate::support::Redaction;

/// How long one group of checks may take.
const LIMIT: Duration = Duration::from_secs(25);
/// How long a group may take that waits for the user to sign in.
const SIGN_IN_LIMIT: Duration = Duration::from_mins(6);

/// What to examine.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) paths: Paths,
    pub(crate) configuration: Configuration,
    /// What is wrong with the policy itself.
    pub(crate) policy_problems: Vec<Problem>,
    /// How many settings policy sets.
    pub(crate) settings: usize,
    /// The addresses of report receiver and update feed, if policy sets them.
    pub(crate) addresses: Vec<String>,
    /// `UpdatePublishers`; `None` if updates of the app are not installed.
    pub(crate) publishers: Option<Vec<String>>,
    pub(crate) app: Option<&'static Descriptor>,
    /// The policy is a file and need not be in effect on this device.
    pub(crate) before_roll_out: bool,
    /// The status of the machine service, if it runs.
    pub(crate) status: Option<Status>,
    /// The address that the ID token must have.
    pub(crate) expected_email: Option<String>,
    /// The text of an error that a browser or the app showed.
    pub(crate) error_text: Option<String>,
    /// Sign in, and renew the session.
    pub(crate) sign_in: bool,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Finding {
    /// The check, by a stable name.
    pub(crate) check: String,
    pub(crate) outcome: Outcome,
    /// The result in one line.
    pub(crate) summary: String,
    /// What the check observed.
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
    /// The check does not apply here, or another problem has to be fixed first.
    Skipped,
    /// It works, but not as it should; or something may be wrong.
    Warning,
    /// It does not work.
    Failure,
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

    /// The finding of a check that could not observe anything.
    pub(crate) fn unavailable(check: &str, diagnosis: Diagnosis) -> Self {
        Self::new(check, Outcome::Failure, "it cannot be checked").because(diagnosis)
    }

    fn because(self, diagnosis: Diagnosis) -> Self {
        self.because_of([diagnosis])
    }

    fn because_of(mut self, diagnoses: impl IntoIterator<Item = Diagnosis>) -> Self {
        self.diagnoses.extend(diagnoses);
        self
    }

    fn observed(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

impl Subject {
    /// The sign-in settings alone.
    pub(crate) fn of_sign_in(paths: Paths, configuration: Configuration) -> Self {
        Self {
            paths,
            configuration,
            policy_problems: Vec::new(),
            settings: 0,
            addresses: Vec::new(),
            publishers: None,
            app: None,
            before_roll_out: false,
            status: None,
            expected_email: None,
            error_text: None,
            sign_in: false,
        }
    }

    fn diagnose(&self, cause: Cause, confidence: Confidence, evidence: impl Into<Evidence>) -> Diagnosis {
        cause.diagnosis(&self.configuration.context(), confidence, evidence.into().0)
    }
}

/// What a diagnosis is based on: one line, or several.
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

/// Runs every check. `progress` gets the name of each group that has ended, and how many still run.
pub(crate) async fn examine(subject: Subject, progress: impl Fn(&str, usize)) -> Vec<Finding> {
    let subject = Arc::new(subject);
    let mut groups: Vec<(&'static str, Duration, Group)> = vec![
        ("policy", LIMIT, Box::pin(std::future::ready(policy(&subject)))),
        ("identity-provider", LIMIT, Box::pin(provider::examine(Arc::clone(&subject)))),
        ("network", LIMIT, Box::pin(network::examine(Arc::clone(&subject)))),
        ("device", LIMIT, Box::pin(device::examine(Arc::clone(&subject)))),
    ];
    if subject.sign_in || !subject.before_roll_out {
        let limit = if subject.sign_in { SIGN_IN_LIMIT } else { LIMIT };
        groups.push(("session", limit, Box::pin(session::examine(Arc::clone(&subject)))));
    }
    let mut findings = run(groups, progress).await;
    network::tell_inspection_apart(&subject, &mut findings);
    believe_session(&mut findings);
    findings
}

/// What a session proves, a discovery document need not list.
fn believe_session(findings: &mut [Finding]) {
    let lasts = findings.iter().any(|finding| finding.check == "lasting" && finding.outcome == Outcome::Pass);
    let Some(offers) = findings.iter_mut().find(|finding| finding.check == "offers" && lasts) else { return };
    offers.diagnoses.retain(|diagnosis| {
        diagnosis.id != Cause::ScopesNotOffered
            && diagnosis.id != Cause::RefreshNotOffered
            && diagnosis.id != Cause::PkceNotOffered
    });
    if offers.diagnoses.is_empty() {
        offers.outcome = Outcome::Pass;
        "the session has everything that policy asks for".clone_into(&mut offers.summary);
    }
}

/// Fetches the discovery document of an issuer.
pub(crate) async fn discovery(subject: &Subject, issuer: &str) -> Result<serde_json::Value, Diagnosis> {
    let client =
        network::ProbeClient::new(subject).map_err(|error| network::diagnose_settings(subject, &error))?;
    provider::discovery(subject, &client, issuer).await.map(|found| found.document)
}

/// Runs the checks that need nothing but the network: whether policy and the identity provider's documents agree.
pub(crate) async fn examine_provider(subject: Subject, progress: impl Fn(&str, usize)) -> Vec<Finding> {
    let group: Group = Box::pin(provider::examine(Arc::new(subject)));
    run(vec![("identity-provider", LIMIT, group)], progress).await
}

/// Fetches only the documents of the identity provider, and compares them with policy. Asks nothing of the client.
pub(crate) async fn examine_documents(subject: Subject) -> Vec<Finding> {
    let group: Group = Box::pin(provider::examine_documents(Arc::new(subject)));
    run(vec![("identity-provider", LIMIT, group)], |_, _| {}).await
}

/// Looks whether another program keeps the port of the redirect URI.
pub(crate) async fn examine_port(subject: &Subject) -> Finding {
    device::watch_port(subject).await
}

/// The worst of all findings.
pub(crate) fn worst(findings: &[Finding]) -> Outcome {
    let outcomes = findings.iter().map(|finding| finding.outcome);
    outcomes.filter(|outcome| *outcome != Outcome::Skipped).max().unwrap_or(Outcome::Pass)
}

async fn run(groups: Vec<(&'static str, Duration, Group)>, progress: impl Fn(&str, usize)) -> Vec<Finding> {
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
            // Sending fails only if the caller does not wait any more.
            drop(sender.send((number, name, findings)).await);
        });
    }
    drop(sender);
    while let Some((number, name, findings)) = ended.recv().await {
        left -= 1;
        progress(name, left);
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
        0 => format!("{}, no problems", counted(subject.settings, "setting")),
        count => format!(
            "{}: {}, {}",
            counted(subject.settings, "setting"),
            counted(errors, "error"),
            counted(count - errors, "warning")
        ),
    };
    let mut findings =
        vec![Finding::new("policy", outcome, summary).because_of(serious.iter().filter_map(|problem| {
            let diagnosis = diagnosis::of_problem(problem, &subject.configuration.context())?;
            let message = match &problem.key {
                Some(key) => format!("`{key}`: {}", problem.message),
                None => problem.message.clone(),
            };
            let fix = problem.hint.clone().unwrap_or(diagnosis.fix.clone());
            let evidence = std::iter::once(message).chain(problem.place.clone()).collect();
            Some(Diagnosis { evidence, fix, ..diagnosis })
        }))];
    if let Err(problem) = subject.configuration.client() {
        let message = problem.to_string().lines().next().unwrap_or_default().to_owned();
        findings.push(
            Finding::new("configuration", Outcome::Failure, "sign-in is not configured")
                .because(subject.diagnose(Cause::NotConfigured, Confidence::Certain, message)),
        );
    }
    if let Some(text) = &subject.error_text {
        findings.push(explain_text(
            subject,
            "error-text",
            Outcome::Failure,
            text,
            "Steward does not recognise this message",
        ));
    }
    findings
}

/// The causes that a text of the browser, the app or a log matches.
fn explain_text(subject: &Subject, check: &str, outcome: Outcome, text: &str, unknown: &str) -> Finding {
    let causes = match_words(text);
    let redaction = Redaction::new(subject.configuration.client_secret.clone());
    if causes.is_empty() {
        return Finding::skipped(check, unknown);
    }
    let evidence = excerpt::excerpt(&redaction.text(text));
    let diagnoses = causes.iter().map(|cause| subject.diagnose(*cause, Confidence::Likely, evidence.clone()));
    Finding::new(check, outcome, "the text matches a known error").because_of(diagnoses)
}
