//! The identity provider: what discovery says, the requests to its token endpoint, and whether an ID token is to be
//! believed.
//!
//! OpenID Connect Discovery 1.0 (the issuer must be equal to the letter), Core 1.0 section 3.1.3.7 (validation),
//! RFC 7636 (PKCE with S256), RFC 9207 (the issuer in the authorization response). Signatures are RS, PS or ES with
//! 256, 384 or 512 (ES512 is allowed, but the library cannot verify it yet); HS and `none` are refused.

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey, CoreJsonWebKeySet,
    CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode,
    ClaimsVerificationError, Client, ClientId, ClientSecret, CsrfToken, DiscoveryError, HttpRequest,
    HttpResponse, IdTokenClaims, IdTokenVerifier, IssuerUrl, JsonWebKeySetUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, SignatureVerificationError, SubjectIdentifier, TokenResponse as _, TokenUrl,
    UserInfoClaims, UserInfoError, UserInfoUrl,
};
use policy_schema::{Code, Problem};
use url::Url;

use super::configuration::Configuration;
use crate::clock;
use crate::http::{Http, HttpError, chain};

/// Documents of an identity provider are smaller than this, in bytes.
const MAXIMUM_ANSWER: usize = 1024 * 1024;
/// Clocks may differ by this much, in seconds.
const LEEWAY: i64 = 60;

use types::{Answer, Failure, Metadata, OtherClaims, RelyingParty, Token};

mod types;

const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EcdsaP521Sha512,
];

/// A provider that answered, and this client of it.
pub(super) struct Provider {
    configuration: Configuration,
    http: Http,
    client: RelyingParty,
    client_id: ClientId,
    issuer: IssuerUrl,
    keys_at: JsonWebKeySetUrl,
    keys: CoreJsonWebKeySet,
    /// Whether the authorization response must name the issuer.
    names_issuer: bool,
    user_info: Option<UserInfoUrl>,
}

/// An authorization request that is on its way through the browser.
pub(super) struct Pending {
    /// Where to send the browser.
    pub(super) url: Url,
    state: CsrfToken,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
}

impl Pending {
    /// Whether an answer belongs to this request.
    pub(super) fn is_answered_by(&self, state: &str) -> bool {
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest(state).as_ref() == digest(self.state.secret()).as_ref()
    }
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
}

