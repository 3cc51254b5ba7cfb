//! The identity provider: what discovery says, and the requests to its endpoints. Whether an answer is to be believed
//! is decided in [`checks`].
//!
//! What a native, public client must do, and the test of each (`cargo xtask tidy` knows whether they exist):
//!
//! | it must | test |
//! |---|---|
//! | RFC 8252, 6: the person's own browser, no view inside the app | `port_18080_a_real_browser_signs_in_at_a_certified_provider` |
//! | RFC 8252, 7.3: a loopback redirect URI, on IPv4 and on IPv6 | `localhost_means_both_families_and_an_address_only_itself` |
//! | RFC 8252, 8.1 and RFC 9700, 2.1.1: PKCE | `every_request_is_new_and_says_what_it_must` |
//! | RFC 8252, 8.3: the listener is open during a request only | `a_taken_port_is_named` |
//! | RFC 8252, 8.3: the port is shared with nobody | `a_port_is_shared_with_nobody_and_free_again_at_once` |
//! | RFC 8252, 8.4: answers to no request of ours are refused | `a_browser_with_a_foreign_state_changes_nothing` |
//! | RFC 8252, 8.5: no secret is believed to protect the client | `every_request_is_new_and_says_what_it_must` |
//! | RFC 7636, 4.1: a verifier of 43 to 128 characters, new each time | `every_request_is_new_and_says_what_it_must` |
//! | RFC 7636, 4.2 and 4.3: its challenge is S256 | `every_request_is_new_and_says_what_it_must` |
//! | RFC 7636, 4.5: the verifier goes to the token endpoint | `every_request_is_new_and_says_what_it_must` |
//! | RFC 9207, 2.4: `iss` of the response is compared to the letter | `answers_that_fail_a_check_sign_nobody_in` |
//! | RFC 9207, 2.4: without `iss`, refused where it was promised | `answers_that_fail_a_check_sign_nobody_in` |
//! | RFC 9207, 2.4: `error` responses are checked as well | `an_error_in_another_issuers_name_is_not_believed` |
//! | RFC 9700, 2.1: the redirect URI is exactly the one of policy | `every_request_is_new_and_says_what_it_must` |
//! | RFC 9700, 2.1.2: the code grant, never implicit | `every_request_is_new_and_says_what_it_must` |
//! | RFC 9700, 4.3: no code stays in the browser's history | `the_last_page_says_what_happened_and_keeps_no_code` |
//! | RFC 9700, 4.7 and RFC 6749, 10.12: `state`, used once | `the_last_page_says_what_happened_and_keeps_no_code` |
//! | RFC 9700, 4.12: the token endpoint sends nobody elsewhere | `answers_that_fail_a_check_sign_nobody_in` |
//! | RFC 9700, 4.14: a refresh token that was used is not used again, but after a lost answer | `many_questions_at_once_renew_once` |
//! | RFC 6749, 3.1: no parameter twice | `what_a_person_pastes_is_read_as_the_browser_would_have_brought_it` |
//! | RFC 6749, 6: a renewal asks for no more than the sign-in | `a_scope_that_is_new_in_policy_ends_no_session` |
//! | RFC 6749, 7.1: a type of token that is not understood is not used | `answers_that_fail_a_check_sign_nobody_in` |
//! | RFC 7009, 2: a session that is ended here ends there | `keys_change_with_each_sign_in_and_go_with_the_session` |
//! | RFC 8628, 3.5: waiting for another device ends | `a_person_signs_in_on_another_device_if_policy_allows_it` |
//! | RFC 8707, 2: a resource has a token of its own | `fewer_scopes_and_other_resources_have_tokens_of_their_own` |
//! | RFC 9126, 2: requests are handed over in advance on demand | `the_certified_provider_gets_its_requests_in_advance_where_it_demands_that` |
//! | Discovery 1.0, 4.3: the issuer is equal to the letter | `answers_that_fail_a_check_sign_nobody_in` |
//! | Core 1.0, 3.1.2.1: `openid`, `nonce`, `state` in each request | `every_request_is_new_and_says_what_it_must` |
//! | Core 1.0, 3.1.3.7: every check of an ID token | `answers_that_fail_a_check_sign_nobody_in` |
//! | Core 1.0, 3.1.3.7, 10.1.1: keys are fetched anew for an unknown one, once | `answers_that_are_only_unusual_sign_people_in` |
//! | Core 1.0, 3.1.3.8: `at_hash`, where it is there | `answers_that_fail_a_check_sign_nobody_in` |
//! | Core 1.0, 5.3.2: userinfo speaks of the same person | `answers_that_fail_a_check_sign_nobody_in` |
//! | Core 1.0, 12.2: after a renewal issuer, person and client are the same | `a_renewal_keeps_who_it_is` |

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
use policy_schema::{Code, Problem};
use url::Url;

use super::configuration::Configuration;
use super::session::Want;
use crate::clock;
use crate::http::{Http, HttpError};

pub(super) use explain::refused;
use explain::{explain_discovery, invalid, unreachable};
pub(super) use request::{DeviceRequest, Pending};
use types::{Answer, Keys, Metadata, RelyingParty};

