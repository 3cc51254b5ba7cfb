//! The broker in a person's session: signs in through the browser, keeps the session, gives tokens to apps.
//!
//! In: what the machine service left of policy ([`configuration`]), and questions at the local API ([`api`]). Out:
//! tokens, for programs that policy allows ([`callers`]). A cached token is given out at once, whatever else goes on;
//! renewal happens once at a time for each account, in a task of its own that no caller can cancel ([`renewal`], [`keeper`]); a new
//! refresh token is on disk before anybody sees the answer ([`vault`]).

mod accounts;
pub(crate) mod api;
mod callback;
pub(crate) mod callers;
pub(crate) mod configuration;
mod keeper;
pub(crate) mod openapi;
pub(crate) mod provider;
mod renewal;
pub(crate) mod session;
pub(crate) mod sign_in;
pub(crate) mod vault;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_platform::lock::Lock;
use agent_platform::paths::Paths;
use agent_platform::{file, ipc, service};
use anyhow::Context as _;
use policy_schema::{Code, Problem};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::clock;
use crate::health::model::{SignIn, SignInState};
use crate::logging;
use accounts::Accounts;
use callers::Callers;
use configuration::Configuration;
use renewal::Flight;
use session::{Freshness, Want};
use sign_in::Underway;
use vault::Vault;

/// Runs the broker until it is told to stop.
pub(crate) async fn run(paths: Paths) -> anyhow::Result<()> {
    let mut stop = service::StopSignal::new().context("cannot listen for signals")?;
    // One broker for one vault, wherever its socket is: a second one would use up the first one's refresh tokens.
    let _lock = Lock::only_one(&paths.session_folder().join("broker.lock"), file::Access::Private)
        .context("another broker of yours runs already; stop it first")?;
    let socket = paths.broker_socket();
    let listener = ipc::listen(&socket, ipc::Audience::Owner)?;
    let broker = Arc::new(Broker::new(paths));
    tokio::spawn(Arc::clone(&broker).keep());
    tokio::spawn(crate::api::serve(listener, api::routes(Arc::clone(&broker))));
    service::ready("waiting for apps");
    tracing::info!("answering at {}", socket.display());
    stop.wait().await;
    service::stopping();
    ipc::remove(&socket).unwrap_or_else(|error| tracing::warn!("{error}"));
    broker.land().await;
    Ok(())
}

struct Broker {
    paths: Paths,
    configuration: Mutex<Option<(file::Mark, Arc<Configuration>)>>,
    /// How many were read.
    configurations: AtomicU64,
    accounts: Mutex<Accounts>,
    vault: AsyncMutex<Vault>,
    /// The renewals that are going on, by account and what is wanted.
    flights: Mutex<HashMap<(String, Want), Flight>>,
    /// No renewal begins any more.
    stopping: AtomicBool,
    /// Something has changed that the keeper plans by.
    changed: Notify,
    provider: provider::Known,
    callers: Callers,
    /// The sign-in that is going on.
    sign_in: Mutex<Option<Underway>>,
    /// Held while one begins, so that a second question joins it.
    beginning: AsyncMutex<()>,
}

impl Broker {
    fn new(paths: Paths) -> Self {
        let vault = AsyncMutex::new(Vault::new(&paths));
        Self {
            paths,
            configuration: Mutex::default(),
            configurations: AtomicU64::new(0),
            accounts: Mutex::default(),
            vault,
            flights: Mutex::default(),
            stopping: AtomicBool::new(false),
            changed: Notify::new(),
            provider: provider::Known::default(),
            callers: Callers::new(),
            sign_in: Mutex::default(),
            beginning: AsyncMutex::default(),
        }
    }

    /// What policy says now. Read again only when the machine service has written it anew.
    fn configuration(&self) -> Result<Arc<Configuration>, Problem> {
        let mark = file::mark(&Configuration::path(&self.paths)).ok();
        let mut read = locked(&self.configuration);
        if let Some((known, configuration)) = &*read
            && mark.as_ref() == Some(known)
        {
            return Ok(Arc::clone(configuration));
        }
        let number = self.configurations.fetch_add(1, Ordering::Relaxed) + 1;
        let configuration = Arc::new(Configuration { number, ..Configuration::load(&self.paths)? });
        logging::set_level(configuration.log_level);
        *read = mark.map(|mark| (mark, Arc::clone(&configuration)));
        Ok(configuration)
    }

    /// What may be told about the session.
    async fn describe(&self) -> SignIn {
        self.load().await;
        let configuration = self.configuration();
        let now = clock::now();
        let underway = locked(&self.sign_in).is_some();
        let accounts = locked(&self.accounts);
        let mut problems: Vec<Problem> = accounts.problems().cloned().collect();
        problems.extend(self.callers.problems(now));
        let configured = match &configuration {
            Err(problem) => Err(problem.clone()),
            Ok(configuration) => configuration.client().map(|_| configuration),
        };
        let mut valid = None;
        let state = match &configured {
            Err(problem) => {
                problems.insert(0, problem.clone());
                SignInState::NotConfigured
            }
            Ok(_) if underway => SignInState::SigningIn,
            Ok(configuration) => match accounts.pick(configuration, None) {
                None => SignInState::SignedOut,
                Some(account) => match account.session.freshness(configuration, &Want::default(), now) {
                    Freshness::Over(problem) => {
                        problems.insert(0, problem);
                        SignInState::SignedOut
                    }
                    Freshness::Fresh | Freshness::Aging | Freshness::Expired => {
                        valid = Some(account);
                        SignInState::SignedIn
                    }
                },
            },
        };
        let session = valid.map(|account| &account.session);
        let other =
            |session: &session::Session| valid.is_some_and(|valid| valid.session.id() != session.id());
        SignIn {
            state,
            account: session.map(|session| session.account().to_owned()),
            other_accounts: accounts
                .sessions()
                .filter(|session| other(session))
                .map(|session| session.account().to_owned())
                .collect(),
            issuer: session.map(|session| session.issuer.clone()),
            signed_in_at: session.map(|session| session.signed_in_at),
            token_expires_at: session.map(|session| session.main().until),
            kept: valid.map(|account| account.kept),
            lasting: session.is_some_and(|session| session.refresh_token.is_some()),
            problems,
        }
    }
}

fn nobody() -> Problem {
    Problem::new(Code::SignInRequired, "nobody is signed in")
        .hint("`steward login` opens the browser".to_owned())
}

fn stopping() -> Problem {
    Problem::new(Code::ApiRefused, "the broker is stopping")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
