//! Tokens, and the renewal of sessions.
//!
//! In: which token an app wants. Out: a token. A cached one is given out at once. A renewal is an [`InFlightRenewal`]: one
//! for each account and token, in a task of its own; other requests for the same token wait for it. What fails is
//! not tried again at once, but after a pause that grows. Only `invalid_grant` of the provider ends a session, and only
//! after the vault was read again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use platform::clock;
use policy_schema::{Code, Problem};
use protocol::broker::TokenResponse;
use protocol::session::Kept;
use tokio::sync::watch;

use super::accounts::Account;
use super::configuration::Configuration;
use super::provider::ProviderError;
use super::session::{Freshness, Session};
use super::token_error::TokenError;
use super::tokens::TokenKey;
use super::vault::{Prepared, VaultError};
use super::{Broker, OnDrop, locked};

mod exchange;

/// How long a vault that could not be opened is left alone.
const LOAD_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// How long a provider that brings no ID token with a renewal is not asked for one again, in seconds.
const NO_ID_TOKEN_PAUSE: u64 = 3600;
/// After a renewal for a token that a server did not take, there is no other one for so many seconds.
const REJECTED_PAUSE: i64 = 60;
/// How long a broker that is told to stop waits for responses that are on their way.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// A renewal that is under way, and how it ends.
pub(super) type InFlightRenewal = watch::Receiver<Option<Result<Arc<Session>, TokenError>>>;

impl Broker {
    /// A token for an app: the cached one while it is valid, else a renewed one. `id_token` says that the ID token
    /// matters: the session is renewed if that has expired. `rejected` is a token that a server did not take although it had
    /// not expired: if it is still the one that is known, the session is renewed, at most once a minute.
    pub(super) async fn token(
        self: &Arc<Self>,
        configuration: &Arc<Configuration>,
        key: &TokenKey,
        name: Option<&str>,
        id_token: bool,
        rejected: Option<&str>,
    ) -> Result<TokenResponse, TokenError> {
        configuration.client()?;
        // A vault that cannot be opened must not slow down those whose session is known.
        if locked(&self.accounts).pick(configuration, name).is_none() {
            self.load().await;
        }
        let mut moment = clock::moment();
        let now = moment.wall;
        let main = TokenKey::default();
        let (mut session, mut paused, paused_main, without_id_token) = {
            let mut accounts = locked(&self.accounts);
            let Some(account) = accounts.pick(configuration, name) else {
                return Err(match (accounts.vault_errors.first(), name) {
                    (Some((_, error)), _) if !accounts.loaded => error.clone().into(),
                    (_, Some(name)) if !accounts.known.is_empty() => {
                        TokenError::NoSuchAccount(name.to_owned())
                    }
                    (_, _) => TokenError::NotSignedIn,
                });
            };
            let id = account.id.clone();
            let account = accounts.get(&id).ok_or(TokenError::NotSignedIn)?;
            if !std::mem::replace(&mut account.used, true) {
                self.changed.notify_one();
            }
            let paused = account.paused(key, now).cloned();
            let near = |until: Timestamp| {
                (0..=i64::try_from(NO_ID_TOKEN_PAUSE).unwrap_or(i64::MAX))
                    .contains(&now.duration_until(until).as_secs())
            };
            let without_id_token = account.no_id_token_until.is_some_and(near);
            (Arc::clone(&account.session), paused, account.paused(&main, now).cloned(), without_id_token)
        };
        let give =
            |session: &Session| session.token_response(key, &clock::moment()).ok_or(TokenError::NotSignedIn);
        if let Freshness::Over(ended) = session.freshness(configuration, key, &moment) {
            return Err(ended.into());
        }
        if id_token && !session.has_valid_id_token(&moment) {
            if let Some(pause) = paused_main {
                return Err(pause.error);
            }
            if without_id_token {
                return Err(TokenError::NoNewIdToken);
            }
            session = end_of(self.renew(configuration, &session.id(), &main, true)).await?;
            (moment, paused) = (clock::moment(), None);
            if !session.has_valid_id_token(&moment) {
                // Each try uses up a refresh token.
                if let Some(account) = locked(&self.accounts).get(&session.id()) {
                    account.no_id_token_until = Some(clock::after(moment.wall, NO_ID_TOKEN_PAUSE));
                }
                return Err(TokenError::NoNewIdToken);
            }
        }
        let refused = |session: &Session| rejected.is_some_and(|rejected| session.gives(key, rejected));
        if paused.is_none() && refused(&session) && self.may_renew_rejected(&session.id(), now) {
            match end_of(self.renew(configuration, &session.id(), key, true)).await {
                Ok(renewed) => session = renewed,
                Err(error) if error.ends_with_sign_in() => return Err(error),
                // What is known may be taken after all.
                Err(_) => {}
            }
            moment = clock::moment();
        }
        match (session.freshness(configuration, key, &moment), paused) {
            (Freshness::Over(ended), _) => Err(ended.into()),
            (Freshness::Fresh, _) | (Freshness::Aging, Some(_)) => give(&session),
            (Freshness::Aging, None) => {
                // Nobody waits for it.
                drop(self.renew(configuration, &session.id(), key, false));
                give(&session)
            }
            (Freshness::Expired, Some(pause)) => Err(pause.error),
            (Freshness::Expired, None) => {
                give(end_of(self.renew(configuration, &session.id(), key, false)).await?.as_ref())
            }
        }
    }

