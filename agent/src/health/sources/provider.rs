//! What a sign-in needs, as the doctor sees it: the documents of the identity provider, and the port of the redirect URI.

use broker::configuration::Configuration;
use jiff::Timestamp;
use platform::clock;
use platform::paths::Paths;
use policy_schema::{Code, Policy, Problem, without_query};
use protocol::diagnosis::{Cause, Diagnosis, ReportedDiagnosis};

use crate::doctor::{self, Finding, Outcome, Subject};

/// The issuer, the endpoints that policy sets, and the redirect URI.
type Addresses = [Option<String>; 5];

/// What a check found.
pub(crate) struct ProviderOutcome {
    addresses: Addresses,
    /// The first thing that is wrong.
    pub(crate) problem: Option<Problem>,
    pub(crate) diagnoses: Vec<ReportedDiagnosis>,
    pub(crate) finished_at: Timestamp,
}

impl ProviderOutcome {
    /// Whether it is about the addresses of this policy.
    pub(crate) fn is_about(&self, policy: &Policy) -> bool {
        let [issuer, authorization, token, keys, redirect] = &self.addresses;
        *issuer == policy.issuer
            && *authorization == policy.authorization_endpoint
            && *token == policy.token_endpoint
            && *keys == policy.jwks_uri
            && redirect.as_ref() == Some(&policy.redirect_uri)
    }
}

/// A check that can begin.
pub(crate) struct Check {
    subject: Subject,
}

impl Check {
    pub(crate) fn new(paths: Paths, configuration: Configuration) -> Self {
        Self { subject: Subject::of_sign_in(paths, configuration) }
    }

    /// Fetches discovery document and keys, looks at the port, and nothing else.
    pub(crate) async fn run(self) -> ProviderOutcome {
        let Configuration { issuer, authorization_endpoint, token_endpoint, jwks_uri, redirect_uri, .. } =
            self.subject.configuration.clone();
        let (mut findings, port) = tokio::join!(
            doctor::examine_documents(self.subject.clone()),
            doctor::examine_port(&self.subject)
        );
        findings.push(port);
        let serious = |finding: &&Finding| finding.outcome == Outcome::Failure;
        let diagnoses = findings.iter().filter(serious).flat_map(|finding| finding.diagnoses.clone());
        ProviderOutcome {
            problem: findings
                .iter()
                .find(serious)
                .map(|finding| problem(issuer.as_deref(), &redirect_uri, finding)),
            diagnoses: diagnoses.map(Into::into).collect(),
            addresses: [issuer, authorization_endpoint, token_endpoint, jwks_uri, Some(redirect_uri)],
            finished_at: clock::now(),
        }
    }
}

fn problem(issuer: Option<&str>, redirect_uri: &str, finding: &Finding) -> Problem {
    let diagnosis = finding.diagnoses.first();
    let is = |cause: Cause| diagnosis.is_some_and(|diagnosis| diagnosis.id == cause);
    let unreachable = finding.diagnoses.is_empty() || finding.diagnoses.iter().any(Diagnosis::is_of_network);
    let of_port = match (is(Cause::PortTaken), is(Cause::PortReserved)) {
        (true, _) => Some(Code::SignInPortTaken),
        (false, true) => Some(Code::SignInPortReserved),
        (false, false) => None,
    };
    let other = if unreachable { Code::SignInProviderUnreachable } else { Code::SignInDiscoveryInvalid };
    let code = of_port.unwrap_or(other);
    let evidence = diagnosis.and_then(|diagnosis| diagnosis.evidence.last());
    let message = match evidence.filter(|evidence| **evidence != finding.summary) {
        Some(evidence) => format!("{} ({})", finding.summary, evidence.trim()),
        None => finding.summary.clone(),
    };
    let place = if of_port.is_some() { redirect_uri } else { issuer.unwrap_or_default() };
    let place = without_query(place).into_owned();
    Problem::new(code, message).at(place).hint(diagnosis.map(|diagnosis| diagnosis.fix.clone()))
}
