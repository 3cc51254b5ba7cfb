//! The sign-in: through the browser on this device, with its last address pasted by hand, or on another device.
//!
//! One at a time; whoever asks meanwhile joins it. It has a time limit, and a task of its own that no caller can cancel.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy_schema::settings::DeviceFlow;
use policy_schema::{Code, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::callback::{Callback, Page, Parameters, Return};
use super::configuration::Configuration;
use super::provider::{DeviceRequest, Pending, Provider, Tokens, refused};
use super::renewal::nobody_called;
use super::session::Session;
use super::{Broker, locked};
use crate::{clock, doctor};

/// How long a person may take in the browser.
const LIMIT: Duration = Duration::from_mins(5);

/// Who asks again sooner than this gets no second window.
const ONE_WINDOW: Duration = Duration::from_secs(3);
/// How long the identity provider may take over a sign-out.
const FAREWELL_LIMIT: Duration = Duration::from_secs(10);

/// How a person signs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Method {
    /// A browser on this device comes back to the redirect URI (RFC 8252).
    #[default]
    Browser,
    /// A browser anywhere; the person pastes the address that it could not open.
    Paste,
    /// Another device (RFC 8628).
    Device,
}

/// A sign-in that is going on.
#[derive(Clone)]
pub(super) struct Underway {
    pub(super) method: Method,
    /// Where to send the browser.
    pub(super) url: String,
    pub(super) device: Option<OtherDevice>,
    pub(super) ended: watch::Receiver<Option<Outcome>>,
    returns: mpsc::Sender<Return>,
    /// Ends it: another one takes its place, or there is no browser.
    cancel: Arc<watch::Sender<Option<Problem>>>,
    /// When the browser was last opened.
    opened: Arc<Mutex<Option<Instant>>>,
}

/// What a person needs to sign in on another device (RFC 8628, section 3.2).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct OtherDevice {
    pub(crate) verification_uri: String,
    pub(crate) user_code: String,
    pub(crate) verification_uri_complete: Option<String>,
    /// In seconds.
    pub(crate) expires_in: u64,
}

pub(super) type Outcome = Result<(), Problem>;

/// What a sign-in waits for.
enum Way {
    Browser(Callback, Pending),
    Paste(Pending),
    Device(DeviceRequest),
}

impl Broker {
    /// Begins a sign-in, or joins the one that is going on the same way. Gives its address and how it will end.
    pub(super) async fn sign_in(
        self: &Arc<Self>,
        method: Method,
        open_browser: bool,
    ) -> Result<Underway, Problem> {
        let _one_at_a_time = self.beginning.lock().await;
        let underway = locked(&self.sign_in).clone();
        if let Some(mut underway) = underway {
            if underway.method == method {
                // A person who closed the browser, and asks again.
                if open_browser {
                    Self::send_browser(&underway);
                }
                return Ok(underway);
            }
            let replaced = Problem::new(Code::SignInTimedOut, "another sign-in took the place of this one");
            underway.cancel.send_replace(Some(replaced));
            drop(underway.ended.wait_for(Option::is_some).await);
        }
        let begun = self.begin_sign_in(method, open_browser).await;
        if let Err(problem) = &begun {
            locked(&self.accounts).problem = Some(problem.clone());
        }
        begun
    }

