//! Checks the user's session: who is signed in, whether the session lasts, and what the tokens contain.
//!
//! In: the broker and the sign-in settings. Out: findings. With `--sign-in`, the user signs in through the browser, the
//! session is renewed, and the tokens before and after are compared. Called by the doctor.

use std::sync::Arc;

use broker::documents;
use net::chain;
use net::client::{CallError, call};
use platform::role::{Role, Startup};
use platform::service;
use policy_schema::Problem;
use policy_schema::settings::IdentityProvider;
use protocol::broker::{LOGIN, LoginRequest, SESSION, TOKEN, TokenRequest, TokenResponse};
use protocol::diagnosis;
use protocol::endpoint::Nothing;
use protocol::session::SessionStatus;
use serde_json::{Map, Value};

use super::network::ProbeClient;
use super::{Cause, Confidence, Diagnosis, Finding, Outcome, Subject, provider};

type Claims = Map<String, Value>;

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let subject = subject.as_ref();
    let socket = subject.paths.broker_socket();
    let session = match call(&socket, &SESSION, &Nothing {}).await {
        Ok(session) => session,
        Err(CallError::Absent { address, .. }) => {
            let evidence = format!("no process listens at {address}");
            let starts = match subject.paths.root() {
                None => service::startup(Role::Broker),
                Some(_) => Startup::Unknown(String::new()),
            };
            let cause = match starts {
                Startup::Disabled | Startup::Masked | Startup::NotInstalled => Cause::BrokerNotStarted,
                Startup::Automatic | Startup::Unknown(_) => Cause::BrokerNotRunning,
            };
            return vec![
                Finding::new("broker", Outcome::Warning, "your broker does not run")
                    .because(subject.diagnose(cause, Confidence::Certain, evidence)),
            ];
        }
        Err(error) => return vec![Finding::new("broker", Outcome::Failure, chain(&error))],
    };
    let mut findings = vec![Finding::pass("broker", "runs")];
    let session = if subject.sign_in {
        match call(&socket, &LOGIN, &LoginRequest::default()).await {
            Ok(response) => response.session,
            Err(error) => {
                findings.push(failed(subject, &error));
                return findings;
            }
        }
    } else {
        session
    };
    let problems = session.problems.iter().filter(|problem| problem.severity.is_at_least_warning());
    // Another check examines the secret store.
    let is_of_store = |found: &Diagnosis| found.id == Cause::VaultUnusable;
    let diagnoses: Vec<Diagnosis> = problems
        .filter_map(|problem| diagnosis::of_problem(problem, &subject.configuration.context()))
        .filter(|found| !is_of_store(found))
        .collect();
    if !session.is_signed_in() {
        findings.push(if diagnoses.is_empty() {
            Finding::skipped("session", "no user is signed in; `--sign-in` signs in and checks the tokens")
        } else {
            Finding::new("session", Outcome::Failure, "no user is signed in").because_of(diagnoses)
        });
        return findings;
    }
    let account = session.account.clone().unwrap_or_default();
    findings.push(if diagnoses.is_empty() {
        Finding::pass("session", format!("{account} is signed in"))
    } else {
        Finding::new("session", Outcome::Warning, format!("{account} is signed in")).because_of(diagnoses)
    });
    findings.push(check_refresh_token(subject, &session));
    let grant = match call(&socket, &TOKEN, &TokenRequest::default()).await {
        Ok(grant) => grant,
        Err(error) => {
            findings.push(failed(subject, &error));
            return findings;
        }
    };
    let first = claims(&grant.id_token);
    findings.push(check_email(subject, &first));
    findings.push(check_user_info(subject, &grant).await);
    if subject.sign_in && session.lasting {
        findings.push(
            match call(&socket, &TOKEN, &TokenRequest { renew: true, ..TokenRequest::default() }).await {
                Ok(renewed) => compare_tokens(subject, &grant, &renewed),
                Err(error) => Finding { check: "renewal".to_owned(), ..failed(subject, &error) },
            },
        );
    }
    findings
}

fn failed(subject: &Subject, error: &CallError) -> Finding {
    let CallError::Refused(problem) = error else {
        return Finding::new("session", Outcome::Failure, chain(error));
    };
    let summary = problem.message.clone();
    let diagnosis = diagnosis::of_problem(problem, &subject.configuration.context());
    Finding::new("session", Outcome::Failure, summary)
        .because_of(diagnosis.map(|known| with_hint(known, problem)))
}

/// Adds the hint of the problem to a diagnosis that is only likely.
fn with_hint(known: Diagnosis, problem: &Problem) -> Diagnosis {
    match &problem.hint {
        Some(hint) if known.confidence != Confidence::Certain => {
            Diagnosis { fix: format!("{} {hint}", known.fix), ..known }
        }
        Some(_) | None => known,
    }
}

fn check_refresh_token(subject: &Subject, session: &SessionStatus) -> Finding {
    if session.lasting {
        return Finding::pass("lasting", "there is a refresh token");
    }
    let scopes = subject.configuration.scopes.join(" ");
    let evidence = format!("policy asks for {scopes}; there is no refresh token");
    Finding::new("lasting", Outcome::Failure, "the session ends when its first token expires")
        .because(subject.diagnose(Cause::NoRefreshToken, Confidence::Certain, evidence))
}

