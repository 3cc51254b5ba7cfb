//! The identity provider: what discovery says, and the requests to its endpoints. Whether a response is trusted
//! is decided in [`checks`].
//!
//! What a native, public client must do, and the test of each (`cargo xtask tidy` knows whether they exist):
//!
//! | it must | test |
//! |---|---|
//! | RFC 8252, 6: the user's own browser, no view inside the app | `port_18080_real_browser_signs_in_at_certified_provider` |
//! | RFC 8252, 7.3: a loopback redirect URI, on IPv4 and on IPv6 | `localhost_means_both_families_and_an_address_only_itself` |
//! | RFC 8252, 8.1 and RFC 9700, 2.1.1: PKCE | `authorization_requests_are_unique_and_complete` |
//! | RFC 8252, 8.3: the listener is open during a request only | `taken_port_fails_sign_in_and_names_the_process` |
//! | RFC 8252, 8.3: no other program shares the port | `listening_port_is_exclusive_and_free_again_after_close` |
//! | RFC 8252, 8.4: responses to no request of this client are refused | `redirect_response_with_foreign_state_is_refused_and_sign_in_goes_on` |
//! | RFC 8252, 8.5: no secret counts as protection of the client | `authorization_requests_are_unique_and_complete` |
//! | RFC 7636, 4.1: a verifier of 43 to 128 characters, new each time | `authorization_requests_are_unique_and_complete` |
//! | RFC 7636, 4.2 and 4.3: its challenge is S256 | `authorization_requests_are_unique_and_complete` |
//! | RFC 7636, 4.5: the verifier goes to the token endpoint | `authorization_requests_are_unique_and_complete` |
//! | RFC 9207, 2.4: `iss` of the response is compared exactly | `token_response_that_fails_a_check_signs_nobody_in` |
//! | RFC 9207, 2.4: without `iss`, refused if the provider promised it | `token_response_that_fails_a_check_signs_nobody_in` |
//! | RFC 9207, 2.4: `error` responses are checked as well | `error_response_of_wrong_issuer_is_ignored` |
//! | RFC 9700, 2.1: the redirect URI is exactly the one of policy | `authorization_requests_are_unique_and_complete` |
//! | RFC 9700, 2.1.2: the code grant, never implicit | `authorization_requests_are_unique_and_complete` |
//! | RFC 9700, 4.3: no code stays in the browser's history | `last_page_shows_result_and_code_leaves_the_address` |
//! | RFC 9700, 4.7 and RFC 6749, 10.12: `state`, used once | `last_page_shows_result_and_code_leaves_the_address` |
//! | RFC 9700, 4.12: redirects of the token endpoint are not followed | `token_response_that_fails_a_check_signs_nobody_in` |
//! | RFC 9700, 4.14: a refresh token that was used is not used again, except after a lost response | `concurrent_token_requests_renew_once` |
//! | RFC 6749, 3.1: no parameter twice | `pasted_address_is_read_like_a_redirect` |
//! | RFC 6749, 6: a renewal asks for no more than the sign-in | `new_scope_in_policy_keeps_session_and_is_not_requested_in_renewal` |
//! | RFC 6749, 7.1: a type of token that is not understood is not used | `token_response_that_fails_a_check_signs_nobody_in` |
//! | RFC 7009, 2: a session that is ended here ends there | `vault_key_changes_with_sign_in_and_is_removed_at_logout` |
//! | RFC 8628, 3.5: waiting for another device ends | `device_flow_signs_in_only_where_policy_and_provider_allow_it` |
//! | RFC 8707, 2: a resource has a token of its own | `fewer_scopes_and_resources_have_their_own_cached_tokens` |
//! | RFC 9126, 2: requests are pushed if the provider demands it | `pushed_authorization_request_is_used_where_provider_requires_it` |
//! | Discovery 1.0, 4.3: the issuer is exactly equal | `token_response_that_fails_a_check_signs_nobody_in` |
//! | Core 1.0, 3.1.2.1: `openid`, `nonce`, `state` in each request | `authorization_requests_are_unique_and_complete` |
//! | Core 1.0, 3.1.3.7: every check of an ID token | `token_response_that_fails_a_check_signs_nobody_in` |
//! | Core 1.0, 3.1.3.7, 10.1.1: keys are fetched again for an unknown one, once | `unusual_but_valid_token_responses_sign_in` |
//! | Core 1.0, 3.1.3.8: `at_hash`, if it is there | `token_response_that_fails_a_check_signs_nobody_in` |
//! | Core 1.0, 5.3.2: userinfo is about the same user | `token_response_that_fails_a_check_signs_nobody_in` |
//! | Core 1.0, 12.2: after a renewal issuer, user and client are the same | `renewal_for_another_user_is_refused_and_session_kept` |

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use url::Url;

