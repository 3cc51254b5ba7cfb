//! The server: its routes, and what holds for all of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use platform::service::StopSignal;
use tokio::net::{TcpListener, TcpSocket};

use crate::shared::{Refused, Shared};
use crate::store::Store;
use crate::{ingest, pages};

/// A fleet that comes back at once: with the usual 128, most of it would wait for a second attempt of TCP.
const BACKLOG: u32 = 4096;
/// So long requests may go on after the process was asked to end.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// No script at all, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Takes the address.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Windows would let another program take the same address.
    socket.set_reuseaddr(!std::env::consts::OS.starts_with("windows"))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the process is asked to end.
pub(crate) async fn serve(listener: TcpListener, store: Store) -> std::io::Result<()> {
    let shared = Shared { store, refused: Refused::default(), address: listener.local_addr()? };
    let routes = Router::new()
        .route("/", get(pages::overview))
        .route("/devices", get(pages::devices))
        .route("/devices.csv", get(pages::devices_csv))
        .route("/devices/{device}", get(pages::device))
        .route("/style.css", get(pages::style))
        .route("/v1/reports", post(ingest::receive))
        .layer(middleware::from_fn(guard))
        .with_state(Arc::new(shared));
    let mut stop = StopSignal::new()?;
    let (end, ended) = tokio::sync::oneshot::channel();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(async move {
        stop.wait().await;
        // Nobody waits for it once all requests have ended.
        let _served = end.send(());
    });
    // Whoever does not finish a request does not keep this process.
    let late = async {
        if ended.await.is_ok() {
            tokio::time::sleep(LAST_REQUESTS).await;
        }
    };
    tokio::select! {
        served = serving => served,
        () = late => Ok(()),
    }
}

/// Answers only to names of this machine, so that no web page reaches it through a name of its own (DNS rebinding), and says what browsers
/// may do with a page.
async fn guard(request: Request, next: Next) -> Response {
    if let Some(refused) = refused(request.headers()) {
        return refused.into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refused(headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !is_own(said("host").unwrap_or_default()) {
        return Some((StatusCode::MISDIRECTED_REQUEST, "the name in the address is none of this machine\n"));
    }
    // A link may lead here. An image or the like of another page would only make work.
    let is_foreign =
        said("sec-fetch-site") == Some("cross-site") && said("sec-fetch-mode") != Some("navigate");
    is_foreign.then_some((StatusCode::FORBIDDEN, "the request comes from a web page\n"))
}

fn is_own(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_web_pages_are_followed_and_their_images_are_not() {
        let said = |site: &'static str, mode: &'static str| {
            let header = |name: &'static str, value| (name.parse().unwrap(), HeaderValue::from_static(value));
            let headers =
                [header("host", "localhost"), header("sec-fetch-site", site), header("sec-fetch-mode", mode)];
            refused(&HeaderMap::from_iter(headers)).map(|(status, _)| status)
        };
        assert_eq!(said("cross-site", "navigate"), None);
        assert_eq!(said("same-origin", "no-cors"), None);
        assert_eq!(said("cross-site", "no-cors"), Some(StatusCode::FORBIDDEN));
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["localhost", "LOCALHOST:18090", "127.0.0.1:18090", "127.8.9.1", "[::1]:18090", "[::1]"] {
            assert!(is_own(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:18090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            ":18090",
        ] {
            assert!(!is_own(host), "{host}");
        }
    }
}
