//! The broker's routes. Only its own user is served, and tokens go only to programs that policy allows; the machine
//! service may read how the session is doing.

use std::sync::Arc;

use net::admission::{Admission, Caller, Refusal, StatusCode};
use net::server::Api;
use platform::ipc::Peer;
use protocol::app::{APP_CLOSE, APP_RESUME, APP_TELL, App, AppNotice, AppResumed, AppState};
use protocol::broker::{
    CALLERS, CallerRecord, LOGIN, LOGIN_CANCEL, LOGIN_RETURN, LOGOUT, LoginRequest, LoginResponse,
    LoginReturnRequest, LogoutRequest, LogoutResponse, Method, OPENAPI, SESSION, TOKEN, TokenRequest,
    TokenResponse,
};
use protocol::endpoint::Nothing;
use protocol::openapi;
use protocol::session::SessionStatus;

use super::Broker;
use super::callers::Permission;
use super::configuration::{Configuration, ConfigurationError};
use super::confirmation::Interaction;
use super::sign_in::SignInHandle;
use super::sign_in_error::SignInError;
use super::token_error::TokenError;
use super::tokens::TokenKey;

pub(super) fn api(broker: Arc<Broker>) -> Api<Arc<Broker>> {
    Api::new(broker)
        .on(&TOKEN, token)
        .on(&LOGIN, login)
        .on(&LOGIN_RETURN, login_return)
        .on(&LOGIN_CANCEL, login_cancel)
        .on(&LOGOUT, logout)
        .on(&SESSION, session)
        .on(&CALLERS, callers)
        .on(&APP_TELL, app_tell)
        .on(&APP_CLOSE, app_close)
        .on(&APP_RESUME, app_resume)
        .on(&OPENAPI, document)
}

/// What the machine service wants of a broker that runs.
pub(super) fn session_api(broker: Arc<Broker>) -> Api<Arc<Broker>> {
    Api::new(broker).on(&SESSION, session).on(&APP_CLOSE, app_close).on(&APP_RESUME, app_resume)
}

/// A program of the broker's own user that policy allows.
struct Allowed {
    configuration: Arc<Configuration>,
    permission: Permission,
    /// A browser that the broker opens appears in the session that asks.
    same_session: bool,
}

impl Admission<Arc<Broker>> for Allowed {
    fn admit(broker: &Arc<Broker>, caller: &Caller, path: &'static str) -> Result<Self, Refusal> {
        let peer = owner(caller)?;
        let configuration = broker.configuration().map_err(|error| unconfigured(&error))?;
        let checked = broker.callers.check(&configuration, &broker.paths, peer, &caller.admitted, path);
        let permission = checked
            .map_err(|refused| Refusal { status: StatusCode::FORBIDDEN, problem: refused.problem() })?;
        if let Permission::OnceConfirmed(program) = &permission
            && path != TOKEN.path
        {
            let checked = broker.confirmations.check(program);
            checked.map_err(|error| Refusal { status: StatusCode::FORBIDDEN, problem: error.problem() })?;
        }
        Ok(Self { configuration, permission, same_session: peer.is_in_own_session() })
    }
}

/// The same; without a policy, any program of the user, since nothing may keep a user from signing out.
struct AllowedOrUnconfigured;

impl Admission<Arc<Broker>> for AllowedOrUnconfigured {
    fn admit(broker: &Arc<Broker>, caller: &Caller, path: &'static str) -> Result<Self, Refusal> {
        owner(caller)?;
        if broker.configuration().is_ok() {
            Allowed::admit(broker, caller, path)?;
        }
        Ok(Self)
    }
}

/// Any program of the broker's own user.
struct Owner;

impl Admission<Arc<Broker>> for Owner {
    fn admit(_: &Arc<Broker>, caller: &Caller, _: &'static str) -> Result<Self, Refusal> {
        owner(caller).map(|_| Self)
    }
}

/// The broker's own user, or an administrator such as the machine service.
struct OwnerOrAdministrator;

impl Admission<Arc<Broker>> for OwnerOrAdministrator {
    fn admit(_: &Arc<Broker>, caller: &Caller, _: &'static str) -> Result<Self, Refusal> {
        let may = |peer: &Peer| peer.is_owner() || peer.is_administrator();
        caller.peer.as_ref().filter(|peer| may(peer)).map(|_| Self).ok_or_else(not_yours)
    }
}

/// An administrator such as the machine service: not even the user's programs, which may run in a sandbox.
struct Administrator;

impl Admission<Arc<Broker>> for Administrator {
    fn admit(_: &Arc<Broker>, caller: &Caller, _: &'static str) -> Result<Self, Refusal> {
        let refused = || Refusal::new(StatusCode::FORBIDDEN, "this is for administrators");
        caller.peer.as_ref().filter(|peer| peer.is_administrator()).map(|_| Self).ok_or_else(refused)
    }
}

/// Everybody who can reach the API.
struct Anybody;

