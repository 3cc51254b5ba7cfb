//! Tokens, and the renewal of sessions.
//!
//! In: what an app wants. Out: a token. A cached one is given out at once. A renewal is a [`Flight`]: one for each account
//! and want, in a task of its own; whoever wants the same meanwhile waits for the same. What fails is not tried again at
//! once, but after a pause that grows; only `invalid_grant` ends a session, and only after the vault was looked into
//! again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use policy_schema::{Code, Problem};
use tokio::sync::watch;

use super::accounts::Account;
use super::configuration::Configuration;
use super::provider::{Provider, Unchecked};
use super::session::{Freshness, Grant, Session, Want};
use super::vault::Prepared;
use super::{Broker, locked, nobody, stopping};
use crate::clock;
use crate::health::model::Kept;

/// How long a vault that could not be opened is left alone.
const LOAD_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// How long a broker that is told to stop waits for answers that are on their way.
const LAST_FLIGHTS: Duration = Duration::from_secs(30);

/// A renewal that is going on, and how it ends.
pub(super) type Flight = watch::Receiver<Option<Result<Arc<Session>, Problem>>>;

impl Broker {
    /// A token for an app: the cached one if it lasts, else a renewed one.
    pub(super) async fn token(
        self: &Arc<Self>,
        configuration: &Arc<Configuration>,
        want: &Want,
        name: Option<&str>,
        id_token: bool,
    ) -> Result<Grant, Problem> {
        configuration.client()?;
        // A vault that cannot be opened must not slow down those whose session is known.
        if locked(&self.accounts).pick(configuration, name).is_none() {
            self.load().await;
        }
        let mut now = clock::now();
        let main = Want::default();
        let (mut session, mut paused, paused_main) = {
            let mut accounts = locked(&self.accounts);
            let Some(account) = accounts.pick(configuration, name) else {
                return Err(match (accounts.vault_problems.first(), name) {
                    (Some((_, problem)), _) if !accounts.loaded => problem.clone(),
                    (_, Some(name)) if !accounts.known.is_empty() => {
                        nobody_called(name).hint("`steward whoami` shows who is".to_owned())
                    }
                    (_, _) => nobody(),
                });
            };
            let id = account.id.clone();
            let account = accounts.get(&id).ok_or_else(nobody)?;
            if !std::mem::replace(&mut account.used, true) {
                self.changed.notify_one();
            }
            let paused = account.paused(want, now).cloned();
            (Arc::clone(&account.session), paused, account.paused(&main, now).cloned())
        };
        let give = |session: &Session| session.grant(want, clock::now()).ok_or_else(nobody);
        if id_token && !session.vouches(now) {
            if let Some(pause) = paused_main {
                return Err(pause.problem);
            }
            session = end_of(self.renew(configuration, &session.id(), &main, true)).await?;
            (now, paused) = (clock::now(), None);
            if !session.vouches(now) {
                return Err(Problem::new(
                    Code::SignInIdTokenMissing,
                    "the ID token has ended, and a renewal brings no new one",
                )
                .at(&session.issuer)
                .hint(
                    "let the identity provider return ID tokens on refresh, or `steward login`".to_owned(),
                ));
            }
        }
        match (session.freshness(configuration, want, now), paused) {
            (Freshness::Over(problem), _) => Err(problem),
            (Freshness::Fresh, _) | (Freshness::Aging, Some(_)) => give(&session),
            (Freshness::Aging, None) => {
                // Nobody waits for it.
                drop(self.renew(configuration, &session.id(), want, false));
                give(&session)
            }
            (Freshness::Expired, Some(pause)) => Err(pause.problem),
            (Freshness::Expired, None) => {
                give(end_of(self.renew(configuration, &session.id(), want, false)).await?.as_ref())
            }
        }
    }

    /// Renews the session of an account now.
    pub(super) async fn renew_now(
        self: &Arc<Self>,
        configuration: &Arc<Configuration>,
        name: Option<&str>,
    ) -> Result<(), Problem> {
        self.load().await;
        let id = locked(&self.accounts).pick(configuration, name).map(|account| account.id.clone());
        let id = id.ok_or_else(nobody)?;
        end_of(self.renew(configuration, &id, &Want::default(), true)).await.map(drop)
    }

