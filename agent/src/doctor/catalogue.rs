//! The causes that the doctor can name, as data (`causes.toml`), and which of them a text or a problem speaks of. Pure.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use askama::Template;
use policy_schema::Problem;
use policy_schema::settings::IdentityProvider;
use serde::Deserialize;

use super::{Confidence, Diagnosis};
use crate::broker::configuration::Configuration;

/// One cause, with everything there is to say about it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cause {
    symptom: String,
    #[serde(rename = "cause")]
    origin: String,
    fix: BTreeMap<String, String>,
    #[serde(default)]
    said: Vec<String>,
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    link: BTreeMap<String, String>,
    /// For the reference: the row of the app vendor's tables.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the rows with the vendor's"))]
    row: Option<String>,
}

static CAUSES: LazyLock<BTreeMap<String, Cause>> =
    LazyLock::new(|| toml::from_str(include_str!("causes.toml")).expect("a test reads the embedded causes"));

/// A diagnosis by the identifier of its cause, in the words for an identity provider.
pub(super) fn diagnosis(
    id: &str,
    configuration: &Configuration,
    confidence: Confidence,
    evidence: Vec<String>,
) -> Diagnosis {
    let (id, cause) = CAUSES.get_key_value(id).unwrap_or_else(|| panic!("{id} is no cause"));
    let provider = provider(configuration).map(IdentityProvider::as_str);
    let pick = |texts: &BTreeMap<String, String>| {
        provider.and_then(|provider| texts.get(provider)).or_else(|| texts.get("any")).cloned()
    };
    let fill = |text: &str| fill(text, configuration);
    Diagnosis {
        id: id.clone(),
        symptom: fill(&cause.symptom),
        evidence,
        cause: fill(&cause.origin),
        confidence,
        fix: pick(&cause.fix).map_or_else(String::new, |text| fill(&text)),
        link: pick(&cause.link),
    }
}

#[derive(Template)]
#[template(path = "causes.md", escape = "none")]
struct Reference<'a> {
    causes: &'a BTreeMap<String, Cause>,
}

/// Every cause with all its fixes, for people to look up.
///
/// # Errors
/// Never: there is room for a text.
pub(crate) fn reference() -> Result<String, askama::Error> {
    Reference { causes: &CAUSES }.render()
}

/// Whether it keeps questions from getting through.
pub(super) fn is_of_network(id: &str) -> bool {
    CAUSES.get(id).is_some_and(|cause| cause.network)
}

/// The causes that a text of an identity provider, a browser or the app speaks of, by identifier.
pub(super) fn spoken_of(text: &str) -> Vec<&'static str> {
    let text = plain(text);
    let says = |cause: &Cause| cause.said.iter().any(|said| mentions(&text, &plain(said)));
    CAUSES.iter().filter(|(_, cause)| says(cause)).map(|(id, _)| id.as_str()).collect()
}

/// What a problem comes from: what its text speaks of, else what its code usually means.
pub(super) fn of_problem(problem: &Problem, configuration: &Configuration) -> Option<Diagnosis> {
    // What an administrator wrote into a policy is not what a provider said.
    let foreign = !problem.code.as_str().starts_with("policy.");
    let said = if foreign { spoken_of(&problem.message) } else { Vec::new() };
    let (id, confidence) =
        if problem.key.as_deref() == Some("UpdatePinnedVersion") && problem.message.contains("own updater") {
            ("update-hazard", Confidence::Certain)
        } else if let Some(id) = said.first() {
            (*id, Confidence::Certain)
        } else {
            let code = problem.code.as_str();
            let known = CAUSES.iter().find(|(_, cause)| cause.codes.iter().any(|known| known == code));
            (known?.0.as_str(), Confidence::Likely)
        };
    let evidence = std::iter::once(problem.message.clone()).chain(problem.place.clone()).collect();
    Some(diagnosis(id, configuration, confidence, evidence))
}

/// The product that people sign in with: as policy says, else as the issuer's address tells.
pub(super) fn provider(configuration: &Configuration) -> Option<IdentityProvider> {
    if configuration.identity_provider != IdentityProvider::Custom {
        return Some(configuration.identity_provider);
    }
    let issuer = configuration.issuer.as_deref()?.to_ascii_lowercase();
    let host = issuer.split("://").nth(1)?.split(['/', ':']).next()?;
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| host.ends_with(suffix));
    match () {
        () if ends(&["login.microsoftonline.com", "login.microsoftonline.us", "sts.windows.net"]) => {
            Some(IdentityProvider::Entra)
        }
        () if ends(&[".okta.com", ".oktapreview.com", ".okta-emea.com"]) => Some(IdentityProvider::Okta),
        () if host.starts_with("auth.pingone.") => Some(IdentityProvider::PingOne),
        () if host == "accounts.google.com" => Some(IdentityProvider::Google),
        () => None,
    }
}

/// Whole words only: a code such as AADSTS50011 is not the beginning of another.
fn mentions(text: &str, said: &str) -> bool {
    let goes_on =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    text.match_indices(said).any(|(start, found)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + found.len()..].chars().next());
        !goes_on(before) && !goes_on(after)
    })
}

/// As it is compared: without the marks that pages put in the place of quotes, and in small letters.
fn plain(text: &str) -> String {
    let unescaped = quick_xml::escape::unescape(text).unwrap_or(text.into());
    unescaped.replace("&#39;", "'").replace('\u{2019}', "'").to_lowercase()
}

