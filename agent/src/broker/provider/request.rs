//! How a sign-in begins: the request that goes through the browser, or the code for another device.

use std::time::Duration;

use openidconnect::core::{CoreAuthenticationFlow, CoreDeviceAuthorizationResponse};
use openidconnect::{CsrfToken, DeviceAuthorizationUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope};
use policy_schema::{Code, Problem};
use serde::Deserialize;
use url::Url;

use super::explain::{invalid, refused, unreachable};
use super::{MAXIMUM_ANSWER, Provider, Tokens};

/// An authorization request that is on its way through the browser.
pub(in crate::broker) struct Pending {
    /// Where to send the browser.
    pub(in crate::broker) url: Url,
    state: CsrfToken,
    pub(super) nonce: Nonce,
    pub(super) verifier: PkceCodeVerifier,
}

impl Pending {
    /// Whether an answer belongs to this request.
    pub(in crate::broker) fn is_answered_by(&self, state: &str) -> bool {
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest(state).as_ref() == digest(self.state.secret()).as_ref()
    }
}

/// A sign-in that a person finishes on another device (RFC 8628, section 3.2).
pub(in crate::broker) struct DeviceRequest(CoreDeviceAuthorizationResponse);

impl DeviceRequest {
    /// Where to go.
    pub(in crate::broker) fn address(&self) -> String {
        self.0.verification_uri().to_string()
    }

    /// What to type there.
    pub(in crate::broker) fn user_code(&self) -> String {
        self.0.user_code().secret().clone()
    }

    /// Where to go without typing anything.
    pub(in crate::broker) fn complete_address(&self) -> Option<String> {
        self.0.verification_uri_complete().map(|url| url.secret().clone())
    }

    /// How long a person has.
    pub(in crate::broker) fn lasts(&self) -> Duration {
        self.0.expires_in()
    }
}

/// The answer to a request that was handed over in advance (RFC 9126, sections 2.2 and 2.3).
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
    /// The provider wants the request in advance (RFC 9126) and does not take it.
    pub(in crate::broker) async fn begin(&self, lasting: bool) -> Result<Pending, Problem> {
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
        Ok(Pending { url, state, nonce, verifier })
    }

    /// Hands a request to the provider in advance; the browser then brings only its name (RFC 9126, section 2).
    async fn push(&self, request: &Url) -> Result<Url, Problem> {
        let issuer = self.issuer.as_str();
        let wrong =
            |reason: &str| invalid(issuer, &format!("pushed_authorization_request_endpoint: {reason}"));
        let address = self.more(|more| more.pushed_authorization_request_endpoint.clone()).flatten();
        let address = address.ok_or_else(|| wrong("it is not there, although it is demanded"))?;
        let address = Url::parse(&address).map_err(|error| wrong(&error.to_string()))?;
        let secret = self.discovered.configuration.client_secret.as_deref();
        let form = url::form_urlencoded::Serializer::new(request.query().unwrap_or_default().to_owned())
            .extend_pairs(secret.map(|secret| ("client_secret", secret)))
            .finish();
        let posted = self.http.post_form(&address, form, MAXIMUM_ANSWER).await;
        let (status, answer) = posted.map_err(|error| unreachable(issuer, &error))?;
        let answer: Pushed = serde_json::from_slice(&answer).map_err(|error| {
            wrong(&format!("it answered {status} with something else than JSON: {error}"))
        })?;
        if let Some(error) = answer.error {
            return Err(refused(Code::SignInDenied, &error, answer.error_description.as_deref()).at(issuer));
        }
        let name =
            answer.request_uri.ok_or_else(|| wrong(&format!("it answered {status} without request_uri")))?;
        let mut url = request.clone();
        url.query_pairs_mut()
            .clear()
            .append_pair("client_id", self.client_id.as_str())
            .append_pair("request_uri", &name);
        Ok(url)
    }

    /// Begins a sign-in on another device.
    pub(in crate::broker) async fn begin_on_another_device(&self) -> Result<DeviceRequest, Problem> {
        let Some(address) = self.more(|more| more.device_authorization_endpoint.clone()).flatten() else {
            return Err(Problem::new(
                Code::SignInDeviceFlowUnavailable,
                "the identity provider does not offer sign-in on another device",
            )
            .at(self.issuer.as_str())
            .hint("`steward login --paste` needs no port and no device".to_owned()));
        };
        let address = DeviceAuthorizationUrl::new(address).map_err(|error| {
            invalid(self.issuer.as_str(), &format!("device_authorization_endpoint: {error}"))
        })?;
        let client = self.client.clone().set_device_authorization_url(address);
        let mut request = client.exchange_device_code();
        for scope in self.discovered.configuration.requested_scopes() {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        request.request_async(&self.http).await.map(DeviceRequest).map_err(|failure| self.explain(failure))
    }

    /// Waits until the person has finished on the other device. There is no `nonce`: the answer comes straight from
    /// the provider.
    pub(in crate::broker) async fn finish_on_another_device(
        &mut self,
        request: &DeviceRequest,
    ) -> Result<Tokens, Problem> {
        let answer = self
            .client
            .exchange_device_access_token(&request.0)
            .request_async(&self.http, tokio::time::sleep, Some(request.lasts()))
            .await
            .map_err(|failure| self.explain_device(failure))?;
        self.accept_first(answer, None).await
    }
}
