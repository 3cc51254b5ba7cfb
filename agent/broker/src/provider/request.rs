//! How a sign-in begins: the request that goes through the browser, or the code for another device.

use std::time::Duration;

use openidconnect::core::{CoreAuthenticationFlow, CoreDeviceAuthorizationResponse};
use openidconnect::{CsrfToken, DeviceAuthorizationUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope};
use serde::Deserialize;
use url::Url;

use super::error::{ProviderError, Refusal};
use super::explain::{explain, explain_device, invalid, unreachable};
use super::{MAXIMUM_RESPONSE, Provider};
use crate::tokens::Tokens;

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

/// A sign-in that a user finishes on another device (RFC 8628, section 3.2).
pub(crate) struct DeviceRequest(CoreDeviceAuthorizationResponse);

impl DeviceRequest {
    /// Where to go.
    pub(crate) fn address(&self) -> String {
        self.0.verification_uri().to_string()
    }

    /// What to type there.
    pub(crate) fn user_code(&self) -> String {
        self.0.user_code().secret().clone()
    }

    /// Where to go without typing anything.
    pub(crate) fn complete_address(&self) -> Option<String> {
        self.0.verification_uri_complete().map(|url| url.secret().clone())
    }

    /// How long the user has.
    pub(crate) fn expires_in(&self) -> Duration {
        self.0.expires_in()
    }
}

/// The response to a pushed authorization request (RFC 9126, sections 2.2 and 2.3).
#[derive(Deserialize)]
struct Pushed {
    request_uri: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Provider<'_> {
    /// Begins a sign-in. `lasting` says whether this device has a refresh token already.
    ///
    /// # Errors
    /// The provider demands a pushed authorization request (RFC 9126) and refuses it.
    pub(crate) async fn begin(&self, lasting: bool) -> Result<AuthorizationRequest, ProviderError> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = self
            .client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_pkce_challenge(challenge);
        let configuration = &self.discovered.configuration;
        for scope in configuration.requested_scopes() {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        for (name, value) in configuration.authorization_parameters(lasting) {
            request = request.add_extra_param(name, value);
        }
        let (url, state, nonce) = request.url();
        let pushed = self.more(|more| more.require_pushed_authorization_requests).unwrap_or_default();
        let url = if pushed { self.push(&url).await? } else { url };
        Ok(AuthorizationRequest { url, state, nonce, verifier })
    }

    /// Pushes a request to the provider; the browser then brings only its name (RFC 9126, section 2).
    async fn push(&self, request: &Url) -> Result<Url, ProviderError> {
        let wrong = |reason: &str| invalid(&format!("pushed_authorization_request_endpoint: {reason}"));
        let address = self.more(|more| more.pushed_authorization_request_endpoint.clone()).flatten();
        let address = address.ok_or_else(|| wrong("it is missing, although pushed requests are required"))?;
        let address = Url::parse(&address).map_err(|error| wrong(&error.to_string()))?;
        let secret = self.discovered.configuration.client_secret.as_deref();
        let form = url::form_urlencoded::Serializer::new(request.query().unwrap_or_default().to_owned())
            .extend_pairs(secret.map(|secret| ("client_secret", secret)))
            .finish();
        let posted = self.http.0.post_form(&address, form, MAXIMUM_RESPONSE).await;
        let (status, response) = posted.map_err(|error| unreachable(&error))?;
        let response: Pushed = serde_json::from_slice(&response).map_err(|error| {
            wrong(&format!("it responded with status {status}, but not with JSON: {error}"))
        })?;
        if let Some(error) = response.error {
            let refusal = Refusal::new(&error, response.error_description.as_deref());
            return Err(ProviderError::Refused(refusal));
        }
        let name = response
            .request_uri
            .ok_or_else(|| wrong(&format!("it responded with status {status}, but without request_uri")))?;
        let mut url = request.clone();
        url.query_pairs_mut()
            .clear()
            .append_pair("client_id", self.client_id.as_str())
            .append_pair("request_uri", &name);
        Ok(url)
    }

    /// Begins a sign-in on another device.
    pub(crate) async fn begin_on_another_device(&self) -> Result<DeviceRequest, ProviderError> {
        let Some(address) = self.more(|more| more.device_authorization_endpoint.clone()).flatten() else {
            return Err(ProviderError::NoDeviceFlow);
        };
        let address = DeviceAuthorizationUrl::new(address)
            .map_err(|error| invalid(&format!("device_authorization_endpoint: {error}")))?;
        let client = self.client.clone().set_device_authorization_url(address);
        let mut request = client.exchange_device_code();
        for scope in self.discovered.configuration.requested_scopes() {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        request.request_async(&self.http).await.map(DeviceRequest).map_err(explain)
    }

    /// Waits until the user has finished on the other device. There is no `nonce`: the response comes straight from
    /// the provider.
    pub(crate) async fn finish_on_another_device(
        &mut self,
        request: &DeviceRequest,
    ) -> Result<Tokens, ProviderError> {
        let response = self
            .client
            .exchange_device_access_token(&request.0)
            .request_async(&self.http, tokio::time::sleep, Some(request.expires_in()))
            .await
            .map_err(explain_device)?;
        self.accept_first(response, None).await
    }
}