use super::configuration::Configuration;
use super::tokens::{TokenKey, Tokens};
use net::http::{Http, HttpError};
use platform::clock;

pub(super) use device::DeviceRequest;
use documents::{Discovery, KeySet, needed};
use error::untrusted;
pub(super) use error::{Check, ProviderError, Refusal};
use explain::{invalid, no_keys, unreachable};
pub(super) use request::AuthorizationRequest;
pub(super) use token_endpoint::Unchecked;

pub(crate) mod checks;
mod device;
pub mod documents;
mod error;
mod explain;
pub(crate) mod id_token;
pub(crate) mod key;
mod request;
mod token_endpoint;

/// Documents of an identity provider are smaller than this, in bytes.
const MAXIMUM_RESPONSE: usize = 1024 * 1024;
/// What discovery said is asked for again after so many seconds.
const DISCOVERY_LASTS: i64 = 3600;
/// How long to wait before keys are fetched again because of one that is unknown or does not fit, in seconds.
const KEYS_PAUSE: i64 = 30;
/// How long to wait for a network that is not there yet, as after sleep, before each further try.
const NETWORK_PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// How long the provider may take to end a session.
const REVOCATION_LIMIT: Duration = Duration::from_secs(5);

/// What a provider said about itself, for a while.
#[derive(Default)]
pub(super) struct Known(Mutex<Option<Discovered>>);

#[derive(Clone)]
struct Discovered {
    configuration: Configuration,
    /// `None` if policy names all endpoints and there is no document.
    document: Option<Discovery>,
    keys: KeySet,
    at: Timestamp,
    /// When the keys were last fetched because one did not fit.
    searched_at: Option<Timestamp>,
}

/// A provider that was discovered, and this client of it.
pub(super) struct Provider<'k> {
    known: &'k Known,
    discovered: Discovered,
    http: Http,
    issuer: String,
    client_id: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    keys_at: Url,
}

impl<'k> Provider<'k> {
    /// Asks the provider who it is, or takes what it said not long ago. Endpoints of policy win over its own; if policy
    /// names all three, a provider without a discovery document will do.
    pub(super) async fn discover(
        known: &'k Known,
        configuration: &Configuration,
        fresh: bool,
    ) -> Result<Self, ProviderError> {
        let (issuer, client_id) = configuration.client()?;
        let http = Http::new(&configuration.network).map_err(|error| unreachable(&error))?;
        let now = clock::now();
        let discovered = match known.recent(configuration, now).filter(|_| !fresh) {
            Some(discovered) => discovered,
            None => observe_within_limit(configuration, issuer, &http, now, fresh).await?,
        };
        let document = discovered.document.as_ref();
        let authorization_endpoint = needed(
            configuration.authorization_endpoint.as_deref(),
            document.map(|document| &document.authorization_endpoint),
            "authorization_endpoint",
        );
        let token_endpoint = needed(
            configuration.token_endpoint.as_deref(),
            document.map(|document| &document.token_endpoint),
            "token_endpoint",
        );
        let provider = Self {
            known,
            http,
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            authorization_endpoint: authorization_endpoint.map_err(|reason| invalid(&reason))?,
            token_endpoint: token_endpoint.map_err(|reason| invalid(&reason))?,
            keys_at: keys_address(configuration, document)?,
            discovered,
        };
        provider.remember();
        Ok(provider)
    }

    /// Checks that the authorization response comes from this provider (RFC 9207, section 2.4).
    pub(super) fn check_issuer(&self, named: Option<&str>) -> Result<(), ProviderError> {
        let distrust =
            |reason: &str| Err(untrusted(Check::ResponseIssuer, format!("the browser came back {reason}")));
        match named {
            Some(named) if named == self.issuer => Ok(()),
            Some(_) => distrust("from another issuer"),
            None if self.document().is_some_and(|document| document.names_issuer) => {
                distrust("without the issuer's name")
            }
            None => Ok(()),
        }
    }

