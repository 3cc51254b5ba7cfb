//! Checks the authorization endpoint without a browser and without a user (`prompt=none`, OpenID Connect Core 1.0,
//! section 3.1.2.1).
//!
//! In: the sign-in settings and the authorization endpoint. Out: a finding. A provider that knows client, redirect URI
//! and scopes redirects back with the error that no user is signed in. Any other response is only a hint, because a
//! provider may show a page first. Called by the checks of the identity provider.

use std::sync::LazyLock;

use net::http::Fetched;
use policy_schema::settings::IdentityProvider;
use regex_lite::Regex;
use url::Url;

use super::excerpt::excerpt;
use super::network::ProbeClient;
use super::{Cause, Confidence, Finding, Outcome, Subject, match_causes};

/// Checks whether the identity provider accepts the sign-in request of this client.
pub(super) async fn examine(subject: &Subject, client: &ProbeClient, endpoint: &Url) -> Finding {
    let url = request(subject, endpoint);
    let response = match client.fetch(subject, &url, None).await {
        Ok(response) => response,
        Err(diagnosis) => {
            return Finding::new(
                "redirect",
                Outcome::Failure,
                "the authorization endpoint cannot be reached",
            )
            .because(diagnosis);
        }
    };
    classify(subject, &response)
}

/// The authorization request of a sign-in, with `prompt=none` so that the provider shows no page to a user.
fn request(subject: &Subject, endpoint: &Url) -> Url {
    let configuration = &subject.configuration;
    let mut url = endpoint.clone();
    let random = |count: usize| {
        use base64::Engine as _;
        let bytes: [u8; 32] = platform::random::bytes();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes[..count])
    };
    let scopes = std::iter::once("openid").chain(configuration.requested_scopes());
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", configuration.client_id.as_deref().unwrap_or_default())
        .append_pair("redirect_uri", &configuration.redirect_uri)
        .append_pair("scope", &scopes.collect::<Vec<_>>().join(" "))
        .append_pair("state", &random(16))
        .append_pair("nonce", &random(16))
        // The verifier is not kept, because no code is redeemed.
        .append_pair("code_challenge", &random(32))
        .append_pair("code_challenge_method", "S256")
        .append_pair("prompt", "none");
    url
}

fn classify(subject: &Subject, response: &Fetched) -> Finding {
    let text = without_scripts(&String::from_utf8_lossy(&response.body));
    let matched = match_causes(&text);
    match kind(subject, response, !matched.is_empty()) {
        Kind::Redirect(error) => classify_redirect(subject, error.as_deref()),
        // Whether it knows the client, shows only when a user has signed in.
        Kind::Page => Finding::skipped(
            "redirect",
            "it could not be checked without a sign-in: the identity provider shows a page first; `--sign-in` tries it",
        )
        .observed([format!("status {}", response.status)]),
        Kind::Refusal if matched.is_empty() && (response.status >= 500 || response.status == 429) => {
            let evidence = format!("it responded with status {}: {}", response.status, excerpt(&text));
            Finding::new("redirect", Outcome::Warning, "it could not be checked: the identity provider has a fault")
                .because(subject.diagnose(Cause::ServerFault, Confidence::Likely, evidence))
        }
        Kind::Refusal => {
            let evidence = format!("it responded with status {}: {}", response.status, excerpt(&text));
            let mut ids: Vec<Cause> = matched;
            if ids.is_empty() {
                // The page does not say why, so the usual causes are named.
                ids = match subject.configuration.context().provider() {
                    Some(IdentityProvider::PingOne) => {
                        vec![Cause::ApplicationDisabled, Cause::RedirectNotRegistered]
                    }
                    Some(_) | None => vec![Cause::RequestRefused],
                };
            }
            let diagnoses =
                ids.into_iter().map(|id| subject.diagnose(id, Confidence::Heuristic, evidence.clone()));
            // A page with a successful status and without an error code may be about something else.
            let (outcome, summary) = if (200..300).contains(&response.status) && !text.contains("AADSTS") {
                (Outcome::Warning, "the identity provider shows a page that may be about an error")
            } else {
                (Outcome::Failure, "the identity provider refuses before any sign-in page")
            };
            Finding::new("redirect", outcome, summary).because_of(diagnoses)
        }
    }
}

