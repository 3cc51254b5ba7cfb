//! The identity provider: what discovery says, and the requests to its endpoints. Whether an answer is to be believed
//! is decided in [`checks`].
//!
//! | what is kept to | where |
//! |---|---|
//! | Discovery 1.0, 4.3: the issuer must be equal to the letter | `Provider::discover` (the library) |
//! | RFC 7636, 4.1 and 4.2: a new verifier for each request, S256 only | `Provider::begin` |
//! | RFC 6749, 10.12 and RFC 9700, 4.7: `state` bound to this browser's request | `Pending::is_answered_by` |
//! | Core 1.0, 3.1.2.1: a new `nonce` for each request | `Provider::begin` |
//! | RFC 9207, 2.4: `iss` of the response is compared, and demanded where it was promised | `Provider::check_issuer` |
//! | RFC 9700, 4.12: no redirects from the token endpoint | `crate::http` |
//! | RFC 8252, 8.5: no secret is believed to protect a native client | `ClientSecret` is optional |
//! | RFC 6749, 6: fewer scopes on refresh; RFC 8707, 2.2: resources | `Provider::refresh` |
//! | RFC 7009: a session that is ended here ends there | `Provider::revoke` |
//! | RFC 8628: sign-in on another device | `Provider::begin_on_another_device` |
//! | RFC 9126: requests are pushed where the provider demands it | `Provider::begin` |
//!
//! Each has a scenario in `tests/scenarios/sign_in.rs` or `session.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use openidconnect::core::{CoreErrorResponseType, CoreJsonWebKeySet};
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
use types::{Answer, Metadata, RelyingParty};

mod checks;
mod explain;
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
    keys: CoreJsonWebKeySet,
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
        let mut client = Client::new(client_id.clone(), issuer_url.clone(), CoreJsonWebKeySet::default())
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

async fn fetch_keys(http: &Http, at: &JsonWebKeySetUrl, issuer: &str) -> Result<CoreJsonWebKeySet, Problem> {
    CoreJsonWebKeySet::fetch_async(at, http).await.map_err(|error| explain_discovery(issuer, error))
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request, MAXIMUM_ANSWER))
    }
}
