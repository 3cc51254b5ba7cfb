//! Whether a response is trusted. An ID token is checked in [`super::id_token`]; each rule has a case in
//! `tests/scenarios/token_response.rs`.

use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use super::Provider;
use super::documents::{self, KeySet};
use super::error::{Check, ProviderError, one_line, untrusted};
use super::id_token::{Claims, Distrust, Expected, Signed, untrusted_token};
use super::token_endpoint::{TokenResponse, Unchecked};
use crate::tokens::{Tokens, User};
use platform::clock;

impl Provider<'_> {
    /// Checks a response of the token endpoint. `first` says that it ends a sign-in; the nonce is the one that was sent
    /// then, if one was.
    pub(super) async fn accept(
        &mut self,
        unchecked: Unchecked,
        nonce: Option<&str>,
        first: bool,
    ) -> Result<Tokens, ProviderError> {
        let now = clock::now();
        let response = unchecked.response?;
        let mut user = match &response.id_token {
            Some(token) => {
                Some(self.verify(token.expose(), nonce, first, response.access_token.expose(), now).await?)
            }
            None if first => {
                return Err(untrusted(
                    Check::IdToken,
                    "the identity provider sent no ID token; is `openid` among the scopes?".to_owned(),
                ));
            }
            None => None,
        };
        if first && let Some(user) = &mut user {
            self.fetch_email(user, response.access_token.expose()).await?;
        }
        let TokenResponse { access_token, id_token, refresh_token, lifetime, scopes } = response;
        Ok(Tokens {
            access_token,
            id_token,
            refresh_token,
            expires_at: clock::after(now, lifetime),
            scopes,
            user,
            nonce: nonce.filter(|_| first).map(ToOwned::to_owned),
        })
    }

    /// Some providers give the address at the userinfo endpoint only. It must be about the same user (Core 1.0,
    /// section 5.3.2).
    async fn fetch_email(&self, user: &mut User, access_token: &str) -> Result<(), ProviderError> {
        let endpoint = self.document().and_then(|document| document.userinfo_endpoint.clone()?.ok());
        let Some(endpoint) = endpoint.filter(|_| user.email.is_none()) else { return Ok(()) };
        let claims = match self.user_info(&endpoint, access_token).await {
            Ok(claims) => claims,
            Err(UserInfoError::Untrusted(reason)) => {
                let reason = format!("the userinfo response is not trusted: {reason}");
                return Err(untrusted(Check::UserInfo, one_line(&reason)));
            }
            Err(UserInfoError::Unusable(reason)) => {
                // Whether an address is needed is a matter of policy, which is asked next.
                tracing::warn!("no address in the ID token, and none from userinfo: {}", one_line(&reason));
                return Ok(());
            }
        };
        if claims.text("sub") != Some(user.subject.as_str()) {
            let reason = "the userinfo response is not trusted: it is about another user (sub)";
            return Err(untrusted(Check::UserInfo, reason.to_owned()));
        }
        let claim = &self.discovered.configuration.email_claim;
        user.email = claims.text(claim).map(ToOwned::to_owned);
        user.email_verified = verified(&claims);
        Ok(())
    }

    /// The claims of the userinfo endpoint, as JSON or as a signed token (Core 1.0, section 5.3.2).
    async fn user_info(&self, endpoint: &Url, access_token: &str) -> Result<Claims, UserInfoError> {
        let response = self.http.fetch(endpoint, Some(access_token), super::MAXIMUM_RESPONSE).await;
        let response = response.map_err(|error| UserInfoError::Unusable(net::chain(&error)))?;
        if response.status != 200 {
            return Err(UserInfoError::Unusable(format!("it responded with status {}", response.status)));
        }
        if let Ok(claims) = documents::object(&response.body) {
            return Ok(Claims::of(claims));
        }
        let token = std::str::from_utf8(&response.body).unwrap_or_default().trim();
        if token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Err(UserInfoError::Unusable("it is neither JSON nor a signed token".to_owned()));
        }
        let signed = Signed::verify(token, &self.discovered.keys);
        let claims = signed.map_err(|(_, reason)| UserInfoError::Untrusted(reason))?.claims;
        if claims.get("iss").is_some_and(|issuer| issuer.as_str() != Some(self.issuer.as_str())) {
            return Err(UserInfoError::Untrusted("it is of another issuer (iss)".to_owned()));
        }
        Ok(claims)
    }

    async fn verify(
        &mut self,
        token: &str,
        nonce: Option<&str>,
        first: bool,
        access_token: &str,
        now: Timestamp,
    ) -> Result<User, ProviderError> {
        let mut verified = self.verify_with(&self.discovered.keys, token, nonce, first, access_token, now);
        // The provider may have changed its keys since they were fetched, also under the same name: fetch them once more.
        if matches!(verified, Err((Check::Key | Check::Signature, _))) && self.search_keys(now).await? {
            verified = self.verify_with(&self.discovered.keys, token, nonce, first, access_token, now);
        }
        verified.map_err(untrusted_token)
    }

    fn verify_with(
        &self,
        keys: &KeySet,
        token: &str,
        nonce: Option<&str>,
        first: bool,
        access_token: &str,
        now: Timestamp,
    ) -> Result<User, Distrust> {
        let configuration = &self.discovered.configuration;
        let signed = Signed::verify(token, keys)?;
        signed.check(&Expected {
            issuer: &self.issuer,
            client_id: &self.client_id,
            other_audiences: &configuration.additional_audiences,
            nonce,
            first,
            now,
        })?;
        signed.check_access_token(access_token)?;
        let claims = &signed.claims;
        Ok(User {
            subject: claims.text("sub").unwrap_or_default().to_owned(),
            email: claims.text(&configuration.email_claim).map(ToOwned::to_owned),
            email_verified: verified(claims),
            id_token_expires_at: signed.expires_at(),
        })
    }
}

/// Why there are no claims of the userinfo endpoint.
enum UserInfoError {
    /// They are about somebody else, or not signed as they should be.
    Untrusted(String),
    /// There is no response that can be used.
    Unusable(String),
}

/// Whether the provider says that the address is the user's own (Core 1.0, section 5.1); some write it as a text.
fn verified(claims: &Claims) -> Option<bool> {
    match claims.get("email_verified")? {
        Value::Bool(verified) => Some(*verified),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