    /// Exchanges a code for tokens.
    pub(super) async fn finish(
        &mut self,
        request: AuthorizationRequest,
        code: &str,
    ) -> Result<Tokens, ProviderError> {
        // RFC 6749, appendix A.11: visible characters.
        if code.is_empty() || !code.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            let reason = "the browser came back with a code that has characters outside RFC 6749".to_owned();
            return Err(untrusted(Check::Token, reason));
        }
        let redirect_uri = self.discovered.configuration.redirect_uri.clone();
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri.as_str()),
            ("code_verifier", request.verifier.secret()),
        ];
        let response = self.request_tokens(&grant).await?;
        self.accept(response, Some(request.nonce.secret()), true).await
    }

    /// Renews tokens. After a lost response the request is repeated at once, with the same refresh token; a
    /// network that is not there is waited for.
    pub(super) async fn refresh(
        &self,
        refresh_token: &str,
        requested_scopes: &[String],
        key: &TokenKey,
    ) -> Result<Unchecked, ProviderError> {
        let mut pauses = NETWORK_PAUSES.iter();
        let mut lost = false;
        // Entra gives an ID token on refresh only to those who name the scopes again, and nobody gets more than the
        // sign-in asked for (RFC 6749, section 6). One that granted less may refuse that: it is then not told any.
        let mut scopes = match key.scopes.as_slice() {
            [] => std::iter::once("openid")
                .chain(requested_scopes.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(" "),
            fewer => fewer.join(" "),
        };
        loop {
            let mut grant = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
            grant.extend((!scopes.is_empty()).then_some(("scope", scopes.as_str())));
            grant.extend(key.resource.as_deref().map(|resource| ("resource", resource)));
            let failure = match self.request_tokens(&grant).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            match &failure {
                ProviderError::Unreachable { arrived: false, .. } => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(failure),
                },
                ProviderError::Unreachable { arrived: true, .. } if !lost => lost = true,
                ProviderError::Refused(refusal)
                    if refusal.is("invalid_scope") && key.scopes.is_empty() && !scopes.is_empty() =>
                {
                    scopes.clear();
                }
                ProviderError::NotConfigured(_)
                | ProviderError::Unreachable { .. }
                | ProviderError::Failing { .. }
                | ProviderError::Discovery(_)
                | ProviderError::Keys(_)
                | ProviderError::InvalidGrant(_)
                | ProviderError::Refused(_)
                | ProviderError::DeviceCodeExpired(_)
                | ProviderError::NoDeviceFlow
                | ProviderError::Untrusted { .. } => return Err(failure),
            }
        }
    }

    /// Checks the response to a renewal.
    pub(super) async fn check(
        &mut self,
        response: Unchecked,
        nonce: Option<&str>,
    ) -> Result<Tokens, ProviderError> {
        self.accept(response, nonce, false).await
    }

    /// Ends a session at the provider, if it offers that (RFC 7009, section 2.1). Whether it did; an error says why not.
    pub(super) async fn revoke(&self, token: &str, kind: &str) -> Result<bool, String> {
        let Some(Ok(address)) = self.document().and_then(|document| document.revocation_endpoint.clone())
        else {
            return Ok(false);
        };
        let fields = [("token", token), ("token_type_hint", kind)];
        let asked = self.post(&address, &fields);
        match tokio::time::timeout(REVOCATION_LIMIT, asked).await {
            Ok(Ok(response)) if (200..300).contains(&response.status) => Ok(true),
            Ok(Ok(response)) => {
                Err(token_endpoint::refusal("its revocation endpoint", &response).to_string())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it took longer than {} seconds", REVOCATION_LIMIT.as_secs())),
        }
    }

    /// Where a browser ends the session at the provider, if it offers that (RP-Initiated Logout 1.0, section 2). The ID
    /// token is not in the address, which is shown and stays in the browser's history; the provider then asks the user.
    pub(super) fn end_session(&self) -> Option<Url> {
        let mut url = self.document()?.end_session_endpoint.clone()?.ok()?;
        url.query_pairs_mut().append_pair("client_id", &self.client_id);
        Some(url)
    }

    fn document(&self) -> Option<&Discovery> {
        self.discovered.document.as_ref()
    }

    /// Fetches the keys again, if that was not done a moment ago.
    async fn search_keys(&mut self, now: Timestamp) -> Result<bool, ProviderError> {
        let recently = |then: Timestamp| (0..KEYS_PAUSE).contains(&then.duration_until(now).as_secs());
        if self.discovered.searched_at.is_some_and(recently) {
            return Ok(false);
        }
        self.discovered.keys = fetch_keys(&self.http, &self.keys_at).await?;
        self.discovered.searched_at = Some(now);
        self.remember();
        Ok(true)
    }

    fn remember(&self) {
        *self.known.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(self.discovered.clone());
    }
}

