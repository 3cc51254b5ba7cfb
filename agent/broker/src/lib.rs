//! Another process runs it: the broker in a user's session. It signs in through the browser, keeps the session, and gives
//! tokens to apps.
//!
//! In: what the machine service left of policy ([`configuration`]), and requests at the local API ([`routes`]). Out:
//! tokens, for programs that policy allows ([`callers`]). A cached token is given out at once, whatever else goes on; a
//! renewal happens once at a time for each account, in a task of its own that no caller can cancel ([`renewal`],
//! [`scheduler`]); a new refresh token is on disk before anybody sees the response ([`vault`]).
//!
//! Lock order: `beginning`, then an account's `turn`, then `vault`, then one of the short ones (`accounts`, `in_flight`,
//! `sign_in`, `configuration`, the provider's cache, the callers, the confirmations). The short ones are never held across an `await`, and
//! never two of them at once.
#![forbid(unsafe_code)]

mod accounts;
mod app;
mod browser;
mod callback;
mod callers;
pub mod configuration;
mod confirmation;
mod page;
mod provider;
mod renewal;
mod routes;
mod scheduler;
mod session;
mod sign_in;
mod sign_in_error;
mod sign_out;
mod token_error;
mod tokens;
mod vault;

use std::collections::HashMap;
use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net::client::CallError;
use net::server::listen_later;
use platform::lock::{Lock, LockError};
use platform::paths::Paths;
use platform::role::Role;
use platform::{clock, file, ipc, log_file, service};
use policy_schema::settings::LogLevel;
use policy_schema::{Extra, Problem};
use protocol::endpoint::Nothing;
use protocol::session::{SessionState, SessionStatus};
use tokio::sync::{Mutex as AsyncMutex, Notify};

pub use provider::documents;
pub use provider::id_token::LEEWAY;
pub use provider::key::accepts;
pub use vault::SERVICE;

use accounts::Accounts;
use app::Apps;
use callers::Callers;
use configuration::{Configuration, ConfigurationError};
use confirmation::Confirmations;
use renewal::InFlightRenewal;
use session::Freshness;
use sign_in::SignInHandle;
use tokens::TokenKey;
use vault::Vault;

