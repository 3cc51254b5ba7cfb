//! The one HTTP client: proxy and trust as policy says, no redirects, limits on time and size.
//!
//! Made for each piece of work and dropped after it, so that an idle process holds no connection and no trust store.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use policy_schema::settings::ProxyMode;
use policy_schema::{Code, Policy, Problem};
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, Response};
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) use witness::Witness;

mod witness;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const READ_LIMIT: Duration = Duration::from_secs(30);
/// A small document that takes longer than this is not waited for, however busily it trickles in.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(20);

/// How to reach the network, as policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    proxy_mode: ProxyMode,
    proxy_url: Option<String>,
    proxy_bypass: Vec<String>,
    certificates: Vec<String>,
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

/// What can go wrong on the way to a server and back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("the network settings cannot be used")]
    Settings(#[source] reqwest::Error),
    #[error("this device has no certificates to trust")]
    Trust(#[source] rustls::Error),
    #[error("`ProxyMode` is `fixed`, but `ProxyUrl` is not set")]
    ProxyMissing,
    #[error("{host} could not be reached")]
    Unreachable {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{host} answered {status}")]
    Status { host: String, status: u16 },
    #[error("{host} did not finish its answer within {} seconds", DOCUMENT_LIMIT.as_secs())]
    TooSlow { host: String },
    #[error("{host} answered with more than {limit} bytes")]
    TooLarge { host: String, limit: usize },
}

impl HttpError {
    /// Whether the request certainly never reached the server.
    pub(crate) fn never_arrived(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.is_connect())
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// A client with its limits.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
}

impl Http {
    /// Makes a client.
    ///
    /// # Errors
    /// A proxy address or a certificate that cannot be used.
    pub(crate) fn new(network: &Network) -> Result<Self, HttpError> {
        let mut builder = Self::builder(network)?;
        let usable = network.certificates.iter().filter_map(|pem| trusted(pem).ok());
        let usable: Vec<Certificate> = usable.filter_map(|der| Certificate::from_der(&der).ok()).collect();
        if !usable.is_empty() {
            builder = builder.tls_certs_merge(usable);
        }
        Ok(Self { client: builder.build().map_err(HttpError::Settings)? })
    }

    /// Makes a client whose encrypted connections are watched: the witness knows which certificates were shown, also
    /// where they were not trusted.
    ///
    /// # Errors
    /// A proxy address that cannot be used, or no certificates on this device at all.
    pub(crate) fn watched(network: &Network) -> Result<(Self, Witness), HttpError> {
        let certificates = network.certificates.iter().filter_map(|pem| trusted(pem).ok());
        let (tls, witness) = witness::watched(certificates).map_err(HttpError::Trust)?;
        let builder = Self::builder(network)?.tls_backend_preconfigured(tls);
        Ok((Self { client: builder.build().map_err(HttpError::Settings)? }, witness))
    }

    fn builder(network: &Network) -> Result<ClientBuilder, HttpError> {
        // Repeated calls find a provider installed already, which is the aim.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(READ_LIMIT)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("steward/", env!("CARGO_PKG_VERSION")));
        Ok(match (network.proxy_mode, &network.proxy_url) {
            (ProxyMode::System, _) => builder,
            (ProxyMode::Direct, _) => builder.no_proxy(),
            (ProxyMode::Fixed, None) => return Err(HttpError::ProxyMissing),
            (ProxyMode::Fixed, Some(url)) => {
                let bypass = ["localhost", "127.0.0.0/8", "::1"]
                    .into_iter()
                    .chain(network.proxy_bypass.iter().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join(",");
                let proxy = Proxy::all(url).map_err(HttpError::Settings)?;
                builder.proxy(proxy.no_proxy(NoProxy::from_string(&bypass)))
            }
        })
    }

    /// Gets whatever lies there, with whatever status; of its body, the first `limit` bytes. With a bearer token if there
    /// is one (RFC 6750).
    pub(crate) async fn look(&self, url: &Url, token: Option<&str>, limit: usize) -> Result<Look, HttpError> {
        let mut request = self.client.get(url.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await.map_err(|source| unreachable(url, source))?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (status, location, date) = (response.status().as_u16(), header("location"), header("date"));
        let mut body = Vec::new();
        while body.len() < limit
            && let Some(chunk) = response.chunk().await.map_err(|source| unreachable(url, source))?
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(limit);
        Ok(Look { status, location, date, body })
    }

    /// Starts a GET; the body is the caller's to read. Another answer than 200 is an error.
    pub(crate) async fn open(&self, url: &Url) -> Result<Response, HttpError> {
        let response =
            self.client.get(url.clone()).send().await.map_err(|source| unreachable(url, source))?;
        match response.status().as_u16() {
            200 => Ok(response),
            status => Err(HttpError::Status { host: host(url), status }),
        }
    }

    /// Gets a document of at most `limit` bytes.
    pub(crate) async fn get(&self, url: &Url, limit: usize) -> Result<Vec<u8>, HttpError> {
        let response = self.open(url).await?;
        body(response, url, limit).await
    }

    /// Posts JSON, with a bearer token if there is one (RFC 6750). Gives the status, and Retry-After in seconds.
    pub(crate) async fn post_json(
        &self,
        url: &Url,
        token: Option<&str>,
        json: Vec<u8>,
    ) -> Result<(u16, Option<u64>), HttpError> {
        let mut request = self.client.post(url.clone()).header("content-type", "application/json").body(json);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|source| unreachable(url, source))?;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        Ok((response.status().as_u16(), retry_after))
    }

    /// Posts a form. Gives the status and at most `limit` bytes of the answer.
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        form: String,
        limit: usize,
    ) -> Result<(u16, Vec<u8>), HttpError> {
        let request = self.client.post(url.clone()).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.send().await.map_err(|source| unreachable(url, source))?;
        let status = response.status().as_u16();
        Ok((status, body(response, url, limit).await?))
    }

    /// One exchange for the OpenID Connect library, at most `limit` bytes.
    pub(crate) async fn exchange(
        &self,
        request: openidconnect::HttpRequest,
        limit: usize,
    ) -> Result<openidconnect::HttpResponse, HttpError> {
        let request = reqwest::Request::try_from(request).map_err(HttpError::Settings)?;
        let url = request.url().clone();
        let exchange = self.exchange_at_leisure(request, &url, limit);
        tokio::time::timeout(DOCUMENT_LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(HttpError::TooSlow { host: host(&url) }))
    }

    async fn exchange_at_leisure(
        &self,
        request: reqwest::Request,
        url: &Url,
        limit: usize,
    ) -> Result<openidconnect::HttpResponse, HttpError> {
        let response = self.client.execute(request).await.map_err(|source| unreachable(url, source))?;
        let mut answer = openidconnect::http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let body = body(response, url, limit).await?;
        Ok(answer.body(body).expect("status and headers come from a response"))
    }
}

/// What is wrong with the certificates of policy. One that cannot be used is left out: less is trusted then, and
/// nothing else stops.
pub(crate) fn unusable_certificates(policy: &Policy) -> Vec<Problem> {
    let numbered = policy.additional_trusted_certificates.iter().zip(1..);
    let problems = numbered.filter_map(|(pem, number): (&String, u32)| {
        let reason = trusted(pem).err()?;
        Some(
            Problem::new(Code::PolicyInvalidValue, format!("certificate {number} cannot be used: {reason}"))
                .key("AdditionalTrustedCertificates")
                .using("the others")
                .hint("export it anew, as X.509 in PEM".to_owned()),
        )
    });
    problems.collect()
}

/// A certificate of policy, which may be on one line, in DER, if it can be an authority.
fn trusted(pem: &str) -> Result<Vec<u8>, String> {
    let body: String = pem
        .trim()
        .trim_start_matches("-----BEGIN CERTIFICATE-----")
        .trim_end_matches("-----END CERTIFICATE-----")
        .split_ascii_whitespace()
        .collect();
    let der = STANDARD.decode(body).map_err(|error| error.to_string())?;
    let mut store = rustls::RootCertStore::empty();
    store.add(der.clone().into()).map_err(|error| error.to_string())?;
    Ok(der)
}

async fn body(mut response: Response, url: &Url, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| unreachable(url, source))? {
        if body.len() + chunk.len() > limit {
            return Err(HttpError::TooLarge { host: host(url), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn unreachable(url: &Url, source: reqwest::Error) -> HttpError {
    // The URL may hold a query that is nobody's business; the host says enough.
    HttpError::Unreachable { host: host(url), source: source.without_url() }
}

/// Whether an address is this device's own.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

pub(crate) fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.scheme().to_owned(),
    }
}

/// An error with its causes on one line: `a: b: c`. The one chain printer.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(mode: ProxyMode) -> Network {
        Network { proxy_mode: mode, proxy_url: None, proxy_bypass: Vec::new(), certificates: Vec::new() }
    }

    #[test]
    fn a_fixed_proxy_without_an_address_is_an_error_and_not_silently_left_out() {
        assert!(matches!(Http::new(&network(ProxyMode::Fixed)), Err(HttpError::ProxyMissing)));
    }

    #[test]
    fn a_certificate_is_taken_on_one_line_and_one_that_is_none_is_named() {
        let certificates = policy_schema::SETTINGS
            .iter()
            .find(|setting| setting.key == "AdditionalTrustedCertificates")
            .map(|setting| setting.example.to_raw());
        let Some(policy_schema::raw::RawValue::List(examples)) = certificates else {
            panic!("it has examples")
        };
        for separator in ["\n", " ", ""] {
            assert_eq!(trusted(&examples[0].replace('\n', separator)).err(), None, "{separator:?}");
        }
        let broken = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----".to_owned();
        assert!(trusted(&broken).is_err());
        let mixed = Network { certificates: vec![broken, examples[0].clone()], ..network(ProxyMode::Direct) };
        assert!(Http::new(&mixed).is_ok());
    }

    /// Whoever fixes a proxy must not cut off this device from itself.
    #[tokio::test]
    async fn a_fixed_proxy_is_used_for_others_and_not_for_this_device() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let answers = axum::Router::new().fallback(|| async { "hello" });
        tokio::spawn(async move { axum::serve(listener, answers).await });
        // Nobody listens at port 9: whatever goes there fails.
        let dead = Network { proxy_url: Some("http://127.0.0.1:9".to_owned()), ..network(ProxyMode::Fixed) };
        let http = Http::new(&dead).unwrap();
        let own: Url = format!("http://{own}/").parse().unwrap();
        assert_eq!(http.get(&own, 100).await.unwrap(), b"hello");
        assert!(matches!(http.get(&own, 3).await, Err(HttpError::TooLarge { .. })));
        let other: Url = "http://updates.example.com/".parse().unwrap();
        assert!(matches!(http.get(&other, 100).await, Err(HttpError::Unreachable { .. })));
        // And a live one is used: it answers in the other's place.
        let live = Network { proxy_url: Some(own.to_string()), ..dead };
        assert_eq!(Http::new(&live).unwrap().get(&other, 100).await.unwrap(), b"hello");
    }
}