    /// Whether a session may be renewed because a server did not take its token: not again within a while.
    fn may_renew_rejected(&self, id: &str, now: Timestamp) -> bool {
        let mut accounts = locked(&self.accounts);
        let Some(account) = accounts.get(id) else { return false };
        let recent = |then: Timestamp| (0..REJECTED_PAUSE).contains(&then.duration_until(now).as_secs());
        if account.session.refresh_token.is_none() || account.rejected_at.is_some_and(recent) {
            return false;
        }
        account.rejected_at = Some(now);
        true
    }

    /// Renews the session of an account now.
    pub(super) async fn renew_now(
        self: &Arc<Self>,
        configuration: &Arc<Configuration>,
        name: Option<&str>,
    ) -> Result<(), TokenError> {
        self.load().await;
        let id = locked(&self.accounts).pick(configuration, name).map(|account| account.id.clone());
        let id = id.ok_or(TokenError::NotSignedIn)?;
        end_of(self.renew(configuration, &id, &TokenKey::default(), true)).await.map(drop)
    }

    /// Loads the vault, until it could be opened. What it holds of accounts that are known already is older.
    pub(super) async fn load(&self) {
        let due = || {
            let accounts = locked(&self.accounts);
            let now = clock::now();
            let near = |again: Timestamp| now < again && now.duration_until(again) <= LOAD_PAUSE;
            !accounts.loaded && !accounts.load_again.is_some_and(near)
        };
        if !due() {
            return;
        }
        let mut vault = self.vault.lock().await;
        if !due() {
            return;
        }
        let known: Vec<String> = locked(&self.accounts).sessions().map(Session::id).collect();
        let (sessions, errors) = vault.load(&known).await;
        let mut accounts = locked(&self.accounts);
        for loaded in sessions {
            accounts.add_loaded(loaded);
        }
        // Loaded again soon: a keyring may be unlocked by then. What is damaged was quarantined.
        accounts.loaded = !errors.iter().any(|(_, error)| matches!(error, VaultError::Unavailable { .. }));
        // At the end of time, it is loaded at each request.
        accounts.load_again = clock::now().checked_add(LOAD_PAUSE).ok();
        accounts.vault_errors = errors;
        drop(accounts);
        self.session_changed();
    }

