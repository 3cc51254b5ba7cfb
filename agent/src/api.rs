//! Local APIs: HTTP/1.1 over a Unix socket or a named pipe. What both processes share (who is calling, answers, errors, the client),
//! and the machine service's own routes.
//!
//! Every local user may read the machine's status: it holds no secrets. What changes something needs an
//! administrator's peer credentials.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_platform::ipc::{self, Peer};
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use policy_schema::resolve::{Level, Origin, Resolution};
use policy_schema::{Code, LastGood, Problem, Resolved, SETTINGS};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::health::model::Status;
use crate::policy::Snapshot;
use crate::run::Event;

/// The most bytes of a question to, and of an answer of, a local API.
const MAXIMUM_QUESTION: usize = 64 * 1024;
const MAXIMUM_ANSWER: usize = 16 * 1024 * 1024;
/// How long a question may take to arrive, and a connection may be silent.
const QUESTION_LIMIT: Duration = Duration::from_mins(1);
/// How many connections are served at once, and how many of one caller; the others wait, or are closed.
const MAXIMUM_CONNECTIONS: usize = 256;
const MAXIMUM_SHARE: usize = 64;
/// How long a process that hangs is waited for, when it is asked for what it knows.
const LOOK_LIMIT: Duration = Duration::from_secs(4);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What the machine service publishes.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) status: Status,
    pub(crate) policy: Explained,
}

/// The policy with its whole story, as `GET /v1/policy` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Explained {
    pub(crate) settings: Vec<Story>,
    pub(crate) problems: Vec<Problem>,
}

/// One setting's story.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Story {
    pub(crate) key: String,
    /// Secrets as `(set)`, addresses without their query.
    pub(crate) value: Option<serde_json::Value>,
    pub(crate) origin: Origin,
    /// Since when policy has said so.
    pub(crate) since: Option<Timestamp>,
    /// The value that held when policy could last be understood.
    pub(crate) last_good: Option<LastGoodValue>,
    pub(crate) losers: Vec<Loser>,
}

/// A remembered value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LastGoodValue {
    /// Secrets as `(set)`, addresses without their query.
    pub(crate) value: serde_json::Value,
    pub(crate) place: String,
    pub(crate) since: Timestamp,
}

/// A value that did not win.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Loser {
    pub(crate) place: String,
    pub(crate) level: Level,
    pub(crate) value: Option<serde_json::Value>,
    pub(crate) why: String,
}

impl Explained {
    pub(crate) fn new(snapshot: &Snapshot, problems: Vec<Problem>) -> Self {
        Self::of(&snapshot.resolved, &snapshot.last_good, problems)
    }

    pub(crate) fn of(resolved: &Resolved, last_good: &LastGood, problems: Vec<Problem>) -> Self {
        let stories = resolved.settings.iter().map(|setting| Story::new(setting, last_good));
        Self { settings: stories.collect(), problems }
    }
}

impl Story {
    fn new(resolution: &Resolution, last_good: &LastGood) -> Self {
        let shown = |value: &Option<policy_schema::Value>| value.as_ref().map(policy_schema::Value::to_shown);
        let last_good = LastGoodValue::of(resolution.key, last_good);
        let since = match (&resolution.origin, &last_good) {
            (Origin::Policy { .. }, Some(known)) => Some(known.since),
            _ => None,
        };
        Self {
            key: resolution.key.to_owned(),
            value: shown(&resolution.value),
            origin: resolution.origin.clone(),
            since,
            last_good,
            losers: resolution
                .losers
                .iter()
                .map(|loser| Loser {
                    place: loser.place.clone(),
                    level: loser.level,
                    value: shown(&loser.value),
                    why: loser.why.clone(),
                })
                .collect(),
        }
    }
}

impl LastGoodValue {
    /// What is remembered of a setting, in a form that may be shown.
    pub(crate) fn of(key: &str, last_good: &LastGood) -> Option<Self> {
        let known = last_good.values.get(key)?;
        let setting = SETTINGS.iter().find(|setting| setting.key == key)?;
        let value = setting.kind.parse(&known.value).ok()?.to_shown();
        Some(Self { value, place: known.place.clone(), since: known.since })
    }
}