impl Provider {
    /// Asks the provider who it is. Endpoints of policy win over its own; if policy names all three, a provider
    /// without a discovery document will do.
    pub(super) async fn discover(configuration: &Configuration) -> Result<Self, Problem> {
        let (issuer, client_id) = configuration.client()?;
        let http = Http::new(&configuration.network).map_err(|error| unreachable(issuer, &error))?;
        let issuer_url =
            IssuerUrl::new(issuer.to_owned()).map_err(|error| invalid(issuer, &error.to_string()))?;
        let metadata = match Metadata::discover_async(issuer_url.clone(), &http).await {
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
        let discovered = |value: Option<String>, name: &str| {
            value.ok_or_else(|| invalid(issuer, &format!("the discovery document has no {name}")))
        };
        let authorization = discovered(
            configuration
                .authorization_endpoint
                .clone()
                .or_else(|| metadata.as_ref().map(|metadata| metadata.authorization_endpoint().to_string())),
            "authorization_endpoint",
        )?;
        let token = discovered(
            configuration.token_endpoint.clone().or_else(|| {
                metadata.as_ref().and_then(|metadata| metadata.token_endpoint().map(ToString::to_string))
            }),
            "token_endpoint",
        )?;
        let keys_at = discovered(
            configuration
                .jwks_uri
                .clone()
                .or_else(|| metadata.as_ref().map(|metadata| metadata.jwks_uri().to_string())),
            "jwks_uri",
        )?;
        let keys_at = JsonWebKeySetUrl::new(keys_at).map_err(|error| invalid(issuer, &error.to_string()))?;
        let keys = match (&metadata, &configuration.jwks_uri) {
            (Some(metadata), None) => metadata.jwks().clone(),
            (_, _) => fetch_keys(&http, &keys_at, issuer).await?,
        };

        let client_id = ClientId::new(client_id.to_owned());
        let url =
            |text: String| Url::parse(&text).map_err(|error| invalid(issuer, &format!("{text}: {error}")));
        let mut client = Client::new(client_id.clone(), issuer_url.clone(), keys.clone())
            .set_auth_uri(AuthUrl::from_url(url(authorization)?))
            .set_token_uri(TokenUrl::from_url(url(token)?))
            .set_redirect_uri(
                RedirectUrl::new(configuration.redirect_uri.clone())
                    .map_err(|error| invalid(issuer, &error.to_string()))?,
            )
            .set_auth_type(AuthType::RequestBody);
        if let Some(secret) = &configuration.client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.clone()));
        }
        let names_issuer = metadata.as_ref().is_some_and(|metadata| metadata.additional_metadata().supported);
        Ok(Self {
            configuration: configuration.clone(),
            http,
            client,
            client_id,
            issuer: issuer_url,
            keys_at,
            keys,
            names_issuer,
            user_info: metadata.and_then(|metadata| metadata.userinfo_endpoint().cloned()),
        })
    }

    /// Begins a sign-in.
    pub(super) fn begin(&self) -> Pending {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = self
            .client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_pkce_challenge(challenge);
        for scope in self.configuration.requested_scopes() {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        for (name, value) in self.configuration.authorization_parameters() {
            request = request.add_extra_param(name, value);
        }
        let (url, state, nonce) = request.url();
        Pending { url, state, nonce, verifier }
    }

    /// Checks that the authorization response comes from this provider (RFC 9207, section 2.4).
    pub(super) fn check_issuer(&self, named: Option<&str>) -> Result<(), Problem> {
        match named {
            Some(named) if named == self.issuer.as_str() => Ok(()),
            Some(_) => Err(self.distrust("the browser came back from another issuer".to_owned())),
            None if self.names_issuer => {
                Err(self.distrust("the browser came back without the issuer's name".to_owned()))
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
        if answer.id_token().is_none() {
            return Err(self.distrust(
                "the identity provider sent no ID token; is `openid` among the scopes?".to_owned(),
            ));
        }
        let nonce = pending.nonce.secret().clone();
        self.accept(answer, &nonce, true).await
    }

    /// Renews tokens. An answer that got lost on the way is asked for once more, with the same refresh token.
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Unchecked, Problem> {
        let refresh_token = RefreshToken::new(refresh_token.to_owned());
        let mut failure = None;
        for _ in 0..2 {
            let mut request = self.client.exchange_refresh_token(&refresh_token);
            // Entra gives an ID token on refresh only to those who name the scopes again.
            for scope in std::iter::once("openid").chain(self.configuration.requested_scopes()) {
                request = request.add_scope(Scope::new(scope.to_owned()));
            }
            match request.request_async(&self.http).await {
                Ok(answer) => return Ok(Unchecked(answer)),
                Err(lost @ RequestTokenError::Request(HttpError::Unreachable { .. })) => failure = Some(lost),
                Err(other) => return Err(self.explain(other)),
            }
        }
        Err(failure.map_or_else(|| self.distrust("no answer".to_owned()), |failure| self.explain(failure)))
    }

    /// Checks the answer to a renewal.
    pub(super) async fn check(&mut self, answer: Unchecked, nonce: &str) -> Result<Tokens, Problem> {
        self.accept(answer.0, nonce, false).await
    }

    /// Checks an answer of the token endpoint.
    async fn accept(&mut self, answer: Answer, nonce: &str, first: bool) -> Result<Tokens, Problem> {
        let now = clock::now();
        let mut person = match answer.id_token() {
            Some(token) => Some(self.verify(token, nonce, first, answer.access_token(), now).await?),
            None => None,
        };
        if first && let Some(person) = &mut person {
            self.look_up_email(person, answer.access_token()).await?;
        }
        // A missing lifetime counts as an hour (RFC 6749, section 5.1 leaves it open).
        let lifetime = answer.expires_in().map_or(3600, |lifetime| lifetime.as_secs());
        Ok(Tokens {
            access_token: answer.access_token().secret().clone(),
            id_token: answer.id_token().map(ToString::to_string),
            refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
            expires_at: clock::after(now, lifetime),
            scopes: answer.scopes().map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
            person,
            nonce: first.then(|| nonce.to_owned()),
        })
    }

    /// Some providers give the address at the userinfo endpoint only. It must speak of the same person (Core 1.0,
    /// section 5.3.2).
    async fn look_up_email(&self, person: &mut Person, access_token: &AccessToken) -> Result<(), Problem> {
        let Some(user_info) = self.user_info.clone().filter(|_| person.email.is_none()) else {
            return Ok(());
        };
        let subject = SubjectIdentifier::new(person.subject.clone());
        let client = self.client.clone().set_user_info_url(user_info);
        let request = client.user_info(access_token.clone(), Some(subject)).require_signed_response(false);
        let answer: Result<UserInfoClaims<OtherClaims, CoreGenderClaim>, _> =
            request.request_async(&self.http).await;
        match answer {
            Ok(claims) => {
                person.email = match self.configuration.email_claim.as_str() {
                    "email" => claims.email().map(|email| email.to_string()),
                    other => claims
                        .additional_claims()
                        .by_name
                        .get(other)
                        .and_then(|value| value.as_str().map(ToOwned::to_owned)),
                };
                Ok(())
            }
            Err(UserInfoError::ClaimsVerification(error)) => {
                Err(self.distrust(format!("the userinfo answer is not to be believed: {}", chain(&error))))
            }
            Err(error) => {
                // Whether an address is needed is a matter of policy, which is asked next.
                tracing::warn!(
                    "no address in the ID token, and none from userinfo: {}",
                    one_line(&chain(&error))
                );
                Ok(())
            }
        }
    }

    async fn verify(
        &mut self,
        token: &Token,
        nonce: &str,
        first: bool,
        access_token: &AccessToken,
        now: Timestamp,
    ) -> Result<Person, Problem> {
        let claims = match self.claims(token, nonce, first, now) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                // The provider may have changed its keys since they were fetched: look once more.
                self.keys = fetch_keys(&self.http, &self.keys_at, self.issuer.as_str()).await?;
                self.claims(token, nonce, first, now)
            }
            result => result,
        }
        .map_err(|error| self.distrust(format!("the ID token is not to be believed: {}", chain(&error))))?;

        check_parties_and_times(claims, &self.client_id, now)
            .map_err(|reason| self.distrust(format!("the ID token is not to be believed: {reason}")))?;
        if let Some(expected) = claims.access_token_hash() {
            let actual =
                token.signing_alg().ok().zip(token.signing_key(&self.verifier(now)).ok()).and_then(
                    |(algorithm, key)| AccessTokenHash::from_token(access_token, algorithm, key).ok(),
                );
            if actual.as_ref() != Some(expected) {
                return Err(self.distrust("the access token does not belong to the ID token".to_owned()));
            }
        }
        let email = match self.configuration.email_claim.as_str() {
            "email" => claims.email().map(|email| email.to_string()),
            other => claims
                .additional_claims()
                .by_name
                .get(other)
                .and_then(|value| value.as_str().map(ToOwned::to_owned))
                .or_else(|| {
                    (other == "preferred_username")
                        .then(|| claims.preferred_username().map(|name| name.to_string()))
                        .flatten()
                }),
        };
        Ok(Person { subject: claims.subject().to_string(), email })
    }

    fn claims<'t>(
        &self,
        token: &'t Token,
        nonce: &str,
        first: bool,
        now: Timestamp,
    ) -> Result<&'t IdTokenClaims<OtherClaims, CoreGenderClaim>, ClaimsVerificationError> {
        token.claims(&self.verifier(now), |found: Option<&Nonce>| match found {
            Some(found) if found.secret() == nonce => Ok(()),
            Some(_) => Err("it belongs to another sign-in".to_owned()),
            // After a refresh it need not be there (Core 1.0, section 12.2).
            None if first => Err("it is missing".to_owned()),
            None => Ok(()),
        })
    }

    fn verifier(&self, now: Timestamp) -> IdTokenVerifier<'_, CoreJsonWebKey> {
        let with_leeway = chrono_time(now.as_second() - LEEWAY);
        IdTokenVerifier::new_public_client(self.client_id.clone(), self.issuer.clone(), self.keys.clone())
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || with_leeway)
            .set_other_audience_verifier_fn(|_| false)
    }

    fn distrust(&self, reason: String) -> Problem {
        Problem::new(Code::SignInTokenInvalid, reason)
            .at(self.issuer.as_str())
            .hint(format!("try again; if it persists, {}", self.configuration.help()))
    }

    fn explain(&self, failure: Failure) -> Problem {
        let issuer = self.issuer.as_str();
        match failure {
            RequestTokenError::Request(error) => unreachable(issuer, &error),
            RequestTokenError::ServerResponse(answer) => {
                let described =
                    answer.error_description().map_or_else(String::new, |text| format!(": {text}"));
                let message = format!("the identity provider refused: {}{described}", answer.error());
                let ended = *answer.error() == CoreErrorResponseType::InvalidGrant;
                let code = if ended { Code::SignInRequired } else { Code::SignInDenied };
                Problem::new(code, one_line(&message)).at(issuer)
            }
            // The library keeps the body here, tokens included: it must not be shown.
            RequestTokenError::Parse(error, _) => self.distrust(format!(
                "the token endpoint's answer is not what RFC 6749 says: {}",
                one_line(&error.inner().to_string())
            )),
            RequestTokenError::Other(reason) => {
                self.distrust(format!("the token endpoint gave no answer to use: {}", one_line(&reason)))
            }
        }
    }
}

