//! Which proxy a request goes through, and who says so.
//!
//! In: the network settings of policy, and an address. Out: a [`Route`]. Called by the HTTP client before each request, and by
//! the doctor, which shows it. With `ProxyMode` = `system`, the environment of the process is asked first, as programs do
//! everywhere, then the system ([`platform::proxy`]). A route of the system holds for some minutes, because to ask for one
//! may take seconds. This device itself is always reached directly.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use platform::proxy::SystemProxy;
use platform::system_proxy::for_url;
use platform::{clock, environment};
use url::Url;

use crate::chain;

/// How long a route of the system holds.
const LIFETIME: Duration = Duration::from_mins(5);
/// How long the system may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The proxy; `None` is the direct way.
    pub proxy: Option<Url>,
    /// Where the choice comes from, for messages.
    pub source: String,
}

impl Route {
    fn direct(source: impl Into<String>) -> Self {
        Self { proxy: None, source: source.into() }
    }
}

/// `directly (...)`, or `through http://proxy:8080 (...)`, without a password.
impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proxy {
            None => write!(formatter, "directly ({})", self.source),
            Some(proxy) => {
                let host = proxy.host_str().unwrap_or_default();
                let port = proxy.port_or_known_default().unwrap_or(80);
                write!(formatter, "through {}://{host}:{port} ({})", proxy.scheme(), self.source)
            }
        }
    }
}

/// How the way to a server is chosen.
#[derive(Clone)]
pub(crate) enum Routing {
    /// By the system.
    System,
    /// None goes through a proxy.
    Direct,
    /// By policy.
    Fixed { proxy: Url, exceptions: Arc<Matcher> },
}

impl Routing {
    /// The way to a server.
    pub(crate) async fn route(&self, url: &Url) -> Route {
        match self {
            Self::System => SYSTEM.find(url).await,
            Self::Direct => Route::direct("`ProxyMode` is `direct`"),
            Self::Fixed { proxy, exceptions } => {
                let goes_through = url.as_str().parse().is_ok_and(|uri| exceptions.intercept(&uri).is_some());
                if is_this_device(url) {
                    Route::direct("it is this device")
                } else if goes_through {
                    Route { proxy: Some(proxy.clone()), source: "`ProxyUrl`".to_owned() }
                } else {
                    Route::direct("`ProxyBypass`")
                }
            }
        }
    }
}

/// The routes that the system named, for every client of this process.
static SYSTEM: LazyLock<SystemRoutes> = LazyLock::new(SystemRoutes::default);
/// More servers than this are forgotten together.
const MAXIMUM_SERVERS: usize = 200;

#[derive(Default)]
struct SystemRoutes(Mutex<HashMap<String, (Duration, Route)>>);

/// The proxy that the system named for a server, for the client that asks in the middle of a request: however long that is ago.
pub(crate) fn proxy_of_system(url: &Url) -> Option<Url> {
    SYSTEM.lock().get(&server(url))?.1.proxy.clone()
}

impl SystemRoutes {
    /// Asks for the way to a server, if it is not known.
    async fn find(&self, url: &Url) -> Route {
        if let Some(known) = self.known(url) {
            return known;
        }
        let address = url.clone();
        let asked = tokio::task::spawn_blocking(move || system_route(&address));
        let route = match tokio::time::timeout(LIMIT, asked).await {
            Ok(Ok(route)) => route,
            Ok(Err(_)) | Err(_) => Route::direct("the system did not say in time which proxy to use"),
        };
        let found = (clock::monotonic(), route.clone());
        let mut known = self.lock();
        if known.len() >= MAXIMUM_SERVERS {
            known.clear();
        }
        known.insert(server(url), found);
        route
    }