pub(crate) mod checks;
mod explain;
mod key;
mod request;
mod types;

/// Documents of an identity provider are smaller than this, in bytes.
const MAXIMUM_ANSWER: usize = 1024 * 1024;
/// What discovery said is asked for again after so many seconds.
const DISCOVERY_LASTS: i64 = 3600;
/// Keys are fetched anew for the sake of an unknown one no sooner than after so many seconds.
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
    /// When the keys were last fetched anew for the sake of an unknown one.
    searched_at: Option<Timestamp>,
}

/// A provider that answered, and this client of it.
pub(super) struct Provider<'k> {
    known: &'k Known,
    discovered: Discovered,
    http: Http,
    client: RelyingParty,
    client_id: ClientId,
    issuer: IssuerUrl,
    keys_at: JsonWebKeySetUrl,
}

/// An answer to a renewal that nobody has checked yet. Its refresh token has to be kept whatever the checks say: the
/// provider counts the one before as used.
pub(super) struct Unchecked(Answer);

impl Unchecked {
    pub(super) fn refresh_token(&self) -> Option<String> {
        self.0.refresh_token().map(|token| token.secret().clone())
    }
}

/// Tokens that passed every check.
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) id_token: Option<String>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) expires_at: Timestamp,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) person: Option<Person>,
    pub(crate) nonce: Option<String>,
}

/// Whom an ID token names.
pub(crate) struct Person {
    pub(crate) subject: String,
    pub(crate) email: Option<String>,
    /// When the ID token ends.
    pub(crate) vouched_until: Timestamp,
}

