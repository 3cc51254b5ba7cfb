//! The sign-in: through the browser on this device, with its last address pasted by hand, or on another device.
//!
//! One at a time; a second request joins it. It has a time limit, and a task of its own that no caller can cancel.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform::clock;
use policy_schema::settings::DeviceFlow;
use protocol::broker::{DeviceCode, Method};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::callback::{Callback, Parameters, RedirectResponse};
use super::configuration::Configuration;
use super::page::Page;
use super::provider::{AuthorizationRequest, Check, DeviceRequest, Provider, ProviderError, Refusal};
use super::session::Session;
use super::sign_in_error::{PasteError, SignInError};
use super::tokens::Tokens;
use super::{Broker, OnDrop, browser, locked};

/// How long a user may take in the browser.
const LIMIT: Duration = Duration::from_mins(5);
/// A second request within this time opens no second window.
const ONE_WINDOW: Duration = Duration::from_secs(3);

/// A sign-in that is under way, for those who wait for it.
#[derive(Clone)]
pub(super) struct SignInHandle {
    pub(super) method: Method,
    /// Where to send the browser.
    pub(super) url: String,
    pub(super) device: Option<DeviceCode>,
    pub(super) ended: watch::Receiver<Option<Outcome>>,
    configuration: Arc<Configuration>,
    redirects: mpsc::Sender<RedirectResponse>,
    /// Ends it: another one replaces it, or there is no browser.
    cancel: Arc<watch::Sender<Option<SignInError>>>,
    /// When the browser was last opened.
    opened: Arc<Mutex<Option<Instant>>>,
}

pub(super) type Outcome = Result<(), SignInError>;

/// What a sign-in waits for.
enum Flow {
    Browser(Callback, AuthorizationRequest),
    Paste(AuthorizationRequest),
    Device(DeviceRequest),
}

impl Broker {
    /// Begins a sign-in, or joins the one that is under way with the same method.
    pub(super) async fn sign_in(
        self: &Arc<Self>,
        method: Method,
        open_browser: bool,
    ) -> Result<SignInHandle, SignInError> {
        let _one_at_a_time = self.beginning.lock().await;
        let in_progress = locked(&self.sign_in).clone();
        let configuration = self.configuration()?;
        if let Some(mut handle) = in_progress {
            // Policy may have been corrected meanwhile: then it waits at the wrong address.
            if handle.method == method && handle.configuration == configuration {
                // A user who closed the browser, and asks again.
                if open_browser {
                    Self::open_browser(&handle);
                }
                return Ok(handle);
            }
            handle.cancel.send_replace(Some(SignInError::Replaced));
            drop(handle.ended.wait_for(Option::is_some).await);
        }
        let begun = self.begin_sign_in(Arc::clone(&configuration), method, open_browser).await;
        if let Err(error) = &begun {
            locked(&self.accounts).problem = Some(error.problem(&configuration));
            self.session_changed();
        }
        begun
    }

    /// The sign-in that is under way, or the one that was the last.
    pub(super) fn joined(&self) -> Result<SignInHandle, SignInError> {
        let last = locked(&self.sign_in).clone().or_else(|| locked(&self.last_sign_in).clone());
        last.ok_or(SignInError::Paste(PasteError::NoSignIn))
    }

    /// Ends the sign-in that is under way, if there is one, and waits until its port is free.
    pub(super) async fn cancel_sign_in(&self) {
        let in_progress = locked(&self.sign_in).clone();
        if let Some(mut handle) = in_progress {
            handle.cancel.send_replace(Some(SignInError::Cancelled));
            drop(handle.ended.wait_for(Option::is_some).await);
        }
    }