    /// The way, if it is known.
    fn known(&self, url: &Url) -> Option<Route> {
        let now = clock::monotonic();
        let known = self.lock();
        let (at, route) = known.get(&server(url))?;
        (now.saturating_sub(*at) < LIFETIME).then(|| route.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Duration, Route)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server, with its scheme and port.
fn server(url: &Url) -> String {
    url[..url::Position::BeforePath].to_owned()
}

/// Whether an address is on this device, which no proxy reaches.
fn is_this_device(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    }
}

fn system_route(url: &Url) -> Route {
    if is_this_device(url) {
        return Route::direct("it is this device");
    }
    if let Some(route) = environment_route(url, &Matcher::from_env(), environment::variable) {
        return route;
    }
    match for_url(url.as_str()) {
        Ok(Some(found)) => route_of(&found, url),
        Ok(None) => Route::direct("the system names no proxy"),
        Err(error) => Route::direct(format!("the system's proxy settings cannot be read: {}", chain(&error))),
    }
}

/// What the environment says, if it says anything about this server.
fn environment_route(
    url: &Url,
    matcher: &Matcher,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Route> {
    let names: &[&str] = match url.scheme() {
        "https" => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        _ => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
    };
    let (name, value) = names.iter().find_map(|name| Some((*name, variable(name)?)))?;
    if matcher.intercept(&url.as_str().parse().ok()?).is_none() {
        return Some(Route::direct("the environment variable NO_PROXY"));
    }
    Some(match proxy(&value) {
        Some(proxy) => Route { proxy: Some(proxy), source: format!("the environment variable {name}") },
        None => Route::direct(format!("the environment variable {name} names no HTTP proxy")),
    })
}

/// What the system's settings mean for one server.
fn route_of(found: &SystemProxy, url: &Url) -> Route {
    if is_bypassed(&found.bypass, url.host_str().unwrap_or_default()) {
        return Route::direct(format!("an exception in {}", found.source));
    }
    match choose(&found.proxies, url.scheme()) {
        Some(proxy) => Route { proxy: Some(proxy), source: found.source.clone() },
        None => Route::direct(found.source.clone()),
    }
}

/// The first proxy of a list that is for a scheme, or for all (Microsoft, `WINHTTP_PROXY_INFO`): `proxy:8080`,
/// `http=proxy:80;https=proxy:443`, separated by semicolons or spaces.
fn choose(proxies: &str, scheme: &str) -> Option<Url> {
    let entries = proxies.split([';', ' ', '\t', '\r', '\n']).filter(|entry| !entry.is_empty());
    let mut general = None;
    for entry in entries {
        match entry.split_once('=') {
            Some((name, address)) if name.eq_ignore_ascii_case(scheme) => return proxy(address),
            // SOCKS and FTP.
            Some(_) => {}
            None => general = general.or_else(|| proxy(entry)),
        }
    }
    general
}

/// The address of an HTTP proxy, with or without its scheme.
fn proxy(text: &str) -> Option<Url> {
    let text = text.trim();
    let address = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Url = address.parse().ok()?;
    (["http", "https"].contains(&url.scheme()) && url.has_host()).then_some(url)
}

/// Whether a list of exceptions has a host: patterns with `*`, in any case, of names and addresses; `<local>` for names without
/// a dot; on macOS also networks as `169.254/16`.
fn is_bypassed(list: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split([';', ',', ' ', '\t', '\r', '\n']).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_lowercase();
        if entry == "<local>" {
            return address.is_none() && !host.contains('.');
        }
        // An entry may have a scheme and a port, which say no more here.
        let entry = entry.split_once("://").map_or(entry.as_str(), |(_, rest)| rest);
        let entry = entry.trim_matches(['[', ']']);
        if let (Some((network, bits)), Some(IpAddr::V4(address))) = (entry.split_once('/'), address) {
            return in_network(network, bits, address);
        }
        let name = match entry.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => name,
            Some(_) | None => entry,
        };
        matches(name, &host)
    })
}

/// Whether an address is in a network, whose last numbers may be left out: `169.254/16`.
fn in_network(network: &str, bits: &str, address: Ipv4Addr) -> bool {
    let mut octets = [0_u8; 4];
    let mut given = network.split('.');
    for octet in &mut octets {
        match given.next().map(str::parse) {
            Some(Ok(number)) => *octet = number,
            Some(Err(_)) => return false,
            None => break,
        }
    }
    let Some(bits) = bits.parse::<u32>().ok().filter(|bits| *bits <= 32) else { return false };
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    (u32::from(address) ^ u32::from(Ipv4Addr::from(octets))) & mask == 0
}

