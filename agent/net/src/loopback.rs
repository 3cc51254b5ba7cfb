//! Serves a loopback port to the browser of the user who runs this process, and to nobody else: any user of this device can
//! connect to a port.
//!
//! In: a listener and a handler. Out: responses, until it is stopped. Called by the broker while a sign-in is under way.
//! Another user's connection is closed before anything is read from it, so it holds no place; what is read has limits of
//! size, time and number. Each kind of trouble is logged once, because strangers may repeat it as often as they like.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use platform::port::{self, Client};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How many connections of the user are served at once; more are closed. Browsers open some in advance.
const MAXIMUM_CONNECTIONS: usize = 32;
/// The most bytes of a request line with its headers.
const MAXIMUM_HEAD: usize = 32 * 1024;
/// How long the system may take to say whose a connection is.
const OWNER_LIMIT: Duration = Duration::from_secs(3);
/// How long a request may take to arrive.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may last: the response may wait for the identity provider.
const CONNECTION_LIMIT: Duration = Duration::from_mins(2);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A request, as far as it counts here.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, for example.
    pub method: String,
    /// The path of the address.
    pub path: String,
    /// What stands behind its question mark.
    pub query: Option<String>,
    /// The header `Host`.
    pub host: Option<String>,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Headers by name.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

type Reply = Pin<Box<dyn Future<Output = Response> + Send>>;
/// Answers requests.
pub type Handler = Arc<dyn Fn(Request) -> Reply + Send + Sync>;

/// What was logged already.
#[derive(Default)]
struct Logged {
    other_user: AtomicBool,
    unknown_user: AtomicBool,
    too_many: AtomicBool,
    not_accepted: AtomicBool,
}

fn once(logged: &AtomicBool, log: impl FnOnce()) {
    if !logged.swap(true, Ordering::Relaxed) {
        log();
    }
}

/// Serves a listener until the future is dropped; connections end with it.
pub async fn serve(listener: TcpListener, handler: Handler) {
    let places = Arc::new(Semaphore::new(MAXIMUM_CONNECTIONS));
    let logged = Arc::new(Logged::default());
    // Dropped with this future, and with them their connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The process has no file descriptor left, for example. Some are free again when connections end.
            Err(error) => {
                once(&logged.not_accepted, || {
                    tracing::warn!("a connection of a browser was not accepted: {error}");
                });
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !is_of_user(&stream, client, &logged).await {
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            once(&logged.too_many, || {
                tracing::warn!("more than {MAXIMUM_CONNECTIONS} connections to the redirect URI");
            });
            continue;
        };
        let handler = Arc::clone(&handler);
        connections.spawn(async move {
            let _place = place;
            // A browser that is slow or does not speak HTTP harms only itself.
            drop(tokio::time::timeout(CONNECTION_LIMIT, serve_connection(stream, handler)).await);
        });
    }
}

/// Whether the user who runs this process has connected.
async fn is_of_user(stream: &TcpStream, client: SocketAddr, logged: &Logged) -> bool {
    let Ok(server) = stream.local_addr() else { return false };
    let asking = tokio::task::spawn_blocking(move || port::client(client, server));
    match tokio::time::timeout(OWNER_LIMIT, asking).await.ok().and_then(Result::ok).unwrap_or(Client::Other) {
        Client::Own => true,
        Client::Other => {
            once(&logged.other_user, || {
                tracing::warn!("a connection of another user to the redirect URI was closed");
            });
            false
        }
        Client::Unknown => {
            once(&logged.unknown_user, || {
                tracing::warn!(
                    "the system does not say which user connects to the redirect URI, so anybody may"
                );
            });
            true
        }
    }
}

async fn serve_connection(stream: TcpStream, handler: Handler) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let replying = handler(read(&request));
        async move { Ok::<_, Infallible>(write(replying.await)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAXIMUM_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}

fn read(request: &hyper::Request<Incoming>) -> Request {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    Request {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(ToOwned::to_owned),
        host: host.map(ToOwned::to_owned),
    }
}

fn write(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut written = hyper::Response::new(Full::new(response.body.into()));
    *written.status_mut() = hyper::StatusCode::from_u16(response.status).unwrap_or_default();
    for (name, value) in response.headers {
        // A value that no header can have is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            written.headers_mut().insert(name, value);
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn request_is_answered_and_half_a_request_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Handler = Arc::new(|request| {
            Box::pin(async move {
                let body = format!("{} {} {:?}", request.method, request.path, request.host);
                Response { status: 200, headers: vec![("x-test", "a".to_owned())], body }
            })
        });
        let serving = tokio::spawn(serve(listener, handler));
        let mut idle = Vec::new();
        for _ in 0..MAXIMUM_CONNECTIONS - 1 {
            let mut half = TcpStream::connect(address).await.unwrap();
            half.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            idle.push(half);
        }
        let mut whole = TcpStream::connect(address).await.unwrap();
        whole.write_all(b"GET /a?b HTTP/1.1\r\nHost: localhost:1\r\n\r\n").await.unwrap();
        let mut text = String::new();
        whole.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("x-test: a"), "{text}");
        assert!(text.contains("GET /a Some(\"localhost:1\")"), "{text}");
        let mut large = TcpStream::connect(address).await.unwrap();
        let head =
            format!("GET / HTTP/1.1\r\nHost: localhost:1\r\nX: {}\r\n\r\n", "x".repeat(4 * MAXIMUM_HEAD));
        // It may be refused before it was sent whole.
        drop(large.write_all(head.as_bytes()).await);
        let mut text = Vec::new();
        drop(large.read_to_end(&mut text).await);
        assert!(!text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&text));
        serving.abort();
        drop(serving.await);
        assert!(TcpStream::connect(address).await.is_err(), "the port is free at once");
    }
}
