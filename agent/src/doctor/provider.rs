//! Compares the identity provider with policy: discovery, issuer, endpoints, keys, offered features, clock, and whether
//! it accepts the sign-in request of this client.
//!
//! In: the sign-in settings of a policy. Out: findings. Called by the doctor and by `steward setup`.

use std::sync::Arc;

use broker::documents::{self, KeySet};
use broker::{LEEWAY, accepts};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use net::http::{Fetched, host};
use platform::clock;
use policy_schema::settings::IdentityProvider;
use serde_json::Value;
use tokio::task::JoinSet;
use url::Url;

use super::excerpt::text;
use super::network::{ProbeClient, diagnose_settings};
use super::{Cause, Confidence, Diagnosis, Finding, Outcome, Subject, probe};

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// An endpoint: its setting, its name in the discovery document, and the value of policy.
type Endpoint<'s> = (&'static str, &'static str, Option<&'s String>);

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let subject = subject.as_ref();
    let Some(issuer) = subject.configuration.issuer.as_deref() else {
        return vec![Finding::skipped("discovery", "`Issuer` must be set first")];
    };
    let client = match ProbeClient::new(subject) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::unavailable("discovery", diagnose_settings(subject, &error))];
        }
    };
    let Discovery { url, document, response } = match discovery(subject, &client, issuer).await {
        Ok(found) => found,
        Err(diagnosis) => return without_discovery(subject, &client, issuer, diagnosis, true).await,
    };
    let issuer_finding = compare_issuers(subject, issuer, &document);
    let mut findings = vec![
        Finding::pass("discovery", format!("{} responds", host(&url))).observed([url.to_string()]),
        issuer_finding,
        compare_endpoints(subject, &document),
        compare_features(subject, &document),
        compare_clocks(subject, &response, clock::now()),
    ];
    let named = |ours: Option<&String>, name: &str| -> Option<Url> {
        ours.map(String::as_str).or_else(|| text(&document, name))?.parse().ok()
    };
    let configuration = &subject.configuration;
    let keys_at = named(configuration.jwks_uri.as_ref(), "jwks_uri");
    let authorization = named(configuration.authorization_endpoint.as_ref(), "authorization_endpoint");
    let token = named(configuration.token_endpoint.as_ref(), "token_endpoint");
    let [keys, request, token] = check_endpoints(subject, &client, [&keys_at, &authorization, &token]).await;
    // Reported once: either the address of the keys is wrong, or what it returns.
    let elsewhere = |finding: &Finding| finding.diagnoses.iter().any(|one| one.id == Cause::KeysElsewhere);
    let known = findings.iter().any(elsewhere);
    let keys = if known && elsewhere(&keys) {
        Finding::skipped("keys", "see the check of the endpoints")
    } else {
        keys
    };
    findings.extend([keys, request, token]);
    findings
}

/// Fetches discovery document and keys, and compares them with policy.
pub(super) async fn examine_documents(subject: Arc<Subject>) -> Vec<Finding> {
    let subject = subject.as_ref();
    let Some(issuer) = subject.configuration.issuer.as_deref() else { return Vec::new() };
    let client = match ProbeClient::new(subject) {
        Ok(client) => client,
        Err(error) => return vec![Finding::unavailable("discovery", diagnose_settings(subject, &error))],
    };
    let found = match discovery(subject, &client, issuer).await {
        Ok(found) => found,
        Err(diagnosis) => return without_discovery(subject, &client, issuer, diagnosis, false).await,
    };
    let address = subject.configuration.jwks_uri.as_deref().or_else(|| text(&found.document, "jwks_uri"));
    let address = address.and_then(|address| address.parse().ok());
    vec![
        compare_issuers(subject, issuer, &found.document),
        compare_endpoints(subject, &found.document),
        check_keys(subject, &client, address.as_ref()).await,
    ]
}

/// A discovery document, its address, and the response that it came in.
pub(super) struct Discovery {
    url: Url,
    pub(super) document: Value,
    response: Fetched,
}

/// Fetches the discovery document of an issuer (OpenID Connect Discovery 1.0, section 4).
pub(super) async fn discovery(
    subject: &Subject,
    client: &ProbeClient,
    issuer: &str,
) -> Result<Discovery, Diagnosis> {
    let refused = |reason: String| subject.diagnose(Cause::DiscoveryMissing, Confidence::Certain, reason);
    let url = format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer)).parse::<Url>();
    let url = url.map_err(|error| refused(format!("{issuer}: {error}")))?;
    let (document, response) = client.document(subject, &url).await?;
    Ok(Discovery { url, document, response })
}