    /// Renews a session in a task of its own: a caller that goes away cannot lose a response that is on its way. Other
    /// requests for the same token join it. `early` renews one that is still fresh.
    pub(super) fn renew(
        self: &Arc<Self>,
        configuration: &Arc<Configuration>,
        id: &str,
        key: &TokenKey,
        early: bool,
    ) -> InFlightRenewal {
        let renewal = (id.to_owned(), key.clone());
        let mut in_flight = locked(&self.in_flight);
        if let Some(known) = in_flight.get(&renewal) {
            return known.clone();
        }
        if self.stopping.load(Ordering::Relaxed) {
            return watch::channel(Some(Err(TokenError::Stopping))).1;
        }
        let (end, ended) = watch::channel(None);
        in_flight.insert(renewal.clone(), ended.clone());
        let (broker, configuration) = (Arc::clone(self), Arc::clone(configuration));
        tokio::spawn(async move {
            // However the renewal ends, a panic included, nobody waits for it any longer.
            let in_flight = OnDrop(|| {
                locked(&broker.in_flight).remove(&renewal);
                broker.session_changed();
            });
            let result = broker.renew_once(&configuration, &renewal.0, &renewal.1, early).await;
            drop(in_flight);
            end.send_replace(Some(result));
        });
        ended
    }

    async fn renew_once(
        &self,
        configuration: &Configuration,
        id: &str,
        key: &TokenKey,
        early: bool,
    ) -> Result<Arc<Session>, TokenError> {
        let turn = locked(&self.accounts).get(id).map(|account| Arc::clone(&account.turn));
        let turn = turn.ok_or(TokenError::NotSignedIn)?;
        let _turn = turn.lock().await;
        let (session, interrupted) = {
            let mut accounts = locked(&self.accounts);
            let account = accounts.get(id).ok_or(TokenError::NotSignedIn)?;
            (Arc::clone(&account.session), account.interrupted)
        };
        // Another renewal may have come before this one.
        let must = early || interrupted;
        if !must && session.freshness(configuration, key, &clock::moment()) == Freshness::Fresh {
            return Ok(session);
        }
        let renewed = self.exchange(configuration, &session, key).await;
        let mut accounts = locked(&self.accounts);
        match renewed {
            Ok(session) => {
                tracing::info!("the session was renewed until {}", session.main().expires_at);
                accounts.problem = None;
                let account = accounts.get(id).ok_or(TokenError::NotSignedIn)?;
                account.pauses.remove(key);
                account.pauses.remove(&TokenKey::default());
                account.interrupted = false;
                account.used = false;
                Ok(session)
            }
            Err(error) => {
                let problem = error.problem(configuration);
                tracing::warn!("{}: {problem}", problem.code.as_str());
                match &error {
                    // Reported once: from now on nobody is signed in, and the provider is not asked again.
                    TokenError::Provider(ProviderError::InvalidGrant(_)) => accounts.remove(id),
                    // Nothing was asked, and what the session has is still valid.
                    TokenError::NoRefreshToken
                    | TokenError::NotSignedIn
                    | TokenError::NoSuchAccount(_)
                    | TokenError::Stopping => {}
                    TokenError::NotConfigured(_)
                    | TokenError::Ended(_)
                    | TokenError::NoNewIdToken
                    | TokenError::Provider(_)
                    | TokenError::RenewalRefused(_)
                    | TokenError::Vault(_) => {
                        if let Some(account) = accounts.get(id) {
                            account.pause(key, &error, clock::now());
                        }
                    }
                }
                // What one app wants for itself says nothing about the user's sign-in.
                if key.is_main() && error.is_about_session() {
                    accounts.problem = Some(problem);
                }
                Err(error)
            }
        }
    }

    pub(super) async fn prepare(
        &self,
        session: &Session,
        new_key: bool,
        configuration: &Configuration,
    ) -> Result<Prepared, VaultError> {
        let size = serde_json::to_vec(session).map_or(0, |text| text.len());
        let mut vault = self.vault.lock().await;
        vault.prepare(&session.id(), size, new_key, configuration.vault_fallback).await
    }

