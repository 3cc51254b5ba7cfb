//! Serves a local API: HTTP/1.1 over a Unix socket or a named pipe, within limits of size, time and number.
//!
//! In: a listener, and handlers that were registered with their endpoints ([`Api::on`]). Out: responses. Called by the
//! agent and the broker. A web page gets no response, even if a program forwards TCP to the socket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use platform::ipc::{self, Peer};
use protocol::endpoint::Endpoint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::admission::{Admission, Caller, Refusal, RefusalBody};

/// A request may have this many bytes.
const MAXIMUM_REQUEST: usize = 64 * 1024;
/// How long a request may take to arrive, and how long a connection may be idle.
const REQUEST_LIMIT: Duration = Duration::from_mins(1);
/// How many connections are served at once; others wait.
const MAXIMUM_CONNECTIONS: usize = 256;
/// How many connections of one caller are served at once; others are closed.
const MAXIMUM_SHARE: usize = 64;
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

type Reply = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;
type Handler = Box<dyn Fn(&Caller, Bytes) -> Reply + Send + Sync>;

/// The endpoints of a local API and their handlers.
pub struct Api<S> {
    state: S,
    routes: Vec<Route>,
}

struct Route {
    method: &'static str,
    path: &'static str,
    handler: Handler,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// Makes an API without endpoints. Its handlers get the state.
    #[must_use]
    pub fn new(state: S) -> Self {
        Self { state, routes: Vec::new() }
    }

    /// Adds an endpoint. Its handler gets the state, the proof that the caller may use it, and the request.
    #[must_use]
    pub fn on<Request, Response, Admitted, Handler, Responding>(
        mut self,
        endpoint: &Endpoint<Request, Response>,
        handler: Handler,
    ) -> Self
    where
        Request: DeserializeOwned + Default,
        Response: Serialize,
        Admitted: Admission<S>,
        Handler: Fn(S, Admitted, Request) -> Responding + Send + Sync + 'static,
        Responding: Future<Output = Result<Response, Refusal>> + Send + 'static,
    {
        let (state, path) = (self.state.clone(), endpoint.path);
        let handler = move |caller: &Caller, body: Bytes| -> Reply {
            let admitted = Admitted::admit(&state, caller, path);
            let request = admitted.and_then(|admitted| Ok((admitted, read::<Request>(&body)?)));
            match request {
                Ok((admitted, request)) => {
                    let responding = handler(state.clone(), admitted, request);
                    Box::pin(async move {
                        match responding.await {
                            Ok(response) => json(StatusCode::OK, &response),
                            Err(refusal) => refuse(&refusal),
                        }
                    })
                }
                Err(refusal) => Box::pin(std::future::ready(refuse(&refusal))),
            }
        };
        self.routes.push(Route { method: endpoint.method.as_str(), path, handler: Box::new(handler) });
        self
    }

    /// Serves the API until the process ends.
    pub async fn serve(self, mut listener: ipc::Listener) {
        let routes: Arc<[Route]> = self.routes.into();
        let connections = Arc::new(Semaphore::new(MAXIMUM_CONNECTIONS));
        let shares: Arc<Mutex<HashMap<u64, usize>>> = Arc::default();
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                // The process has no file descriptor left, for example. Some are free again when connections end.
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(share) = Share::take(&shares, share_key(peer.as_ref())) else { continue };
            tokio::spawn(serve_connection(stream, peer, Arc::clone(&routes), (permit, share)));
        }
    }
}

/// Serves one connection. `_limits` are dropped, and so free for another connection, when it ends.
async fn serve_connection<Limits>(
    stream: ipc::Stream,
    peer: Option<Peer>,
    routes: Arc<[Route]>,
    _limits: Limits,
) {
    let caller = Arc::new(Caller { peer, ..Caller::default() });
    let service = service_fn(move |request| respond(Arc::clone(&routes), Arc::clone(&caller), request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_LIMIT)
        .max_buf_size(MAXIMUM_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    // A caller that closes the connection or does not speak HTTP harms only itself.
    drop(connection.await);
}

/// The share that a connection counts against, so that one caller cannot take all connections. Each process of
/// the owner has a share; another user has one share for all processes, where the system tells users apart.
fn share_key(peer: Option<&Peer>) -> u64 {
    match peer {
        None => 0,
        Some(peer) => match peer.process() {
            Some(process) if peer.is_owner() => u64::from(process) << 32,
            Some(_) | None => peer.key(),
        },
    }
}

/// A caller's part of the connections, until it is dropped.
struct Share {
    taken: Arc<Mutex<HashMap<u64, usize>>>,
    key: u64,
}

impl Share {
    fn take(taken: &Arc<Mutex<HashMap<u64, usize>>>, key: u64) -> Option<Self> {
        let mut counts = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= MAXIMUM_SHARE {
            return None;
        }
        *count += 1;
        Some(Self { taken: Arc::clone(taken), key })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// Checks a request, reads it within limits of size and time, and hands it to its handler.
async fn respond(
    routes: Arc<[Route]>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let checked = check_headers(&parts).and_then(|()| find(&routes, &parts));
    let route = match checked {
        Ok(route) => route,
        Err(refusal) => return Ok(refuse(&refusal)),
    };
    let body = tokio::time::timeout(REQUEST_LIMIT, Limited::new(body, MAXIMUM_REQUEST).collect()).await;
    let refusal = match body {
        Ok(Ok(body)) => return Ok((route.handler)(&caller, body.to_bytes()).await),
        Ok(Err(_)) => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long, or broke off"),
        Err(_) => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request did not end in time"),
    };
    Ok(refuse(&refusal))
}

fn find<'r>(routes: &'r [Route], parts: &hyper::http::request::Parts) -> Result<&'r Route, Refusal> {
    let path = parts.uri.path();
    let mut at_path = routes.iter().filter(|route| route.path == path).peekable();
    if at_path.peek().is_none() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such endpoint"));
    }
    let found = at_path.find(|route| parts.method == route.method);
    found.ok_or_else(|| Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the endpoint has another method"))
}

/// Refuses web pages. A page that uses DNS rebinding, through a program that forwards TCP to the socket, has another
/// `Host`. A page in the user's browser has `Origin` or `Sec-Fetch-Site`.
fn check_headers(parts: &hyper::http::request::Parts) -> Result<(), Refusal> {
    let header = |name: &str| parts.headers.get(name).map(HeaderValue::as_bytes);
    if header("host") != Some(b"localhost") {
        let message = "the header `Host` must be `localhost`";
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, message));
    }
    if ["origin", "sec-fetch-site", "referer"].iter().any(|name| header(name).is_some()) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "web pages get no response"));
    }
    let json = header("content-type").is_some_and(|kind| {
        let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    if !json && header("content-length").is_some_and(|length| length != b"0") {
        let message = "the body of a request is `application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    Ok(())
}

/// Reads the request from the body. An empty body is the default request.
fn read<Request: DeserializeOwned + Default>(body: &[u8]) -> Result<Request, Refusal> {
    if body.is_empty() {
        return Ok(Request::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the request is not understood: {error}"))
    })
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    json(refusal.status, &RefusalBody { error: &refusal.problem })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    // Responses have only strings as keys, so they can always be serialized.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::new(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