/// Whether a text fits a pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn proxy_of_the_scheme_is_chosen_before_one_for_all() {
        for (list, scheme, expected) in [
            ("proxy:8080", "https", Some("http://proxy:8080/")),
            ("http=a:80;https=b:443", "https", Some("http://b:443/")),
            ("http=a:80;https=b:443", "http", Some("http://a/")),
            ("http=a:80", "https", None),
            ("socks=a:1080", "https", None),
            ("socks=a:1080 c:3128", "https", Some("http://c:3128/")),
            ("HTTPS=https://secure.example:8443", "https", Some("https://secure.example:8443/")),
            ("first:1;second:2", "https", Some("http://first:1/")),
            ("", "https", None),
            (";; ;", "https", None),
        ] {
            let chosen = choose(list, scheme);
            assert_eq!(chosen.as_ref().map(Url::as_str), expected, "{list} {scheme}");
        }
    }

    #[test]
    fn exceptions_are_patterns_of_hosts() {
        let list = "*.corp.example; 10.*;<local>;exact.example;192.168.1.1;https://with-scheme.example:443;169.254/16;[fd00::1]";
        for host in [
            "a.corp.example",
            "A.B.Corp.Example",
            "10.1.2.3",
            "intranet",
            "exact.example",
            "exact.example.",
            "192.168.1.1",
            "with-scheme.example",
            "169.254.7.7",
            "[fd00::1]",
        ] {
            assert!(is_bypassed(list, host), "{host}");
        }
        for host in [
            "corp.example",
            "login.example.com",
            "110.1.2.3",
            "192.168.1.11",
            "169.255.0.1",
            "notexact.example",
        ] {
            assert!(!is_bypassed(list, host), "{host}");
        }
        assert!(is_bypassed("*", "anything.example") && !is_bypassed("", "a.example"));
        assert!(is_bypassed("a*c*e", "abcde") && !is_bypassed("ab*bc", "abc"));
    }

    #[test]
    fn environment_comes_with_its_name_and_its_exceptions() {
        let set = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://user:pw@proxy.example:3128".to_owned()),
            _ => None,
        };
        let matcher = Matcher::builder().https("http://proxy.example:3128").no("intern.example").build();
        let route = environment_route(&url("https://login.example/"), &matcher, set).unwrap();
        assert_eq!(
            route.to_string(),
            "through http://proxy.example:3128 (the environment variable HTTPS_PROXY)"
        );
        assert_eq!(route.proxy.unwrap().password(), Some("pw"));
        let route = environment_route(&url("https://intern.example/"), &matcher, set).unwrap();
        assert_eq!(route.to_string(), "directly (the environment variable NO_PROXY)");
        assert_eq!(environment_route(&url("http://login.example/"), &matcher, set), None);
    }

    #[test]
    fn settings_of_the_system_mean_a_route_with_its_source() {
        let found = SystemProxy {
            proxies: "http=a:80;https=b:8443".to_owned(),
            bypass: "*.intern.example".to_owned(),
            source: "this user's Internet settings".to_owned(),
        };
        let route = |address: &str| route_of(&found, &url(address)).to_string();
        assert_eq!(route("https://x.example/"), "through http://b:8443 (this user's Internet settings)");
        assert_eq!(
            route("https://x.intern.example/"),
            "directly (an exception in this user's Internet settings)"
        );
        assert_eq!(system_route(&url("http://127.0.0.1:1/")).to_string(), "directly (it is this device)");
    }

    #[tokio::test]
    async fn route_of_system_is_kept_for_each_server() {
        let routes = SystemRoutes::default();
        let address = url("http://localhost:7/a");
        assert_eq!(routes.known(&address), None);
        routes.find(&address).await;
        assert!(routes.known(&url("http://localhost:7/b")).is_some());
        assert_eq!(routes.known(&url("http://localhost:8/")), None);
    }
}