fn classify_redirect(subject: &Subject, error: Option<&str>) -> Finding {
    let uri = &subject.configuration.redirect_uri;
    let Some(error) = error else {
        return Finding::pass("redirect", format!("{uri} is registered"));
    };
    let code = error.split(':').next().unwrap_or_default();
    // OpenID Connect Core 1.0, section 3.1.2.6: the user has to do something, as expected.
    let expected =
        ["login_required", "interaction_required", "account_selection_required", "consent_required"];
    if expected.contains(&code) && match_causes(error).iter().all(|id| *id == Cause::ConsentMissing) {
        let finding = Finding::pass("redirect", format!("client, scopes and {uri} are registered"));
        return finding.observed([format!("it responded with {error}")]);
    }
    let mut known = match_causes(error);
    // RFC 6749, section 4.1.2.1: the provider has failed.
    if ["server_error", "temporarily_unavailable"].contains(&code) {
        known = vec![Cause::ServerFault];
    }
    let (ids, confidence) = if known.is_empty() {
        (vec![Cause::RequestRefused], Confidence::Likely)
    } else {
        (known, Confidence::Certain)
    };
    let evidence = format!("it responded with {}", excerpt(error));
    Finding::new("redirect", Outcome::Failure, "the identity provider refuses the request")
        .because_of(ids.into_iter().map(|id| subject.diagnose(id, confidence, evidence.clone())))
}

/// The kinds of response to the authorization request.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A redirect back to this client, with an error or without one.
    Redirect(Option<String>),
    /// A page or another address, which may be the sign-in page.
    Page,
    /// A page about an error.
    Refusal,
}

fn kind(subject: &Subject, response: &Fetched, matches_error: bool) -> Kind {
    if (300..400).contains(&response.status)
        && let Some(location) = &response.location
    {
        let parsed = location.parse::<Url>().ok().zip(subject.configuration.redirect_uri.parse::<Url>().ok());
        if let Some((location, ours)) = parsed
            && (location.host_str(), location.port(), location.path())
                == (ours.host_str(), ours.port(), ours.path())
        {
            let pair =
                |name: &str| location.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value);
            let described = pair("error_description").map_or_else(String::new, |text| format!(": {text}"));
            return Kind::Redirect(pair("error").map(|error| format!("{error}{described}")));
        }
        // Google redirects errors to a page of its own, with the reason in the address.
        return if location.contains("/oauth/error") || location.contains("authError=") {
            Kind::Refusal
        } else {
            Kind::Page
        };
    }
    if response.status >= 400 || matches_error { Kind::Refusal } else { Kind::Page }
}

/// A page without its scripts, because scripts mention errors that did not happen. Entra's error page is a script, so
/// its error codes are kept.
fn without_scripts(page: &str) -> String {
    static SCRIPT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("(?is)<(?:script|style)[^>]*>.*?(?:</(?:script|style)>|$)").expect("a test uses it")
    });
    static ERROR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"AADSTS\d+[^\\"<]{0,200}"#).expect("a test uses it"));
    let coded = ERROR.find_iter(page).map(|found| found.as_str());
    let visible = SCRIPT.replace_all(page, " ");
    std::iter::once(visible.as_ref()).chain(coded).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by review: a sign-in page whose script had a list of error codes counted as a refusal.
    #[test]
    fn error_that_only_a_script_mentions_is_not_matched() {
        let page =
            "<script>var e=['invalid_client','invalid_scope']</script><h1>Sign in</h1><style>x</style>";
        assert!(match_causes(&without_scripts(page)).is_empty());
        let entra = "<script>$Config={\"strServiceExceptionMessage\":\"AADSTS50011: The redirect URI\",\"x\":\"invalid_scope\"}";
        assert_eq!(match_causes(&without_scripts(entra)), [Cause::RedirectNotRegistered]);
        assert_eq!(excerpt("<b>a</b>\n b"), "a b");
        assert!(excerpt(&"\u{fc}".repeat(500)).ends_with('\u{2026}'));
    }
}
