//! The broker's routes. Only its own person is served, and tokens go only to programs that policy allows; the machine
//! service may read how the session is doing. Described in [`super::openapi`].

use std::sync::Arc;

use agent_platform::ipc::Peer;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use policy_schema::{Code, Problem};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::callers::Asked;
use super::configuration::Configuration;
use super::session::{Grant, Want};
use super::sign_in::{Method, OtherDevice, Underway};
use super::{Broker, openapi};
use crate::api::{Caller, Refusal};
use crate::health::model::SignIn;

pub(super) fn routes(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/v1/token", post(token))
        .route("/v1/login", post(login))
        .route("/v1/login/return", post(login_return))
        .route("/v1/logout", post(logout))
        .route("/v1/session", get(session))
        .route("/v1/callers", get(callers))
        .route("/v1/openapi.json", get(openapi::document))
        .with_state(broker)
}

/// What an app asks for.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenQuestion {
    /// Sign in through the browser if nobody is signed in.
    interactive: bool,
    /// The account, by address or subject; by default the one that signed in last.
    account: Option<String>,
    /// Fewer scopes than those of the sign-in, separated by spaces (RFC 6749, section 6); by default all of them.
    scope: Option<String>,
    /// The resource that the access token is for (RFC 8707).
    resource: Option<String>,
    /// The ID token matters: renew the session if it has ended, although the access token lasts.
    id_token: bool,
    /// Renew the session first, however long its tokens last; for Steward's own program.
    renew: bool,
}

async fn token(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Bytes,
) -> Result<Json<Grant>, Refusal> {
    let configuration = admit(&broker, &caller, "/v1/token")?;
    let TokenQuestion { interactive, account, scope, resource, id_token, renew } = question(&body)?;
    let want = Want::new(scope.as_deref(), resource);
    if renew {
        let own = caller.peer.as_ref().is_some_and(|peer| broker.callers.is_own(peer));
        if !own {
            let problem =
                Problem::new(Code::ApiRefused, "only Steward itself may renew a session before it is time");
            return Err(Refusal { status: StatusCode::FORBIDDEN, problem });
        }
        broker.renew_now(&configuration, account.as_deref()).await.map_err(refuse)?;
    }
    let ask = || broker.token(&configuration, &want, account.as_deref(), id_token);
    match ask().await {
        Err(problem) if interactive && ends_with_sign_in(&problem) => {
            let underway = broker.sign_in(Method::Browser, true).await.map_err(refuse)?;
            finish(underway).await?;
            ask().await.map(Json).map_err(refuse)
        }
        result => result.map(Json).map_err(refuse),
    }
}

/// How to sign in.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LoginQuestion {
    method: Method,
    /// Open the browser. If not, the caller shows the address to the person.
    browser: bool,
    /// Answer when the sign-in has ended, not when it has begun.
    wait: bool,
}

impl Default for LoginQuestion {
    fn default() -> Self {
        Self { method: Method::Browser, browser: true, wait: true }
    }
}

/// A sign-in that has begun, or ended.
#[derive(Serialize, JsonSchema)]
pub(super) struct LoginAnswer {
    /// Where a person signs in.
    authorization_url: String,
    /// What else a person needs to sign in on another device.
    device: Option<OtherDevice>,
    session: SignIn,
}

async fn login(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Bytes,
) -> Result<Json<LoginAnswer>, Refusal> {
    admit(&broker, &caller, "/v1/login")?;
    let LoginQuestion { method, browser, wait } = question(&body)?;
    let underway = broker.sign_in(method, browser).await.map_err(refuse)?;
    answer_login(&broker, underway, wait).await
}

/// The address that a person copied from the browser at the end of a sign-in.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReturnQuestion {
    url: String,
}

async fn login_return(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Bytes,
) -> Result<Json<LoginAnswer>, Refusal> {
    admit(&broker, &caller, "/v1/login/return")?;
    let ReturnQuestion { url } = question(&body)?;
    let underway = broker.paste(&url).await.map_err(refuse)?;
    answer_login(&broker, underway, true).await
}

