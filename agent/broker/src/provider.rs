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

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use openidconnect::core::CoreErrorResponseType;
use openidconnect::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, HttpRequest,
    HttpResponse, IssuerUrl, JsonWebKeySetUrl, OAuth2TokenResponse as _, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, TokenResponse as _, TokenUrl, UserInfoUrl,
};
use url::Url;

use super::configuration::Configuration;
use super::tokens::{TokenKey, Tokens};
use net::http::{Http, HttpError};
use platform::clock;

use checks::untrusted;
pub(super) use error::{Check, ProviderError, Refusal};
use explain::{explain, explain_discovery, invalid, unreachable};
pub(super) use request::{AuthorizationRequest, DeviceRequest};
use types::{Keys, Metadata, RelyingParty, TokenEndpointResponse};

pub(crate) mod checks;
mod error;
mod explain;
mod key;
mod request;
mod types;

/// Documents of an identity provider are smaller than this, in bytes.
const MAXIMUM_RESPONSE: usize = 1024 * 1024;
/// What discovery said is asked for again after so many seconds.
const DISCOVERY_LASTS: i64 = 3600;
/// How long to wait before keys are fetched again because of an unknown one, in seconds.
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
    metadata: Option<Metadata>,
    keys: Keys,
    at: Timestamp,
    /// When the keys were last fetched because of an unknown one.
    searched_at: Option<Timestamp>,
}

/// A provider that was discovered, and this client of it.
pub(super) struct Provider<'k> {
    known: &'k Known,
    discovered: Discovered,
    http: Transport,
    client: RelyingParty,
    client_id: ClientId,
    issuer: IssuerUrl,
    keys_at: JsonWebKeySetUrl,
}

/// The response to a renewal before its checks. Its refresh token has to be kept whatever the checks say: the
/// provider counts the one before as used.
pub(super) struct Unchecked(TokenEndpointResponse);