    /// Looks into the vault, until it could be opened. What it holds of accounts that are known already is older.
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
        let (sessions, problems) = vault.load(&known).await;
        let mut accounts = locked(&self.accounts);
        for loaded in sessions {
            accounts.add_loaded(loaded);
        }
        // Looked at again soon: a keyring may be unlocked by then. What is damaged was put aside.
        accounts.loaded = !problems.iter().any(|(_, problem)| problem.code == Code::VaultUnavailable);
        accounts.load_again = clock::now().checked_add(LOAD_PAUSE).ok();
        accounts.vault_problems = problems;
        self.changed.notify_one();
    }

    /// Renews a session in a task of its own: a caller that goes away cannot lose an answer that is on its way. Whoever
    /// wants the same meanwhile joins. `early` renews one that is still fresh.
    pub(super) fn renew(
        self: &Arc<Self>,
        configuration: &Arc<Configuration>,
        id: &str,
        want: &Want,
        early: bool,
    ) -> Flight {
        let key = (id.to_owned(), want.clone());
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        if self.stopping.load(Ordering::Relaxed) {
            return watch::channel(Some(Err(stopping()))).1;
        }
        let (end, flight) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        let (broker, configuration) = (Arc::clone(self), Arc::clone(configuration));
        tokio::spawn(async move {
            let result = broker.renew_once(&configuration, &key.0, &key.1, early).await;
            locked(&broker.flights).remove(&key);
            end.send_replace(Some(result));
            broker.changed.notify_one();
        });
        flight
    }

    async fn renew_once(
        &self,
        configuration: &Configuration,
        id: &str,
        want: &Want,
        early: bool,
    ) -> Result<Arc<Session>, Problem> {
        let turn =
            locked(&self.accounts).get(id).map(|account| Arc::clone(&account.turn)).ok_or_else(nobody)?;
        let _turn = turn.lock().await;
        let (session, kept, interrupted) = {
            let mut accounts = locked(&self.accounts);
            let account = accounts.get(id).ok_or_else(nobody)?;
            (Arc::clone(&account.session), account.kept, account.interrupted)
        };
        // Somebody else may have renewed it while this one waited.
        let must = early || interrupted;
        if !must && session.freshness(configuration, want, clock::now()) == Freshness::Fresh {
            return Ok(session);
        }
        let renewed = self.exchange(configuration, &session, kept, want).await;
        let mut accounts = locked(&self.accounts);
        match renewed {
            Ok(session) => {
                tracing::info!("the session was renewed until {}", session.main().until);
                accounts.problem = None;
                let account = accounts.get(id).ok_or_else(nobody)?;
                account.pauses.remove(want);
                account.pauses.remove(&Want::default());
                account.interrupted = false;
                account.used = false;
                Ok(session)
            }
            Err(problem) => {
                tracing::warn!("{}: {problem}", problem.code.as_str());
                if problem.code == Code::SignInRequired {
                    // Said once: from now on nobody is signed in, and the provider is not asked again.
                    accounts.remove(id);
                } else if let Some(account) = accounts.get(id) {
                    account.pause(want, &problem, clock::now());
                }
                // What one app wants for itself says nothing about the person's sign-in.
                if want.is_main() {
                    accounts.problem = Some(problem.clone());
                }
                Err(problem)
            }
        }
    }

    /// Asks the provider for new tokens. Key and room on disk are made sure of before. A new refresh token is durable
    /// before the rest of the answer is looked at: a check that fails, or a crash, must not cost the session.
    async fn exchange(
        &self,
        configuration: &Configuration,
        session: &Session,
        kept: Kept,
        want: &Want,
    ) -> Result<Arc<Session>, Problem> {
        let mut provider = Provider::discover(&self.provider, configuration, false).await?;
        let mut session = session.clone();
        let mut once_more = true;
        loop {
            let prepared = match self.prepare(&session, false, configuration).await {
                Ok(prepared) => Some(prepared),
                // It is not on disk, so nothing that is there can become wrong.
                Err(_) if kept == Kept::Memory => None,
                Err(problem) => return Err(problem),
            };
            let answer = match self.ask_for_renewal(&provider, &mut session, want).await {
                Ok(answer) => answer,
                Err(problem) => {
                    self.settle_failure(prepared, &problem, &session, want).await;
                    return Err(problem);
                }
            };
            let next = answer.refresh_token().filter(|next| Some(next) != session.refresh_token.as_ref());
            let rotated = next.is_some();
            session.refresh_token = next.or(session.refresh_token);
            self.keep_session(prepared, session.clone()).await;
            match provider.check(answer, session.nonce.as_deref()).await {
                Ok(tokens) => {
                    let session = session.renew(configuration, want, tokens, clock::now())?;
                    // The refresh token is saved already; what is new besides is, else, when there is room again.
                    let prepared = self.prepare(&session, false, configuration).await;
                    let prepared = prepared.map_err(|problem| tracing::warn!("{problem}")).ok();
                    return Ok(self.keep_session(prepared, session).await);
                }
                // django-oauth-toolkit answers the second use of a refresh token, after an answer that got lost, with
                // the tokens of the first and an ID token that is new. The next refresh token is as good as any.
                Err(problem) if problem.code == Code::SignInAccessTokenMismatch && rotated && once_more => {
                    once_more = false;
                }
                Err(problem) => return Err(problem),
            }
        }
    }

    /// One renewal. If the provider does not know the refresh token any more, another process may have renewed the
    /// session: then the vault has a newer one.
    async fn ask_for_renewal(
        &self,
        provider: &Provider<'_>,
        session: &mut Session,
        want: &Want,
    ) -> Result<Unchecked, Problem> {
        let no_token = || Problem::new(Code::SignInRequired, "there is no refresh token");
        let refresh_token = session.refresh_token.as_ref().ok_or_else(no_token)?;
        let problem = match provider.refresh(refresh_token, &session.asked, want).await {
            Ok(answer) => return Ok(answer),
            Err(problem) => problem,
        };
        if problem.code != Code::SignInRequired {
            return Err(problem);
        }
        let saved = self.vault.lock().await.read_again(&session.id()).await;
        match saved.and_then(|saved| saved.refresh_token.clone().zip(Some(saved))) {
            Some((other, saved)) if other != *refresh_token => {
                *session = saved;
                provider.refresh(&other, &session.asked, want).await
            }
            Some(_) | None if want.is_main() => {
                Err(problem.hint("sign in again: `steward login`, or start the app".to_owned()))
            }
            // Perhaps only what this app wants is refused; the session's own renewal will tell.
            Some(_) | None => Err(Problem { code: Code::SignInDenied.into(), ..problem }),
        }
    }

    async fn settle_failure(
        &self,
        prepared: Option<Prepared>,
        problem: &Problem,
        session: &Session,
        want: &Want,
    ) {
        let mut vault = self.vault.lock().await;
        if problem.code == Code::SignInRequired && want.is_main() {
            vault.forget(&session.id()).await.unwrap_or_else(|error| tracing::warn!("{error}"));
        } else if problem.code != Code::SignInProviderUnreachable {
            // Where the answer may have got lost, the room stays, and tells the next start to renew at once.
            prepared.into_iter().for_each(Prepared::abandon);
        }
    }

    pub(super) async fn prepare(
        &self,
        session: &Session,
        new_key: bool,
        configuration: &Configuration,
    ) -> Result<Prepared, Problem> {
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
            Some(Ok(saved)) => saved,
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
                    kept_problem: new.kept_problem.or(account.kept_problem.take().filter(|_| same)),
                    save_again: new.save_again.map(|first| account.save_again.unwrap_or(first)),
                    ..new
                };
            }
            None => accounts.known.push(new),
        }
        drop(accounts);
        self.changed.notify_one();
        session
    }

    /// The session of a sign-in takes the place of one of the same account. A problem of how it is kept stays with it.
    pub(super) async fn begin_session(
        &self,
        configuration: &Configuration,
        mut session: Session,
    ) -> Arc<Session> {
        let id = session.id();
        let turn = locked(&self.accounts).get(&id).map(|known| Arc::clone(&known.turn)).unwrap_or_default();
        let _turn = turn.lock().await;
        // Google gives a refresh token only with consent; the one that is there goes on to hold.
        if session.refresh_token.is_none() {
            let before = locked(&self.accounts).get(&id).map(|known| Arc::clone(&known.session));
            session.refresh_token = before.and_then(|before| before.refresh_token.clone());
        }
        let (prepared, problem) = match self.prepare(&session, true, configuration).await {
            Ok(prepared) => (Some(prepared), None),
            Err(problem) => (None, Some(problem)),
        };
        let session = self.keep_session(prepared, session).await;
        let mut accounts = locked(&self.accounts);
        accounts.problem = None;
        accounts.vault_problems.retain(|(account, _)| *account != id);
        if let Some(account) = accounts.get(&id) {
            account.pauses.clear();
            if problem.is_some() {
                account.kept_problem = problem;
            }
        }
        session
    }

    /// Waits for the answers that are on their way: a refresh token that was used up must not be all that is left.
    pub(super) async fn land(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let all = async {
            loop {
                let flight = locked(&self.flights).values().next().cloned();
                let Some(flight) = flight else { break };
                // How it ended is told where it ended.
                drop(end_of(flight).await);
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(LAST_FLIGHTS, all).await.is_err() {
            tracing::warn!("an answer of the identity provider is still missing; the next start asks again");
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

/// Waits for the end of a flight.
pub(super) async fn end_of(mut flight: Flight) -> Result<Arc<Session>, Problem> {
    let ended = flight.wait_for(Option::is_some).await.map_err(|_| stopping())?;
    ended.clone().unwrap_or_else(|| Err(stopping()))
}

pub(super) fn nobody_called(name: &str) -> Problem {
    Problem::new(Code::SignInRequired, format!("nobody called {name} is signed in"))
}

fn unsaved(error: &std::io::Error) -> Problem {
    Problem::new(Code::VaultUnavailable, format!("the session could not be saved: {error}"))
        .using("memory, until it can be saved")
        .hint("make room on the disk of your home folder".to_owned())
}