/// What the library leaves to its user: `azp`, `nbf` and a start in the future.
fn check_parties_and_times(
    claims: &IdTokenClaims<OtherClaims, CoreGenderClaim>,
    client_id: &ClientId,
    now: Timestamp,
) -> Result<(), String> {
    let authorized = claims.authorized_party();
    if authorized.is_some_and(|party| party.as_str() != client_id.as_str()) {
        return Err("it was issued to another client (azp)".to_owned());
    }
    let latest = now.as_second() + LEEWAY;
    if claims.issue_time().timestamp() > latest {
        return Err("it was issued in the future; is this device's clock right?".to_owned());
    }
    let not_before = claims.additional_claims().by_name.get("nbf").and_then(serde_json::Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    if not_before.is_some_and(|not_before| not_before > latest as f64) {
        return Err("it does not hold yet (nbf); is this device's clock right?".to_owned());
    }
    Ok(())
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request, MAXIMUM_ANSWER))
    }
}

async fn fetch_keys(http: &Http, at: &JsonWebKeySetUrl, issuer: &str) -> Result<CoreJsonWebKeySet, Problem> {
    CoreJsonWebKeySet::fetch_async(at, http).await.map_err(|error| explain_discovery(issuer, error))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the errors of the library are not exhaustive")]
fn explain_discovery(issuer: &str, error: DiscoveryError<HttpError>) -> Problem {
    match error {
        DiscoveryError::Request(error) => unreachable(issuer, &error),
        DiscoveryError::Validation(reason) => invalid(issuer, &reason),
        DiscoveryError::Response(status, _, _) => {
            invalid(issuer, &format!("it answered {}, which is no discovery document", status.as_u16()))
        }
        DiscoveryError::Parse(error) => invalid(issuer, &format!("no discovery document: {}", error.inner())),
        other => invalid(issuer, &chain(&other)),
    }
}

fn unreachable(issuer: &str, error: &HttpError) -> Problem {
    Problem::new(Code::SignInProviderUnreachable, chain(error))
        .at(issuer)
        .hint("check the network; nothing that was saved is lost".to_owned())
}

fn invalid(issuer: &str, reason: &str) -> Problem {
    Problem::new(Code::SignInDiscoveryInvalid, one_line(reason))
        .at(issuer)
        .hint("`Issuer` must be exactly what the discovery document calls its issuer".to_owned())
}

fn one_line(text: &str) -> String {
    let line: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    line.chars().take(300).collect()
}

fn chrono_time(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}
