//! The broker in a person's session: signs in through the browser, keeps the session, gives tokens to apps.
//!
//! In: what the machine service left of policy ([`configuration`]), and questions at the local API ([`api`]). Out:
//! tokens. A cached token is given out at once, whatever else goes on; renewal happens once at a time, in a task of
//! its own that no caller can cancel; a new refresh token is on disk before anybody sees the answer.

mod api;
mod callback;
pub(crate) mod configuration;
mod provider;
pub(crate) mod session;
mod vault;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_platform::paths::Paths;
use agent_platform::{file, ipc, service};
use anyhow::Context as _;
use policy_schema::{Code, Problem};
use tokio::sync::{Mutex as AsyncMutex, oneshot, watch};

use crate::clock;
use crate::health::model::{Kept, SignIn, SignInState};
use crate::logging;
use callback::{Callback, Page, Return};
use configuration::Configuration;
use provider::{Pending, Provider};
use session::{Freshness, Grant, Session};
use vault::Vault;

/// How long a person may take in the browser.
const SIGN_IN_LIMIT: Duration = Duration::from_mins(5);

type Outcome = Result<(), Problem>;

/// Runs the broker until it is told to stop.
pub(crate) async fn run(paths: Paths) -> anyhow::Result<()> {
    let mut stop = service::StopSignal::new().context("cannot listen for signals")?;
    let socket = paths.broker_socket();
    let listener = ipc::listen(&socket, ipc::Audience::Owner)?;
    let broker = Arc::new(Broker::new(paths));
    tokio::spawn(crate::api::serve(listener, api::routes(Arc::clone(&broker))));
    service::ready("waiting for apps");
    tracing::info!("answering at {}", socket.display());
    stop.wait().await;
    service::stopping();
    ipc::remove(&socket).unwrap_or_else(|error| tracing::warn!("{error}"));
    Ok(())
}

struct Broker {
    paths: Paths,
    configuration: Mutex<Option<(file::Mark, Arc<Configuration>)>>,
    known: Mutex<Known>,
    /// Held while the session is renewed, so that it happens once at a time.
    renewal: AsyncMutex<Vault>,
    /// The sign-in that is going on.
    sign_in: Mutex<Option<Underway>>,
    /// Held while one begins, so that a second question joins it.
    beginning: AsyncMutex<()>,
}

/// What is known of the session.
#[derive(Default)]
struct Known {
    /// Whether the vault was looked into.
    loaded: bool,
    session: Option<Arc<Session>>,
    kept: Option<Kept>,
    /// What is wrong with the vault.
    vault_problem: Option<Problem>,
    /// How the last sign-in or renewal went wrong.
    problem: Option<Problem>,
}

/// A sign-in that is going on.
#[derive(Clone)]
struct Underway {
    url: String,
    ended: watch::Receiver<Option<Outcome>>,
}

impl Broker {
    fn new(paths: Paths) -> Self {
        let renewal = AsyncMutex::new(Vault::new(&paths));
        Self {
            paths,
            configuration: Mutex::default(),
            known: Mutex::default(),
            renewal,
            sign_in: Mutex::default(),
            beginning: AsyncMutex::default(),
        }
    }

    /// What policy says now. Read again only when the machine service has written it anew.
    fn configuration(&self) -> Result<Arc<Configuration>, Problem> {
        let mark = file::mark(&Configuration::path(&self.paths)).ok();
        let mut read = self.configuration.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((known, configuration)) = &*read
            && mark.as_ref() == Some(known)
        {
            return Ok(Arc::clone(configuration));
        }
        let configuration = Arc::new(Configuration::load(&self.paths)?);
        logging::set_level(configuration.log_level);
        *read = mark.map(|mark| (mark, Arc::clone(&configuration)));
        Ok(configuration)
    }

