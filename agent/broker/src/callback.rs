//! The redirect URI: a listener on both loopback addresses, open only while a sign-in is under way (RFC 8252, sections 7.3
//! and 8.3), and the page that the user sees at the end.
//!
//! The address that the browser comes back with holds a code. The response is a redirect to the last page, so that neither
//! the address bar nor the history keep the code. Other requests are refused and change nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use platform::port;
use policy_schema::settings::DeviceFlow;
use policy_schema::{Code, Problem};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use super::configuration::Configuration;

/// How long the last page may take to reach the browser.
const LAST_PAGE_LIMIT: Duration = Duration::from_secs(5);
/// How long an open connection may keep the listener after that.
const OPEN_CONNECTION_LIMIT: Duration = Duration::from_secs(1);
/// How long to wait for a port that another program holds, and for the managed app, which may sign in by itself.
const PORT_LIMIT: Duration = Duration::from_secs(2);
const PORT_LIMIT_OF_APP: Duration = Duration::from_secs(20);
const PORT_PAUSE: Duration = Duration::from_millis(250);

/// What a browser brings back (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207).
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    pub(super) code: Option<String>,
    pub(super) state: Option<String>,
    pub(super) iss: Option<String>,
    pub(super) error: Option<String>,
    pub(super) error_description: Option<String>,
}

impl Parameters {
    /// Those of an address that a user copied from a browser.
    pub(super) fn of(address: &str) -> Option<Self> {
        let uri: Uri = address.trim().parse().ok()?;
        Query::try_from_uri(&uri).ok().map(|query: Query<Self>| query.0)
    }
}

/// A browser that came back and waits for its page.
pub(super) struct RedirectResponse {
    pub(super) parameters: Parameters,
    pub(super) page: oneshot::Sender<Page>,
}

/// The page at the end.
#[derive(Clone, Debug, Template)]
#[template(path = "finished.html")]
pub(super) struct Page {
    pub(super) organization: Option<String>,
    pub(super) heading: String,
    pub(super) text: String,
    pub(super) support: Option<String>,
}

/// Why it is not possible to listen at the redirect URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen at {redirect_uri}: {reason}")]
pub(crate) struct PortTaken {
    redirect_uri: String,
    reason: String,
    device_flow: DeviceFlow,
}

impl PortTaken {
    /// The problem to show.
    pub(crate) fn problem(&self) -> Problem {
        let device = match self.device_flow {
            DeviceFlow::Fallback => ", `steward login --device` uses another device",
            DeviceFlow::Never => "",
        };
        Problem::new(Code::SignInPortTaken, self.to_string()).hint(format!(
            "finish the sign-in there or close the program, then try again; `steward login --paste` needs no port{device}"
        ))
    }
}

/// The open listener.
pub(super) struct Callback {
    servers: JoinSet<io::Result<()>>,
    close: watch::Sender<bool>,
    shared: Arc<Shared>,
}

struct Shared {
    redirects: mpsc::Sender<RedirectResponse>,
    path: String,
    /// The last page, once there is one.
    page: Mutex<Option<Page>>,
    /// The browser has shown it.
    seen: Notify,
}

impl Callback {
    /// Opens the listener of the redirect URI. A port that is held is waited for, longer if the managed app holds it:
    /// it uses the same port for a sign-in of its own.
    ///
    /// # Errors
    /// The port stays taken (by whom), or the system refused.
    pub(super) async fn open(
        configuration: &Configuration,
        redirects: mpsc::Sender<RedirectResponse>,
    ) -> Result<Self, PortTaken> {
        let redirect_uri = &configuration.redirect_uri;
        let url: Url = redirect_uri.parse().map_err(|_| taken(configuration, "it is not an address"))?;
        let port = url.port().unwrap_or(80);
        let listeners = bind_within_limit(configuration, &url, port).await?;
        let (close, closed) = watch::channel(false);
        let path = url.path().to_owned();
        let shared = Arc::new(Shared { redirects, path, page: Mutex::default(), seen: Notify::new() });
        let routes =
            Router::new().route(url.path(), axum::routing::get(redirect)).with_state(Arc::clone(&shared));
        let mut servers = JoinSet::new();
        for listener in listeners {
            let mut closed = closed.clone();
            let routes = routes.clone();
            servers.spawn(async move {
                let until = async move {
                    drop(closed.wait_for(|closed| *closed).await);
                };
                axum::serve(listener, routes).with_graceful_shutdown(until).await
            });
        }
        Ok(Self { servers, close, shared })
    }

    /// Closes the listener: if a browser came back, after it has seen the last page, but not much later.
    pub(super) async fn close(mut self, came_back: bool) {
        if came_back {
            // A browser that has gone does not ask for it.
            drop(tokio::time::timeout(LAST_PAGE_LIMIT, self.shared.seen.notified()).await);
        }
        self.close.send_replace(true);
        let all = async { while self.servers.join_next().await.is_some() {} };
        // A browser that holds its connection open does not keep the port.
        drop(tokio::time::timeout(OPEN_CONNECTION_LIMIT, all).await);
    }
}

