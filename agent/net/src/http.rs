//! The one HTTP client: proxy and trust as policy says, no redirects, limits on time and size.
//!
//! In: the network settings of policy ([`Network`]) and requests. Out: responses, or an [`HttpError`]. Called by the
//! broker, the doctor, updates and reports. Each task makes a client and drops it, so that an idle process holds no
//! connection and no trust store. Tasks that begin within some seconds share one: to read the trust store costs most of a small
//! request.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::client::proxy::matcher::Matcher;
use platform::clock;
use policy_schema::settings::ProxyMode;
use policy_schema::{Code, Policy, Problem};
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, RequestBuilder};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::certificate_observer::{self, CertificateObserver};
use crate::chain;
use crate::header::{names_gzip, retry_after};
use crate::proxy::{Route, Routing, proxy_of_system};

mod error;
mod file;
mod web_socket;

pub use error::HttpError;
pub use file::Body;
pub use web_socket::{WebSocket, WebSocketError};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How long a small document may take to arrive as a whole, even if some bytes arrive all the time.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(20);

/// How to reach the network, as policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    proxy_mode: ProxyMode,
    proxy_url: Option<String>,
    proxy_bypass: Vec<String>,
    certificates: Vec<String>,
}

impl Network {
    /// Without anything that policy could add.
    #[must_use]
    pub fn of(proxy_mode: ProxyMode) -> Self {
        Self { proxy_mode, proxy_url: None, proxy_bypass: Vec::new(), certificates: Vec::new() }
    }
}

impl From<&Policy> for Network {
    fn from(policy: &Policy) -> Self {
        Self {
            proxy_mode: policy.proxy_mode,
            proxy_url: policy.proxy_url.clone(),
            proxy_bypass: policy.proxy_bypass.clone(),
            certificates: policy.additional_trusted_certificates.clone(),
        }
    }
}

/// A response as it came.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The header `Location`.
    pub location: Option<String>,
    /// The header `Date`.
    pub date: Option<String>,
    /// The header `Retry-After`, in seconds from now (RFC 9110, section 10.2.3).
    pub retry_after: Option<u64>,
    /// Whether the server takes requests that gzip has compressed: the header `Accept-Encoding` in its response (RFC 7694).
    pub takes_gzip: bool,
    /// The body, cut at the limit.
    pub body: Vec<u8>,
}

/// What a request sends.
#[derive(Debug)]
pub struct Payload {
    /// Its media type.
    pub kind: &'static str,
    /// Whether it is compressed (RFC 1952).
    pub gzip: bool,
    /// A header that goes with it.
    pub header: Option<(&'static str, String)>,
    /// What it is.
    pub bytes: Vec<u8>,
}

/// A client with its limits.
#[derive(Clone)]
pub struct Http {
    client: Arc<Client>,
    routing: Routing,
}

/// So long a client that was made can be shared, at least.
const SHARED_FOR: Duration = Duration::from_secs(3);

/// The clients that can be shared.
static SHARED: Mutex<Vec<(Network, Weak<Client>, Routing)>> = Mutex::new(Vec::new());

impl Http {
    /// Makes a client, or shares one that was made just now or is in use.
    ///
    /// # Errors
    /// A proxy address or a certificate cannot be used.
    pub fn new(network: &Network) -> Result<Self, HttpError> {
        // Held meanwhile, so that two tasks that begin together make one.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|(_, client, _)| client.strong_count() > 0);
        let known = shared.iter().find(|(of, _, _)| of == network);
        if let Some((client, routing)) =
            known.and_then(|(_, client, routing)| client.upgrade().zip(Some(routing)))
        {
            return Ok(Self { client, routing: routing.clone() });
        }
        let made = Self::with(network, |builder| builder)?;
        shared.push((network.clone(), Arc::downgrade(&made.client), made.routing.clone()));
        // What has to be done at one time is done one after the other, by several tasks.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = Arc::clone(&made.client);
            runtime.spawn(async move {
                tokio::time::sleep(SHARED_FOR).await;
                drop(client);
            });
        }
        Ok(made)
    }

