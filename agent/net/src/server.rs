//! Serves a local API: HTTP/1.1 over a Unix socket or a named pipe, within limits of size, time and number.
//!
//! In: a listener, and handlers that were registered with their endpoints ([`Api::on`]). Out: responses. Called by the
//! agent and the broker. A web page gets no response, even if a program forwards TCP to the socket.

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use platform::ipc::{self, Peer};
use protocol::endpoint::Endpoint;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admission::{Admission, Caller, Refusal, RefusalBody};
use crate::connections::{Activity, Connections, Place, Watched};

/// A request may have this many bytes.
const MAXIMUM_REQUEST: usize = 64 * 1024;
/// How long to wait before a name that is taken is tried again.
const LISTEN_PAUSE: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Listens as soon as that is possible, for a caller that has found it is not: another process has the name, for example.
pub async fn listen_later(path: &Path, audience: ipc::Audience) -> ipc::Listener {
    loop {
        tokio::time::sleep(LISTEN_PAUSE).await;
        match ipc::listen(path, audience) {
            Ok(listener) => return listener,
            Err(error) => tracing::debug!("still no local API: {error}"),
        }
    }
}

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
        let connections = Connections::default();
        tokio::spawn(connections.clone().sweep());
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                // The process has no file descriptor left, for example. Some are free again when connections end.
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let peer =
                peer.inspect_err(|error| tracing::debug!("a caller could not be identified: {error}")).ok();
            let Some(place) = connections.place(peer.as_ref()) else { continue };
            let id = place.id();
            let task = tokio::spawn(serve_connection(stream, peer, Arc::clone(&routes), place));
            Place::is_served_by(&connections, id, task.abort_handle());
        }
    }
}

/// Serves one connection. Its place is free for another one when it ends.
async fn serve_connection(stream: ipc::Stream, peer: Option<Peer>, routes: Arc<[Route]>, place: Place) {
    let caller = Arc::new(Caller { peer, ..Caller::default() });
    let activity = Arc::clone(&place.activity);
    let service = service_fn(|request| respond(Arc::clone(&routes), Arc::clone(&caller), &activity, request));
    // Deadlines are those of the place: one task looks after all of them, where a timer for each costs more than the
    // connection itself.
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAXIMUM_REQUEST)
        .serve_connection(TokioIo::new(Watched::new(stream, Arc::clone(&activity))), service);
    // A caller that closes the connection or does not speak HTTP harms only itself.
    drop(connection.await);
}

/// Checks a request, reads it within limits of size and time, and hands it to its handler.
async fn respond(
    routes: Arc<[Route]>,
    caller: Arc<Caller>,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let checked = check_headers(&parts).and_then(|()| find(&routes, &parts));
    let route = match checked {
        Ok(route) => route,
        Err(refusal) => return Ok(refuse(&refusal)),
    };
    let Ok(body) = Limited::new(body, MAXIMUM_REQUEST).collect().await else {
        let message = "the request is too long, or broke off";
        return Ok(refuse(&Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)));
    };
    let _working = activity.work();
    Ok((route.handler)(&caller, body.to_bytes()).await)
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