/// A provider without a discovery document is usable if policy sets all its endpoints. But first, the issuer may have
/// one of the usual mistakes.
async fn without_discovery(
    subject: &Subject,
    client: &ProbeClient,
    issuer: &str,
    diagnosis: Diagnosis,
    with_requests: bool,
) -> Vec<Finding> {
    if diagnosis.is_of_network() {
        let summary = "the identity provider cannot be reached";
        return vec![Finding::new("discovery", Outcome::Failure, summary).because(diagnosis)];
    }
    // Side by side, because a server that hangs delays each of them.
    let mut tasks = JoinSet::new();
    for variant in variants(issuer) {
        let (client, subject) = (client.clone(), subject.clone());
        tasks.spawn(async move {
            let found = discovery(&subject, &client, &variant).await.ok()?;
            text(&found.document, "issuer").map(ToOwned::to_owned)
        });
    }
    let found: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    if let Some(right) = found.first() {
        return vec![
            Finding::new("issuer", Outcome::Failure, "`Issuer` differs from the identity provider's issuer")
                .because(issuer_differs(subject, issuer, right)),
        ];
    }
    let configuration = &subject.configuration;
    let all = [&configuration.jwks_uri, &configuration.authorization_endpoint, &configuration.token_endpoint];
    if all.iter().any(|endpoint| endpoint.is_none()) {
        let summary = "there is no discovery document at `Issuer`";
        return vec![Finding::new("discovery", Outcome::Failure, summary).because(diagnosis)];
    }
    let all = all.map(|endpoint| endpoint.as_ref().and_then(|text| text.parse::<Url>().ok()));
    let summary = "there is no discovery document; the endpoints of policy are used";
    let mut findings = vec![Finding::new("discovery", Outcome::Warning, summary).because(diagnosis)];
    if with_requests {
        findings.extend(check_endpoints(subject, client, all.each_ref()).await);
    } else {
        findings.push(check_keys(subject, client, all[0].as_ref()).await);
    }
    findings
}

/// The issuer with the usual mistakes corrected.
fn variants(issuer: &str) -> Vec<String> {
    let bare = issuer.trim_end_matches('/');
    let without = |suffix: &str| bare.strip_suffix(suffix).map(ToOwned::to_owned);
    let with = |suffix: &str| (!bare.ends_with(suffix)).then(|| format!("{bare}{suffix}"));
    let microsoft = bare.strip_prefix("https://sts.windows.net/");
    let tenant = microsoft.map(|tenant| format!("https://login.microsoftonline.com/{tenant}/v2.0"));
    [with("/v2.0"), with("/as"), without("/oauth2/default"), with("/oauth2/default"), without("/as"), tenant]
        .into_iter()
        .flatten()
        .collect()
}

fn compare_issuers(subject: &Subject, ours: &str, document: &Value) -> Finding {
    let Some(theirs) = text(document, "issuer") else {
        let diagnosis = subject.diagnose(
            Cause::DiscoveryMissing,
            Confidence::Certain,
            "the document does not name an issuer".to_owned(),
        );
        return Finding::unavailable("issuer", diagnosis);
    };
    if ours == theirs {
        return Finding::pass("issuer", "identical to the identity provider's").observed([theirs.to_owned()]);
    }
    Finding::new("issuer", Outcome::Failure, "`Issuer` differs from the identity provider's issuer")
        .because(issuer_differs(subject, ours, theirs))
}

fn issuer_differs(subject: &Subject, ours: &str, theirs: &str) -> Diagnosis {
    let is_of_every_tenant = |issuer: &str| {
        let microsoft = issuer.contains("login.microsoftonline.") || issuer.contains("sts.windows.net");
        let alias =
            issuer.split('/').skip(3).any(|part| ["common", "organizations", "consumers"].contains(&part));
        issuer.contains("{tenantid}") || (microsoft && (alias || issuer.contains("sts.windows.net")))
    };
    let (id, theirs_is_usable) = if is_of_every_tenant(ours) || is_of_every_tenant(theirs) {
        (Cause::IssuerOfEveryTenant, !theirs.contains("{tenantid}"))
    } else {
        (Cause::IssuerDiffers, true)
    };
    let mut evidence = difference("Issuer", ours, theirs);
    if theirs_is_usable {
        evidence.push(format!("use exactly {theirs}"));
    }
    subject.diagnose(id, Confidence::Certain, evidence)
}

