//! What the identity provider says about itself, compared with what policy says of it: discovery, issuer, endpoints,
//! keys, what it offers, the clock, and whether it takes this client's request.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use policy_schema::settings::IdentityProvider;
use serde_json::Value;
use tokio::task::JoinSet;
use url::Url;

use super::network::{Scout, of_settings};
use super::probe::{self, text, unseen};
use super::{Confidence, Diagnosis, Finding, Outcome, Subject, catalogue};
use crate::broker::provider::checks::{LEEWAY, accepts};
use crate::clock;
use crate::http::{Look, host};

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// An endpoint of policy, by its name there and in the discovery document.
type Endpoint<'s> = (&'static str, &'static str, Option<&'s String>);

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let subject = subject.as_ref();
    let Some(issuer) = subject.configuration.issuer.as_deref() else {
        return vec![Finding::skipped("discovery", "`Issuer` has to be set first")];
    };
    let scout = match Scout::new(subject) {
        Ok(scout) => scout,
        Err(error) => {
            return vec![unseen("discovery", of_settings(subject, &error))];
        }
    };
    let Discovery { url, document, look } = match discovery(subject, &scout, issuer).await {
        Ok(found) => found,
        Err(diagnosis) => return without_discovery(subject, &scout, issuer, diagnosis).await,
    };
    let issuer_finding = compare_issuers(subject, issuer, &document);
    let mut findings = vec![
        Finding::pass("discovery", format!("{} answers", host(&url))).seen([url.to_string()]),
        issuer_finding,
        compare_endpoints(subject, &document),
        offers(subject, &document),
        clocks(subject, &look, clock::now()),
    ];
    let named = |ours: Option<&String>, name: &str| -> Option<Url> {
        ours.map(String::as_str).or_else(|| text(&document, name))?.parse().ok()
    };
    let configuration = &subject.configuration;
    let keys_at = named(configuration.jwks_uri.as_ref(), "jwks_uri");
    let authorization = named(configuration.authorization_endpoint.as_ref(), "authorization_endpoint");
    let token = named(configuration.token_endpoint.as_ref(), "token_endpoint");
    let [keys, request, token] = look_at_endpoints(subject, &scout, [&keys_at, &authorization, &token]).await;
    // Said once: where they ought to lie, or what lies there.
    let elsewhere = |finding: &Finding| finding.diagnoses.iter().any(|one| one.id == "keys-elsewhere");
    let known = findings.iter().any(elsewhere);
    let keys = if known && elsewhere(&keys) { Finding::skipped("keys", "see the endpoints") } else { keys };
    findings.extend([keys, request, token]);
    findings
}

/// A discovery document, and where it lay.
pub(super) struct Discovery {
    url: Url,
    pub(super) document: Value,
    look: Look,
}

/// The discovery document of an issuer (OpenID Connect Discovery 1.0, section 4).
pub(super) async fn discovery(
    subject: &Subject,
    scout: &Scout,
    issuer: &str,
) -> Result<Discovery, Diagnosis> {
    let refused = |reason: String| subject.diagnose("discovery-missing", Confidence::Certain, reason);
    let url = format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer)).parse::<Url>();
    let url = url.map_err(|error| refused(format!("{issuer}: {error}")))?;
    let (document, look) = scout.document(subject, &url).await?;
    Ok(Discovery { url, document, look })
}

/// Keys, authorization endpoint and token endpoint, side by side.
async fn look_at_endpoints(subject: &Subject, scout: &Scout, all: [&Option<Url>; 3]) -> [Finding; 3] {
    let [keys, authorization, token] = all.map(Option::as_ref);
    let (keys, request, token) = tokio::join!(
        look_at_keys(subject, scout, keys),
        request(subject, scout, authorization),
        reach(subject, scout, token),
    );
    [keys, request, token]
}

async fn request(subject: &Subject, scout: &Scout, endpoint: Option<&Url>) -> Finding {
    match endpoint.filter(|_| subject.configuration.client_id.is_some()) {
        Some(endpoint) => probe::examine(subject, scout, endpoint).await,
        None => Finding::skipped("redirect", "needs the authorization endpoint and `ClientId`"),
    }
}