async fn answer_login(broker: &Broker, underway: Underway, wait: bool) -> Result<Json<LoginAnswer>, Refusal> {
    let (authorization_url, device) = (underway.url.clone(), underway.device.clone());
    if wait {
        finish(underway).await?;
    }
    Ok(Json(LoginAnswer { authorization_url, device, session: broker.describe().await }))
}

/// Whom to sign out.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogoutQuestion {
    /// The account, by address or subject; by default the one that signed in last.
    account: Option<String>,
    /// Everybody who is signed in on this device.
    all: bool,
}

/// What came of a sign-out.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct LogoutAnswer {
    /// Where a browser ends the session at the identity provider too (RP-Initiated Logout 1.0), if it offers that.
    pub(crate) end_session_url: Option<String>,
    /// What could not be done. The session on this device is gone all the same.
    pub(crate) remarks: Vec<String>,
    pub(crate) session: SignIn,
}

async fn logout(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Bytes,
) -> Result<Json<LogoutAnswer>, Refusal> {
    check_owner(&caller)?;
    if broker.configuration().is_ok() {
        admit(&broker, &caller, "/v1/logout")?;
    }
    let LogoutQuestion { account, all } = question(&body)?;
    let (end_session_url, remarks) = broker.sign_out(account, all).await.map_err(refuse)?;
    Ok(Json(LogoutAnswer { end_session_url, remarks, session: broker.describe().await }))
}

async fn session(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<SignIn>, Refusal> {
    if !caller.peer.as_ref().is_some_and(Peer::is_administrator) {
        return Err(not_yours());
    }
    Ok(Json(broker.describe().await))
}

async fn callers(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<Vec<Asked>>, Refusal> {
    check_owner(&caller)?;
    Ok(Json(broker.callers.asked()))
}

/// What the body asks for; an empty one asks for the usual.
fn question<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let problem = Problem::new(Code::ApiRefused, format!("the question is not understood: {error}"));
        Refusal { status: StatusCode::BAD_REQUEST, problem }
    })
}

async fn finish(mut underway: Underway) -> Result<(), Refusal> {
    let ended = underway.ended.wait_for(Option::is_some).await;
    match ended.as_deref() {
        Ok(Some(Err(problem))) => Err(refuse(problem.clone())),
        Ok(Some(Ok(())) | None) => Ok(()),
        Err(_) => Err(refuse(super::stopping())),
    }
}

/// Whether a new sign-in is the way out. A store that is locked is not: the session is still there.
fn ends_with_sign_in(problem: &Problem) -> bool {
    let codes = [Code::SignInRequired, Code::SignInAddressRefused, Code::VaultCorrupt];
    problem.code.known().is_some_and(|code| codes.contains(&code))
}

/// Lets through a program of the broker's own person that policy allows.
fn admit(broker: &Broker, caller: &Caller, route: &str) -> Result<Arc<Configuration>, Refusal> {
    let peer = check_owner(caller)?;
    let configuration = broker.configuration().map_err(refuse)?;
    let checked = broker.callers.check(&configuration, &broker.paths, peer, &caller.admitted, route);
    checked.map_err(|problem| Refusal { status: StatusCode::FORBIDDEN, problem })?;
    Ok(configuration)
}

fn check_owner(caller: &Caller) -> Result<&Peer, Refusal> {
    caller.peer.as_ref().filter(|peer| peer.is_owner()).ok_or_else(not_yours)
}

fn not_yours() -> Refusal {
    let problem = Problem::new(Code::ApiRefused, "this is another person's broker");
    Refusal { status: StatusCode::FORBIDDEN, problem }
}

fn refuse(problem: Problem) -> Refusal {
    let status = if problem.code == Code::SignInRequired {
        StatusCode::UNAUTHORIZED
    } else if problem.code == Code::SignInProviderUnreachable {
        StatusCode::BAD_GATEWAY
    } else {
        StatusCode::CONFLICT
    };
    Refusal { status, problem }
}