impl Admission<Arc<Broker>> for Anybody {
    fn admit(_: &Arc<Broker>, _: &Caller, _: &'static str) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

async fn token(
    broker: Arc<Broker>,
    caller: Allowed,
    request: TokenRequest,
) -> Result<TokenResponse, Refusal> {
    let TokenRequest { interactive, account, scope, resource, id_token, renew, rejected } = request;
    let configuration = caller.configuration;
    let key = TokenKey::new(scope.as_deref(), resource);
    if let Permission::OnceConfirmed(path) = &caller.permission {
        let interaction = match (interactive, caller.same_session) {
            (false, _) => Interaction::None,
            (true, false) => Interaction::OtherSession,
            (true, true) => Interaction::Browser,
        };
        let confirmed = broker.confirm(&configuration, path, interaction).await;
        confirmed.map_err(|error| Refusal { status: StatusCode::FORBIDDEN, problem: error.problem() })?;
    }
    if renew {
        if caller.permission != Permission::Own {
            let message = "only Steward itself may renew a session early";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        let renewed = broker.renew_now(&configuration, account.as_deref()).await;
        renewed.map_err(|error| token_refused(&error, &configuration))?;
    }
    let request = || broker.token(&configuration, &key, account.as_deref(), id_token, rejected.as_deref());
    let response = match request().await {
        Err(error) if interactive && error.ends_with_sign_in() && !caller.same_session => {
            let refusal = token_refused(&error, &configuration);
            let hint = "your broker runs in another session of yours, where its browser would open; `steward login` opens \
                        one in this session";
            return Err(Refusal { problem: refusal.problem.hint(hint.to_owned()), ..refusal });
        }
        Err(error) if interactive && error.ends_with_sign_in() => {
            finish(&configuration, broker.sign_in(Method::Browser, true).await).await?;
            request().await
        }
        response => response,
    };
    response.map_err(|error| token_refused(&error, &configuration))
}

async fn login(
    broker: Arc<Broker>,
    caller: Allowed,
    request: LoginRequest,
) -> Result<LoginResponse, Refusal> {
    let LoginRequest { method, browser, wait, join } = request;
    let other_session = browser && !caller.same_session;
    let opens = browser && caller.same_session;
    let handle = if join { broker.joined() } else { broker.sign_in(method, opens).await };
    let response = login_response(&broker, &caller.configuration, handle, wait).await?;
    Ok(LoginResponse { other_session, ..response })
}

async fn login_return(
    broker: Arc<Broker>,
    caller: Allowed,
    request: LoginReturnRequest,
) -> Result<LoginResponse, Refusal> {
    let handle = broker.paste(&request.url).await;
    login_response(&broker, &caller.configuration, handle, true).await
}

async fn login_cancel(broker: Arc<Broker>, _: Allowed, _: Nothing) -> Result<SessionStatus, Refusal> {
    broker.cancel_sign_in().await;
    Ok(broker.describe().await)
}

async fn login_response(
    broker: &Broker,
    configuration: &Configuration,
    handle: Result<SignInHandle, SignInError>,
    wait: bool,
) -> Result<LoginResponse, Refusal> {
    let handle = handle.map_err(|error| sign_in_refused(&error, configuration))?;
    let (authorization_url, device) = (handle.url.clone(), handle.device.clone());
    if wait {
        finish(configuration, Ok(handle)).await?;
    }
    Ok(LoginResponse { authorization_url, device, other_session: false, session: broker.describe().await })
}

async fn logout(
    broker: Arc<Broker>,
    _: AllowedOrUnconfigured,
    request: LogoutRequest,
) -> Result<LogoutResponse, Refusal> {
    let LogoutRequest { account, all } = request;
    let ended = broker.sign_out(account, all).await;
    let (end_session_url, remarks) =
        ended.map_err(|error| Refusal { status: error.status(), problem: error.problem() })?;
    Ok(LogoutResponse { end_session_url, remarks, session: broker.describe().await })
}

async fn session(broker: Arc<Broker>, _: OwnerOrAdministrator, _: Nothing) -> Result<SessionStatus, Refusal> {
    Ok(broker.describe().await)
}

async fn callers(broker: Arc<Broker>, _: Owner, _: Nothing) -> Result<Vec<CallerRecord>, Refusal> {
    Ok(broker.callers.records())
}

async fn app_tell(broker: Arc<Broker>, _: Administrator, notice: AppNotice) -> Result<AppState, Refusal> {
    Ok(broker.tell_of_update(notice).await)
}

async fn app_close(broker: Arc<Broker>, _: Administrator, app: App) -> Result<AppState, Refusal> {
    Ok(broker.close_app(app).await)
}

async fn app_resume(broker: Arc<Broker>, _: Administrator, app: App) -> Result<AppResumed, Refusal> {
    Ok(broker.resume_app(app).await)
}

async fn document(_: Arc<Broker>, _: Anybody, _: Nothing) -> Result<serde_json::Value, Refusal> {
    Ok(openapi::document())
}

/// Waits for the end of a sign-in.
async fn finish(
    configuration: &Configuration,
    handle: Result<SignInHandle, SignInError>,
) -> Result<(), Refusal> {
    let ended = match handle {
        Ok(mut handle) => match handle.ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(error))) => Err(error.clone()),
            Ok(Some(Ok(())) | None) => Ok(()),
            Err(_) => Err(SignInError::Stopping),
        },
        Err(error) => Err(error),
    };
    ended.map_err(|error| sign_in_refused(&error, configuration))
}

fn unconfigured(error: &ConfigurationError) -> Refusal {
    Refusal { status: StatusCode::SERVICE_UNAVAILABLE, problem: error.problem() }
}

fn token_refused(error: &TokenError, configuration: &Configuration) -> Refusal {
    Refusal { status: error.status(), problem: error.problem(configuration) }
}

fn sign_in_refused(error: &SignInError, configuration: &Configuration) -> Refusal {
    Refusal { status: error.status(), problem: error.problem(configuration) }
}

fn owner(caller: &Caller) -> Result<&Peer, Refusal> {
    caller.peer.as_ref().filter(|peer| peer.is_owner()).ok_or_else(not_yours)
}

fn not_yours() -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "this is another user's broker")
}