    async fn begin_sign_in(
        self: &Arc<Self>,
        method: Method,
        open_browser: bool,
    ) -> Result<Underway, Problem> {
        let configuration = self.configuration()?;
        configuration.client()?;
        if method == Method::Device && configuration.device_flow == DeviceFlow::Never {
            return Err(Problem::new(Code::SignInDeviceFlowUnavailable, "policy does not allow it")
                .key("DeviceFlow")
                .hint("`steward login --paste` needs no port and no device".to_owned()));
        }
        // Whoever is signed in already stays so.
        self.load().await;
        let (returns, mut incoming) = mpsc::channel(8);
        // The port comes first: whoever holds it is the only one who signs in.
        let callback = match method {
            Method::Browser => Some(Callback::open(&configuration, returns.clone()).await?),
            Method::Paste | Method::Device => None,
        };
        let provider = match Provider::discover(&self.provider, &configuration, true).await {
            Ok(provider) => provider,
            Err(problem) => {
                if let Some(callback) = callback {
                    callback.close(false).await;
                }
                return Err(problem);
            }
        };
        let mut device = None;
        let (way, url) = if method == Method::Device {
            let request = provider.begin_on_another_device().await?;
            device = Some(OtherDevice {
                verification_uri: request.address(),
                user_code: request.user_code(),
                verification_uri_complete: request.complete_address(),
                expires_in: request.lasts().as_secs(),
            });
            let url = request.complete_address().unwrap_or_else(|| request.address());
            (Way::Device(request), url)
        } else {
            let begun = provider.begin(self.is_lasting(&configuration)).await;
            let pending = match (begun, &callback) {
                (Ok(pending), _) => pending,
                (Err(problem), None) => return Err(problem),
                (Err(problem), Some(_)) => {
                    if let Some(callback) = callback {
                        callback.close(false).await;
                    }
                    return Err(problem);
                }
            };
            let url = pending.url.to_string();
            match callback {
                Some(callback) => (Way::Browser(callback, pending), url),
                None => (Way::Paste(pending), url),
            }
        };
        drop(provider);
        let (end, ended) = watch::channel(None);
        let (cancel, mut cancelled) = watch::channel(None);
        let (cancel, opened) = (Arc::new(cancel), Arc::default());
        let underway = Underway { method, url, device, ended, returns, cancel, opened };
        *locked(&self.sign_in) = Some(underway.clone());
        locked(&self.accounts).problem = None;
        if open_browser && method != Method::Device {
            Self::send_browser(&underway);
        }

        let broker = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = broker.complete(&configuration, way, &mut incoming, &mut cancelled).await;
            match &outcome {
                Ok(()) => tracing::info!("signed in"),
                Err(problem) => {
                    tracing::warn!("{}: {problem}", problem.code.as_str());
                    locked(&broker.accounts).problem = Some(problem.clone());
                }
            }
            *locked(&broker.sign_in) = None;
            end.send_replace(Some(outcome));
        });
        Ok(underway)
    }

    /// Brings what a person pasted to the sign-in that waits for it.
    ///
    /// # Errors
    /// Nobody waits, or it is not the address of this sign-in.
    pub(super) async fn paste(&self, address: &str) -> Result<Underway, Problem> {
        let refuse = |reason: &str| Problem::new(Code::SignInTokenInvalid, reason);
        let underway = locked(&self.sign_in).clone().ok_or_else(|| {
            refuse("no sign-in is going on").hint("begin one with `steward login --paste`".to_owned())
        })?;
        let parameters = Parameters::of(address).filter(|found| found.state.is_some()).ok_or_else(|| {
            refuse("this is not the address that a sign-in ends with").hint(
                "copy the whole address from the browser's address bar; it has `code=` and `state=` in it"
                    .to_owned(),
            )
        })?;
        let foreign = || {
            refuse("this address belongs to another sign-in")
                .hint("open the address that was shown last, and paste where it leads".to_owned())
        };
        if underway.method == Method::Device {
            return Err(foreign());
        }
        let (page, wait) = oneshot::channel();
        // What could not be sent must go: it holds the other end of what is waited for.
        let sent = underway.returns.send(Return { parameters, page }).await.is_ok();
        match (sent, wait.await) {
            (true, Ok(_)) => Ok(underway),
            (_, _) => Err(foreign()),
        }
    }

    /// Opens the browser, beside the sign-in: some browsers come back only when they are closed. Several who ask at once
    /// get one window; without any browser the sign-in ends.
    fn send_browser(underway: &Underway) {
        let last = locked(&underway.opened).replace(Instant::now());
        if last.is_some_and(|last| last.elapsed() < ONE_WINDOW) {
            return;
        }
        let (url, cancel) = (underway.url.clone(), Arc::clone(&underway.cancel));
        tokio::spawn(async move {
            let opened = tokio::task::spawn_blocking(move || webbrowser::open(&url)).await;
            let reason = match opened {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            // Whoever opened it by hand is not kept from going on.
            let problem =
                Problem::new(Code::SignInBrowserFailed, format!("no browser could be opened: {reason}"))
                    .hint("`steward login --no-browser` shows the address to open by hand".to_owned());
            cancel.send_if_modified(|reason| {
                let first = last.is_none() && reason.is_none();
                if first {
                    *reason = Some(problem);
                }
                first
            });
        });
    }

    /// Waits for the person and finishes the sign-in.
    async fn complete(
        &self,
        configuration: &Configuration,
        way: Way,
        incoming: &mut mpsc::Receiver<Return>,
        cancelled: &mut watch::Receiver<Option<Problem>>,
    ) -> Outcome {
        let cancelled = async {
            match cancelled.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(problem)) => problem.clone(),
                Ok(None) | Err(_) => super::stopping(),
            }
        };
        match way {
            Way::Device(request) => {
                let finish = async {
                    let mut provider = Provider::discover(&self.provider, configuration, false).await?;
                    let tokens = provider.finish_on_another_device(&request).await?;
                    self.welcome(configuration, tokens).await.map(drop)
                };
                tokio::select! {
                    outcome = finish => outcome,
                    problem = cancelled => Err(problem),
                }
            }
            Way::Paste(pending) => tokio::select! {
                (_, outcome) = self.finish(configuration, pending, incoming) => outcome,
                problem = cancelled => Err(problem),
            },
            Way::Browser(callback, pending) => {
                let (came_back, outcome) = tokio::select! {
                    finished = self.finish(configuration, pending, incoming) => finished,
                    problem = cancelled => (false, Err(problem)),
                };
                // Whoever comes now, a second time or with something foreign, is told that it is over.
                incoming.close();
                while incoming.try_recv().is_ok() {}
                callback.close(came_back).await;
                outcome
            }
        }
    }

    /// Whether a browser came back, and how it ended.
    async fn finish(
        &self,
        configuration: &Configuration,
        pending: Pending,
        incoming: &mut mpsc::Receiver<Return>,
    ) -> (bool, Outcome) {
        let back = match tokio::time::timeout(LIMIT, wait_for(incoming, &pending)).await {
            Ok(Some(back)) => back,
            Ok(None) => return (false, Err(super::stopping())),
            Err(_) => {
                let minutes = LIMIT.as_secs() / 60;
                let message = format!("nobody came back from the browser within {minutes} minutes");
                let problem = Problem::new(Code::SignInTimedOut, message).hint(format!(
                    "if the browser showed an error, register exactly {} as a redirect URI of a native client",
                    configuration.redirect_uri
                ));
                return (false, Err(problem));
            }
        };
        let result = self.accept(configuration, pending, &back.parameters).await;
        // A browser that has gone does not see its page, and nothing else depends on it.
        drop(back.page.send(page(configuration, &result)));
        (true, result.map(drop))
    }

    async fn accept(
        &self,
        configuration: &Configuration,
        pending: Pending,
        parameters: &Parameters,
    ) -> Result<Arc<Session>, Problem> {
        let mut provider = Provider::discover(&self.provider, configuration, false).await?;
        provider.check_issuer(parameters.iss.as_deref())?;
        if let Some(error) = &parameters.error {
            let described = parameters.error_description.as_deref().unwrap_or("it gives no reason");
            let problem = refused(Code::SignInDenied, error, Some(described));
            let fix = doctor::fix_for(configuration, &problem.message);
            return Err(problem.hint(fix.unwrap_or_else(|| configuration.help())));
        }
        let Some(code) = parameters.code.clone() else {
            return Err(Problem::new(Code::SignInTokenInvalid, "the browser came back without a code")
                .hint(format!("try again; if it persists, {}", configuration.help())));
        };
        let tokens = provider.finish(pending, code).await?;
        self.welcome(configuration, tokens).await
    }

    async fn welcome(&self, configuration: &Configuration, tokens: Tokens) -> Result<Arc<Session>, Problem> {
        let session = Session::begin(configuration, tokens, clock::now())?;
        Ok(self.begin_session(configuration, session).await)
    }

    /// Ends sessions here and at the provider, in a task of its own: a caller that goes away leaves nothing half ended.
    /// Gives where a browser can end that of the last one as well, and what could not be done.
    pub(super) async fn sign_out(
        self: &Arc<Self>,
        name: Option<String>,
        all: bool,
    ) -> Result<(Option<String>, Vec<String>), Problem> {
        let broker = Arc::clone(self);
        let ended = tokio::spawn(async move { broker.sign_out_now(name.as_deref(), all).await });
        ended.await.unwrap_or_else(|_| Err(super::stopping()))
    }

    async fn sign_out_now(
        &self,
        name: Option<&str>,
        all: bool,
    ) -> Result<(Option<String>, Vec<String>), Problem> {
        self.load().await;
        let configuration = self.configuration().ok();
        let mut chosen: Vec<String> = {
            let mut accounts = locked(&self.accounts);
            let named = |session: &&Session| name.is_none_or(|name| session.is_called(name));
            let meant: Vec<String> = match &configuration {
                _ if all => accounts.sessions().map(Session::id).collect(),
                Some(configuration) => accounts
                    .pick(configuration, name)
                    .map(|account| account.session.id())
                    .into_iter()
                    .collect(),
                // Without policy nobody knows which one is meant.
                None => accounts.sessions().filter(named).map(Session::id).collect(),
            };
            match (meant.is_empty(), name, accounts.vault_problems.first()) {
                (true, Some(name), _) => return Err(nobody_called(name)),
                (true, None, Some((_, problem))) if !all => return Err(problem.clone()),
                (_, _, _) => accounts.problem = None,
            }
            meant
        };
        if all {
            // Those that cannot be opened go as well.
            chosen.extend(self.vault.lock().await.accounts());
            chosen.sort_unstable();
            chosen.dedup();
        }
        let (mut end_session, mut remarks) = (None, Vec::new());
        for id in chosen {
            let known = locked(&self.accounts).get(&id).map(|known| Arc::clone(&known.turn));
            let turn = known.unwrap_or_default();
            let _turn = turn.lock().await;
            let session = locked(&self.accounts).get(&id).map(|account| Arc::clone(&account.session));
            if let Err(error) = self.vault.lock().await.forget(&id).await {
                remarks.push(format!("the saved session stays: {error}"));
                continue;
            }
            locked(&self.accounts).remove(&id);
            tracing::info!("signed out");
            let (Some(configuration), Some(session)) = (&configuration, session) else { continue };
            let farewell = self.end_at_provider(configuration, &session);
            let farewell = tokio::time::timeout(FAREWELL_LIMIT, farewell).await;
            match farewell.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                Ok(address) => end_session = address.or(end_session),
                Err(reason) => {
                    let what = "the session could not be ended at the identity provider";
                    remarks.push(format!("{what}: {reason}"));
                }
            }
        }
        Ok((end_session, remarks))
    }

    async fn end_at_provider(
        &self,
        configuration: &Configuration,
        session: &Session,
    ) -> Result<Option<String>, String> {
        if !session.is_of(configuration) {
            return Err("policy does not name it any more".to_owned());
        }
        let provider = Provider::discover(&self.provider, configuration, false).await;
        let provider = provider.map_err(|problem| problem.message)?;
        if let Some(refresh_token) = &session.refresh_token {
            provider.revoke(refresh_token).await?;
        }
        Ok(provider.end_session(&session.id_token).map(|url| url.to_string()))
    }
}

/// The browser that brings the answer to this request. Others are told that they came in vain, and change nothing:
/// any page can send a browser here.
async fn wait_for(incoming: &mut mpsc::Receiver<Return>, pending: &Pending) -> Option<Return> {
    loop {
        let back = incoming.recv().await?;
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
