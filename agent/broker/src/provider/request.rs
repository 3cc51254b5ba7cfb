//! How a sign-in begins in the browser.

use openidconnect::core::{CoreAuthenticationFlow, CoreClient};
use openidconnect::{
    AuthUrl, ClientId, CsrfToken, IssuerUrl, JsonWebKeySet, Nonce, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope,
};
use serde_json::Value;
use url::Url;

use super::Provider;
use super::documents;
use super::error::ProviderError;
use super::explain::invalid;
use super::token_endpoint::refusal;

/// An authorization request that is under way in the browser.
pub(crate) struct AuthorizationRequest {
    /// Where to send the browser.
    pub(crate) url: Url,
    state: CsrfToken,
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceCodeVerifier,
}

impl AuthorizationRequest {
    /// Whether a redirect response belongs to this request.
    pub(crate) fn matches(&self, state: &str) -> bool {
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest(state).as_ref() == digest(self.state.secret()).as_ref()
    }
}

impl Provider<'_> {
    /// Begins a sign-in. `lasting` says whether this device has a refresh token already.
    ///
    /// # Errors
    /// The provider demands a pushed authorization request (RFC 9126) and refuses it.
    pub(crate) async fn begin(&self, lasting: bool) -> Result<AuthorizationRequest, ProviderError> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let configuration = &self.discovered.configuration;
        let wrong = |error: url::ParseError| invalid(&error.to_string());
        let client = CoreClient::new(
            ClientId::new(self.client_id.clone()),
            IssuerUrl::new(self.issuer.clone()).map_err(wrong)?,
            JsonWebKeySet::default(),
        )
        .set_auth_uri(AuthUrl::from_url(self.authorization_endpoint.clone()))
        .set_redirect_uri(RedirectUrl::new(configuration.redirect_uri.clone()).map_err(wrong)?);
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_pkce_challenge(challenge);
        for scope in configuration.requested_scopes() {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        for (name, value) in configuration.authorization_parameters(lasting) {
            request = request.add_extra_param(name, value);
        }
        let (url, state, nonce) = request.url();
        let pushed = self.document().is_some_and(|document| document.requires_pushed_requests);
        let url = if pushed { self.push(&url).await? } else { url };
        Ok(AuthorizationRequest { url, state, nonce, verifier })
    }

    /// Pushes a request to the provider; the browser then brings only its name (RFC 9126, section 2).
    async fn push(&self, request: &Url) -> Result<Url, ProviderError> {
        let wrong = |reason: &str| invalid(&format!("pushed_authorization_request_endpoint: {reason}"));
        let address =
            self.document().and_then(|document| document.pushed_authorization_request_endpoint.clone());
        let address = address.ok_or_else(|| wrong("it is missing, although pushed requests are required"))?;
        let address = address.map_err(|reason| invalid(&reason))?;
        let pairs: Vec<_> = request.query_pairs().filter(|(name, _)| name != "client_id").collect();
        let fields: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let response = self.post(&address, &fields).await?;
        if !(200..300).contains(&response.status) {
            return Err(refusal("the endpoint of pushed requests", &response));
        }
        let document = documents::object(&response.body).map_err(|reason| wrong(&reason))?;
        let name = document.get("request_uri").and_then(Value::as_str);
        let name = name.ok_or_else(|| wrong("its response has no request_uri"))?;
        let mut url = self.authorization_endpoint.clone();
        url.query_pairs_mut().append_pair("client_id", &self.client_id).append_pair("request_uri", name);
        Ok(url)
    }
}