/// Shows two texts one below the other, and marks where they begin to differ.
fn difference(name: &str, ours: &str, theirs: &str) -> Vec<String> {
    let same = ours.chars().zip(theirs.chars()).take_while(|(ours, theirs)| ours == theirs).count();
    let labels = [format!("`{name}`"), "the identity provider".to_owned()];
    let width = labels.iter().map(String::len).max().unwrap_or_default();
    let [first, second] = labels;
    let hint = match (ours.strip_suffix('/'), theirs.strip_suffix('/')) {
        (Some(bare), None) if bare == theirs => "remove the slash at the end",
        (None, Some(bare)) if bare == ours => "the slash at the end is missing",
        (_, _) if theirs.strip_suffix("/v2.0").is_some_and(|bare| bare == ours.trim_end_matches('/')) => {
            "/v2.0 is missing at the end"
        }
        (_, _) if ours.eq_ignore_ascii_case(theirs) => "only upper and lower case differ",
        (_, _) => "they differ from here",
    };
    vec![
        format!("{first:<width$}  {ours}"),
        format!("{second:<width$}  {theirs}"),
        format!("{:width$}  {}^ {hint}", "", " ".repeat(same)),
    ]
}

fn compare_endpoints(subject: &Subject, document: &Value) -> Finding {
    let configuration = &subject.configuration;
    let all: [Endpoint<'_>; 3] = [
        ("AuthorizationEndpoint", "authorization_endpoint", configuration.authorization_endpoint.as_ref()),
        ("TokenEndpoint", "token_endpoint", configuration.token_endpoint.as_ref()),
        ("JwksUri", "jwks_uri", configuration.jwks_uri.as_ref()),
    ];
    let differing: Vec<Diagnosis> = all
        .iter()
        .filter_map(|(key, name, ours)| {
            let (ours, theirs) = (ours.as_ref()?, text(document, name)?);
            if *ours == theirs {
                return None;
            }
            let id = if *key == "JwksUri" { Cause::KeysElsewhere } else { Cause::EndpointDiffers };
            Some(subject.diagnose(id, Confidence::Certain, difference(key, ours, theirs)))
        })
        .collect();
    // By the rule of a sign-in, which refuses the same.
    let named = documents::Discovery::of(document.as_object().unwrap_or(&serde_json::Map::new()));
    let addresses = [&named.authorization_endpoint, &named.token_endpoint, &named.jwks_uri];
    let unusable: Vec<String> = all
        .iter()
        .zip(addresses)
        .filter_map(|((_, name, ours), theirs)| {
            documents::needed(ours.map(String::as_str), Some(theirs), name).err()
        })
        .collect();
    if !unusable.is_empty() {
        let diagnosis = subject.diagnose(Cause::EndpointUnusable, Confidence::Certain, unusable);
        return Finding::unavailable("endpoints", diagnosis);
    }
    if differing.is_empty() {
        let set = all.iter().filter(|(_, _, ours)| ours.is_some()).count();
        let summary = match set {
            0 => "those of the discovery document are used".to_owned(),
            count => format!("{count} of policy match the discovery document"),
        };
        let observed =
            all.iter().filter_map(|(_, name, _)| Some(format!("{name} {}", text(document, name)?)));
        return Finding::pass("endpoints", summary).observed(observed);
    }
    let summary = format!("{} of policy differ from the discovery document", differing.len());
    Finding::new("endpoints", Outcome::Failure, summary).because_of(differing)
}