    /// Saves a session and remembers it; in memory only, if it could not be prepared or the disk fails.
    pub(super) async fn keep_session(&self, prepared: Option<Prepared>, session: Session) -> Arc<Session> {
        let saved = match prepared {
            Some(prepared) => Some(self.vault.lock().await.commit(prepared, &session).await),
            None => None,
        };
        let mut accounts = locked(&self.accounts);
        let (kept, problem) = match saved {
            Some(Ok((kept, degraded))) => (kept, degraded.map(|degraded| degraded.problem())),
            Some(Err(error)) => (Kept::Memory, Some(unsaved(&error))),
            None => {
                let known = accounts.get(&session.id());
                (Kept::Memory, known.and_then(|account| account.kept_problem.clone()))
            }
        };
        let new = Account::new(session, kept, problem);
        let session = Arc::clone(&new.session);
        match accounts.get(&session.id()) {
            // A degraded store is still one after a renewal that did not need it.
            Some(account) => {
                let same = account.kept == kept && kept == Kept::File;
                *account = Account {
                    turn: Arc::clone(&account.turn),
                    pauses: std::mem::take(&mut account.pauses),
                    used: account.used,
                    no_id_token_until: account.no_id_token_until,
                    rejected_at: account.rejected_at,
                    kept_problem: new.kept_problem.or(account.kept_problem.take().filter(|_| same)),
                    save_again: new.save_again.map(|first| account.save_again.unwrap_or(first)),
                    ..new
                };
            }
            None => accounts.known.push(new),
        }
        drop(accounts);
        self.session_changed();
        session
    }

    /// The session of a sign-in replaces one of the same account. A problem of how it is kept stays with it.
    pub(super) async fn begin_session(
        &self,
        configuration: &Configuration,
        mut session: Session,
    ) -> Arc<Session> {
        let id = session.id();
        let turn = locked(&self.accounts).get(&id).map(|known| Arc::clone(&known.turn)).unwrap_or_default();
        let _turn = turn.lock().await;
        // Google gives a refresh token only with consent; the one that is there stays valid.
        if session.refresh_token.is_none() {
            let before = locked(&self.accounts).get(&id).map(|known| Arc::clone(&known.session));
            session.refresh_token = before.and_then(|before| before.refresh_token.clone());
        }
        let (prepared, problem) = match self.prepare(&session, true, configuration).await {
            Ok(prepared) => (Some(prepared), None),
            Err(error) => (None, Some(error.problem())),
        };
        let session = self.keep_session(prepared, session).await;
        let mut accounts = locked(&self.accounts);
        accounts.problem = None;
        accounts.vault_errors.retain(|(account, _)| *account != id);
        if let Some(account) = accounts.get(&id) {
            account.pauses.clear();
            if problem.is_some() {
                account.kept_problem = problem;
            }
        }
        session
    }

    /// Waits for the responses that are on their way: a refresh token that was used up must not be all that is left.
    pub(super) async fn drain(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let all = async {
            loop {
                let renewal = locked(&self.in_flight).values().next().cloned();
                let Some(renewal) = renewal else { break };
                // The renewal itself has logged how it ended.
                drop(end_of(renewal).await);
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(DRAIN_LIMIT, all).await.is_err() {
            tracing::warn!("a response of the identity provider is still missing; the next start asks again");
        }
    }

    /// Whether this device has a refresh token for what policy names.
    pub(super) fn is_lasting(&self, configuration: &Configuration) -> bool {
        let accounts = locked(&self.accounts);
        accounts.pick(configuration, None).is_some_and(|account| {
            account.session.is_of(configuration) && account.session.refresh_token.is_some()
        })
    }
}

/// Waits for the end of a renewal.
pub(super) async fn end_of(mut renewal: InFlightRenewal) -> Result<Arc<Session>, TokenError> {
    let ended = renewal.wait_for(Option::is_some).await.map_err(|_| TokenError::Stopping)?;
    ended.clone().unwrap_or(Err(TokenError::Stopping))
}

fn unsaved(error: &std::io::Error) -> Problem {
    Problem::new(Code::VaultUnavailable, format!("the session could not be saved: {error}"))
        .using("memory, until it can be saved")
        .hint("make room on the disk of your home folder".to_owned())
}