/// How long the machine service may take to hear that the session has changed.
const TELL_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two brokers for one vault would use up each other's refresh tokens.
    #[error("another broker of yours runs already; stop it first")]
    Running(#[source] LockError),
    /// The user has no folder for sessions.
    #[error("no sessions can be kept")]
    NoFolder(#[source] std::io::Error),
    /// The local API cannot be served.
    #[error("no local API at {}", path.display())]
    NoApi {
        /// The socket or pipe.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Runs the broker until `stop` ends. `set_log_level` gets the level that policy sets.
///
/// # Errors
/// Another broker of this user runs, the user has no folder, or the local API cannot be served.
pub async fn run(
    paths: Paths,
    stop: impl Future<Output = ()>,
    set_log_level: fn(LogLevel),
) -> Result<(), StartError> {
    paths.check_session_folder().map_err(StartError::NoFolder)?;
    // One broker for one vault, wherever its socket is: a second one would use up the first one's refresh tokens.
    let _lock = Lock::only_one(&paths.session_folder().join("broker.lock"), file::Access::Private)
        .map_err(StartError::Running)?;
    let socket = paths.broker_socket();
    let inherited = ipc::inherited();
    let is_own = inherited.is_none();
    let listener = match inherited.map_or_else(|| ipc::listen(&socket, ipc::Audience::OwnerAndAgent), Ok) {
        Ok(listener) => Some(listener),
        Err(error) if ipc::NAMES_CAN_BE_TAKEN && error.kind() == ErrorKind::AddrInUse => {
            tracing::error!("no local API, so no app gets a token: {error}; trying again every 10 seconds");
            None
        }
        Err(source) => return Err(StartError::NoApi { path: socket, source }),
    };
    let broker = Arc::new(Broker::new(paths.clone(), set_log_level));
    tokio::spawn(Arc::clone(&broker).run_scheduler());
    tokio::spawn(Arc::clone(&broker).tell_agent());
    let api = routes::api(Arc::clone(&broker));
    tokio::spawn({
        let socket = socket.clone();
        async move {
            let listener = match listener {
                Some(listener) => listener,
                None => listen_later(&socket, ipc::Audience::OwnerAndAgent).await,
            };
            tracing::info!("answering at {}", socket.display());
            api.serve(listener).await;
        }
    });
    let session_socket = paths.session_socket();
    if let Some(socket) = &session_socket {
        match ipc::listen(socket, ipc::Audience::OwnerAndAgent) {
            Ok(listener) => drop(tokio::spawn(routes::session_api(Arc::clone(&broker)).serve(listener))),
            // Sign-in and tokens do not depend on it.
            Err(error) => tracing::error!("the machine service cannot see the session: {error}"),
        }
    }
    service::ready("waiting for apps");
    stop.await;
    service::stopping();
    for socket in session_socket.iter().chain(is_own.then_some(&socket)) {
        ipc::remove(socket).unwrap_or_else(|error| tracing::warn!("{error}"));
    }
    broker.drain().await;
    Ok(())
}

/// Why sessions are not removed.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// It would write them again.
    #[error("your broker runs; stop it first")]
    Running(#[source] LockError),
    /// The secret store did not remove a key. What it opened is gone.
    #[error("a session was removed, but not its key; {}, and try again", platform::vault::UNLOCK)]
    KeyLeft,
    /// The system refused.
    #[error("the sessions could not be removed")]
    Refused(#[source] std::io::Error),
}

/// Removes every saved session of the user who runs this, with their keys. Nothing ends at the identity provider. Gives what
/// was removed.
///
/// # Errors
/// A broker runs, or the system refused.
pub async fn forget_sessions(paths: &Paths) -> Result<Vec<String>, ForgetError> {
    paths.check_session_folder().map_err(ForgetError::Refused)?;
    let folder = paths.session_folder();
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let lock = Lock::take(&folder.join("broker.lock"), file::Access::Private);
    let lock = lock.map_err(|error| match error {
        LockError::Held { .. } => ForgetError::Running(error),
        LockError::Refused { source, .. } => ForgetError::Refused(source),
    })?;
    let mut vault = Vault::new(paths);
    for account in vault.accounts() {
        if !vault.forget(&account).await.map_err(ForgetError::Refused)? {
            return Err(ForgetError::KeyLeft);
        }
    }
    if let Some(log) = service::log_file(paths, Role::Broker) {
        log_file::remove(&log).map_err(ForgetError::Refused)?;
    }
    // Windows removes no file that is open.
    drop(lock);
    fs_err::remove_dir_all(&folder).map_err(ForgetError::Refused)?;
    Ok(vec![folder.display().to_string()])
}

struct Broker {
    paths: Paths,
    set_log_level: fn(LogLevel),
    configuration: Mutex<Option<(file::Mark, Arc<Configuration>)>>,
    /// How many were read.
    configurations: AtomicU64,
    accounts: Mutex<Accounts>,
    vault: AsyncMutex<Vault>,
    /// The renewals that are under way, by account and token.
    in_flight: Mutex<HashMap<(String, TokenKey), InFlightRenewal>>,
    /// No renewal begins any more.
    stopping: AtomicBool,
    /// Something has changed that the scheduler plans by.
    changed: Notify,
    /// Something has changed that a report may tell.
    state_changed: Notify,
    provider: provider::Known,
    callers: Callers,
    confirmations: Confirmations,
    apps: Apps,
    /// The sign-in that is under way.
    sign_in: Mutex<Option<SignInHandle>>,
    /// The one that began last, for callers that want to know how it ended.
    last_sign_in: Mutex<Option<SignInHandle>>,
    /// Held while one begins, so that a second request joins it.
    beginning: AsyncMutex<()>,
}

impl Broker {
    fn new(paths: Paths, set_log_level: fn(LogLevel)) -> Self {
        let vault = AsyncMutex::new(Vault::new(&paths));
        let confirmations = Confirmations::new(&paths);
        Self {
            paths,
            set_log_level,
            configuration: Mutex::default(),
            configurations: AtomicU64::new(0),
            accounts: Mutex::default(),
            vault,
            in_flight: Mutex::default(),
            stopping: AtomicBool::new(false),
            changed: Notify::new(),
            state_changed: Notify::new(),
            provider: provider::Known::default(),
            callers: Callers::new(),
            confirmations,
            apps: Apps::default(),
            sign_in: Mutex::default(),
            last_sign_in: Mutex::default(),
            beginning: AsyncMutex::default(),
        }
    }

    /// What policy says now. Read again only when the machine service has replaced it.
    fn configuration(&self) -> Result<Arc<Configuration>, ConfigurationError> {
        // Without a mark the file is read again, which says what is wrong with it.
        let mark = file::mark(Configuration::file(&self.paths).path()).ok();
        let mut read = locked(&self.configuration);
        if let Some((known, configuration)) = &*read
            && mark.as_ref() == Some(known)
        {
            return Ok(Arc::clone(configuration));
        }
        let number = self.configurations.fetch_add(1, Ordering::Relaxed) + 1;
        let configuration = Arc::new(Configuration { number, ..Configuration::load(&self.paths)? });
        (self.set_log_level)(configuration.log_level);
        *read = mark.map(|mark| (mark, Arc::clone(&configuration)));
        Ok(configuration)
    }

    /// Wakes the scheduler, and the task that tells the machine service of changes.
    fn session_changed(&self) {
        self.changed.notify_one();
        self.state_changed.notify_one();
    }

    /// Tells the machine service when the state of the session has changed, so that a report does not wait for its
    /// interval. An agent that does not run asks when it starts.
    async fn tell_agent(self: Arc<Self>) {
        let agent = self.paths.agent_socket();
        let mut last_told: Option<(SessionStatus, Vec<Problem>)> = None;
        loop {
            self.state_changed.notified().await;
            let now = self.describe().await;
            // Only what a report says; times that move by themselves are no change.
            let state = SessionStatus { token_expires_at: None, problems: Vec::new(), ..now.clone() };
            let problems = now.problems.iter().map(Problem::without_text).collect();
            let state = Some((state, problems));
            if state == last_told {
                continue;
            }
            last_told = state;
            let call = net::client::call(&agent, &protocol::agent::SESSION_CHANGED, &Nothing {});
            match tokio::time::timeout(TELL_LIMIT, call).await {
                Ok(Ok(_) | Err(CallError::Absent { .. })) => {}
                Ok(Err(error)) => tracing::debug!("the agent was not told: {error}"),
                Err(_) => tracing::debug!("the agent was not told: it does not respond"),
            }
        }
    }

    /// What may be told about the session.
    async fn describe(&self) -> SessionStatus {
        self.load().await;
        let configuration = self.configuration();
        let moment = clock::moment();
        let now = moment.wall;
        let signing_in = locked(&self.sign_in).is_some();
        let refusals = self.callers.problems(now);
        let accounts = locked(&self.accounts);
        let mut problems: Vec<Problem> = accounts.problems().collect();
        problems.extend(refusals);
        let configured = match &configuration {
            Err(error) => Err(error.clone()),
            Ok(configuration) => configuration.client().map(|_| configuration),
        };
        let mut valid = None;
        let state = match &configured {
            Err(error) => {
                problems.insert(0, error.problem());
                SessionState::NotConfigured
            }
            Ok(_) if signing_in => SessionState::SigningIn,
            Ok(configuration) => match accounts.pick(configuration, None) {
                None => SessionState::SignedOut,
                Some(account) => {
                    match account.session.freshness(configuration, &TokenKey::default(), &moment) {
                        Freshness::Over(ended) => {
                            problems.insert(0, ended.problem());
                            SessionState::SignedOut
                        }
                        // The problem itself is among the others.
                        Freshness::Expired if account.is_refused() => SessionState::SignedOut,
                        Freshness::Fresh | Freshness::Aging | Freshness::Expired => {
                            valid = Some(account);
                            SessionState::SignedIn
                        }
                    }
                }
            },
        };
        let session = valid.map(|account| &account.session);
        let other =
            |session: &session::Session| valid.is_some_and(|valid| valid.session.id() != session.id());
        SessionStatus {
            state: state.into(),
            account: session.map(|session| session.account().to_owned()),
            other_accounts: accounts
                .sessions()
                .filter(|session| other(session))
                .map(|session| session.account().to_owned())
                .collect(),
            issuer: session.map(|session| session.issuer.clone()),
            signed_in_at: session.map(|session| session.signed_in_at),
            token_expires_at: session.map(|session| session.main().expires_at),
            kept: valid.map(|account| account.kept.into()),
            lasting: session.is_some_and(|session| session.refresh_token.is_some()),
            problems,
            extra: Extra::default(),
        }
    }
}

/// Runs its function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