    /// A token for an app: the cached one if it lasts, else a renewed one.
    async fn token(self: &Arc<Self>) -> Result<Grant, Problem> {
        let configuration = self.configuration()?;
        configuration.client()?;
        let session = self.session().await?;
        let now = clock::now();
        match session.freshness(&configuration, now) {
            Freshness::Fresh => Ok(session.grant(now)),
            Freshness::Aging => {
                // One renewal that is under way is enough.
                if self.renewal.try_lock().is_ok() {
                    self.renew(configuration);
                }
                Ok(session.grant(now))
            }
            Freshness::Expired => {
                let renewed = self.renew(configuration).await.map_err(|_| stopping())?;
                renewed.map(|session| session.grant(clock::now()))
            }
            Freshness::Over(problem) => Err(problem),
        }
    }

    /// The session that is known, or the one that lies in the vault.
    async fn session(&self) -> Result<Arc<Session>, Problem> {
        if !self.known().loaded {
            let mut vault = self.renewal.lock().await;
            if !self.known().loaded {
                let loaded = vault.load().await;
                let mut known = self.known();
                match loaded {
                    Ok(found) => {
                        known.loaded = true;
                        known.vault_problem = None;
                        if let Some((session, kept)) = found {
                            known.kept = Some(kept);
                            known.session = Some(Arc::new(session));
                        }
                    }
                    // Looked at again with the next question: a keyring may be unlocked by then.
                    Err(problem) => known.vault_problem = Some(problem),
                }
            }
        }
        let known = self.known();
        match (&known.session, &known.vault_problem) {
            (Some(session), _) => Ok(Arc::clone(session)),
            (None, Some(problem)) if !known.loaded => Err(problem.clone()),
            (None, _) => Err(Problem::new(Code::SignInRequired, "nobody is signed in")
                .hint("`steward login` opens the browser".to_owned())),
        }
    }

