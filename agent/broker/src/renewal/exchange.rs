//! One exchange of a refresh token for new tokens, in an order in which nothing gets lost.

use std::sync::Arc;

use platform::clock;

use crate::Broker;
use crate::configuration::Configuration;
use crate::provider::{Check, Provider, ProviderError, Unchecked};
use crate::session::{Ended, Session};
use crate::token_error::TokenError;
use crate::tokens::TokenKey;
use crate::vault::Prepared;

impl Broker {
    /// Asks the provider for new tokens. Key and room on disk are made sure of before. A new refresh token is durable
    /// before the rest of the response is checked: a check that fails, or a crash, must not cost the session.
    pub(super) async fn exchange(
        &self,
        configuration: &Configuration,
        session: &Session,
        key: &TokenKey,
    ) -> Result<Arc<Session>, TokenError> {
        // A refresh token reaches no other provider than the one that issued it.
        if !session.is_of(configuration) {
            return Err(Ended::OtherProvider { issuer: session.issuer.clone() }.into());
        }
        if session.refresh_token.is_none() {
            return Err(TokenError::NoRefreshToken);
        }
        let mut provider = Provider::discover(&self.provider, configuration, false).await?;
        let mut session = session.clone();
        let mut once_more = true;
        loop {
            let prepared = match self.prepare(&session, false, configuration).await {
                Ok(prepared) => Some(prepared),
                // It is not on disk, so nothing that is there can become wrong.
                Err(_) if !self.vault.lock().await.has(&session.id()) => None,
                Err(error) => return Err(error.into()),
            };
            let response = match self.request_renewal(&provider, &mut session, key).await {
                Ok(response) => response,
                Err(error) => {
                    self.settle_failure(prepared, &error, &session).await;
                    return Err(error);
                }
            };
            let next = response.refresh_token().filter(|next| Some(next) != session.refresh_token.as_ref());
            let rotated = next.is_some();
            session.refresh_token = next.or(session.refresh_token);
            self.keep_session(prepared, session.clone()).await;
            match provider.check(response, session.nonce.as_deref()).await {
                Ok(tokens) => {
                    let session = session.renew(configuration, key, tokens, &clock::moment())?;
                    // The refresh token is saved already; what is new besides is, else, when there is room again.
                    let prepared = self.prepare(&session, false, configuration).await;
                    let prepared = prepared.map_err(|error| tracing::warn!("{error}")).ok();
                    return Ok(self.keep_session(prepared, session).await);
                }
                // django-oauth-toolkit answers the second use of a refresh token, after a response that got lost, with
                // the tokens of the first and an ID token that is new. The next refresh token is as good as any.
                Err(ProviderError::Untrusted { check: Check::AccessTokenHash, .. })
                    if rotated && once_more =>
                {
                    once_more = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One renewal. If the provider does not accept the refresh token any more, another process may have renewed the
    /// session: then the vault has a newer one.
    async fn request_renewal(
        &self,
        provider: &Provider<'_>,
        session: &mut Session,
        key: &TokenKey,
    ) -> Result<Unchecked, TokenError> {
        let refresh_token = session.refresh_token.as_ref().ok_or(TokenError::NoRefreshToken)?;
        let refusal = match provider.refresh(refresh_token.expose(), &session.requested_scopes, key).await {
            Ok(response) => return Ok(response),
            Err(ProviderError::InvalidGrant(refusal)) => refusal,
            Err(error) => return Err(renewal_error(error, key)),
        };
        let saved = self.vault.lock().await.read_again(&session.id()).await;
        let error = match saved.and_then(|saved| saved.refresh_token.clone().zip(Some(saved))) {
            Some((newer, saved)) if newer != *refresh_token => {
                *session = saved;
                match provider.refresh(newer.expose(), &session.requested_scopes, key).await {
                    Ok(response) => return Ok(response),
                    Err(error) => error,
                }
            }
            Some(_) | None => ProviderError::InvalidGrant(refusal),
        };
        Err(renewal_error(error, key))
    }

    async fn settle_failure(&self, prepared: Option<Prepared>, error: &TokenError, session: &Session) {
        match error {
            TokenError::Provider(ProviderError::InvalidGrant(_)) => {
                let forgotten = self.vault.lock().await.forget(&session.id()).await.map(drop);
                forgotten.unwrap_or_else(|error| tracing::warn!("{error}"));
            }
            // The response may have got lost: the room stays, and tells the next start to renew at once.
            TokenError::Provider(ProviderError::Unreachable { .. }) => {}
            TokenError::Provider(_)
            | TokenError::NotSignedIn
            | TokenError::NoSuchAccount(_)
            | TokenError::NotConfigured(_)
            | TokenError::Ended(_)
            | TokenError::NoRefreshToken
            | TokenError::NoNewIdToken
            | TokenError::RenewalRefused(_)
            | TokenError::Vault(_)
            | TokenError::Stopping => prepared.into_iter().for_each(Prepared::abandon),
        }
    }
}

/// What the provider's error means for a session, or for what one app wants besides.
fn renewal_error(error: ProviderError, key: &TokenKey) -> TokenError {
    match error {
        // Perhaps only what this app wants is refused; the session's own renewal will tell.
        ProviderError::InvalidGrant(ref refusal) if !key.is_main() => {
            ProviderError::Refused(refusal.clone()).into()
        }
        // Not every provider says `invalid_grant` of a refresh token that it does not accept any more.
        ProviderError::Refused(ref refusal) if key.is_main() => TokenError::RenewalRefused(refusal.clone()),
        ProviderError::NotConfigured(_)
        | ProviderError::Unreachable { .. }
        | ProviderError::Failing { .. }
        | ProviderError::Discovery(_)
        | ProviderError::Keys(_)
        | ProviderError::InvalidGrant(_)
        | ProviderError::Refused(_)
        | ProviderError::DeviceCodeExpired(_)
        | ProviderError::NoDeviceFlow
        | ProviderError::Untrusted { .. } => error.into(),
    }
}