    fn with(network: &Network, more: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Self, HttpError> {
        let (builder, routing) = Self::builder(network)?;
        let mut builder = more(builder);
        let usable = network.certificates.iter().filter_map(|pem| trusted(pem).ok());
        let usable: Vec<Certificate> = usable.filter_map(|der| Certificate::from_der(&der).ok()).collect();
        if !usable.is_empty() {
            builder = builder.tls_certs_merge(usable);
        }
        Ok(Self { client: Arc::new(builder.build().map_err(HttpError::Settings)?), routing })
    }

    /// Makes a client that shows a certificate to servers that ask for one. `pem`: the certificate, those above it, and its key.
    ///
    /// # Errors
    /// A proxy address or a certificate cannot be used.
    pub fn with_identity(network: &Network, pem: &str) -> Result<Self, HttpError> {
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).map_err(HttpError::Settings)?;
        Self::with(network, |builder| builder.identity(identity))
    }

    /// Makes a client whose encrypted connections are observed: the observer knows which certificates servers
    /// presented, whether or not they are trusted.
    ///
    /// # Errors
    /// A proxy address or the trust store of this device cannot be used.
    pub fn observed(network: &Network) -> Result<(Self, CertificateObserver), HttpError> {
        let certificates = network.certificates.iter().filter_map(|pem| trusted(pem).ok());
        let (tls, observer) = certificate_observer::observe(certificates).map_err(HttpError::Trust)?;
        let (builder, routing) = Self::builder(network)?;
        let builder = builder.tls_backend_preconfigured(tls);
        Ok((Self { client: Arc::new(builder.build().map_err(HttpError::Settings)?), routing }, observer))
    }

    fn builder(network: &Network) -> Result<(ClientBuilder, Routing), HttpError> {
        // Only the first call installs the provider; the others fail, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(READ_LIMIT)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("steward/", env!("CARGO_PKG_VERSION")));
        Ok(match (network.proxy_mode, &network.proxy_url) {
            (ProxyMode::System, _) => (builder.proxy(Proxy::custom(proxy_of_system)), Routing::System),
            (ProxyMode::Direct, _) => (builder.no_proxy(), Routing::Direct),
            (ProxyMode::Fixed, None) => return Err(HttpError::ProxyMissing),
            (ProxyMode::Fixed, Some(url)) => {
                let bypass = ["localhost", "127.0.0.0/8", "::1"]
                    .into_iter()
                    .chain(network.proxy_bypass.iter().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join(",");
                let exceptions = Arc::new(Matcher::builder().all(url.as_str()).no(bypass.as_str()).build());
                let proxy = Proxy::all(url).map_err(HttpError::Settings)?;
                let builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&bypass)));
                match url.parse() {
                    Ok(proxy) => (builder, Routing::Fixed { proxy, exceptions }),
                    // The client has taken it, so this does not happen; then the doctor has less to show.
                    Err(_) => (builder, Routing::Direct),
                }
            }
        })
    }

    /// The way that requests to a server take, and who says so.
    pub async fn route(&self, url: &Url) -> Route {
        self.routing.route(url).await
    }

    /// Sends a GET and returns the response with any status, its body cut after `limit` bytes. Sends a bearer token if
    /// there is one (RFC 6750).
    ///
    /// # Errors
    /// No response came in time.
    pub async fn fetch(&self, url: &Url, token: Option<&str>, limit: usize) -> Result<Fetched, HttpError> {
        let mut request = self.client.get(url.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.receive(request, url, limit, Longer::IsCut).await
    }

    /// Gets a document of at most `limit` bytes.
    ///
    /// # Errors
    /// No response came in time, or another status than 200, or it is too large.
    pub async fn get(&self, url: &Url, limit: usize) -> Result<Vec<u8>, HttpError> {
        let fetched = self.receive(self.client.get(url.clone()), url, limit, Longer::IsError).await?;
        match (fetched.status, fetched.retry_after) {
            (200, _) => Ok(fetched.body),
            (429 | 503, Some(seconds)) => Err(HttpError::Later { host: host(url), seconds }),
            (status, _) => Err(HttpError::Status { host: host(url), status }),
        }
    }

    /// Posts a body, with a bearer token if there is one (RFC 6750). The body of the response is cut after `limit` bytes.
    ///
    /// # Errors
    /// No response came in time.
    pub async fn post(
        &self,
        url: &Url,
        token: Option<&str>,
        payload: Payload,
        limit: usize,
    ) -> Result<Fetched, HttpError> {
        let Payload { kind, gzip, header, bytes } = payload;
        let mut request = self.client.post(url.clone()).header("content-type", kind).body(bytes);
        if gzip {
            request = request.header("content-encoding", "gzip");
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.receive(request, url, limit, Longer::IsCut).await
    }

    /// Posts a form, for a response of at most `limit` bytes.
    ///
    /// # Errors
    /// No response came in time, or it is too large.
    pub async fn post_form(&self, url: &Url, form: String, limit: usize) -> Result<Fetched, HttpError> {
        let request = self.client.post(url.clone()).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.receive(request, url, limit, Longer::IsError).await
    }
}

impl Http {
    /// Sends a request the way that it has to take, and reads the response to its end.
    async fn receive(
        &self,
        request: RequestBuilder,
        url: &Url,
        limit: usize,
        longer: Longer,
    ) -> Result<Fetched, HttpError> {
        self.route(url).await;
        receive(request, url, limit, longer).await
    }
}

/// What happens with a body that is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Longer {
    IsCut,
    IsError,
}

