//! The redirect URI: a listener on both loopback addresses, open only while a sign-in is under way (RFC 8252, sections 7.3
//! and 8.3), and the page that the user sees at the end.
//!
//! Only the user's own programs are served ([`net::loopback`]). The browser begins at a short address here, which sends it
//! on to the identity provider: `state` and challenge stand in no command line, where other users could read them. The
//! address that it comes back with holds a code; the response is a redirect to the last page, so that neither the address
//! bar nor the history keep the code. The last page has an address of its own that nobody can guess. Other requests are
//! refused and change nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::loopback::{self, Handler, Request, Response};
use platform::{port, random};
use policy_schema::settings::DeviceFlow;
use policy_schema::{Code, Problem};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use super::configuration::Configuration;
use super::page::Page;

/// How long the last page may take to reach the browser.
const LAST_PAGE_LIMIT: Duration = Duration::from_secs(5);
/// How long its connection is kept open after that, so that it arrives whole.
const LINGER: Duration = Duration::from_millis(300);
/// How long to wait for a port that another program holds, and for the managed app, which may sign in by itself.
const PORT_LIMIT: Duration = Duration::from_secs(2);
const PORT_LIMIT_OF_APP: Duration = Duration::from_secs(20);
const PORT_PAUSE: Duration = Duration::from_millis(250);

/// What a browser brings back (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        Self::in_query(address.trim().parse::<Url>().ok()?.query().unwrap_or_default())
    }

    /// `None` if one of them stands there twice (RFC 6749, section 3.1).
    fn in_query(query: &str) -> Option<Self> {
        let mut found = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "code" => &mut found.code,
                "state" => &mut found.state,
                "iss" => &mut found.iss,
                "error" => &mut found.error,
                "error_description" => &mut found.error_description,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(found)
    }
}

/// A browser that came back and waits for its page.
pub(super) struct RedirectResponse {
    pub(super) parameters: Parameters,
    pub(super) page: oneshot::Sender<Page>,
}

/// Why it is not possible to listen at the redirect URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen at {redirect_uri}: {reason}")]
pub(crate) struct PortTaken {
    redirect_uri: String,
    reason: String,
    device_flow: DeviceFlow,
    /// The system keeps the port for itself.
    reserved: bool,
}

impl PortTaken {
    /// The problem to show.
    pub(crate) fn problem(&self) -> Problem {
        let device = match self.device_flow {
            DeviceFlow::Fallback => ", `steward login --device` uses another device",
            DeviceFlow::Never => "",
        };
        let (code, first) = if self.reserved {
            let show = port::SHOW_RESERVED;
            (
                Code::SignInPortReserved,
                format!("`{show}` shows the ranges, which may be others after a restart of the device"),
            )
        } else {
            let first = "finish the sign-in there or close the program, then try again".to_owned();
            (Code::SignInPortTaken, first)
        };
        Problem::new(code, self.to_string())
            .hint(format!("{first}; `steward login --paste` needs no port{device}"))
    }
}

/// The open listener.
pub(super) struct Callback {
    servers: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    redirects: mpsc::Sender<RedirectResponse>,
    /// The redirect URI.
    url: Url,
    /// Where the browser begins, and where it finds the last page: paths that nobody can guess.
    begin: String,
    end: String,
    state: Mutex<State>,
    /// The browser has shown the last page.
    seen: Notify,
}