/// A provider without discovery may still be the right one, if policy names all its endpoints; else one of the usual
/// mistakes may lead to it.
async fn without_discovery(
    subject: &Subject,
    scout: &Scout,
    issuer: &str,
    diagnosis: Diagnosis,
) -> Vec<Finding> {
    if diagnosis.is_of_network() {
        let summary = "the identity provider cannot be reached as it should be";
        return vec![Finding::new("discovery", Outcome::Failure, summary).because(diagnosis)];
    }
    // Side by side: a server that hangs hangs for all of them.
    let mut looks = JoinSet::new();
    for variant in variants(issuer) {
        let (scout, subject) = (scout.clone(), subject.clone());
        looks.spawn(async move {
            let found = discovery(&subject, &scout, &variant).await.ok()?;
            text(&found.document, "issuer").map(ToOwned::to_owned)
        });
    }
    let found: Vec<String> = looks.join_all().await.into_iter().flatten().collect();
    if let Some(right) = found.first() {
        return vec![
            Finding::new("issuer", Outcome::Failure, "`Issuer` is not the identity provider's")
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
    let summary = "no discovery document; the endpoints of policy are used";
    let mut findings = vec![Finding::new("discovery", Outcome::Warning, summary).because(diagnosis)];
    findings.extend(look_at_endpoints(subject, scout, all.each_ref()).await);
    findings
}

/// What people write in the place of an issuer, put right in the usual ways.
pub(crate) fn variants(issuer: &str) -> Vec<String> {
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
            "discovery-missing",
            Confidence::Certain,
            "the document names no issuer".to_owned(),
        );
        return unseen("issuer", diagnosis);
    };
    if ours == theirs {
        return Finding::pass("issuer", "equal to the letter").seen([theirs.to_owned()]);
    }
    Finding::new("issuer", Outcome::Failure, "`Issuer` is not the identity provider's")
        .because(issuer_differs(subject, ours, theirs))
}

fn issuer_differs(subject: &Subject, ours: &str, theirs: &str) -> Diagnosis {
    let every = |issuer: &str| {
        let microsoft = issuer.contains("login.microsoftonline.") || issuer.contains("sts.windows.net");
        let parts =
            issuer.split('/').skip(3).any(|part| ["common", "organizations", "consumers"].contains(&part));
        issuer.contains("{tenantid}") || (microsoft && (parts || issuer.contains("sts.windows.net")))
    };
    let (id, theirs_matter) = if every(ours) || every(theirs) {
        ("issuer-of-every-tenant", !theirs.contains("{tenantid}"))
    } else {
        ("issuer-differs", true)
    };
    let mut evidence = difference("Issuer", ours, theirs);
    if theirs_matter {
        evidence.push(format!("use exactly {theirs}"));
    }
    subject.diagnose(id, Confidence::Certain, evidence)
}

/// Two texts, one below the other, with a mark where they begin to differ.
fn difference(name: &str, ours: &str, theirs: &str) -> Vec<String> {
    let same = ours.chars().zip(theirs.chars()).take_while(|(ours, theirs)| ours == theirs).count();
    let labels = [format!("`{name}`"), "the identity provider".to_owned()];
    let width = labels.iter().map(String::len).max().unwrap_or_default();
    let [first, second] = labels;
    let what = match (ours.strip_suffix('/'), theirs.strip_suffix('/')) {
        (Some(bare), None) if bare == theirs => "a slash too many at the end",
        (None, Some(bare)) if bare == ours => "the slash at the end is missing",
        (_, _) if theirs.strip_suffix("/v2.0").is_some_and(|bare| bare == ours.trim_end_matches('/')) => {
            "/v2.0 is missing at the end"
        }
        (_, _) if ours.eq_ignore_ascii_case(theirs) => "capitals differ",
        (_, _) => "they differ from here on",
    };
    vec![
        format!("{first:<width$}  {ours}"),
        format!("{second:<width$}  {theirs}"),
        format!("{:width$}  {}^ {what}", "", " ".repeat(same)),
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
            let id = if *key == "JwksUri" { "keys-elsewhere" } else { "endpoint-differs" };
            Some(subject.diagnose(id, Confidence::Certain, difference(key, ours, theirs)))
        })
        .collect();
    let missing: Vec<&str> = all
        .iter()
        .filter(|(_, name, ours)| ours.is_none() && text(document, name).is_none())
        .map(|(_, name, _)| *name)
        .collect();
    if !missing.is_empty() {
        let said = format!("the discovery document has no {}", missing.join(", "));
        let diagnosis = subject.diagnose("discovery-missing", Confidence::Certain, said);
        return unseen("endpoints", diagnosis);
    }
    if differing.is_empty() {
        let set = all.iter().filter(|(_, _, ours)| ours.is_some()).count();
        let summary = match set {
            0 => "as the identity provider names them".to_owned(),
            count => format!("{count} of policy, as the identity provider names them"),
        };
        let shown = all.iter().filter_map(|(_, name, _)| Some(format!("{name} {}", text(document, name)?)));
        return Finding::pass("endpoints", summary).seen(shown);
    }
    let summary = format!("{} of policy are not the identity provider's", differing.len());
    Finding::new("endpoints", Outcome::Failure, summary).because_of(differing)
}