/// Sends a request, and reads the response to its end.
async fn receive(
    request: RequestBuilder,
    url: &Url,
    limit: usize,
    longer: Longer,
) -> Result<Fetched, HttpError> {
    let receiving = async {
        let mut response = request.send().await.map_err(|source| unreachable(url, source))?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let date = header("date");
        let mut fetched = Fetched {
            status: response.status().as_u16(),
            location: header("location"),
            retry_after: header("retry-after")
                .and_then(|text| retry_after(&text, date.as_deref(), clock::now())),
            date,
            takes_gzip: header("accept-encoding").is_some_and(|text| names_gzip(&text)),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(|source| unreachable(url, source))? {
            fetched.body.extend_from_slice(&chunk);
            if fetched.body.len() > limit {
                if longer == Longer::IsError {
                    return Err(HttpError::TooLarge { host: host(url), limit });
                }
                fetched.body.truncate(limit);
                break;
            }
        }
        Ok(fetched)
    };
    let received = tokio::time::timeout(DOCUMENT_LIMIT, receiving).await;
    received.unwrap_or_else(|_| Err(HttpError::TooSlow { host: host(url) }))
}

/// What is wrong with the certificates of policy. A certificate that cannot be used is left out, so less is trusted.
#[must_use]
pub fn unusable_certificates(policy: &Policy) -> Vec<Problem> {
    let numbered = policy.additional_trusted_certificates.iter().zip(1..);
    let problems = numbered.filter_map(|(pem, number): (&String, u32)| {
        let reason = chain(&trusted(pem).err()?);
        Some(
            Problem::new(Code::PolicyInvalidValue, format!("certificate {number} cannot be used: {reason}"))
                .key("AdditionalTrustedCertificates")
                .using("the others")
                .hint("export it again, as X.509 in PEM".to_owned()),
        )
    });
    problems.collect()
}

/// The host of an address, with its port if it is not the usual one.
#[must_use]
pub fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.scheme().to_owned(),
    }
}

