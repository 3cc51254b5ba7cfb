//! The person's session: who is signed in, whether it lasts, and what the tokens say. With `--sign-in`, a whole round: a
//! sign-in in the browser, a renewal, and what changed in between.

use std::sync::Arc;

use policy_schema::Problem;
use policy_schema::settings::IdentityProvider;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::network::Scout;
use super::{Confidence, Diagnosis, Finding, Outcome, Subject, catalogue, probe, provider};
use crate::api::{self, AskError};
use crate::broker::session::Grant;
use crate::health::model::{SignIn, SignInState};

type Claims = Map<String, Value>;

/// What of the answer to a sign-in matters here.
#[derive(Deserialize)]
struct SignedIn {
    session: SignIn,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let subject = subject.as_ref();
    let socket = subject.paths.broker_socket();
    let session =
        match api::request::<SignIn>(&socket, "GET", "/v1/session", None).await {
            Ok(session) => session,
            Err(AskError::Absent { place, .. }) => {
                let said = format!("nobody answers at {place}");
                return vec![
                    Finding::new("broker", Outcome::Warning, "no broker runs for you")
                        .because(subject.diagnose("broker-not-running", Confidence::Certain, said)),
                ];
            }
            Err(error) => return vec![Finding::new("broker", Outcome::Failure, error.to_string())],
        };
    let mut findings = vec![Finding::pass("broker", "runs")];
    let session = if subject.sign_in {
        match api::request::<SignedIn>(&socket, "POST", "/v1/login", Some(&json!({}))).await {
            Ok(SignedIn { session }) => session,
            Err(error) => {
                findings.push(failed(subject, &error));
                return findings;
            }
        }
    } else {
        session
    };
    let troubles = session.problems.iter().filter(|problem| problem.severity.is_at_least_warning());
    // Looked at by a check of its own.
    let of_store = |found: &Diagnosis| found.id == "vault-unusable";
    let diagnoses: Vec<Diagnosis> = troubles
        .filter_map(|problem| catalogue::of_problem(problem, &subject.configuration))
        .filter(|found| !of_store(found))
        .collect();
    if session.state != SignInState::SignedIn {
        findings.push(if diagnoses.is_empty() {
            Finding::skipped("session", "nobody is signed in; `--sign-in` does a whole round")
        } else {
            Finding::new("session", Outcome::Failure, "nobody is signed in").because_of(diagnoses)
        });
        return findings;
    }
    let who = session.account.clone().unwrap_or_default();
    findings.push(if diagnoses.is_empty() {
        Finding::pass("session", format!("{who} is signed in"))
    } else {
        Finding::new("session", Outcome::Warning, format!("{who} is signed in")).because_of(diagnoses)
    });
    findings.push(lasting(subject, &session));
    let grant: Grant = match api::request(&socket, "POST", "/v1/token", Some(&json!({}))).await {
        Ok(grant) => grant,
        Err(error) => {
            findings.push(failed(subject, &error));
            return findings;
        }
    };
    let first = claims(&grant.id_token);
    findings.push(address(subject, &first));
    findings.push(user_info(subject, &grant).await);
    if subject.sign_in && session.lasting {
        findings.push(
            match api::request::<Grant>(&socket, "POST", "/v1/token", Some(&json!({ "renew": true }))).await {
                Ok(renewed) => compare(subject, &grant, &renewed),
                Err(error) => Finding { check: "renewal".to_owned(), ..failed(subject, &error) },
            },
        );
    }
    findings
}

fn failed(subject: &Subject, error: &AskError) -> Finding {
    let AskError::Refused(problem) = error else {
        return Finding::new("session", Outcome::Failure, error.to_string());
    };
    let summary = problem.message.clone();
    let diagnosis = catalogue::of_problem(problem, &subject.configuration);
    Finding::new("session", Outcome::Failure, summary)
        .because_of(diagnosis.map(|known| hinted(known, problem)))
}

/// A guess from a code alone says less than the problem's own hint.
fn hinted(known: Diagnosis, problem: &Problem) -> Diagnosis {
    match &problem.hint {
        Some(hint) if known.confidence != Confidence::Certain => {
            Diagnosis { fix: format!("{} {hint}", known.fix), ..known }
        }
        Some(_) | None => known,
    }
}

fn lasting(subject: &Subject, session: &SignIn) -> Finding {
    if session.lasting {
        return Finding::pass("lasting", "there is a refresh token");
    }
    let asked = subject.configuration.scopes.join(" ");
    let said = format!("policy asks for {asked}; there is no refresh token");
    Finding::new("lasting", Outcome::Failure, "the session ends with its first token")
        .because(subject.diagnose("no-refresh-token", Confidence::Certain, said))
}