impl Known {
    fn recent(&self, configuration: &Configuration, now: Timestamp) -> Option<Discovered> {
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known
            .as_ref()
            .filter(|known| known.configuration == *configuration)
            .filter(|known| (0..DISCOVERY_LASTS).contains(&known.at.duration_until(now).as_secs()))
            .cloned()
    }
}

/// Waits for a network that is not there yet, unless a user waits.
async fn observe_within_limit(
    configuration: &Configuration,
    issuer: &str,
    http: &Http,
    now: Timestamp,
    at_once: bool,
) -> Result<Discovered, ProviderError> {
    let mut pauses = NETWORK_PAUSES.iter().filter(|_| !at_once);
    loop {
        match (observe(configuration, issuer, http, now).await, pauses.next()) {
            (Err(ProviderError::Unreachable { .. }), Some(pause)) => {
                tokio::time::sleep(*pause).await;
            }
            (result, _) => return result,
        }
    }
}

/// Asks for the discovery document and the keys.
async fn observe(
    configuration: &Configuration,
    issuer: &str,
    http: &Http,
    now: Timestamp,
) -> Result<Discovered, ProviderError> {
    let document = match fetch_document(issuer, http).await {
        Ok(document) => {
            for reason in document.unusable() {
                tracing::warn!("the discovery document: {}; it is not used", error::one_line(reason));
            }
            Some(document)
        }
        Err(error) => {
            let complete = configuration.authorization_endpoint.is_some()
                && configuration.token_endpoint.is_some()
                && configuration.jwks_uri.is_some();
            if !complete {
                return Err(error);
            }
            tracing::info!("going on with the endpoints of policy: {error}");
            None
        }
    };
    let keys_at = keys_address(configuration, document.as_ref())?;
    let keys = fetch_keys(http, &keys_at).await?;
    Ok(Discovered { configuration: configuration.clone(), document, keys, at: now, searched_at: None })
}

/// Discovery 1.0, section 4.
async fn fetch_document(issuer: &str, http: &Http) -> Result<Discovery, ProviderError> {
    let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    let url = documents::protected(&url).map_err(|reason| invalid(&format!("{url} {reason}")))?;
    let response = fetch(http, &url).await?;
    if response.status != 200 {
        return Err(invalid(&format!(
            "it responded with status {}, not with a discovery document",
            response.status
        )));
    }
    let document = Discovery::read(&response.body)
        .map_err(|reason| invalid(&format!("the response is not a discovery document: {reason}")))?;
    document.check_issuer(issuer).map_err(|reason| invalid(&reason))?;
    Ok(document)
}

fn keys_address(configuration: &Configuration, document: Option<&Discovery>) -> Result<Url, ProviderError> {
    needed(configuration.jwks_uri.as_deref(), document.map(|document| &document.jwks_uri), "jwks_uri")
        .map_err(|reason| invalid(&reason))
}

async fn fetch_keys(http: &Http, at: &Url) -> Result<KeySet, ProviderError> {
    let response = fetch(http, at).await?;
    if response.status != 200 {
        return Err(no_keys(at, &format!("responded with status {}", response.status)));
    }
    KeySet::read(&response.body).map_err(|reason| no_keys(at, &format!("is not a key set: {reason}")))
}

async fn fetch(http: &Http, url: &Url) -> Result<net::http::Fetched, ProviderError> {
    let response = http.fetch(url, None, MAXIMUM_RESPONSE).await.map_err(|error| unreachable(&error))?;
    if response.body.len() == MAXIMUM_RESPONSE {
        let host = net::http::host(url);
        let error = HttpError::TooLarge { host, limit: MAXIMUM_RESPONSE };
        return Err(invalid(&error.to_string()));
    }
    if response.status == 429 || response.status >= 500 {
        return Err(token_endpoint::refusal(url.as_str(), &response));
    }
    Ok(response)
}

/// Base64 as JOSE writes it (RFC 7515, section 2).
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}