    async fn begin_sign_in(
        self: &Arc<Self>,
        configuration: Arc<Configuration>,
        method: Method,
        open_browser: bool,
    ) -> Result<SignInHandle, SignInError> {
        configuration.client()?;
        if method == Method::Device && configuration.device_flow == DeviceFlow::Never {
            return Err(SignInError::DeviceFlowNotAllowed);
        }
        // Accounts that are signed in already stay so.
        self.load().await;
        let (redirects, mut incoming) = mpsc::channel(8);
        // The port comes first: only the process that has it signs in.
        let callback = match method {
            Method::Browser => Some(Callback::open(&configuration, redirects.clone()).await?),
            Method::Paste | Method::Device => None,
        };
        let (flow, url, device) = self.begin_flow(&configuration, method, callback).await?;
        let (end, ended) = watch::channel(None);
        let (cancel, mut cancelled) = watch::channel(None);
        let (cancel, opened) = (Arc::new(cancel), Arc::default());
        let handle = SignInHandle {
            method,
            url,
            device,
            ended,
            configuration: Arc::clone(&configuration),
            redirects,
            cancel,
            opened,
        };
        *locked(&self.sign_in) = Some(handle.clone());
        *locked(&self.last_sign_in) = Some(handle.clone());
        locked(&self.accounts).problem = None;
        self.session_changed();
        if open_browser && method != Method::Device {
            Self::open_browser(&handle);
        }

        let broker = Arc::clone(self);
        tokio::spawn(async move {
            // However the sign-in ends, a panic included, the next one can begin.
            let under_way = OnDrop(|| {
                *locked(&broker.sign_in) = None;
                broker.session_changed();
            });
            let outcome = broker.complete(&configuration, flow, &mut incoming, &mut cancelled).await;
            match &outcome {
                Ok(()) => tracing::info!("signed in"),
                Err(error) => {
                    let problem = error.problem(&configuration);
                    tracing::warn!("{}: {problem}", problem.code.as_str());
                    locked(&broker.accounts).problem = Some(problem);
                }
            }
            drop(under_way);
            end.send_replace(Some(outcome));
        });
        Ok(handle)
    }

    /// Asks the provider how to begin. Gives what to wait for, where to send the browser, and what else a user needs.
    async fn begin_flow(
        &self,
        configuration: &Configuration,
        method: Method,
        callback: Option<Callback>,
    ) -> Result<(Flow, String, Option<DeviceCode>), ProviderError> {
        let requested = async {
            let provider = Provider::discover(&self.provider, configuration, true).await?;
            if method != Method::Device {
                return Ok(Ok(provider.begin(self.is_lasting(configuration)).await?));
            }
            Ok(Err(provider.begin_on_another_device().await?))
        };
        match (requested.await, callback) {
            (Ok(Ok(request)), callback) => {
                let url = request.url.to_string();
                Ok(match callback {
                    Some(callback) => {
                        let url = callback.begin_at(url);
                        (Flow::Browser(callback, request), url, None)
                    }
                    None => (Flow::Paste(request), url, None),
                })
            }
            (Ok(Err(request)), _) => {
                let code = DeviceCode {
                    verification_uri: request.address(),
                    user_code: request.user_code(),
                    verification_uri_complete: request.complete_address(),
                    expires_in: request.expires_in().as_secs(),
                };
                let url = request.complete_address().unwrap_or_else(|| request.address());
                Ok((Flow::Device(request), url, Some(code)))
            }
            (Err(error), callback) => {
                if let Some(callback) = callback {
                    callback.close(false).await;
                }
                Err(error)
            }
        }
    }

    /// Brings what a user pasted to the sign-in that waits for it.
    ///
    /// # Errors
    /// Nobody waits, or it is not the address of this sign-in.
    pub(super) async fn paste(&self, address: &str) -> Result<SignInHandle, SignInError> {
        let handle = locked(&self.sign_in).clone().ok_or(PasteError::NoSignIn)?;
        let parameters = Parameters::of(address).filter(|found| found.state.is_some());
        let parameters = parameters.ok_or(PasteError::NotARedirect)?;
        if handle.method == Method::Device {
            return Err(PasteError::OtherSignIn.into());
        }
        let (page, wait) = oneshot::channel();
        // If it could not be sent, its end of the channel must be dropped, or `wait` would never end.
        let sent = handle.redirects.send(RedirectResponse { parameters, page }).await.is_ok();
        match (sent, wait.await) {
            (true, Ok(_)) => Ok(handle),
            (_, _) => Err(PasteError::OtherSignIn.into()),
        }
    }

    /// Opens the browser, beside the sign-in: some browsers return only when they are closed. Several requests at once
    /// get one window; without any browser the sign-in ends.
    fn open_browser(handle: &SignInHandle) {
        let last = locked(&handle.opened).replace(Instant::now());
        if last.is_some_and(|last| last.elapsed() < ONE_WINDOW) {
            return;
        }
        let (url, cancel) = (handle.url.clone(), Arc::clone(&handle.cancel));
        tokio::spawn(async move {
            let Err(reason) = browser::open(url).await else { return };
            // A user who opened it by hand is not kept from going on.
            cancel.send_if_modified(|cancelled| {
                let first = last.is_none() && cancelled.is_none();
                if first {
                    *cancelled = Some(SignInError::NoBrowser(reason));
                }
                first
            });
        });
    }