/// Compares the features that the discovery document lists with what policy needs. Many documents list little, so a
/// list that is missing means nothing.
fn compare_features(subject: &Subject, document: &Value) -> Finding {
    let list = |name: &str| -> Option<Vec<&str>> {
        let listed: Vec<&str> = document.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect();
        (!listed.is_empty()).then_some(listed)
    };
    let mut diagnoses = Vec::new();
    let mut outcome = Outcome::Pass;
    let mut observed = Vec::new();
    if let Some(listed) = list("id_token_signing_alg_values_supported") {
        observed.push(format!("signatures {}", listed.join(" ")));
        if !listed.iter().any(|algorithm| accepts(algorithm)) {
            outcome = Outcome::Failure;
            let evidence = format!("it signs with {} only", listed.join(", "));
            diagnoses.push(subject.diagnose(Cause::KeysUnusable, Confidence::Likely, evidence));
        }
    }
    if let Some(listed) = list("code_challenge_methods_supported") {
        observed.push(format!("PKCE {}", listed.join(" ")));
        if !listed.contains(&"S256") {
            outcome = outcome.max(Outcome::Warning);
            let evidence = format!("code_challenge_methods_supported: {}", listed.join(", "));
            diagnoses.push(subject.diagnose(Cause::PkceNotOffered, Confidence::Likely, evidence));
        }
    }
    if let Some(listed) = list("scopes_supported") {
        observed.push(format!("scopes {}", listed.join(" ")));
        let wanted = subject.configuration.requested_scopes();
        let missing: Vec<&str> = wanted.filter(|scope| !listed.contains(scope)).collect();
        if !missing.is_empty() {
            outcome = outcome.max(Outcome::Warning);
            let evidence = format!("scopes_supported has no {}", missing.join(", "));
            diagnoses.push(subject.diagnose(Cause::ScopesNotOffered, Confidence::Likely, evidence));
        }
    }
    let google = subject.configuration.context().provider() == Some(IdentityProvider::Google);
    if let Some(listed) = list("grant_types_supported").filter(|_| !google) {
        observed.push(format!("grants {}", listed.join(" ")));
        if !listed.contains(&"refresh_token") {
            outcome = outcome.max(Outcome::Warning);
            let evidence = format!("grant_types_supported: {}", listed.join(", "));
            diagnoses.push(subject.diagnose(Cause::RefreshNotOffered, Confidence::Likely, evidence));
        }
    }
    if !google && !subject.configuration.scopes.iter().any(|scope| scope == "offline_access") {
        outcome = outcome.max(Outcome::Warning);
        let evidence = "`Scopes` has no offline_access".to_owned();
        diagnoses.push(subject.diagnose(Cause::OfflineAccessNotAsked, Confidence::Certain, evidence));
    }
    let summary = if diagnoses.is_empty() {
        "the identity provider offers everything that policy asks for"
    } else {
        "the identity provider does not offer everything that is needed"
    };
    Finding::new("offers", outcome, summary).observed(observed).because_of(diagnoses)
}

fn compare_clocks(subject: &Subject, response: &Fetched, now: Timestamp) -> Finding {
    let theirs = response.date.as_ref().and_then(|date| rfc2822::parse(date).ok());
    let Some(theirs) = theirs.map(|date| date.timestamp()) else {
        return Finding::skipped("clock", "the response of the identity provider has no date");
    };
    let ahead = theirs.duration_until(now).as_secs();
    if ahead.abs() <= LEEWAY {
        return Finding::pass(
            "clock",
            format!("it differs from the identity provider's by {} seconds", ahead.abs()),
        );
    }
    let direction = if ahead > 0 { "fast" } else { "slow" };
    let evidence = format!("this device's clock is {} seconds {direction}", ahead.abs());
    Finding::new("clock", Outcome::Failure, evidence.clone()).because(subject.diagnose(
        Cause::ClockWrong,
        Confidence::Certain,
        evidence,
    ))
}

/// Checks keys, authorization endpoint and token endpoint, side by side.
async fn check_endpoints(subject: &Subject, client: &ProbeClient, all: [&Option<Url>; 3]) -> [Finding; 3] {
    let [keys, authorization, token] = all.map(Option::as_ref);
    let (keys, request, token) = tokio::join!(
        check_keys(subject, client, keys),
        check_request(subject, client, authorization),
        check_token_endpoint(subject, client, token),
    );
    [keys, request, token]
}

async fn check_request(subject: &Subject, client: &ProbeClient, endpoint: Option<&Url>) -> Finding {
    match endpoint.filter(|_| subject.configuration.client_id.is_some()) {
        Some(endpoint) => probe::examine(subject, client, endpoint).await,
        None => Finding::skipped("redirect", "this check needs the authorization endpoint and `ClientId`"),
    }
}

