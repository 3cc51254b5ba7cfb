//! The documents of the identity provider, as the doctor sees them: whether users can sign in with what policy says.

use broker::configuration::Configuration;
use jiff::Timestamp;
use platform::clock;
use platform::paths::Paths;
use policy_schema::{Code, Policy, Problem, without_query};
use protocol::diagnosis::{Diagnosis, ReportedDiagnosis};

use crate::doctor::{self, Finding, Outcome, Subject};

/// The issuer, and the endpoints that policy sets.
type Addresses = [Option<String>; 4];

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
        let [issuer, authorization, token, keys] = &self.addresses;
        *issuer == policy.issuer
            && *authorization == policy.authorization_endpoint
            && *token == policy.token_endpoint
            && *keys == policy.jwks_uri
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

    /// Fetches discovery document and keys, and nothing else.
    pub(crate) async fn run(self) -> ProviderOutcome {
        let Configuration { issuer, authorization_endpoint, token_endpoint, jwks_uri, .. } =
            self.subject.configuration.clone();
        let findings = doctor::examine_documents(self.subject).await;
        let serious = |finding: &&Finding| finding.outcome == Outcome::Failure;
        let diagnoses = findings.iter().filter(serious).flat_map(|finding| finding.diagnoses.clone());
        ProviderOutcome {
            problem: findings.iter().find(serious).map(|finding| problem(issuer.as_deref(), finding)),
            diagnoses: diagnoses.map(Into::into).collect(),
            addresses: [issuer, authorization_endpoint, token_endpoint, jwks_uri],
            finished_at: clock::now(),
        }
    }
}

fn problem(issuer: Option<&str>, finding: &Finding) -> Problem {
    let unreachable = finding.diagnoses.is_empty() || finding.diagnoses.iter().any(Diagnosis::is_of_network);
    let code = if unreachable { Code::SignInProviderUnreachable } else { Code::SignInDiscoveryInvalid };
    let diagnosis = finding.diagnoses.first();
    let evidence = diagnosis.and_then(|diagnosis| diagnosis.evidence.last());
    let message = match evidence {
        Some(evidence) => format!("{} ({})", finding.summary, evidence.trim()),
        None => finding.summary.clone(),
    };
    let place = issuer.map(|issuer| without_query(issuer).into_owned()).unwrap_or_default();
    Problem::new(code, message).at(place).hint(diagnosis.map(|diagnosis| diagnosis.fix.clone()))
}