    /// Renews the session in a task of its own: a caller that goes away cannot lose an answer that is on its way.
    fn renew(
        self: &Arc<Self>,
        configuration: Arc<Configuration>,
    ) -> oneshot::Receiver<Result<Arc<Session>, Problem>> {
        let (done, wait) = oneshot::channel();
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            let result = broker.renew_once(&configuration).await;
            // Whoever asked may have gone; the session is renewed all the same.
            drop(done.send(result));
        });
        wait
    }

    async fn renew_once(&self, configuration: &Configuration) -> Result<Arc<Session>, Problem> {
        let mut vault = self.renewal.lock().await;
        // Somebody else may have renewed it while this one waited.
        let Some(session) = self.known().session.clone() else {
            return Err(Problem::new(Code::SignInRequired, "nobody is signed in"));
        };
        if session.freshness(configuration, clock::now()) == Freshness::Fresh {
            return Ok(session);
        }
        match self.exchange(configuration, &session, &mut vault).await {
            Ok(renewed) => {
                let (kept, problem) = vault.save(&renewed, configuration.vault_fallback).await;
                tracing::info!("the session was renewed until {}", renewed.expires_at);
                Ok(self.remember(renewed, kept, problem))
            }
            Err(problem) => {
                tracing::warn!("{}: {problem}", problem.code.as_str());
                let mut known = self.known();
                // The provider ended the session; everything else (the network above all) leaves it as it is.
                if problem.code == Code::SignInRequired {
                    known.session = None;
                    if let Err(error) = vault.forget() {
                        tracing::warn!("{error}");
                    }
                }
                known.problem = Some(problem.clone());
                Err(problem)
            }
        }
    }

    /// Asks the provider for new tokens. A new refresh token is durable before the rest of the answer is looked at: a
    /// check that fails, or a crash, must not cost the session.
    async fn exchange(
        &self,
        configuration: &Configuration,
        session: &Session,
        vault: &mut Vault,
    ) -> Result<Session, Problem> {
        let Some(refresh_token) = &session.refresh_token else {
            return Err(Problem::new(Code::SignInRequired, "there is no refresh token"));
        };
        let mut provider = Provider::discover(configuration).await?;
        let answer = provider.refresh(refresh_token).await?;
        let mut session = session.clone();
        if let Some(next) = answer.refresh_token().filter(|next| next != refresh_token) {
            session.refresh_token = Some(next);
            let (kept, problem) = vault.save(&session, configuration.vault_fallback).await;
            self.remember(session.clone(), kept, problem);
        }
        let tokens = provider.check(answer, &session.nonce).await?;
        session.renew(configuration, tokens)
    }

    fn remember(&self, session: Session, kept: Kept, vault_problem: Option<Problem>) -> Arc<Session> {
        let session = Arc::new(session);
        *self.known() = Known {
            loaded: true,
            session: Some(Arc::clone(&session)),
            kept: Some(kept),
            vault_problem,
            problem: None,
        };
        session
    }

    /// Begins a sign-in, or joins the one that is going on. Gives its address and how it will end.
    async fn sign_in(self: &Arc<Self>, open_browser: bool) -> Result<Underway, Problem> {
        let _one_at_a_time = self.beginning.lock().await;
        if let Some(underway) = self.underway() {
            return Ok(underway);
        }
        let begun = self.begin_sign_in(open_browser).await;
        if let Err(problem) = &begun {
            self.known().problem = Some(problem.clone());
        }
        begun
    }

    async fn begin_sign_in(self: &Arc<Self>, open_browser: bool) -> Result<Underway, Problem> {
        let configuration = self.configuration()?;
        configuration.client()?;
        // The port comes first: whoever holds it is the only one who signs in.
        let callback = Callback::open(&configuration.redirect_uri).await?;
        let provider = match Provider::discover(&configuration).await {
            Ok(provider) => provider,
            Err(problem) => {
                callback.close().await;
                return Err(problem);
            }
        };
        let pending = provider.begin();
        let url = pending.url.to_string();
        let (end, ended) = watch::channel(None);
        let underway = Underway { url: url.clone(), ended };
        *self.sign_in.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(underway.clone());
        self.known().problem = None;

        if open_browser {
            // Beside the sign-in: some browsers come back only when they are closed.
            let broker = Arc::clone(self);
            tokio::spawn(async move { broker.open_browser(&url).await });
        }
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = broker.complete(&configuration, provider, callback, pending).await;
            match &outcome {
                Ok(()) => tracing::info!("signed in"),
                Err(problem) => {
                    tracing::warn!("{}: {problem}", problem.code.as_str());
                    broker.known().problem = Some(problem.clone());
                }
            }
            *broker.sign_in.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
            end.send_replace(Some(outcome));
        });
        Ok(underway)
    }

    async fn open_browser(&self, url: &str) {
        let address = url.to_owned();
        let opened = tokio::task::spawn_blocking(move || webbrowser::open(&address)).await;
        let reason = match opened {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.known().problem = Some(
            Problem::new(Code::SignInBrowserFailed, format!("no browser could be opened: {reason}"))
                .hint("`steward login --no-browser` shows the address to open by hand".to_owned()),
        );
    }

    /// Waits for the browser and finishes the sign-in.
    async fn complete(
        &self,
        configuration: &Configuration,
        provider: Provider,
        mut callback: Callback,
        pending: Pending,
    ) -> Result<(), Problem> {
        let outcome = match tokio::time::timeout(SIGN_IN_LIMIT, wait_for(&mut callback, &pending)).await {
            Err(_) => Err(Problem::new(
                Code::SignInTimedOut,
                format!("nobody came back from the browser within {} minutes", SIGN_IN_LIMIT.as_secs() / 60),
            )
            .hint(format!(
                "if the browser showed an error, register exactly {} as a redirect URI of a native client",
                configuration.redirect_uri
            ))),
            Ok(None) => Err(Problem::new(Code::SignInTimedOut, "the listener was closed")),
            Ok(Some(back)) => {
                let result = self.accept(configuration, provider, pending, &back).await;
                // A browser that has gone does not see its page, and nothing else depends on it.
                drop(back.page.send(page(configuration, &result)));
                result.map(drop)
            }
        };
        callback.close().await;
        outcome
    }

    async fn accept(
        &self,
        configuration: &Configuration,
        mut provider: Provider,
        pending: Pending,
        back: &Return,
    ) -> Result<Arc<Session>, Problem> {
        let parameters = &back.parameters;
        provider.check_issuer(parameters.iss.as_deref())?;
        if let Some(error) = &parameters.error {
            let described = parameters.error_description.as_deref().unwrap_or("it gives no reason");
            let reason: String = format!("the identity provider refused: {error}: {described}")
                .chars()
                .filter(|character| !character.is_control())
                .take(300)
                .collect();
            return Err(Problem::new(Code::SignInDenied, reason).hint(configuration.help()));
        }
        let Some(code) = parameters.code.clone() else {
            return Err(Problem::new(Code::SignInTokenInvalid, "the browser came back without a code"));
        };
        let tokens = provider.finish(pending, code).await?;
        let session = Session::begin(configuration, tokens, clock::now())?;
        let mut vault = self.renewal.lock().await;
        let (kept, problem) = vault.save(&session, configuration.vault_fallback).await;
        Ok(self.remember(session, kept, problem))
    }

    /// Ends the session on this device.
    async fn sign_out(&self) -> Result<(), Problem> {
        let vault = self.renewal.lock().await;
        vault.forget().map_err(|error| {
            Problem::new(Code::VaultUnavailable, format!("the saved session stays: {error}"))
        })?;
        *self.known() = Known { loaded: true, ..Known::default() };
        tracing::info!("signed out");
        Ok(())
    }

    /// What may be told about the session.
    async fn describe(&self) -> SignIn {
        let configuration = self.configuration();
        // What is wrong with the vault is said below.
        let session = self.session().await.ok();
        let underway = self.underway().is_some();
        let known = self.known();
        let mut problems: Vec<Problem> = known.problem.iter().chain(&known.vault_problem).cloned().collect();
        let configured = match &configuration {
            Err(problem) => Err(problem.clone()),
            Ok(configuration) => configuration.client().map(drop),
        };
        let mut valid = None;
        let state = match (configured, session) {
            (Err(problem), _) => {
                problems.insert(0, problem);
                SignInState::NotConfigured
            }
            (Ok(()), _) if underway => SignInState::SigningIn,
            (Ok(()), None) => SignInState::SignedOut,
            (Ok(()), Some(session)) => {
                let over = configuration.as_ref().ok().and_then(|configuration| {
                    match session.freshness(configuration, clock::now()) {
                        Freshness::Over(problem) => Some(problem),
                        Freshness::Fresh | Freshness::Aging | Freshness::Expired => None,
                    }
                });
                if let Some(problem) = over {
                    problems.insert(0, problem);
                    SignInState::SignedOut
                } else {
                    valid = Some(session);
                    SignInState::SignedIn
                }
            }
        };
        SignIn {
            state,
            account: valid.as_ref().map(|session| session.account().to_owned()),
            issuer: valid.as_ref().map(|session| session.issuer.clone()),
            signed_in_at: valid.as_ref().map(|session| session.signed_in_at),
            token_expires_at: valid.as_ref().map(|session| session.expires_at),
            kept: valid.and(known.kept),
            problems,
        }
    }

    fn underway(&self) -> Option<Underway> {
        self.sign_in.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The browser that brings the answer to this request. Others are told that they came in vain, and change nothing:
/// any page can send a browser here.
async fn wait_for(callback: &mut Callback, pending: &Pending) -> Option<Return> {
    loop {
        let back = callback.next().await?;
        if back.parameters.state.as_deref().is_some_and(|state| pending.is_answered_by(state)) {
            return Some(back);
        }
        tracing::warn!("a browser came back with the state of another sign-in and was ignored");
        drop(back.page);
    }
}

fn page(configuration: &Configuration, result: &Result<Arc<Session>, Problem>) -> Page {
    let (heading, text) = match result {
        Ok(session) => (
            "You are signed in".to_owned(),
            format!("Signed in as {}. Close this window and go back to the app.", session.account()),
        ),
        Err(problem) => ("The sign-in did not work".to_owned(), problem.message.clone()),
    };
    Page {
        organization: configuration.organization.clone(),
        heading,
        text,
        support: configuration.support_contact.clone(),
    }
}

fn stopping() -> Problem {
    Problem::new(Code::ApiRefused, "the broker is stopping")
}