/// Why a certificate of policy cannot be used.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("it is not PEM")]
    Encoding(#[from] base64::DecodeError),
    #[error("it cannot be a trust anchor")]
    Anchor(#[from] rustls::Error),
}

/// A certificate of policy as DER, if it can be a trust anchor. In policy it may be on one line.
fn trusted(pem: &str) -> Result<Vec<u8>, CertificateError> {
    let body: String = pem
        .trim()
        .trim_start_matches("-----BEGIN CERTIFICATE-----")
        .trim_end_matches("-----END CERTIFICATE-----")
        .split_ascii_whitespace()
        .collect();
    let der = STANDARD.decode(body)?;
    let mut store = rustls::RootCertStore::empty();
    store.add(der.clone().into())?;
    Ok(der)
}

/// A response that is not the wanted one, as an error.
fn refused(url: &Url, response: &reqwest::Response) -> HttpError {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let later = header("retry-after").and_then(|text| retry_after(text, header("date"), clock::now()));
    match (response.status().as_u16(), later) {
        (429 | 503, Some(seconds)) => HttpError::Later { host: host(url), seconds },
        (status, _) => HttpError::Status { host: host(url), status },
    }
}

fn unreachable(url: &Url, source: reqwest::Error) -> HttpError {
    // The query of a URL may be secret, and the host says enough.
    HttpError::Unreachable { host: host(url), source: source.without_url() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_proxy_without_address_is_an_error() {
        assert!(matches!(Http::new(&Network::of(ProxyMode::Fixed)), Err(HttpError::ProxyMissing)));
    }

    #[test]
    fn client_is_shared_while_a_task_uses_it() {
        let network =
            Network { proxy_bypass: vec!["only.here".to_owned()], ..Network::of(ProxyMode::Direct) };
        let other = Network { proxy_bypass: vec!["elsewhere".to_owned()], ..network.clone() };
        let first = Http::new(&network).unwrap();
        assert!(Arc::ptr_eq(&first.client, &Http::new(&network).unwrap().client));
        assert!(!Arc::ptr_eq(&first.client, &Http::new(&other).unwrap().client));
        let client = Arc::downgrade(&first.client);
        drop(first);
        assert!(client.upgrade().is_none(), "nobody uses it any more");
    }

    #[test]
    fn certificate_on_one_line_is_accepted_and_broken_one_is_left_out() {
        let certificates = policy_schema::SETTINGS
            .iter()
            .find(|setting| setting.key == "AdditionalTrustedCertificates")
            .map(|setting| setting.example.to_raw());
        let Some(policy_schema::raw::RawValue::List(examples)) = certificates else {
            panic!("it has examples")
        };
        for separator in ["\n", " ", ""] {
            assert!(trusted(&examples[0].replace('\n', separator)).is_ok(), "{separator:?}");
        }
        let broken = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----".to_owned();
        assert!(trusted(&broken).is_err());
        let mixed =
            Network { certificates: vec![broken, examples[0].clone()], ..Network::of(ProxyMode::Direct) };
        assert!(Http::new(&mixed).is_ok());
    }

    #[tokio::test]
    async fn fixed_proxy_is_used_for_other_hosts_and_not_for_this_device() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let hello = axum::Router::new().fallback(|| async { "hello" });
        tokio::spawn(async move { axum::serve(listener, hello).await });
        // No process listens at port 9, so a request through this proxy fails.
        let dead =
            Network { proxy_url: Some("http://127.0.0.1:9".to_owned()), ..Network::of(ProxyMode::Fixed) };
        let http = Http::new(&dead).unwrap();
        let own: Url = format!("http://{own}/").parse().unwrap();
        assert_eq!(http.get(&own, 100).await.unwrap(), b"hello");
        assert!(matches!(http.get(&own, 3).await, Err(HttpError::TooLarge { .. })));
        let other: Url = "http://updates.example.com/".parse().unwrap();
        assert!(matches!(http.get(&other, 100).await, Err(HttpError::Unreachable { .. })));
        // A proxy that listens is used: the response is its own.
        let live = Network { proxy_url: Some(own.to_string()), ..dead };
        assert_eq!(Http::new(&live).unwrap().get(&other, 100).await.unwrap(), b"hello");
    }
}