/// Who is calling, as a request sees it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Option<Peer>,
    /// The configuration under which this connection was last let through, by number; 0 if it never was.
    pub(crate) admitted: Arc<AtomicU64>,
}

/// An answer that is no success: `{"error": {"code": "...", "message": "...", "hint": "..."}}`.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) problem: Problem,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.problem }))).into_response()
    }
}

/// Serves routes until the process ends.
pub(crate) async fn serve(mut listener: ipc::Listener, routes: Router) {
    let places = Arc::new(Semaphore::new(MAXIMUM_CONNECTIONS));
    let held: Arc<Mutex<HashMap<u64, usize>>> = Arc::default();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Such as no file descriptor left: whoever holds them gives them back at some time.
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One caller must not take the places of all.
        // Programs of the same person get theirs each; other people one for all of theirs.
        let key = |peer: &Peer| match peer.process() {
            Some(process) if peer.is_owner() => u64::from(process) << 32,
            Some(_) | None => peer.key(),
        };
        let Some(share) = Share::take(&held, peer.as_ref().map_or(0, key)) else { continue };
        let routes = routes.clone();
        tokio::spawn(async move {
            let caller = Caller { peer, admitted: Arc::default() };
            let service = service_fn(move |request| answer(routes.clone(), caller.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(QUESTION_LIMIT)
                .max_buf_size(MAXIMUM_QUESTION)
                .serve_connection(TokioIo::new(stream), service);
            // A caller that has gone in the middle, or does not speak HTTP, is its own affair.
            drop(connection.await);
            drop((place, share));
        });
    }
}

/// A caller's part of the places, until it is dropped.
struct Share {
    held: Arc<Mutex<HashMap<u64, usize>>>,
    key: u64,
}

impl Share {
    fn take(held: &Arc<Mutex<HashMap<u64, usize>>>, key: u64) -> Option<Self> {
        let mut count = held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.entry(key).or_default();
        if *count >= MAXIMUM_SHARE {
            return None;
        }
        *count += 1;
        Some(Self { held: Arc::clone(held), key })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// Checks a question, takes it in within limits of size and time, and hands it to the routes.
async fn answer(
    mut routes: Router,
    caller: Caller,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let body = match check_headers(&parts) {
        Ok(()) => tokio::time::timeout(QUESTION_LIMIT, Limited::new(body, MAXIMUM_QUESTION).collect()).await,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    let refuse = |status, message: &str| {
        Ok(Refusal { status, problem: Problem::new(Code::ApiRefused, message) }.into_response())
    };
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the question is too long, or broke off"),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the question did not end in time"),
    };
    let mut request = hyper::Request::from_parts(parts, Full::new(body));
    request.extensions_mut().insert(ConnectInfo(caller));
    tower_service::Service::call(&mut routes, request).await
}

/// No web page gets here: not by a name that it controls (DNS rebinding, through whatever forwards TCP to this
/// place), and not in the name of a person who looks at it (browsers send `Origin` and `Sec-Fetch-Site`).
fn check_headers(parts: &hyper::http::request::Parts) -> Result<(), Refusal> {
    let header = |name: &str| parts.headers.get(name).map(hyper::header::HeaderValue::as_bytes);
    let refuse = |status, message: &str| {
        let problem = Problem::new(Code::ApiRefused, message);
        Err(Refusal { status, problem })
    };
    if header("host") != Some(b"localhost") {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "the header `Host` must be `localhost`");
    }
    if ["origin", "sec-fetch-site", "referer"].iter().any(|name| header(name).is_some()) {
        return refuse(StatusCode::FORBIDDEN, "web pages are not answered");
    }
    let json = header("content-type").is_some_and(|kind| {
        let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    if !json && header("content-length").is_some_and(|length| length != b"0") {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a question is `application/json`");
    }
    Ok(())
}

#[derive(Clone)]
struct Machine {
    published: watch::Receiver<Arc<Published>>,
    events: mpsc::Sender<Event>,
}

/// The machine service's routes.
pub(crate) fn routes(published: watch::Receiver<Arc<Published>>, events: mpsc::Sender<Event>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/policy", get(policy))
        .route("/v1/policy/reload", post(reload))
        .route("/v1/update/check", post(check_for_update))
        .with_state(Machine { published, events })
}

async fn status(State(machine): State<Machine>) -> Json<Status> {
    let published = machine.published.borrow().clone();
    Json(published.status.clone())
}

async fn policy(State(machine): State<Machine>) -> Json<Explained> {
    let published = machine.published.borrow().clone();
    Json(published.policy.clone())
}

async fn reload(
    State(machine): State<Machine>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<Explained>, Refusal> {
    ask(&machine, caller, Event::Reload).await?;
    Ok(policy(State(machine)).await)
}

async fn check_for_update(
    State(machine): State<Machine>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<Status>, Refusal> {
    ask(&machine, caller, Event::CheckForUpdate).await?;
    Ok(status(State(machine)).await)
}

/// Hands an administrator's wish to the main loop and waits until it is done.
async fn ask(
    machine: &Machine,
    caller: Caller,
    wish: impl FnOnce(oneshot::Sender<()>) -> Event,
) -> Result<(), Refusal> {
    if !caller.peer.as_ref().is_some_and(Peer::is_administrator) {
        return Err(refusal(StatusCode::FORBIDDEN, "only an administrator may do this"));
    }
    let (done, wait) = oneshot::channel();
    let stopping = |_| refusal(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping");
    machine.events.send(wish(done)).await.map_err(|error| stopping(error.to_string()))?;
    wait.await.map_err(|error| stopping(error.to_string()))
}

fn refusal(status: StatusCode, message: &str) -> Refusal {
    let problem = Problem::new(Code::ApiRefused, message)
        .hint("run the command as root, on Windows as an administrator".to_owned());
    Refusal { status, problem }
}

/// Why a local API gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("nobody answers at {place}")]
    Absent {
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{place} does not answer within {} seconds", LOOK_LIMIT.as_secs())]
    Silent { place: String },
    #[error("the answer from {place} broke off")]
    Broken {
        place: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{0}")]
    Refused(Problem),
}

/// Asks a local API.
pub(crate) async fn request<T: DeserializeOwned>(
    socket: &Path,
    method: &str,
    path: &str,
    question: Option<&serde_json::Value>,
) -> Result<T, AskError> {
    request_within(MAXIMUM_ANSWER, socket, method, path, question).await
}

/// Asks a local API that is not to be trusted with more than `limit` bytes.
pub(crate) async fn request_within<T: DeserializeOwned>(
    limit: usize,
    socket: &Path,
    method: &str,
    path: &str,
    question: Option<&serde_json::Value>,
) -> Result<T, AskError> {
    let place = socket.display().to_string();
    let asked = async {
        let stream =
            ipc::connect(socket).await.map_err(|source| AskError::Absent { place: place.clone(), source })?;
        exchange(limit, stream, method, path, question).await.map_err(|failure| match failure {
            Failure::Refused(problem) => AskError::Refused(problem),
            Failure::Broken(source) => AskError::Broken { place: place.clone(), source },
        })
    };
    // What only looks is answered from memory; what acts may wait for a person or a server.
    if method != "GET" {
        return asked.await;
    }
    let answer = tokio::time::timeout(LOOK_LIMIT, asked).await;
    answer.unwrap_or_else(|_| Err(AskError::Silent { place: place.clone() }))
}

/// The body of a [`Refusal`].
#[derive(Deserialize)]
struct Refused {
    error: Problem,
}

enum Failure {
    Refused(Problem),
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(Box::new(error))
    }
}

async fn exchange<T: DeserializeOwned>(
    limit: usize,
    stream: ipc::Connection,
    method: &str,
    path: &str,
    question: Option<&serde_json::Value>,
) -> Result<T, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let body = question.map_or_else(Bytes::new, |question| Bytes::from(question.to_string()));
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::<Bytes>::new(body).map_err(|never: Infallible| match never {}))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), limit).collect().await.map_err(Failure::Broken)?.to_bytes();
        Ok::<_, Failure>((status, body))
    };
    tokio::pin!(answer);
    let (status, body) = tokio::select! {
        answer = &mut answer => answer?,
        ended = connection => {
            ended?;
            answer.await?
        }
    };
    if status.is_success() {
        return Ok(serde_json::from_slice(&body)?);
    }
    let refused: Refused = serde_json::from_slice(&body)?;
    Err(Failure::Refused(refused.error))
}