/// What the document lists; what it does not list is not known, since many list little.
fn offers(subject: &Subject, document: &Value) -> Finding {
    let list = |name: &str| -> Option<Vec<&str>> {
        let listed: Vec<&str> = document.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect();
        (!listed.is_empty()).then_some(listed)
    };
    let mut diagnoses = Vec::new();
    let mut outcome = Outcome::Pass;
    let mut shown = Vec::new();
    if let Some(listed) = list("id_token_signing_alg_values_supported") {
        shown.push(format!("signatures {}", listed.join(" ")));
        if !listed.iter().any(|algorithm| accepts(algorithm)) {
            outcome = Outcome::Failure;
            let said = format!("it signs with {} only", listed.join(", "));
            diagnoses.push(subject.diagnose("keys-unusable", Confidence::Likely, said));
        }
    }
    if let Some(listed) = list("code_challenge_methods_supported") {
        shown.push(format!("PKCE {}", listed.join(" ")));
        if !listed.contains(&"S256") {
            outcome = outcome.max(Outcome::Warning);
            let said = format!("code_challenge_methods_supported: {}", listed.join(", "));
            diagnoses.push(subject.diagnose("pkce-not-offered", Confidence::Likely, said));
        }
    }
    if let Some(listed) = list("scopes_supported") {
        shown.push(format!("scopes {}", listed.join(" ")));
        let wanted = subject.configuration.requested_scopes();
        let missing: Vec<&str> = wanted.filter(|scope| !listed.contains(scope)).collect();
        if !missing.is_empty() {
            outcome = outcome.max(Outcome::Warning);
            let said = format!("scopes_supported has no {}", missing.join(", "));
            diagnoses.push(subject.diagnose("scopes-not-offered", Confidence::Likely, said));
        }
    }
    let google = catalogue::provider(&subject.configuration) == Some(IdentityProvider::Google);
    if let Some(listed) = list("grant_types_supported").filter(|_| !google) {
        shown.push(format!("grants {}", listed.join(" ")));
        if !listed.contains(&"refresh_token") {
            outcome = outcome.max(Outcome::Warning);
            let said = format!("grant_types_supported: {}", listed.join(", "));
            diagnoses.push(subject.diagnose("refresh-not-offered", Confidence::Likely, said));
        }
    }
    if !google && !subject.configuration.scopes.iter().any(|scope| scope == "offline_access") {
        outcome = outcome.max(Outcome::Warning);
        let said = "`Scopes` has no offline_access".to_owned();
        diagnoses.push(subject.diagnose("offline-access-not-asked", Confidence::Certain, said));
    }
    let summary = if diagnoses.is_empty() {
        "everything that policy asks for"
    } else {
        "not everything that is needed"
    };
    Finding::new("offers", outcome, summary).seen(shown).because_of(diagnoses)
}

fn clocks(subject: &Subject, look: &Look, now: Timestamp) -> Finding {
    let theirs = look.date.as_ref().and_then(|date| rfc2822::parse(date).ok());
    let Some(theirs) = theirs.map(|date| date.timestamp()) else {
        return Finding::skipped("clock", "the identity provider does not tell its time");
    };
    let ahead = theirs.duration_until(now).as_secs();
    if ahead.abs() <= LEEWAY {
        return Finding::pass("clock", format!("{} seconds from the identity provider's", ahead.abs()));
    }
    let way = if ahead > 0 { "fast" } else { "slow" };
    let said = format!("this device's clock is {} seconds {way}", ahead.abs());
    Finding::new("clock", Outcome::Failure, said.clone()).because(subject.diagnose(
        "clock-wrong",
        Confidence::Certain,
        said,
    ))
}