impl<'k> Provider<'k> {
    /// Asks the provider who it is, or takes what it said not long ago. Endpoints of policy win over its own; if policy
    /// names all three, a provider without a discovery document will do.
    pub(super) async fn discover(
        known: &'k Known,
        configuration: &Configuration,
        anew: bool,
    ) -> Result<Self, Problem> {
        let (issuer, client_id) = configuration.client()?;
        let http = Http::new(&configuration.network).map_err(|error| unreachable(issuer, &error))?;
        let issuer_url =
            IssuerUrl::new(issuer.to_owned()).map_err(|error| invalid(issuer, &error.to_string()))?;
        let now = clock::now();
        let discovered = match known.recent(configuration, now).filter(|_| !anew) {
            Some(discovered) => discovered,
            None => look_patiently(configuration, &issuer_url, &http, now, anew).await?,
        };
        let metadata = discovered.metadata.as_ref();
        let endpoint = |policy: &Option<String>, own: Option<String>, name: &str| {
            let text = policy.clone().or(own);
            let text =
                text.ok_or_else(|| invalid(issuer, &format!("the discovery document has no {name}")))?;
            Url::parse(&text).map_err(|error| invalid(issuer, &format!("{name}: {text}: {error}")))
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
        let keys_at = keys_address(configuration, metadata, issuer)?;
        let client_id = ClientId::new(client_id.to_owned());
        let mut client = Client::new(client_id.clone(), issuer_url.clone(), Keys::default())
            .set_auth_uri(AuthUrl::from_url(authorization))
            .set_token_uri(TokenUrl::from_url(token))
            .set_redirect_uri(
                RedirectUrl::new(configuration.redirect_uri.clone())
                    .map_err(|error| invalid(issuer, &error.to_string()))?,
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
    pub(super) fn check_issuer(&self, named: Option<&str>) -> Result<(), Problem> {
        let distrust = |reason: &str| {
            Err(self.distrust(Code::SignInResponseIssuerMismatch, format!("the browser came back {reason}")))
        };
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
    pub(super) async fn finish(&mut self, pending: Pending, code: String) -> Result<Tokens, Problem> {
        let answer = self
            .client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(pending.verifier)
            .request_async(&self.http)
            .await
            .map_err(|failure| self.explain(failure))?;
        self.accept_first(answer, Some(pending.nonce.secret().clone())).await
    }

    async fn accept_first(&mut self, answer: Answer, nonce: Option<String>) -> Result<Tokens, Problem> {
        if answer.id_token().is_none() {
            return Err(self.distrust(
                Code::SignInIdTokenMissing,
                "the identity provider sent no ID token; is `openid` among the scopes?".to_owned(),
            ));
        }
        self.accept(answer, nonce.as_deref(), true).await
    }

    /// Renews tokens. An answer that got lost on the way is asked for once more at once, with the same refresh token; a
    /// network that is not there is waited for.
    pub(super) async fn refresh(
        &self,
        refresh_token: &str,
        asked: &[String],
        want: &Want,
    ) -> Result<Unchecked, Problem> {
        let refresh_token = RefreshToken::new(refresh_token.to_owned());
        let mut pauses = NETWORK_PAUSES.iter();
        let mut lost = false;
        // Entra gives an ID token on refresh only to those who name the scopes again, and to nobody more than the
        // sign-in asked for (RFC 6749, section 6). One that granted less may refuse that: it is then not told any.
        let openid = "openid".to_owned();
        let mut scopes: Vec<&String> = match want.scopes.as_slice() {
            [] => std::iter::once(&openid).chain(asked).collect(),
            fewer => fewer.iter().collect(),
        };
        loop {
            let mut request = self.client.exchange_refresh_token(&refresh_token);
            for scope in &scopes {
                request = request.add_scope(Scope::new((*scope).clone()));
            }
            if let Some(resource) = &want.resource {
                request = request.add_extra_param("resource", resource.clone());
            }
            let failure = match request.request_async(&self.http).await {
                Ok(answer) => return Ok(Unchecked(answer)),
                Err(failure) => failure,
            };
            match &failure {
                RequestTokenError::Request(error) if error.never_arrived() => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(self.explain(failure)),
                },
                RequestTokenError::Request(HttpError::Unreachable { .. } | HttpError::TooSlow { .. })
                    if !lost =>
                {
                    lost = true;
                }
                RequestTokenError::ServerResponse(answer)
                    if *answer.error() == CoreErrorResponseType::InvalidScope
                        && want.scopes.is_empty()
                        && !scopes.is_empty() =>
                {
                    scopes.clear();
                }
                RequestTokenError::Request(_)
                | RequestTokenError::ServerResponse(_)
                | RequestTokenError::Parse(..)
                | RequestTokenError::Other(_) => return Err(self.explain(failure)),
            }
        }
    }

    /// Checks the answer to a renewal.
    pub(super) async fn check(&mut self, answer: Unchecked, nonce: Option<&str>) -> Result<Tokens, Problem> {
        self.accept(answer.0, nonce, false).await
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
        let asked = self.http.post_form(&address, form, MAXIMUM_ANSWER);
        match tokio::time::timeout(REVOCATION_LIMIT, asked).await {
            Ok(Ok((200..300, _))) => Ok(true),
            Ok(Ok((status, _))) => Err(format!("it answered {status}")),
            Ok(Err(error)) => Err(crate::http::chain(&error)),
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

    /// Fetches the keys anew, if that was not done a moment ago.
    async fn search_keys(&mut self, now: Timestamp) -> Result<bool, Problem> {
        let recently = |then: Timestamp| then.duration_until(now).as_secs() < KEYS_PAUSE;
        if self.discovered.searched_at.is_some_and(recently) {
            return Ok(false);
        }
        self.discovered.keys = fetch_keys(&self.http, &self.keys_at, self.issuer.as_str()).await?;
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

/// Waits for a network that is not there yet, unless a person waits for the answer.
async fn look_patiently(
    configuration: &Configuration,
    issuer: &IssuerUrl,
    http: &Http,
    now: Timestamp,
    at_once: bool,
) -> Result<Discovered, Problem> {
    let mut pauses = NETWORK_PAUSES.iter().filter(|_| !at_once);
    loop {
        match (look(configuration, issuer, http, now).await, pauses.next()) {
            (Err(problem), Some(pause)) if problem.code == Code::SignInProviderUnreachable => {
                tokio::time::sleep(*pause).await;
            }
            (result, _) => return result,
        }
    }
}

/// Asks for the discovery document and the keys.
async fn look(
    configuration: &Configuration,
    issuer: &IssuerUrl,
    http: &Http,
    now: Timestamp,
) -> Result<Discovered, Problem> {
    let metadata = match Metadata::discover_async(issuer.clone(), http).await {
        Ok(metadata) => Some(metadata),
        Err(error) => {
            let problem = explain_discovery(issuer, error);
            let complete = configuration.authorization_endpoint.is_some()
                && configuration.token_endpoint.is_some()
                && configuration.jwks_uri.is_some();
            if !complete {
                return Err(problem);
            }
            tracing::info!("going on with the endpoints of policy: {}", problem.message);
            None
        }
    };
    let keys = if let (Some(metadata), None) = (&metadata, &configuration.jwks_uri) {
        metadata.jwks().clone()
    } else {
        let keys_at = keys_address(configuration, metadata.as_ref(), issuer)?;
        fetch_keys(http, &keys_at, issuer).await?
    };
    Ok(Discovered { configuration: configuration.clone(), metadata, keys, at: now, searched_at: None })
}

fn keys_address(
    configuration: &Configuration,
    metadata: Option<&Metadata>,
    issuer: &str,
) -> Result<JsonWebKeySetUrl, Problem> {
    let address = configuration
        .jwks_uri
        .clone()
        .or_else(|| metadata.map(|metadata| metadata.jwks_uri().to_string()))
        .ok_or_else(|| invalid(issuer, "the discovery document has no jwks_uri"))?;
    JsonWebKeySetUrl::new(address).map_err(|error| invalid(issuer, &format!("jwks_uri: {error}")))
}

async fn fetch_keys(http: &Http, at: &JsonWebKeySetUrl, issuer: &str) -> Result<Keys, Problem> {
    Keys::fetch_async(at, http).await.map_err(|error| explain_discovery(issuer, error))
}

/// Base64 as JOSE writes it (RFC 7515, section 2).
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request, MAXIMUM_ANSWER))
    }
}