impl Unchecked {
    pub(super) fn refresh_token(&self) -> Option<String> {
        self.0.refresh_token().map(|token| token.secret().clone())
    }
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
        let http = Transport(http);
        let issuer_url = IssuerUrl::new(issuer.to_owned()).map_err(|error| invalid(&error.to_string()))?;
        let now = clock::now();
        let discovered = match known.recent(configuration, now).filter(|_| !fresh) {
            Some(discovered) => discovered,
            None => observe_within_limit(configuration, &issuer_url, &http, now, fresh).await?,
        };
        let metadata = discovered.metadata.as_ref();
        let endpoint = |policy: &Option<String>, own: Option<String>, name: &str| {
            let text = policy.clone().or(own);
            let text = text.ok_or_else(|| invalid(&format!("the discovery document has no {name}")))?;
            Url::parse(&text).map_err(|error| invalid(&format!("{name}: {text}: {error}")))
        };
        let authorization = endpoint(
            &configuration.authorization_endpoint,
            metadata.map(|metadata| metadata.authorization_endpoint().to_string()),
            "authorization_endpoint",
        )?;
        let token = endpoint(
            &configuration.token_endpoint,
            metadata.and_then(|metadata| metadata.token_endpoint().map(ToString::to_string)),
            "token_endpoint",
        )?;
        let keys_at = keys_address(configuration, metadata)?;
        let client_id = ClientId::new(client_id.to_owned());
        let mut client = Client::new(client_id.clone(), issuer_url.clone(), Keys::default())
            .set_auth_uri(AuthUrl::from_url(authorization))
            .set_token_uri(TokenUrl::from_url(token))
            .set_redirect_uri(
                RedirectUrl::new(configuration.redirect_uri.clone())
                    .map_err(|error| invalid(&error.to_string()))?,
            )
            .set_auth_type(AuthType::RequestBody);
        if let Some(secret) = &configuration.client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.clone()));
        }
        let provider = Self { known, discovered, http, client, client_id, issuer: issuer_url, keys_at };
        provider.remember();
        Ok(provider)
    }

    /// Checks that the authorization response comes from this provider (RFC 9207, section 2.4).
    pub(super) fn check_issuer(&self, named: Option<&str>) -> Result<(), ProviderError> {
        let distrust =
            |reason: &str| Err(untrusted(Check::ResponseIssuer, format!("the browser came back {reason}")));
        match named {
            Some(named) if named == self.issuer.as_str() => Ok(()),
            Some(_) => distrust("from another issuer"),
            None if self.more(|more| more.names_issuer).unwrap_or_default() => {
                distrust("without the issuer's name")
            }
            None => Ok(()),
        }
    }

    /// Exchanges a code for tokens.
    pub(super) async fn finish(
        &mut self,
        request: AuthorizationRequest,
        code: String,
    ) -> Result<Tokens, ProviderError> {
        let response = self
            .client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(request.verifier)
            .request_async(&self.http)
            .await
            .map_err(explain)?;
        self.accept_first(response, Some(request.nonce.secret().clone())).await
    }

    async fn accept_first(
        &mut self,
        response: TokenEndpointResponse,
        nonce: Option<String>,
    ) -> Result<Tokens, ProviderError> {
        if response.id_token().is_none() {
            return Err(untrusted(
                Check::IdToken,
                "the identity provider sent no ID token; is `openid` among the scopes?".to_owned(),
            ));
        }
        self.accept(response, nonce.as_deref(), true).await
    }

    /// Renews tokens. After a lost response the request is repeated at once, with the same refresh token; a
    /// network that is not there is waited for.
    pub(super) async fn refresh(
        &self,
        refresh_token: &str,
        requested_scopes: &[String],
        key: &TokenKey,
    ) -> Result<Unchecked, ProviderError> {
        let refresh_token = RefreshToken::new(refresh_token.to_owned());
        let mut pauses = NETWORK_PAUSES.iter();
        let mut lost = false;
        // Entra gives an ID token on refresh only to those who name the scopes again, and nobody gets more than the
        // sign-in asked for (RFC 6749, section 6). One that granted less may refuse that: it is then not told any.
        let openid = "openid".to_owned();
        let mut scopes: Vec<&String> = match key.scopes.as_slice() {
            [] => std::iter::once(&openid).chain(requested_scopes).collect(),
            fewer => fewer.iter().collect(),
        };
        loop {
            let mut request = self.client.exchange_refresh_token(&refresh_token);
            for scope in &scopes {
                request = request.add_scope(Scope::new((*scope).clone()));
            }
            if let Some(resource) = &key.resource {
                request = request.add_extra_param("resource", resource.clone());
            }
            let failure = match request.request_async(&self.http).await {
                Ok(response) => return Ok(Unchecked(response)),
                Err(failure) => failure,
            };
            match &failure {
                RequestTokenError::Request(error) if error.never_arrived() => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(explain(failure)),
                },
                RequestTokenError::Request(HttpError::Unreachable { .. } | HttpError::TooSlow { .. })
                    if !lost =>
                {
                    lost = true;
                }
                RequestTokenError::ServerResponse(response)
                    if *response.error() == CoreErrorResponseType::InvalidScope
                        && key.scopes.is_empty()
                        && !scopes.is_empty() =>
                {
                    scopes.clear();
                }
                RequestTokenError::Request(_)
                | RequestTokenError::ServerResponse(_)
                | RequestTokenError::Parse(..)
                | RequestTokenError::Other(_) => return Err(explain(failure)),
            }
        }
    }

    /// Checks the response to a renewal.
    pub(super) async fn check(
        &mut self,
        response: Unchecked,
        nonce: Option<&str>,
    ) -> Result<Tokens, ProviderError> {
        self.accept(response.0, nonce, false).await
    }

    /// Ends a session at the provider, if it offers that. Whether it did; an error says why not.
    pub(super) async fn revoke(&self, refresh_token: &str) -> Result<bool, String> {
        let Some(address) = self.more(|more| more.revocation_endpoint.clone()).flatten() else {
            return Ok(false);
        };
        let secret = self.discovered.configuration.client_secret.as_deref();
        let fields = [
            ("token", refresh_token),
            ("token_type_hint", "refresh_token"),
            ("client_id", self.client_id.as_str()),
        ];
        let fields = fields.into_iter().chain(secret.map(|secret| ("client_secret", secret)));
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let address = Url::parse(&address).map_err(|error| error.to_string())?;
        let asked = self.http.0.post_form(&address, form, MAXIMUM_RESPONSE);
        match tokio::time::timeout(REVOCATION_LIMIT, asked).await {
            Ok(Ok((200..300, _))) => Ok(true),
            Ok(Ok((status, _))) => Err(format!("it answered {status}")),
            Ok(Err(error)) => Err(net::chain(&error)),
            Err(_) => Err(format!("it took longer than {} seconds", REVOCATION_LIMIT.as_secs())),
        }
    }

    /// Where a browser ends the session at the provider, if it offers that (RP-Initiated Logout 1.0, section 2).
    pub(super) fn end_session(&self, id_token: &str) -> Option<Url> {
        let mut url: Url = self.more(|more| more.end_session_endpoint.clone()).flatten()?.parse().ok()?;
        url.query_pairs_mut()
            .append_pair("id_token_hint", id_token)
            .append_pair("client_id", self.client_id.as_str());
        Some(url)
    }

    fn more<T>(&self, pick: impl FnOnce(&types::MoreMetadata) -> T) -> Option<T> {
        self.discovered.metadata.as_ref().map(|metadata| pick(metadata.additional_metadata()))
    }

    fn user_info_address(&self) -> Option<UserInfoUrl> {
        self.discovered.metadata.as_ref().and_then(|metadata| metadata.userinfo_endpoint().cloned())
    }

    /// Fetches the keys again, if that was not done a moment ago.
    async fn search_keys(&mut self, now: Timestamp) -> Result<bool, ProviderError> {
        let recently = |then: Timestamp| then.duration_until(now).as_secs() < KEYS_PAUSE;
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
    issuer: &IssuerUrl,
    http: &Transport,
    now: Timestamp,
    at_once: bool,
) -> Result<Discovered, ProviderError> {
    let mut pauses = NETWORK_PAUSES.iter().filter(|_| !at_once);
    loop {
        match (observe(configuration, issuer, http, now).await, pauses.next()) {
            (Err(ProviderError::Unreachable(_)), Some(pause)) => {
                tokio::time::sleep(*pause).await;
            }
            (result, _) => return result,
        }
    }
}