fn fill(text: &str, configuration: &Configuration) -> String {
    let unset = "(not set)";
    text.replace("{redirect_uri}", &configuration.redirect_uri)
        .replace("{issuer}", configuration.issuer.as_deref().unwrap_or(unset))
        .replace("{client_id}", configuration.client_id.as_deref().unwrap_or(unset))
        .replace("{email_claim}", &configuration.email_claim)
        .replace("{scopes}", &configuration.scopes.join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use policy_schema::Code;
    use policy_schema::problem::CODES;

    use super::*;
    use crate::broker::session::tests::configuration;

    #[test]
    fn every_cause_is_complete_and_speaks_of_things_that_exist() {
        let providers = ["any", "entra", "okta", "pingfederate", "pingone", "google"];
        let codes: BTreeSet<&str> = CODES.iter().map(|info| info.code.as_str()).collect();
        let mut seen = BTreeSet::new();
        for (id, cause) in CAUSES.iter() {
            assert!(cause.fix.contains_key("any"), "{id} has no fix for everybody");
            for provider in cause.fix.keys().chain(cause.link.keys()) {
                assert!(providers.contains(&provider.as_str()), "{id}: {provider}");
            }
            for code in &cause.codes {
                assert!(codes.contains(code.as_str()), "{id}: {code} is no code");
                assert!(seen.insert(code), "{code} means two things");
            }
            let filled = diagnosis(id, &configuration(""), Confidence::Likely, Vec::new());
            let text = format!("{}{}{}", filled.symptom, filled.cause, filled.fix);
            assert!(!text.contains('{') && !filled.fix.is_empty(), "{id}: {text}");
        }
    }

    /// The rows of the vendor's troubleshooting tables, the first and the later ones.
    #[test]
    fn every_row_of_the_vendors_tables_has_a_cause() {
        let rows: BTreeSet<&str> = CAUSES.values().filter_map(|cause| cause.row.as_deref()).collect();
        let wanted = [
            "redirect_mismatch",
            "user not found after sign-in",
            "token validation failure",
            "consent or permission errors (Entra)",
            "session expires frequently",
            "invalid_scope (Okta)",
            "fails before any login page (PingOne)",
            "user info request failed 401 (PingOne)",
            "email claim missing after refresh (PingFederate)",
            "app not verified (Google)",
            "enterprise sign-in not configured",
        ];
        assert_eq!(rows, wanted.into());
    }

    /// What the vendors' pages and answers say, as they say it.
    #[test]
    fn the_words_of_the_vendors_are_understood() {
        let cases = [
            (
                "AADSTS50011: The redirect URI 'http://localhost:18080' specified in the request does not match",
                "redirect-not-registered",
            ),
            (
                "The &#39;redirect_uri&#39; parameter must be a Login redirect URI in the client app settings.",
                "redirect-not-registered",
            ),
            ("Error 400: redirect_uri_mismatch", "redirect-not-registered"),
            (
                "AADSTS65001: The user or administrator has not consented to use the application",
                "consent-missing",
            ),
            ("access_denied: AADSTS90094: The grant requires admin permission.", "consent-missing"),
            (
                "AADSTS700016: Application with identifier 'x' was not found in the directory 'y'.",
                "client-unknown",
            ),
            ("Error 401: invalid_client The OAuth client was not found.", "client-unknown"),
            (
                "invalid_scope: One or more scopes are not configured for the authorization server resource.",
                "scope-refused",
            ),
            (
                "access_denied: Policy evaluation failed for this request, please check the policy configurations.",
                "access-policy-refuses",
            ),
            ("User is not assigned to the client application.", "not-assigned"),
            (
                "Access blocked: Example has not completed the Google verification process",
                "application-not-verified",
            ),
            (
                "Error 403: org_internal This client is restricted to users within its organization.",
                "person-of-another-organisation",
            ),
            (
                "AADSTS700084: The refresh token was issued to a single page app (SPA)",
                "registered-as-web-page",
            ),
            (
                "AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
                "not-a-public-client",
            ),
            ("Enterprise sign-in for Example has not been configured for this account", "extension-missing"),
            (
                "code: NOT_FOUND The request could not be completed. The requested resource was not found.",
                "application-disabled",
            ),
        ];
        for (said, id) in cases {
            assert_eq!(spoken_of(said), [id], "{said}");
        }
        // One code is not the beginning of another, and an ordinary page speaks of nothing.
        assert!(spoken_of("AADSTS5001199").is_empty());
        assert!(spoken_of("<title>Sign in</title> Forgot your password? Error? Call us.").is_empty());
    }

    #[test]
    fn a_fix_is_that_of_the_provider_in_use() {
        let fix = |policy: &str| {
            diagnosis("redirect-not-registered", &configuration(policy), Confidence::Likely, Vec::new()).fix
        };
        assert!(fix("IdentityProvider = \"entra\"").contains("Mobile and desktop applications"));
        assert!(fix("IdentityProvider = \"okta\"").contains("Sign-in redirect URIs"));
        assert!(fix("").starts_with("Register exactly http://localhost:18080"));
        let by_address = Configuration {
            issuer: Some("https://example.okta.com/oauth2/default".to_owned()),
            ..configuration("")
        };
        assert_eq!(provider(&by_address), Some(IdentityProvider::Okta));
    }

    #[test]
    fn problems_lead_to_causes_by_their_words_first() {
        let cause = |code, message: &str| {
            of_problem(&Problem::new(code, message), &configuration("")).map(|found| found.id)
        };
        let denied = "the identity provider refused: access_denied: AADSTS65001: no consent";
        assert_eq!(cause(Code::SignInDenied, denied).as_deref(), Some("consent-missing"));
        assert_eq!(cause(Code::SignInDenied, "something else").as_deref(), Some("request-refused"));
        assert_eq!(cause(Code::SignInIssuerMismatch, "x").as_deref(), Some("issuer-differs"));
        assert_eq!(cause(Code::UpdateAvailable, "x"), None);
    }
}
