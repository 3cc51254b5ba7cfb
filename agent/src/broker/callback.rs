//! Where the browser comes back to: a listener on both loopback addresses, open only while a sign-in runs (RFC 8252,
//! sections 7.3 and 8.3), and the page that a person sees at the end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use policy_schema::{Code, Problem};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use url::Url;

/// How long the last page may take to reach the browser.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a browser brings back (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207).
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    pub(super) code: Option<String>,
    pub(super) state: Option<String>,
    pub(super) iss: Option<String>,
    pub(super) error: Option<String>,
    pub(super) error_description: Option<String>,
}

/// A browser that came back and waits for its page.
pub(super) struct Return {
    pub(super) parameters: Parameters,
    pub(super) page: oneshot::Sender<Page>,
}

/// The page at the end.
#[derive(Template)]
#[template(path = "finished.html")]
pub(super) struct Page {
    pub(super) organization: Option<String>,
    pub(super) heading: String,
    pub(super) text: String,
    pub(super) support: Option<String>,
}

/// The open listener.
pub(super) struct Callback {
    returns: mpsc::Receiver<Return>,
    servers: JoinSet<io::Result<()>>,
    close: watch::Sender<bool>,
}

impl Callback {
    /// Opens the listener of a redirect URI.
    ///
    /// # Errors
    /// The port is taken, or the system refused.
    pub(super) async fn open(redirect_uri: &str) -> Result<Self, Problem> {
        let url: Url = redirect_uri.parse().map_err(|_| taken(redirect_uri, "it is no address"))?;
        let port = url.port().unwrap_or(80);
        let (sender, returns) = mpsc::channel(8);
        let (close, closed) = watch::channel(false);
        let routes = Router::new().route(url.path(), axum::routing::get(come_back)).with_state(sender);
        let mut servers = JoinSet::new();
        for address in addresses(&url, port) {
            let listener = match TcpListener::bind(address).await {
                Ok(listener) => listener,
                // A device without IPv6 has only one loopback address.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && address.is_ipv6() => {
                    continue;
                }
                Err(error) => return Err(taken(redirect_uri, &error.to_string())),
            };
            let mut closed = closed.clone();
            let routes = routes.clone();
            servers.spawn(async move {
                let until = async move {
                    drop(closed.wait_for(|closed| *closed).await);
                };
                axum::serve(listener, routes).with_graceful_shutdown(until).await
            });
        }
        Ok(Self { returns, servers, close })
    }

    /// The next browser that comes back.
    pub(super) async fn next(&mut self) -> Option<Return> {
        self.returns.recv().await
    }

    /// Closes the listener, after the last page is out.
    pub(super) async fn close(mut self) {
        self.close.send_replace(true);
        let all = async { while self.servers.join_next().await.is_some() {} };
        // A browser that holds its connection open does not keep the port.
        drop(tokio::time::timeout(FAREWELL, all).await);
    }
}

/// `localhost` may mean either family, and browsers try both.
fn addresses(url: &Url, port: u16) -> Vec<SocketAddr> {
    let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let named: Vec<IpAddr> = match url.host() {
        Some(url::Host::Ipv4(address)) => vec![address.into()],
        Some(url::Host::Ipv6(address)) => vec![address.into()],
        Some(url::Host::Domain(_)) | None => both.to_vec(),
    };
    named.into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

fn taken(redirect_uri: &str, reason: &str) -> Problem {
    Problem::new(Code::SignInPortTaken, format!("{redirect_uri} cannot be listened at: {reason}"))
        .hint("close the other sign-in or the program that uses the port, then try again".to_owned())
}

async fn come_back(State(returns): State<mpsc::Sender<Return>>, query: Query<Parameters>) -> Response {
    let (page, wait) = oneshot::channel();
    let sent = returns.send(Return { parameters: query.0, page }).await;
    match (sent, wait.await) {
        (Ok(()), Ok(page)) => page.into_response(),
        (_, _) => (StatusCode::GONE, "This sign-in is over.").into_response(),
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            ("cache-control", "no-store"),
            ("connection", "close"),
            (
                "content-security-policy",
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
            ),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ];
        match self.render() {
            Ok(text) => (headers, Html(text)).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_means_both_families_and_an_address_only_itself() {
        let families = |url: &str| {
            addresses(&url.parse().unwrap(), 18080).iter().map(SocketAddr::is_ipv4).collect::<Vec<_>>()
        };
        assert_eq!(families("http://localhost:18080"), [true, false]);
        assert_eq!(families("http://127.0.0.1:18080"), [true]);
        assert_eq!(families("http://[::1]:18080"), [false]);
    }

    #[test]
    fn the_page_escapes_what_it_shows() {
        let page = Page {
            organization: Some("A & B <script>".to_owned()),
            heading: "x".to_owned(),
            text: "\"<b>\"".to_owned(),
            support: None,
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
    }
}