impl Shared {
    fn last_page(&self) -> Option<Page> {
        self.page.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

async fn bind_within_limit(
    configuration: &Configuration,
    url: &Url,
    port: u16,
) -> Result<Vec<TcpListener>, PortTaken> {
    let begun = Instant::now();
    let mut limit = None;
    loop {
        let error = match bind(url, port) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(taken(configuration, error.to_string()));
        }
        let limit = match limit {
            Some(limit) => limit,
            None => *limit.insert(match holder(port).await {
                Some(holder) if is_the_app(configuration, &holder) => PORT_LIMIT_OF_APP,
                Some(_) | None => PORT_LIMIT,
            }),
        };
        if begun.elapsed() >= limit {
            let who = match holder(port).await {
                None => "another user's program, or one that has just ended, holds the port".to_owned(),
                Some(port::Holder { process, name, program }) => {
                    let place = program.map_or_else(String::new, |path| format!(", {}", path.display()));
                    format!("`{name}` (process {process}{place}) holds the port")
                }
            };
            return Err(taken(configuration, who));
        }
        tokio::time::sleep(PORT_PAUSE).await;
    }
}

fn bind(url: &Url, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses(url, port) {
        match port::listen(address) {
            Ok(listener) => listeners.push(listener),
            // A device without IPv6 has only one loopback address; how it says so depends on how it was switched off.
            Err(error)
                if address.is_ipv6() && error.kind() != io::ErrorKind::AddrInUse && !listeners.is_empty() => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

/// Who holds a port. Reads much of what the system knows of processes, so on a thread of its own.
async fn holder(port: u16) -> Option<port::Holder> {
    tokio::task::spawn_blocking(move || port::holder(port)).await.ok().flatten()
}

fn is_the_app(configuration: &Configuration, holder: &port::Holder) -> bool {
    let inside = |folder: &String| holder.program.as_ref().is_some_and(|program| program.starts_with(folder));
    configuration.app_folders.iter().any(inside)
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

fn taken(configuration: &Configuration, reason: impl Into<String>) -> PortTaken {
    PortTaken {
        redirect_uri: configuration.redirect_uri.clone(),
        reason: reason.into(),
        device_flow: configuration.device_flow,
    }
}

async fn redirect(State(shared): State<Arc<Shared>>, query: Query<Parameters>) -> Response {
    let parameters = query.0;
    if parameters.state.is_none() {
        return match shared.last_page() {
            Some(page) => {
                shared.seen.notify_one();
                page.into_response()
            }
            None => over(),
        };
    }
    let (page, wait) = oneshot::channel();
    // If it could not be sent, its end of the channel must be dropped, or `wait` would never end.
    let sent = shared.redirects.send(RedirectResponse { parameters, page }).await.is_ok();
    match (sent, wait.await) {
        (true, Ok(page)) => {
            *shared.page.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(page);
        }
        // It came a second time, with a page for it; or it belongs to another sign-in.
        (_, _) if shared.last_page().is_some() => {}
        (_, _) => return over(),
    }
    let last = [("location", shared.path.as_str()), ("cache-control", "no-store"), ("connection", "close")];
    (StatusCode::SEE_OTHER, last).into_response()
}

fn over() -> Response {
    let page = Page {
        organization: None,
        heading: "Nothing to do here".to_owned(),
        text: "This address belongs to no sign-in that is going on. Close this window and begin again in the app."
            .to_owned(),
        support: None,
    };
    (StatusCode::GONE, page).into_response()
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            ("cache-control", "no-store"),
            ("connection", "close"),
            (
                "content-security-policy",
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
    fn page_escapes_what_it_shows() {
        let page = Page {
            organization: Some("A & B <script>".to_owned()),
            heading: "x".to_owned(),
            text: "\"<b>\"".to_owned(),
            support: None,
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn pasted_address_is_read_like_a_redirect() {
        let found =
            Parameters::of("  http://localhost:18080/?code=a%20b&state=s&iss=https%3A%2F%2Fi.example ");
        let found = found.unwrap();
        assert_eq!((found.code.as_deref(), found.state.as_deref()), (Some("a b"), Some("s")));
        assert_eq!(found.iss.as_deref(), Some("https://i.example"));
        // RFC 6749, section 3.1: no parameter more than once.
        assert!(Parameters::of("http://localhost:18080/?code=a&code=b&state=s").is_none());
        assert!(Parameters::of("not an address").is_none());
        assert!(Parameters::of("http://localhost:18080/").is_some_and(|empty| empty.state.is_none()));
    }
}
