//! The broker's routes. Only its own person is served; the machine service may read how the session is doing.

use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use policy_schema::{Code, Problem};
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
    question: Option<Json<TokenQuestion>>,
) -> Result<Json<Grant>, Refusal> {
    check_owner(caller)?;
    let interactive = question.is_some_and(|Json(question)| question.interactive);
    match broker.token().await {
        Err(problem) if interactive && problem.code == Code::SignInRequired => {
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
    question: Option<Json<LoginQuestion>>,
) -> Result<Json<LoginAnswer>, Refusal> {
    check_owner(caller)?;
    let LoginQuestion { browser, wait } = question.map(|Json(question)| question).unwrap_or_default();
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

async fn finish(mut underway: Underway) -> Result<(), Refusal> {
    let ended = underway.ended.wait_for(Option::is_some).await;
    match ended.as_deref() {
        Ok(Some(Err(problem))) => Err(refuse(problem.clone())),
        Ok(Some(Ok(())) | None) => Ok(()),
        Err(_) => Err(refuse(super::stopping())),
    }
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