    /// Waits for the user and finishes the sign-in.
    async fn complete(
        &self,
        configuration: &Configuration,
        flow: Flow,
        incoming: &mut mpsc::Receiver<RedirectResponse>,
        cancelled: &mut watch::Receiver<Option<SignInError>>,
    ) -> Outcome {
        let cancelled = async {
            match cancelled.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(error)) => error.clone(),
                Ok(None) | Err(_) => SignInError::Stopping,
            }
        };
        match flow {
            Flow::Device(request) => {
                let finish = async {
                    let mut provider = Provider::discover(&self.provider, configuration, false).await?;
                    let tokens = provider.finish_on_another_device(&request).await?;
                    self.establish_session(configuration, tokens).await.map(drop)
                };
                tokio::select! {
                    outcome = finish => outcome,
                    error = cancelled => Err(error),
                }
            }
            Flow::Paste(request) => tokio::select! {
                (_, outcome) = self.finish(configuration, request, incoming) => outcome,
                error = cancelled => Err(error),
            },
            Flow::Browser(callback, request) => {
                let (came_back, outcome) = tokio::select! {
                    finished = self.finish(configuration, request, incoming) => finished,
                    error = cancelled => (false, Err(error)),
                };
                // A browser that comes now, a second time or with a foreign state, gets a page that says so.
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
        request: AuthorizationRequest,
        incoming: &mut mpsc::Receiver<RedirectResponse>,
    ) -> (bool, Outcome) {
        let redirect = match tokio::time::timeout(LIMIT, wait_for(incoming, &request)).await {
            Ok(Some(redirect)) => redirect,
            Ok(None) => return (false, Err(SignInError::Stopping)),
            Err(_) => return (false, Err(SignInError::TimedOut { minutes: LIMIT.as_secs() / 60 })),
        };
        let result = self.accept(configuration, request, &redirect.parameters).await;
        // A browser that has gone does not see its page, and nothing else depends on it.
        drop(redirect.page.send(page(configuration, &result)));
        (true, result.map(drop))
    }

    async fn accept(
        &self,
        configuration: &Configuration,
        request: AuthorizationRequest,
        parameters: &Parameters,
    ) -> Result<Arc<Session>, SignInError> {
        let mut provider = Provider::discover(&self.provider, configuration, false).await?;
        provider.check_issuer(parameters.iss.as_deref())?;
        if let Some(error) = &parameters.error {
            let description = parameters.error_description.as_deref().unwrap_or("it gives no reason");
            return Err(ProviderError::Refused(Refusal::new(error, Some(description))).into());
        }
        let Some(code) = parameters.code.clone() else {
            let reason = "the browser came back without a code".to_owned();
            return Err(ProviderError::Untrusted { check: Check::Token, reason }.into());
        };
        let tokens = provider.finish(request, &code).await?;
        self.establish_session(configuration, tokens).await
    }

    async fn establish_session(
        &self,
        configuration: &Configuration,
        tokens: Tokens,
    ) -> Result<Arc<Session>, SignInError> {
        let session = Session::begin(configuration, tokens, &clock::moment())?;
        Ok(self.begin_session(configuration, session).await)
    }
}

/// The redirect response that belongs to this request. Others get a page that says so, and change nothing: any page
/// can send a browser here.
async fn wait_for(
    incoming: &mut mpsc::Receiver<RedirectResponse>,
    request: &AuthorizationRequest,
) -> Option<RedirectResponse> {
    loop {
        let redirect = incoming.recv().await?;
        let parameters = &redirect.parameters;
        // An error without a state: not every provider repeats it. A user who saw that page waits for nothing more.
        let is_error = parameters.state.is_none() && parameters.error.is_some() && parameters.code.is_none();
        if is_error || parameters.state.as_deref().is_some_and(|state| request.matches(state)) {
            return Some(redirect);
        }
        tracing::warn!("a browser came back with the state of another sign-in and was ignored");
        drop(redirect.page);
    }
}

fn page(configuration: &Configuration, result: &Result<Arc<Session>, SignInError>) -> Page {
    let (heading, text) = match result {
        Ok(session) => (
            "You are signed in".to_owned(),
            format!("Signed in as {}. Close this window and go back to the app.", session.account()),
        ),
        Err(error) => ("The sign-in did not work".to_owned(), error.for_user(configuration)),
    };
    Page {
        organization: configuration.organization.clone(),
        heading,
        text,
        choice: None,
        support: configuration.support_contact.clone(),
    }
}
