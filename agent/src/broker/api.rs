//! The broker's routes. Only its own person is served; the machine service may read how the session is doing.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use policy_schema::{Code, Problem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::session::Grant;
use super::{Broker, Underway};
use crate::api::{Caller, Refusal};
use crate::health::model::SignIn;

pub(super) fn routes(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/v1/token", post(token))
        .route("/v1/login", post(login))
        .route("/v1/logout", post(logout))
        .route("/v1/session", get(session))
        .with_state(broker)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TokenQuestion {
    /// Sign in through the browser if nobody is signed in.
    interactive: bool,
}

async fn token(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Bytes,
) -> Result<Json<Grant>, Refusal> {
    check_owner(caller)?;
    let TokenQuestion { interactive } = question(&body)?;
    match broker.token().await {
        Err(problem) if interactive && ends_with_sign_in(problem.code) => {
            let underway = broker.sign_in(true).await.map_err(refuse)?;
            finish(underway).await?;
            broker.token().await.map(Json).map_err(refuse)
        }
        result => result.map(Json).map_err(refuse),
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LoginQuestion {
    /// Open the browser. If not, the caller shows the address to the person.
    browser: bool,
    /// Answer when the sign-in has ended, not when it has begun.
    wait: bool,
}

impl Default for LoginQuestion {
    fn default() -> Self {
        Self { browser: true, wait: true }
    }
}

#[derive(Serialize)]
struct LoginAnswer {
    authorization_url: String,
    session: SignIn,
}

async fn login(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    body: Bytes,
) -> Result<Json<LoginAnswer>, Refusal> {
    check_owner(caller)?;
    let LoginQuestion { browser, wait } = question(&body)?;
    let underway = broker.sign_in(browser).await.map_err(refuse)?;
    let authorization_url = underway.url.clone();
    if wait {
        finish(underway).await?;
    }
    Ok(Json(LoginAnswer { authorization_url, session: broker.describe().await }))
}

async fn logout(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<SignIn>, Refusal> {
    check_owner(caller)?;
    broker.sign_out().await.map_err(refuse)?;
    Ok(Json(broker.describe().await))
}

async fn session(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<SignIn>, Refusal> {
    if !caller.0.is_some_and(|peer| peer.is_administrator()) {
        return Err(not_yours());
    }
    Ok(Json(broker.describe().await))
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
fn ends_with_sign_in(code: Code) -> bool {
    matches!(code, Code::SignInRequired | Code::SignInAddressRefused | Code::VaultCorrupt)
}

fn check_owner(caller: Caller) -> Result<(), Refusal> {
    if caller.0.is_some_and(|peer| peer.is_owner()) { Ok(()) } else { Err(not_yours()) }
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