async fn check_keys(subject: &Subject, client: &ProbeClient, address: Option<&Url>) -> Finding {
    let Some(address) = address else {
        return Finding::skipped("keys", "no JWKS URI is known");
    };
    let response = match client.document(subject, address).await {
        Ok((_, response)) => response,
        // The address of the keys is wrong, not that of the discovery document.
        Err(diagnosis) if diagnosis.id == Cause::DiscoveryMissing => {
            let evidence = diagnosis.evidence;
            return Finding::unavailable(
                "keys",
                subject.diagnose(Cause::KeysElsewhere, Confidence::Certain, evidence),
            );
        }
        Err(diagnosis) => return Finding::unavailable("keys", diagnosis),
    };
    let set = match KeySet::read(&response.body) {
        Ok(set) => set,
        Err(reason) => {
            let evidence = format!("{address} is not a key set: {reason}");
            return Finding::unavailable(
                "keys",
                subject.diagnose(Cause::KeysElsewhere, Confidence::Certain, evidence),
            );
        }
    };
    let (usable, all) = (set.keys.len(), set.keys.len() + set.passed_over.len());
    if usable > 0 {
        return Finding::pass("keys", format!("{usable} of {all} keys can be used"))
            .observed(std::iter::once(address.to_string()).chain(set.passed_over.into_iter().take(5)));
    }
    let mut evidence =
        vec![format!("{address} has {all} keys, none for a signature algorithm that the app accepts")];
    evidence.extend(set.passed_over.into_iter().take(5));
    Finding::new("keys", Outcome::Failure, "no key can be used").because(subject.diagnose(
        Cause::KeysUnusable,
        Confidence::Certain,
        evidence,
    ))
}

/// Checks whether the token endpoint responds. It refuses a GET, which is a response too.
async fn check_token_endpoint(subject: &Subject, client: &ProbeClient, address: Option<&Url>) -> Finding {
    let Some(address) = address else {
        return Finding::skipped("token-endpoint", "no token endpoint is known");
    };
    match client.fetch(subject, address, None).await {
        Ok(response) if response.status >= 500 => {
            let evidence = format!("{address} responded with status {}", response.status);
            Finding::new("token-endpoint", Outcome::Warning, "it responds with a server error")
                .because(subject.diagnose(Cause::ServerFault, Confidence::Likely, evidence))
        }
        Ok(response) if response.status == 200 || (300..400).contains(&response.status) => {
            let diagnosis = super::network::not_a_document(subject, address, &response);
            if diagnosis.id == Cause::CaptivePortal {
                return Finding::unavailable("token-endpoint", diagnosis);
            }
            Finding::pass("token-endpoint", "it responds")
        }
        Ok(response) => Finding::pass("token-endpoint", "it responds")
            .observed([format!("{address} {}", response.status)]),
        Err(diagnosis) => Finding::unavailable("token-endpoint", diagnosis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_is_marked_at_the_first_character_that_differs() {
        let shown = difference("Issuer", "https://a.example/", "https://a.example");
        assert_eq!(
            shown,
            [
                "`Issuer`               https://a.example/",
                "the identity provider  https://a.example",
                "                                        ^ remove the slash at the end",
            ]
        );
        let last = |ours, theirs| difference("Issuer", ours, theirs).pop().unwrap();
        assert!(
            last("https://a.example/t", "https://a.example/t/v2.0")
                .ends_with("^ /v2.0 is missing at the end")
        );
        assert!(
            last("https://A.example", "https://a.example").ends_with("^ only upper and lower case differ")
        );
        assert!(last("https://a.example", "https://b.example").contains("^ they differ from here"));
    }

    #[test]
    fn issuer_with_a_usual_mistake_has_the_right_one_among_its_variants() {
        let has = |issuer: &str, right: &str| variants(issuer).iter().any(|variant| variant == right);
        assert!(has("https://login.microsoftonline.com/t", "https://login.microsoftonline.com/t/v2.0"));
        assert!(has("https://sts.windows.net/t/", "https://login.microsoftonline.com/t/v2.0"));
        assert!(has("https://auth.pingone.eu/e", "https://auth.pingone.eu/e/as"));
        assert!(has("https://a.okta.com/", "https://a.okta.com/oauth2/default"));
        assert!(has("https://a.okta.com/oauth2/default", "https://a.okta.com"));
    }
}