async fn look_at_keys(subject: &Subject, scout: &Scout, address: Option<&Url>) -> Finding {
    let Some(address) = address else {
        return Finding::skipped("keys", "no JWKS URI is known");
    };
    let document = match scout.document(subject, address).await {
        Ok((document, _)) => document,
        // Whatever is wrong there, it is no discovery document that is missing.
        Err(diagnosis) if diagnosis.id == "discovery-missing" => {
            let evidence = diagnosis.evidence;
            return unseen("keys", subject.diagnose("keys-elsewhere", Confidence::Certain, evidence));
        }
        Err(diagnosis) => return unseen("keys", diagnosis),
    };
    let none = Vec::new();
    let keys = document.get("keys").and_then(Value::as_array).unwrap_or(&none);
    let usable = keys.iter().filter(|key| is_usable(key)).count();
    if usable > 0 {
        return Finding::pass("keys", format!("{usable} of {} keys can be used", keys.len()))
            .seen([address.to_string()]);
    }
    let said =
        format!("{address} has {} keys, none of which checks a signature that the app accepts", keys.len());
    Finding::new("keys", Outcome::Failure, "no key can be used").because(subject.diagnose(
        "keys-unusable",
        Confidence::Certain,
        said,
    ))
}

/// A key for one of the algorithms (RFC 7517, section 4; RFC 7518, section 6).
fn is_usable(key: &Value) -> bool {
    let signs = text(key, "use").is_none_or(|usage| usage == "sig");
    let algorithm = text(key, "alg").is_none_or(accepts);
    let kind = match text(key, "kty") {
        Some("RSA") => text(key, "n").is_some(),
        Some("EC") => matches!(text(key, "crv"), Some("P-256" | "P-384" | "P-521")),
        _ => false,
    };
    signs && algorithm && kind
}

/// Whether the token endpoint is there: it refuses a GET, which is an answer.
async fn reach(subject: &Subject, scout: &Scout, address: Option<&Url>) -> Finding {
    let Some(address) = address else {
        return Finding::skipped("token-endpoint", "no token endpoint is known");
    };
    match scout.look(subject, address, None).await {
        Ok(look) if look.status >= 500 => {
            let said = format!("{address} answered {}", look.status);
            Finding::new("token-endpoint", Outcome::Warning, "it answers with a fault of its own")
                .because(subject.diagnose("server-fault", Confidence::Likely, said))
        }
        Ok(look) if look.status == 200 || (300..400).contains(&look.status) => {
            let diagnosis = super::network::not_a_document(subject, address, &look);
            if diagnosis.id == "captive-portal" {
                return unseen("token-endpoint", diagnosis);
            }
            Finding::pass("token-endpoint", "it answers")
        }
        Ok(look) => {
            Finding::pass("token-endpoint", "it answers").seen([format!("{address} {}", look.status)])
        }
        Err(diagnosis) => unseen("token-endpoint", diagnosis),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_shown_to_the_letter() {
        let shown = difference("Issuer", "https://a.example/", "https://a.example");
        assert_eq!(
            shown,
            [
                "`Issuer`               https://a.example/",
                "the identity provider  https://a.example",
                "                                        ^ a slash too many at the end",
            ]
        );
        let last = |ours, theirs| difference("Issuer", ours, theirs).pop().unwrap();
        assert!(
            last("https://a.example/t", "https://a.example/t/v2.0")
                .ends_with("^ /v2.0 is missing at the end")
        );
        assert!(last("https://A.example", "https://a.example").ends_with("^ capitals differ"));
        assert!(last("https://a.example", "https://b.example").contains("^ they differ from here on"));
    }

    #[test]
    fn usual_mistakes_lead_to_the_right_issuer() {
        let has = |issuer: &str, right: &str| variants(issuer).iter().any(|variant| variant == right);
        assert!(has("https://login.microsoftonline.com/t", "https://login.microsoftonline.com/t/v2.0"));
        assert!(has("https://sts.windows.net/t/", "https://login.microsoftonline.com/t/v2.0"));
        assert!(has("https://auth.pingone.eu/e", "https://auth.pingone.eu/e/as"));
        assert!(has("https://a.okta.com/", "https://a.okta.com/oauth2/default"));
        assert!(has("https://a.okta.com/oauth2/default", "https://a.okta.com"));
    }

    #[test]
    fn keys_are_told_from_what_only_looks_like_them() {
        let usable = [
            json!({ "kty": "RSA", "n": "x", "e": "AQAB" }),
            json!({ "kty": "EC", "crv": "P-521", "use": "sig", "alg": "ES512" }),
        ];
        let useless = [
            json!({ "kty": "oct", "k": "x" }),
            json!({ "kty": "RSA", "n": "x", "use": "enc" }),
            json!({ "kty": "EC", "crv": "secp256k1" }),
            json!({ "kty": "RSA", "n": "x", "alg": "RSA-OAEP" }),
            json!("RSA"),
        ];
        assert!(usable.iter().all(is_usable) && !useless.iter().any(is_usable));
    }
}