/// Checks the address where the app reads it: in the ID token, not at the userinfo endpoint.
fn check_email(subject: &Subject, claims: &Claims) -> Finding {
    let claim = subject.configuration.email_claim.as_str();
    // An empty one is none.
    let found = claims.get(claim).and_then(Value::as_str).filter(|email| !email.trim().is_empty());
    let Some(found) = found else {
        let names: Vec<&str> = claims.keys().map(String::as_str).collect();
        let evidence = format!("the ID token has the claims {}", names.join(", "));
        return Finding::new("email", Outcome::Failure, format!("the ID token has no `{claim}`"))
            .because(subject.diagnose(Cause::EmailMissing, Confidence::Certain, evidence));
    };
    match &subject.expected_email {
        Some(expected) if expected != found => {
            let difference = if expected.eq_ignore_ascii_case(found) {
                "they differ only in upper and lower case"
            } else {
                "they differ"
            };
            let evidence =
                vec![format!("expected  {expected}"), format!("claim     {found}"), difference.to_owned()];
            Finding::new("email", Outcome::Failure, "the address is not the expected one")
                .because(subject.diagnose(Cause::EmailDiffers, Confidence::Certain, evidence))
        }
        _ => Finding::pass("email", format!("the ID token has {found}")),
    }
}

async fn check_user_info(subject: &Subject, grant: &TokenResponse) -> Finding {
    let check = "userinfo";
    let found = async {
        let client = ProbeClient::new(subject).ok()?;
        let issuer = subject.configuration.issuer.as_deref()?;
        let document = provider::discovery(subject, &client, issuer).await.ok()?.document;
        // The token is sent only to the issuer of policy, and only where a sign-in would send it.
        let named = documents::Discovery::of(document.as_object()?);
        let endpoint = named.userinfo_endpoint?.ok().filter(|_| named.issuer.as_deref() == Some(issuer))?;
        let response = client.fetch(subject, &endpoint, Some(&grant.access_token)).await;
        Some((endpoint, response))
    };
    match found.await {
        None => Finding::skipped(check, "the identity provider names no userinfo endpoint that can be used"),
        Some((endpoint, Ok(response))) if matches!(response.status, 401 | 403) => {
            let evidence = format!(
                "{endpoint} responded with status {}; the granted scopes are {}",
                response.status, grant.scope
            );
            let pingone = subject.configuration.context().provider() == Some(IdentityProvider::PingOne);
            // RFC 6750, section 3.1: 403 is about scopes, 401 about the token, which may have been revoked.
            let causes: &[(Cause, Confidence)] = match (pingone, response.status) {
                (true, _) => &[(Cause::UserinfoRefused, Confidence::Certain)],
                (false, 403) => &[(Cause::UserinfoRefused, Confidence::Likely)],
                (false, _) => &[
                    (Cause::SessionEndedByProvider, Confidence::Heuristic),
                    (Cause::UserinfoRefused, Confidence::Heuristic),
                ],
            };
            let diagnoses = causes
                .iter()
                .map(|(cause, confidence)| subject.diagnose(*cause, *confidence, evidence.clone()));
            Finding::new(check, Outcome::Failure, "the user info request is refused").because_of(diagnoses)
        }
        Some((_, Ok(_))) => Finding::pass(check, "it accepts this access token"),
        Some((_, Err(diagnosis))) => Finding::unavailable(check, diagnosis),
    }
}

/// Compares the ID tokens before and after a renewal.
fn compare_tokens(subject: &Subject, before: &TokenResponse, after: &TokenResponse) -> Finding {
    let (first, second) = (claims(&before.id_token), claims(&after.id_token));
    let mut diagnoses = Vec::new();
    // Two of the same second may be identical, so the broker says whether there was one.
    if after.id_token_renewed == Some(false)
        || after.id_token_renewed.is_none() && before.id_token == after.id_token
    {
        let evidence = "the renewal returned an access token and no ID token".to_owned();
        diagnoses.push(subject.diagnose(Cause::NoIdTokenOnRefresh, Confidence::Certain, evidence));
    }
    let claim = subject.configuration.email_claim.as_str();
    if first.contains_key(claim) && !second.contains_key(claim) {
        let missing: Vec<&str> =
            first.keys().filter(|name| !second.contains_key(*name)).map(String::as_str).collect();
        let evidence = format!("missing after the renewal: {}", missing.join(", "));
        diagnoses.push(subject.diagnose(Cause::EmailMissingAfterRefresh, Confidence::Certain, evidence));
    } else if first.get(claim) != second.get(claim) {
        let evidence = format!("{:?} became {:?}", first.get(claim), second.get(claim));
        diagnoses.push(subject.diagnose(Cause::EmailDiffers, Confidence::Certain, evidence));
    }
    // These differ in each token.
    let varying = ["iat", "exp", "nbf", "at_hash", "jti", "sid", "uti", "rh", "auth_time", "nonce", "aio"];
    let changed = first
        .iter()
        .filter(|(name, value)| !varying.contains(&name.as_str()) && second.get(*name) != Some(*value))
        .map(|(name, _)| format!("`{name}` is different or missing"));
    let changed: Vec<String> = changed.collect();
    if diagnoses.is_empty() {
        Finding::pass("renewal", "it works, and the ID token has the same claims").observed(changed)
    } else {
        Finding::new("renewal", Outcome::Failure, "the renewal does not return everything that is needed")
            .observed(changed)
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
