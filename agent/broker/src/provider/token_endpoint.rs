//! The token endpoint: requests for tokens, and what its responses say (RFC 6749, sections 4.1.3, 5 and 6).
//!
//! A refresh token is taken from a response before anything else is looked at ([`Unchecked`]): the provider counts the one
//! before as used, whatever else is wrong with the response.

use net::http::{Fetched, HttpError};
use platform::secret::Secret;
use serde_json::Value;
use url::Url;
use zeroize::Zeroize as _;

use super::documents::{self, Object};
use super::error::{Check, ProviderError, Refusal, untrusted};
use super::explain::unreachable;
use super::{MAXIMUM_RESPONSE, Provider};

/// The longest lifetime that is believed, in seconds: a year and some days.
const LONGEST_LIFETIME: u64 = 400 * 24 * 3600;

/// A response of the token endpoint before its checks.
pub(crate) struct Unchecked {
    refresh_token: Option<Secret>,
    pub(super) response: Result<TokenResponse, ProviderError>,
}

impl Unchecked {
    /// The new refresh token, which has to be kept whatever the checks say.
    pub(crate) fn refresh_token(&self) -> Option<Secret> {
        self.refresh_token.clone()
    }
}

/// Tokens as they came (RFC 6749, section 5.1; OpenID Connect Core 1.0, section 3.1.3.3).
pub(super) struct TokenResponse {
    pub(super) access_token: Secret,
    pub(super) id_token: Option<Secret>,
    pub(super) refresh_token: Option<Secret>,
    /// In seconds; an hour, if the response leaves it open.
    pub(super) lifetime: u64,
    pub(super) scopes: Option<Vec<String>>,
}

impl Provider<'_> {
    /// Requests tokens with a grant.
    ///
    /// # Errors
    /// No response came, or it is a refusal.
    pub(super) async fn request_tokens(&self, grant: &[(&str, &str)]) -> Result<Unchecked, ProviderError> {
        let mut fetched = self.post(&self.token_endpoint, grant).await?;
        if (200..300).contains(&fetched.status) {
            let read = read(&fetched.body);
            fetched.body.zeroize();
            return Ok(read);
        }
        Err(refusal("the token endpoint", &fetched))
    }

    /// Posts a form with the client's identification (RFC 6749, section 2.3.1).
    pub(super) async fn post(
        &self,
        address: &Url,
        fields: &[(&str, &str)],
    ) -> Result<Fetched, ProviderError> {
        let secret = self.discovered.configuration.client_secret.as_deref();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .append_pair("client_id", &self.client_id)
            .extend_pairs(secret.map(|secret| ("client_secret", secret)))
            .finish();
        self.http.post_form(address, form, MAXIMUM_RESPONSE).await.map_err(|error| {
            if matches!(error, HttpError::TooLarge { .. }) {
                untrusted(Check::TokenResponse, format!("the token endpoint: {error}"))
            } else {
                unreachable(&error)
            }
        })
    }
}

/// What a response without success means.
pub(super) fn refusal(who: &str, response: &Fetched) -> ProviderError {
    let status = response.status;
    let body = documents::object(&response.body).unwrap_or_default();
    let text =
        |name: &str| body.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let error = text("error");
    let of_server = ["server_error", "temporarily_unavailable"];
    if status == 429 || status >= 500 || error.is_some_and(|error| of_server.contains(&error)) {
        let said =
            error.or_else(|| text("error_description")).map_or_else(String::new, |said| format!(": {said}"));
        let reason = super::error::one_line(&format!("{who} responded with status {status}{said}"));
        return ProviderError::Failing { reason, retry_after: response.retry_after };
    }
    if !(400..500).contains(&status) {
        let reason =
            format!("{who} responded with status {status}, not with tokens; it is not followed elsewhere");
        return untrusted(Check::TokenResponse, reason);
    }
    match error {
        Some("invalid_grant") => {
            ProviderError::InvalidGrant(Refusal::new("invalid_grant", text("error_description")))
        }
        Some(error) => ProviderError::Refused(Refusal::new(error, text("error_description"))),
        None => {
            // Okta and Entra have words of their own besides (`errorSummary`).
            let said = text("error_description").or_else(|| text("errorSummary")).or_else(|| text("message"));
            ProviderError::Refused(Refusal::new(
                &format!("status {status}"),
                said.or(Some("it gives no reason")),
            ))
        }
    }
}

/// Reads a successful response.
fn read(body: &[u8]) -> Unchecked {
    let wrong = |reason: String| {
        let reason = format!("the token endpoint's response is not what RFC 6749 says: {reason}");
        untrusted(Check::TokenResponse, super::error::one_line(&reason))
    };
    let body = match documents::object(body) {
        Ok(body) => body,
        Err(reason) => return Unchecked { refresh_token: None, response: Err(wrong(reason)) },
    };
    let refresh_token = refresh_token(&body);
    let response = tokens(&body, refresh_token.clone()).map_err(wrong);
    for (_, value) in body {
        if let Value::String(mut text) = value {
            text.zeroize();
        }
    }
    Unchecked { refresh_token, response }
}

/// A refresh token of visible characters (RFC 6749, appendix A.17).
fn refresh_token(body: &Object) -> Option<Secret> {
    let token = body.get("refresh_token")?.as_str().filter(|token| !token.is_empty())?;
    if token.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        return Some(token.into());
    }
    tracing::warn!("a refresh token with characters outside RFC 6749 was not used");
    None
}

