//! The sign-out: ends sessions on this device and at the identity provider.

use std::sync::Arc;
use std::time::Duration;

use net::admission::StatusCode;
use policy_schema::{Code, Problem};

use super::configuration::Configuration;
use super::provider::Provider;
use super::session::Session;
use super::vault::VaultError;
use super::{Broker, locked};

/// How long the identity provider may take over a sign-out.
const LIMIT: Duration = Duration::from_secs(10);

/// Why nobody was signed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignOutError {
    /// There is no session of that account.
    #[error("{0} is not signed in")]
    NoSuchAccount(String),
    /// The saved sessions cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The broker is about to end.
    #[error("the broker is stopping")]
    Stopping,
}

impl SignOutError {
    /// The HTTP status of the refusal.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchAccount(_) => StatusCode::NOT_FOUND,
            Self::Vault(_) | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The problem to show.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::NoSuchAccount(_) => Problem::new(Code::SignInRequired, self.to_string())
                .hint("`steward whoami` shows who is".to_owned()),
            Self::Vault(error) => error.problem(),
            Self::Stopping => Problem::new(Code::ApiRefused, self.to_string()),
        }
    }
}

/// Where a browser can end the session at the provider as well, and what could not be done.
pub(super) type SignedOut = (Option<String>, Vec<String>);

fn not_ended(reason: &str) -> String {
    format!("the session was not ended at the identity provider: {reason}")
}

impl Broker {
    /// Ends sessions here and at the provider, in a task of its own: a caller that goes away leaves nothing half ended.
    pub(super) async fn sign_out(
        self: &Arc<Self>,
        name: Option<String>,
        all: bool,
    ) -> Result<SignedOut, SignOutError> {
        let broker = Arc::clone(self);
        let ended = tokio::spawn(async move { broker.sign_out_now(name.as_deref(), all).await });
        ended.await.unwrap_or(Err(SignOutError::Stopping))
    }

    async fn sign_out_now(&self, name: Option<&str>, all: bool) -> Result<SignedOut, SignOutError> {
        self.load().await;
        // Without a policy a user can sign out as well, only not at the identity provider.
        let configuration = self.configuration().ok();
        let mut chosen = self.choose(configuration.as_deref(), name, all)?;
        if all {
            // Those that cannot be opened go as well.
            chosen.extend(self.vault.lock().await.accounts());
            chosen.sort_unstable();
            chosen.dedup();
        }
        let (mut end_session, mut remarks, mut signed_out) = (None, Vec::new(), false);
        for id in chosen {
            let known = locked(&self.accounts).get(&id).map(|known| Arc::clone(&known.turn));
            let turn = known.unwrap_or_default();
            let _turn = turn.lock().await;
            let session = locked(&self.accounts).get(&id).map(|account| Arc::clone(&account.session));
            if let Err(error) = self.vault.lock().await.forget(&id).await {
                remarks.push(format!("the saved session could not be deleted: {error}"));
                continue;
            }
            locked(&self.accounts).remove(&id);
            signed_out = true;
            self.session_changed();
            tracing::info!("signed out");
            let (Some(configuration), Some(session)) = (&configuration, session) else { continue };
            let ended = tokio::time::timeout(LIMIT, self.end_at_provider(configuration, &session)).await;
            match ended.unwrap_or_else(|_| Err("it does not respond".to_owned())) {
                Ok((address, reason)) => {
                    end_session = address.or(end_session);
                    remarks.extend(reason.as_deref().map(not_ended));
                }
                Err(reason) => remarks.push(not_ended(&reason)),
            }
        }
        if signed_out && locked(&self.accounts).sessions().next().is_none() {
            self.confirmations.clear();
        }
        Ok((end_session, remarks))
    }

    /// The accounts that are meant. Without policy nobody knows which one is meant by default: then all of them are.
    fn choose(
        &self,
        configuration: Option<&Configuration>,
        name: Option<&str>,
        all: bool,
    ) -> Result<Vec<String>, SignOutError> {
        let mut accounts = locked(&self.accounts);
        let named = |session: &&Session| name.is_none_or(|name| session.is_named(name));
        let chosen: Vec<String> = match configuration {
            _ if all => accounts.sessions().map(Session::id).collect(),
            Some(configuration) => {
                accounts.pick(configuration, name).map(|account| account.session.id()).into_iter().collect()
            }
            None => accounts.sessions().filter(named).map(Session::id).collect(),
        };
        match (chosen.is_empty(), name, accounts.vault_errors.first()) {
            (true, Some(name), _) => return Err(SignOutError::NoSuchAccount(name.to_owned())),
            (true, None, Some((_, error))) if !all => return Err(error.clone().into()),
            (_, _, _) => accounts.problem = None,
        }
        Ok(chosen)
    }

    /// Where a browser can end the session at the provider, and why its tokens were not revoked.
    async fn end_at_provider(
        &self,
        configuration: &Configuration,
        session: &Session,
    ) -> Result<(Option<String>, Option<String>), String> {
        if !session.is_of(configuration) {
            return Err("policy no longer names it".to_owned());
        }
        let provider = Provider::discover(&self.provider, configuration, false).await;
        let provider = provider.map_err(|error| error.to_string())?;
        // Both: not every provider ends the access tokens of a refresh token that is revoked (RFC 7009, section 2.1).
        let access_tokens = session.access_tokens.iter().map(|token| (&token.secret, "access_token"));
        let refresh_token = session.refresh_token.iter().map(|token| (token, "refresh_token"));
        let address = provider.end_session().map(|url| url.to_string());
        let mut refused = None;
        for (token, kind) in refresh_token.chain(access_tokens) {
            match provider.revoke(token.expose(), kind).await {
                Ok(true) => {}
                Ok(false) => {
                    return Ok((
                        address,
                        Some("it offers no revocation, so its tokens end by themselves".to_owned()),
                    ));
                }
                // It may not revoke access tokens, and does not need to.
                Err(_) if kind == "access_token" && refused.is_none() => break,
                Err(reason) => refused = Some(reason),
            }
        }
        Ok((address, refused))
    }
}
