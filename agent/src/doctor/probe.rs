//! A look at the authorization endpoint without a browser and without a person (`prompt=none`, OpenID Connect Core 1.0,
//! section 3.1.2.1): a provider that knows client, redirect URI and scopes sends the browser back, and says that nobody is
//! signed in. Whatever else it says is a heuristic: providers are free to show a page first.

use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;
use url::Url;

use super::network::Scout;
use super::{Confidence, Diagnosis, Finding, Outcome, Subject, catalogue};
use crate::http::Look;
use policy_schema::settings::IdentityProvider;

/// What a request is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Sent back to this client, with an error or none.
    Back(Option<String>),
    /// A page or another address, which may be the sign-in.
    Page,
    /// A page that speaks of an error.
    Refusal,
}

/// Asks whether this client may sign in here.
pub(super) async fn examine(subject: &Subject, scout: &Scout, endpoint: &Url) -> Finding {
    let url = request(subject, endpoint);
    let look = match scout.look(subject, &url, None).await {
        Ok(look) => look,
        Err(diagnosis) => {
            return Finding::new(
                "redirect",
                Outcome::Failure,
                "the authorization endpoint cannot be reached",
            )
            .because(diagnosis);
        }
    };
    judge(subject, &look)
}

/// The request of a sign-in, as a browser would bring it, but for a person who is to be asked nothing.
fn request(subject: &Subject, endpoint: &Url) -> Url {
    let configuration = &subject.configuration;
    let mut url = endpoint.clone();
    let random = |count: usize| {
        use base64::Engine as _;
        let bytes: [u8; 32] = crate::clock::random();
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
        // Of a verifier that nobody keeps: no code is ever redeemed.
        .append_pair("code_challenge", &random(32))
        .append_pair("code_challenge_method", "S256")
        .append_pair("prompt", "none");
    url
}

fn judge(subject: &Subject, look: &Look) -> Finding {
    let text = without_scripts(&String::from_utf8_lossy(&look.body));
    let spoken_of = catalogue::spoken_of(&text);
    match answer(subject, look, !spoken_of.is_empty()) {
        Answer::Back(error) => back(subject, error.as_deref()),
        Answer::Page => Finding::pass("redirect", "the identity provider shows a page, as for a sign-in")
            .seen([format!("status {}", look.status)]),
        Answer::Refusal => {
            let shown = format!("it answered {}: {}", look.status, excerpt(&text));
            let mut ids: Vec<&str> = spoken_of;
            if ids.is_empty() && (look.status >= 500 || look.status == 429) {
                ids = vec!["server-fault"];
            }
            if ids.is_empty() {
                // Nothing in the page says why; the usual reasons are named.
                ids = match catalogue::provider(&subject.configuration) {
                    Some(IdentityProvider::PingOne) => {
                        vec!["application-disabled", "redirect-not-registered"]
                    }
                    Some(_) | None => vec!["request-refused"],
                };
            }
            let diagnoses =
                ids.into_iter().map(|id| subject.diagnose(id, Confidence::Heuristic, shown.clone()));
            // A page that came as if all were well, and has no code of an error in it, may be about something else.
            let (outcome, summary) = if (200..300).contains(&look.status) && !text.contains("AADSTS") {
                (Outcome::Warning, "the identity provider shows a page that seems to speak of an error")
            } else {
                (Outcome::Failure, "the identity provider refuses before any sign-in page")
            };
            Finding::new("redirect", outcome, summary).because_of(diagnoses)
        }
    }
}

fn back(subject: &Subject, error: Option<&str>) -> Finding {
    let uri = &subject.configuration.redirect_uri;
    let Some(error) = error else {
        return Finding::pass("redirect", format!("{uri} is registered"));
    };
    let code = error.split(':').next().unwrap_or_default();
    // OpenID Connect Core 1.0, section 3.1.2.6: the person has to do something, which was to be expected.
    let expected =
        ["login_required", "interaction_required", "account_selection_required", "consent_required"];
    if expected.contains(&code) && catalogue::spoken_of(error).iter().all(|id| *id == "consent-missing") {
        let finding = Finding::pass("redirect", format!("client, scopes and {uri} are registered"));
        return finding.seen([format!("it answered {error}")]);
    }
    let mut known = catalogue::spoken_of(error);
    // RFC 6749, section 4.1.2.1: the fault is the provider's.
    if ["server_error", "temporarily_unavailable"].contains(&code) {
        known = vec!["server-fault"];
    }
    let (ids, confidence) = if known.is_empty() {
        (vec!["request-refused"], Confidence::Likely)
    } else {
        (known, Confidence::Certain)
    };
    let shown = format!("it answered {}", excerpt(error));
    Finding::new("redirect", Outcome::Failure, "the identity provider refuses the request")
        .because_of(ids.into_iter().map(|id| subject.diagnose(id, confidence, shown.clone())))
}

/// What kind of answer it is.
fn answer(subject: &Subject, look: &Look, speaks_of_an_error: bool) -> Answer {
    if (300..400).contains(&look.status)
        && let Some(location) = &look.location
    {
        let back = location.parse::<Url>().ok().zip(subject.configuration.redirect_uri.parse::<Url>().ok());
        if let Some((location, ours)) = back
            && (location.host_str(), location.port(), location.path())
                == (ours.host_str(), ours.port(), ours.path())
        {
            let pair =
                |name: &str| location.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value);
            let described = pair("error_description").map_or_else(String::new, |text| format!(": {text}"));
            return Answer::Back(pair("error").map(|error| format!("{error}{described}")));
        }
        // Google sends its errors elsewhere, with the reason in the address.
        return if location.contains("/oauth/error") || location.contains("authError=") {
            Answer::Refusal
        } else {
            Answer::Page
        };
    }
    if look.status >= 400 || speaks_of_an_error { Answer::Refusal } else { Answer::Page }
}

/// A page without its scripts, which mention errors that have not happened. Entra's error page is a script: there, only
/// codes count.
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

/// The beginning of what a page says, on one line and without its markup.
pub(super) fn excerpt(text: &str) -> String {
    let mut inside = false;
    let plain: String = text
        .chars()
        .filter_map(|letter| match letter {
            '<' => {
                inside = true;
                Some(' ')
            }
            '>' if inside => {
                inside = false;
                None
            }
            _ if inside => None,
            letter if letter.is_control() => Some(' '),
            letter => Some(letter),
        })
        .collect();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(200).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}

/// A text of a document.
pub(super) fn text<'d>(document: &'d Value, name: &str) -> Option<&'d str> {
    document.get(name)?.as_str()
}

/// What a check that cannot be made any more says.
pub(crate) fn unseen(check: &str, diagnosis: Diagnosis) -> Finding {
    Finding::new(check, Outcome::Failure, "it cannot be looked at").because(diagnosis)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by review: a sign-in page whose script had a list of error codes counted as a refusal.
    #[test]
    fn what_only_a_script_mentions_has_not_happened() {
        let page =
            "<script>var e=['invalid_client','invalid_scope']</script><h1>Sign in</h1><style>x</style>";
        assert!(catalogue::spoken_of(&without_scripts(page)).is_empty());
        let entra = "<script>$Config={\"strServiceExceptionMessage\":\"AADSTS50011: The redirect URI\",\"x\":\"invalid_scope\"}";
        assert_eq!(catalogue::spoken_of(&without_scripts(entra)), ["redirect-not-registered"]);
        assert_eq!(excerpt("<b>a</b>\n b"), "a b");
        assert!(excerpt(&"\u{fc}".repeat(500)).ends_with('\u{2026}'));
    }
}