#[derive(Default)]
struct State {
    /// Where the sign-in goes on, once that is known.
    authorization_url: Option<String>,
    /// What the browser brought that the sign-in took, and the last page.
    finished: Option<(Parameters, Page)>,
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
        let secret = || random::hex(&random::bytes::<16>());
        let shared = Arc::new(Shared {
            redirects,
            url,
            begin: format!("/sign-in/{}", secret()),
            end: format!("/signed-in/{}", secret()),
            state: Mutex::default(),
            seen: Notify::new(),
        });
        let mut servers = JoinSet::new();
        for listener in listeners {
            let shared = Arc::clone(&shared);
            let handler: Handler = Arc::new(move |request| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { shared.respond(request).await })
            });
            servers.spawn(loopback::serve(listener, handler));
        }
        Ok(Self { servers, shared })
    }

    /// Sends browsers that begin here on to the identity provider. Gives the address at which they begin.
    pub(super) fn begin_at(&self, authorization_url: String) -> String {
        self.shared.lock().authorization_url = Some(authorization_url);
        let mut address = self.shared.url.clone();
        address.set_path(&self.shared.begin);
        address.to_string()
    }

    /// Closes the listener: if a browser came back, after it has seen the last page, but not much later.
    pub(super) async fn close(mut self, came_back: bool) {
        if came_back {
            // A browser that has gone does not ask for it.
            if tokio::time::timeout(LAST_PAGE_LIMIT, self.shared.seen.notified()).await.is_ok() {
                tokio::time::sleep(LINGER).await;
            }
        }
        self.servers.shutdown().await;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn respond(&self, request: Request) -> Response {
        // A page of another host, whose name resolves to this device (DNS rebinding), has another `Host`.
        let expected = match (self.url.host_str(), self.url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        if !request.host.is_some_and(|host| host.eq_ignore_ascii_case(&expected)) || request.method != "GET" {
            return over();
        }
        if request.path == self.begin {
            let address = self.lock().authorization_url.clone();
            return address.map_or_else(over, |address| see_other(&address));
        }
        if request.path == self.end {
            let page = self.lock().finished.as_ref().map(|(_, page)| page.clone());
            let Some(page) = page else { return over() };
            self.seen.notify_one();
            return page.response(200);
        }
        if request.path != self.url.path() {
            return over();
        }
        match Parameters::in_query(request.query.as_deref().unwrap_or_default()) {
            Some(parameters) if parameters.state.is_some() || parameters.error.is_some() => {
                self.came_back(parameters).await
            }
            Some(_) | None => over(),
        }
    }

    /// A browser came back. One whose connection was cut off, and that comes again with the same, gets the same page.
    async fn came_back(&self, parameters: Parameters) -> Response {
        let is_known = || self.lock().finished.as_ref().is_some_and(|(known, _)| *known == parameters);
        if !is_known() {
            let (page, wait) = oneshot::channel();
            // If it could not be sent, its end of the channel must be dropped, or `wait` would never end.
            let redirect = RedirectResponse { parameters: parameters.clone(), page };
            let sent = self.redirects.send(redirect).await.is_ok();
            match (sent, wait.await) {
                (true, Ok(page)) => self.lock().finished = Some((parameters.clone(), page)),
                // It came a second time while the first was looked at; or it belongs to another sign-in.
                (_, _) if is_known() => {}
                (_, _) => return over(),
            }
        }
        see_other(&self.end)
    }
}

/// Sends a browser elsewhere, without a trace of where it comes from.
fn see_other(address: &str) -> Response {
    let headers = [("location", address), ("cache-control", "no-store"), ("referrer-policy", "no-referrer")];
    Response {
        status: 303,
        headers: headers.map(|(name, value)| (name, value.to_owned())).into(),
        body: String::new(),
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
            let range = tokio::task::spawn_blocking(move || port::reserved_range(port)).await.ok().flatten();
            return Err(match range {
                Some(range) => {
                    let (first, last) = range.into_inner();
                    let reason = format!("Windows keeps the ports {first} to {last} for itself ({error})");
                    PortTaken { reserved: true, ..taken(configuration, reason) }
                }
                None => taken(configuration, error.to_string()),
            });
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
        reserved: false,
    }
}

fn over() -> Response {
    Page::over(
        "This address belongs to no sign-in that is going on. Close this window and begin again in the app.",
    )
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
        // What else a provider adds does not matter, also twice.
        let more =
            Parameters::of("http://localhost:18080/?session_state=a&session_state=b&code=c&state=s").unwrap();
        assert_eq!(more.code.as_deref(), Some("c"));
    }
}