fn tokens(body: &Object, refresh_token: Option<Secret>) -> Result<TokenResponse, String> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let access_token = text("access_token").ok_or("it has no access_token")?;
    // RFC 6750, section 2.1: it goes into a header, and into lines of other programs' formats.
    if access_token.is_empty() || !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its access_token is empty or has characters that no token may have".to_owned());
    }
    // RFC 6749, section 7.1: a token of a type that is not understood is not used.
    let kind = text("token_type").ok_or("it has no token_type")?;
    if !kind.trim().eq_ignore_ascii_case("bearer") {
        return Err(format!("its access token is of the type {kind}, not `Bearer`"));
    }
    let id_token = text("id_token").filter(|token| !token.is_empty());
    let scopes = match body.get("scope") {
        Some(Value::String(listed)) => Some(listed.split_whitespace().map(ToOwned::to_owned).collect()),
        // A list, as some send.
        Some(Value::Array(listed)) => {
            Some(listed.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect())
        }
        Some(_) | None => None,
    };
    Ok(TokenResponse {
        access_token: access_token.into(),
        id_token: id_token.map(Secret::from),
        refresh_token,
        lifetime: body.get("expires_in").and_then(seconds).unwrap_or(3600).min(LONGEST_LIFETIME),
        scopes: scopes.filter(|scopes: &Vec<String>| !scopes.is_empty()),
    })
}

/// Seconds as a number, with or without a fraction, or as a text.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    (number.is_finite() && number >= 0.0).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use ProviderError as E;

    fn response(change: &Value) -> Result<TokenResponse, String> {
        let mut body = json!({ "access_token": "a", "token_type": "Bearer" });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(body.to_string().as_bytes()).response.map_err(|error| error.to_string())
    }

    #[test]
    fn members_that_are_not_needed_may_have_any_form() {
        for (lifetime, seconds) in [
            (json!(60), 60),
            (json!("60"), 60),
            (json!(59.9), 59),
            (json!(null), 3600),
            (json!([]), 3600),
            (json!(-5), 3600),
            (json!("soon"), 3600),
            (json!(1e300), LONGEST_LIFETIME),
        ] {
            assert_eq!(response(&json!({ "expires_in": lifetime })).unwrap().lifetime, seconds, "{lifetime}");
        }
        let scopes = |scope: Value| response(&json!({ "scope": scope })).unwrap().scopes;
        let both = Some(vec!["openid".to_owned(), "email".to_owned()]);
        assert_eq!(scopes(json!("openid  email")), both);
        assert_eq!(scopes(json!(["openid", "email"])), both);
        assert_eq!(scopes(json!("")), None);
        assert!(response(&json!({ "id_token": null, "refresh_token": 7, "token_type": "bearer" })).is_ok());
        let marked = [b"\xef\xbb\xbf".as_slice(), br#"{"access_token":"a","token_type":"Bearer"}"#].concat();
        assert!(read(&marked).response.is_ok());
    }

    #[test]
    fn what_is_needed_must_be_right_and_is_named() {
        for (change, reason) in [
            (json!({ "access_token": null }), "no access_token"),
            (json!({ "access_token": "" }), "is empty"),
            (json!({ "access_token": "a\r\nX-Evil: 1" }), "characters that no token may have"),
            (json!({ "access_token": "a\u{7f}" }), "characters that no token may have"),
            (json!({ "access_token": "caf\u{e9}" }), "characters that no token may have"),
            (json!({ "token_type": null }), "no token_type"),
            (json!({ "token_type": "mac" }), "not `Bearer`"),
        ] {
            let error = response(&change).err().unwrap();
            assert!(error.contains(reason), "{change}: {error}");
        }
    }

    /// Found by trial: a rotated refresh token was lost with a response that could not be used otherwise.
    #[test]
    fn refresh_token_is_taken_whatever_else_is_wrong() {
        for body in [
            json!({ "refresh_token": "r" }),
            json!({ "refresh_token": "r", "access_token": 5, "token_type": [] }),
            json!({ "refresh_token": "r", "access_token": "a\n", "token_type": "mac", "expires_in": {} }),
        ] {
            let unchecked = read(body.to_string().as_bytes());
            assert_eq!(unchecked.refresh_token().as_ref().map(Secret::expose), Some("r"), "{body}");
            assert!(unchecked.response.is_err());
        }
        assert_eq!(read(br#"{"refresh_token": "r\u0000"}"#).refresh_token(), None);
    }

    #[test]
    fn status_and_words_decide_what_a_refusal_means() {
        let refused = |status, body: &str| {
            let fetched = Fetched { status, body: body.into(), retry_after: Some(7), ..Fetched::default() };
            refusal("the token endpoint", &fetched)
        };
        for (status, body) in
            [(503, ""), (500, "<html>"), (429, "{}"), (400, r#"{"error":"temporarily_unavailable"}"#)]
        {
            assert!(matches!(refused(status, body), E::Failing { retry_after: Some(7), .. }), "{status}");
        }
        assert!(matches!(refused(400, r#"{"error":"invalid_grant"}"#), E::InvalidGrant(_)));
        for (status, body) in [
            (400, ""),
            (400, r#"{"error":"interaction_required"}"#),
            (401, r#"{"error":"invalid_client","error_description":null}"#),
            (403, r#"{"errorCode":"E0000006","errorSummary":"You do not have permission"}"#),
            (400, r#"{"error":{"code":5}}"#),
        ] {
            assert!(matches!(refused(status, body), E::Refused(_)), "{status} {body}");
        }
        assert!(
            refused(403, r#"{"errorSummary":"You do not have permission"}"#)
                .to_string()
                .contains("permission")
        );
        assert!(matches!(refused(302, ""), E::Untrusted { .. }));
    }
}