/// The address as the app will see it: in the ID token, not at the userinfo endpoint.
fn address(subject: &Subject, claims: &Claims) -> Finding {
    let claim = subject.configuration.email_claim.as_str();
    let Some(found) = claims.get(claim).and_then(Value::as_str) else {
        let names: Vec<&str> = claims.keys().map(String::as_str).collect();
        let said = format!("the ID token has the claims {}", names.join(", "));
        return Finding::new("email", Outcome::Failure, format!("the ID token has no `{claim}`"))
            .because(subject.diagnose("email-missing", Confidence::Certain, said));
    };
    match &subject.expected_email {
        Some(expected) if expected != found => {
            let how =
                if expected.eq_ignore_ascii_case(found) { "in capitals only" } else { "in its letters" };
            let said = vec![
                format!("expected  {expected}"),
                format!("claim     {found}"),
                format!("it differs {how}"),
            ];
            Finding::new("email", Outcome::Failure, "the address is not the expected one")
                .because(subject.diagnose("email-differs", Confidence::Certain, said))
        }
        _ => Finding::pass("email", format!("the ID token says {found}")),
    }
}

async fn user_info(subject: &Subject, grant: &Grant) -> Finding {
    let check = "userinfo";
    let found = async {
        let scout = Scout::new(subject).ok()?;
        let issuer = subject.configuration.issuer.as_deref()?;
        let document = provider::discovery(subject, &scout, issuer).await.ok()?.document;
        // The token goes to nobody but the issuer of policy, and not in the clear over a network.
        let endpoint: Url = probe::text(&document, "userinfo_endpoint")?.parse().ok()?;
        let safe = endpoint.scheme() == "https" || crate::http::is_loopback(&endpoint);
        if !safe || probe::text(&document, "issuer") != Some(issuer) {
            return None;
        }
        let look = scout.look(subject, &endpoint, Some(&grant.access_token)).await;
        Some((endpoint, look))
    };
    match found.await {
        None => Finding::skipped(check, "the identity provider names no userinfo endpoint"),
        Some((endpoint, Ok(look))) if matches!(look.status, 401 | 403) => {
            let said =
                format!("{endpoint} answered {}; granted were the scopes {}", look.status, grant.scope);
            let pingone = catalogue::provider(&subject.configuration) == Some(IdentityProvider::PingOne);
            let confidence = if pingone { Confidence::Certain } else { Confidence::Likely };
            Finding::new(check, Outcome::Failure, "the user info request is refused")
                .because(subject.diagnose("userinfo-refused", confidence, said))
        }
        Some((_, Ok(_))) => Finding::pass(check, "it answers with this access token"),
        Some((_, Err(diagnosis))) => probe::unseen(check, diagnosis),
    }
}

/// What a renewal has changed.
fn compare(subject: &Subject, before: &Grant, after: &Grant) -> Finding {
    let (first, second) = (claims(&before.id_token), claims(&after.id_token));
    let mut diagnoses = Vec::new();
    if before.id_token == after.id_token {
        let said = "the renewal brought an access token and no ID token".to_owned();
        diagnoses.push(subject.diagnose("no-id-token-on-refresh", Confidence::Certain, said));
    }
    let claim = subject.configuration.email_claim.as_str();
    if first.contains_key(claim) && !second.contains_key(claim) {
        let gone: Vec<&str> =
            first.keys().filter(|name| !second.contains_key(*name)).map(String::as_str).collect();
        let said = format!("gone after the renewal: {}", gone.join(", "));
        diagnoses.push(subject.diagnose("email-missing-after-refresh", Confidence::Certain, said));
    } else if first.get(claim) != second.get(claim) {
        let said = format!("{:?} became {:?}", first.get(claim), second.get(claim));
        diagnoses.push(subject.diagnose("email-differs", Confidence::Certain, said));
    }
    // These are made anew each time.
    let passing = ["iat", "exp", "nbf", "at_hash", "jti", "sid", "uti", "rh", "auth_time", "nonce", "aio"];
    let changed = first
        .iter()
        .filter(|(name, value)| !passing.contains(&name.as_str()) && second.get(*name) != Some(*value))
        .map(|(name, _)| format!("`{name}` is another or gone"));
    let changed: Vec<String> = changed.collect();
    if diagnoses.is_empty() {
        Finding::pass("renewal", "it works, and the ID token says the same").seen(changed)
    } else {
        Finding::new("renewal", Outcome::Failure, "the renewal does not bring all that is needed")
            .seen(changed)
            .because_of(diagnoses)
    }
}

/// The claims of an ID token that the broker has verified.
fn claims(id_token: &str) -> Claims {
    use base64::Engine as _;
    let payload = id_token.split('.').nth(1).unwrap_or_default();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