/// Asks for the discovery document and the keys.
async fn observe(
    configuration: &Configuration,
    issuer: &IssuerUrl,
    http: &Transport,
    now: Timestamp,
) -> Result<Discovered, ProviderError> {
    let metadata = match Metadata::discover_async(issuer.clone(), http).await {
        Ok(metadata) => Some(metadata),
        Err(error) => {
            let error = explain_discovery(error);
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
    let keys = if let (Some(metadata), None) = (&metadata, &configuration.jwks_uri) {
        metadata.jwks().clone()
    } else {
        let keys_at = keys_address(configuration, metadata.as_ref())?;
        fetch_keys(http, &keys_at).await?
    };
    Ok(Discovered { configuration: configuration.clone(), metadata, keys, at: now, searched_at: None })
}

fn keys_address(
    configuration: &Configuration,
    metadata: Option<&Metadata>,
) -> Result<JsonWebKeySetUrl, ProviderError> {
    let address = configuration
        .jwks_uri
        .clone()
        .or_else(|| metadata.map(|metadata| metadata.jwks_uri().to_string()))
        .ok_or_else(|| invalid("the discovery document has no jwks_uri"))?;
    JsonWebKeySetUrl::new(address).map_err(|error| invalid(&format!("jwks_uri: {error}")))
}

async fn fetch_keys(http: &Transport, at: &JsonWebKeySetUrl) -> Result<Keys, ProviderError> {
    Keys::fetch_async(at, http).await.map_err(explain_discovery)
}

/// Base64 as JOSE writes it (RFC 7515, section 2).
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

/// The HTTP client as the library calls it.
pub(crate) struct Transport(Http);

impl<'c> AsyncHttpClient<'c> for Transport {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.0.exchange(request, MAXIMUM_RESPONSE))
    }
}
