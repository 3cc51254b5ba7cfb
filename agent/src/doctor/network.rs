//! Checks whether servers can be reached, and what prevents it: DNS, firewalls, proxies, TLS inspection, captive
//! portals.
//!
//! In: the network settings and addresses of a policy. Out: one finding per host; for other checks, a [`ProbeClient`]
//! whose errors are diagnoses.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use net::certificate_observer::CertificateObserver;
use net::chain;
use net::http::{Fetched, Http, HttpError, host};
use rustls::CertificateError;
use url::Url;

use super::{Cause, Confidence, Diagnosis, Finding, Outcome, Subject, match_causes};

/// How long one server may take.
const LIMIT: Duration = Duration::from_secs(6);
/// Only this many bytes of a page or document are read.
const MAXIMUM_BYTES: usize = 512 * 1024;

/// The probe client: it explains why a request gets no response.
#[derive(Clone)]
pub(super) struct ProbeClient {
    http: Http,
    certificates: CertificateObserver,
}

impl ProbeClient {
    pub(super) fn new(subject: &Subject) -> Result<Self, HttpError> {
        let (http, certificates) = Http::observed(&subject.configuration.network)?;
        Ok(Self { http, certificates })
    }

    /// Fetches an address, or says why there is no response.
    pub(super) async fn fetch(
        &self,
        subject: &Subject,
        url: &Url,
        token: Option<&str>,
    ) -> Result<Fetched, Diagnosis> {
        // To ask the system for the proxy may take longer than the server itself.
        self.http.route(url).await;
        match tokio::time::timeout(LIMIT, self.http.fetch(url, token, MAXIMUM_BYTES)).await {
            Ok(Ok(response)) if response.status == 407 => Err(subject.diagnose(
                Cause::ProxyAuthentication,
                Confidence::Certain,
                format!("{}: the proxy responded with status 407", host(url)),
            )),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.explain(subject, url, &error)),
            Err(_) => Err(subject.diagnose(
                Cause::ConnectionTimedOut,
                Confidence::Likely,
                format!("{} did not respond within {} seconds", host(url), LIMIT.as_secs()),
            )),
        }
    }

    /// Fetches a JSON document.
    pub(super) async fn document(
        &self,
        subject: &Subject,
        url: &Url,
    ) -> Result<(serde_json::Value, Fetched), Diagnosis> {
        let response = self.fetch(subject, url, None).await?;
        match (response.status, broker::documents::object(&response.body)) {
            (200, Ok(document)) => Ok((document.into(), response)),
            _ => Err(not_a_document(subject, url, &response)),
        }
    }

    fn explain(&self, subject: &Subject, url: &Url, error: &HttpError) -> Diagnosis {
        let message = chain(error);
        let presented = url.host_str().and_then(|name| self.certificates.presented_by(name));
        if let Some(presented) = presented
            && let Some(reason) = &presented.refused
        {
            let evidence = vec![
                format!("{} presents a certificate for {}", host(url), presented.subject),
                format!("{ISSUED_BY}{}", presented.issuer),
                reason.to_string(),
            ];
            let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
            // One server alone does not say whether its authority is private or one of an inspection.
            let (id, confidence) = if *reason == unknown {
                (Cause::TlsUntrusted, Confidence::Likely)
            } else {
                (Cause::CertificateUnusable, Confidence::Certain)
            };
            return subject.diagnose(id, confidence, evidence);
        }
        let lower = message.to_lowercase();
        let id = match () {
            () if lower.contains("proxy auth") => Cause::ProxyAuthentication,
            () if lower.contains("tunnel") || lower.contains("proxy") => Cause::ProxyUnreachable,
            () if ["dns error", "dns name", "lookup address"].iter().any(|part| lower.contains(part)) => {
                Cause::NameNotFound
            }
            () if has_kind(error, std::io::ErrorKind::ConnectionRefused) => Cause::ConnectionRefused,
            () if has_kind(error, std::io::ErrorKind::TimedOut) || lower.contains("timed out") => {
                Cause::ConnectionTimedOut
            }
            () if is_tls(error) => Cause::TlsFailed,
            () => Cause::ConnectionRefused,
        };
        subject.diagnose(id, Confidence::Certain, message)
    }
}

/// Begins the line that names the issuer of a certificate.
const ISSUED_BY: &str = "issued by ";

/// Tells TLS inspection from a private authority: the same unknown issuer for hosts of different owners is inspection;
/// if hosts of others are trusted, it is a private authority.
pub(super) fn tell_inspection_apart(subject: &Subject, findings: &mut [Finding]) {
    let unknown = |diagnosis: &Diagnosis| -> Option<(String, String)> {
        let issuer = diagnosis.evidence.iter().find_map(|line| line.strip_prefix(ISSUED_BY))?;
        let host = diagnosis.evidence.first()?.split_whitespace().next()?;
        (diagnosis.id == Cause::TlsUntrusted).then(|| (issuer.to_owned(), owner(host)))
    };
    let seen: BTreeSet<(String, String)> =
        findings.iter().flat_map(|finding| &finding.diagnoses).filter_map(unknown).collect();
    let others_are_trusted =
        findings.iter().any(|finding| finding.check == "network" && finding.outcome == Outcome::Pass);
    for diagnosis in findings.iter_mut().flat_map(|finding| &mut finding.diagnoses) {
        let Some((issuer, _)) = unknown(diagnosis) else { continue };
        let hosts = seen.iter().filter(|(other, _)| *other == issuer).count();
        let mut evidence = diagnosis.evidence.clone();
        if hosts > 1 {
            evidence.push(format!("hosts of {hosts} owners present certificates of the same issuer"));
            *diagnosis = subject.diagnose(Cause::TlsIntercepted, Confidence::Certain, evidence);
        } else if others_are_trusted {
            evidence.push(
                "other hosts present certificates that are trusted, so this one has an authority of its own"
                    .to_owned(),
            );
            *diagnosis = subject.diagnose(Cause::TlsUntrusted, Confidence::Likely, evidence);
        }
    }
}

/// Whose a host is, roughly: the last two parts of its name.
fn owner(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let mut parts: Vec<&str> = name.rsplit('.').take(2).collect();
    parts.reverse();
    parts.join(".")
}

/// Why the network settings cannot be used.
pub(super) fn diagnose_settings(subject: &Subject, error: &HttpError) -> Diagnosis {
    let id = if matches!(error, HttpError::Trust(_)) {
        Cause::TrustUnusable
    } else {
        Cause::NetworkSettingsUnusable
    };
    subject.diagnose(id, Confidence::Certain, chain(error))
}

/// Why a response is not the document that was expected.
pub(super) fn not_a_document(subject: &Subject, url: &Url, response: &Fetched) -> Diagnosis {
    let start = super::excerpt::excerpt(&String::from_utf8_lossy(&response.body));
    let evidence = vec![format!("{url} responded with status {}: {start}", response.status)];
    let elsewhere = |location: &String| {
        let target = url.join(location).ok();
        target.is_none_or(|target| target.host_str() != url.host_str())
    };
    if (300..400).contains(&response.status) && response.location.as_ref().is_some_and(elsewhere) {
        let location = response.location.clone().unwrap_or_default();
        let evidence = [evidence, vec![format!("it redirects to {location}")]].concat();
        return subject.diagnose(Cause::CaptivePortal, Confidence::Likely, evidence);
    }
    match response.status {
        200 if response.body.trim_ascii_start().starts_with(b"<") => {
            subject.diagnose(Cause::CaptivePortal, Confidence::Likely, evidence)
        }
        429 | 500.. => subject.diagnose(Cause::ServerFault, Confidence::Certain, evidence),
        _ => {
            let text = String::from_utf8_lossy(&response.body);
            // An address that does not exist says nothing about an app that is turned off.
            let is_of_app = |cause: &&Cause| **cause == Cause::ApplicationDisabled && response.status == 404;
            let known = match_causes(&text);
            let id = known.iter().find(|cause| !is_of_app(cause)).copied().unwrap_or(Cause::DiscoveryMissing);
            subject.diagnose(id, Confidence::Certain, evidence)
        }
    }
}

/// Checks the servers that policy and the app need besides the identity provider.
pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let client = match ProbeClient::new(&subject) {
        Ok(client) => client,
        Err(error) => {
            let diagnosis = diagnose_settings(&subject, &error);
            return vec![
                Finding::new("network", Outcome::Failure, "the network settings cannot be used")
                    .because(diagnosis),
            ];
        }
    };
    let client = Arc::new(client);
    // Each host is checked once.
    let mut hosts = BTreeSet::new();
    // An app that does not exist for this system needs no hosts here, but a policy file may be for other systems.
    let app = subject.app.filter(|app| subject.before_roll_out || app.system().is_some());
    let domains = app.iter().flat_map(|app| app.domains());
    let addresses: Vec<Url> = subject
        .addresses
        .iter()
        .cloned()
        .chain(domains.filter(|domain| !domain.contains('*')).map(|domain| format!("https://{domain}/")))
        .filter_map(|address| address.parse().ok())
        .filter(|url| hosts.insert(host(url)))
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, url) in addresses.iter().cloned().enumerate() {
        let (client, subject) = (Arc::clone(&client), Arc::clone(&subject));
        tasks.spawn(async move { (number, client.fetch(&subject, &url, None).await) });
    }
    let mut results: Vec<(usize, Result<Fetched, Diagnosis>)> = tasks.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    let findings = results.into_iter().map(|(number, result)| {
        let host = host(&addresses[number]);
        match result {
            Ok(response) => {
                let name = addresses[number].host_str();
                let certificate = name.and_then(|name| client.certificates.presented_by(name));
                let certificate =
                    certificate.map(|presented| format!("certificate issued by {}", presented.issuer));
                Finding::pass("network", format!("{host} responds"))
                    .observed(std::iter::once(format!("status {}", response.status)).chain(certificate))
            }
            Err(diagnosis) => Finding::new("network", Outcome::Failure, format!("{host} cannot be reached"))
                .because(diagnosis),
        }
    });
    let mut findings: Vec<Finding> = findings.collect();
    let issuer = subject.configuration.issuer.iter().filter_map(|issuer| issuer.parse().ok());
    let servers: Vec<Url> = issuer.chain(addresses.iter().cloned()).collect();
    findings.extend(routes(&client.http, &servers).await);
    let patterns: Vec<&str> =
        app.iter().flat_map(|app| app.domains()).filter(|domain| domain.contains('*')).collect();
    if !patterns.is_empty() {
        let summary = "the app needs more hosts, known only as patterns; allow them in proxy and firewall";
        let patterns = patterns.into_iter().map(ToOwned::to_owned);
        findings.push(Finding::skipped("network", summary).observed(patterns));
    }
    findings
}

/// Which proxy each server is reached through, and who says so.
async fn routes(http: &Http, addresses: &[Url]) -> Option<Finding> {
    let mut routes: Vec<(String, Vec<String>)> = Vec::new();
    for url in addresses {
        let route = http.route(url).await.to_string();
        match routes.iter_mut().find(|(known, _)| *known == route) {
            Some((_, hosts)) if hosts.contains(&host(url)) => {}
            Some((_, hosts)) => hosts.push(host(url)),
            None => routes.push((route, vec![host(url)])),
        }
    }
    let summary = match &routes[..] {
        [] => return None,
        [(route, _)] => format!("every server is reached {route}"),
        _ => "servers are reached in different ways".to_owned(),
    };
    let lines = routes.iter().map(|(route, hosts)| format!("{}: {route}", hosts.join(", ")));
    Some(Finding::pass("proxy", summary).observed(lines))
}

fn sources(error: &HttpError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |source: &&(dyn Error + 'static)| (*source).source())
}

fn has_kind(error: &HttpError, kind: std::io::ErrorKind) -> bool {
    sources(error)
        .any(|source| source.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == kind))
}

/// Whether TLS failed. Its errors are inside IO errors, sometimes more than once.
fn is_tls(error: &HttpError) -> bool {
    fn is_inside(source: &(dyn Error + 'static)) -> bool {
        source.is::<rustls::Error>()
            || source
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .is_some_and(|inner| is_inside(inner as &(dyn Error + 'static)))
    }
    sources(error).any(is_inside)
}

#[cfg(test)]
mod tests {
    use broker::configuration::Configuration;
    use platform::paths::Paths;
    use policy_schema::{LastGood, resolve};

    use super::*;

    #[test]
    fn inspection_is_certain_only_if_hosts_of_several_owners_have_the_same_unknown_issuer() {
        let policy = resolve(&[], &LastGood::default()).policy;
        let paths = Paths::new(Some("/nowhere".into()));
        let subject = Subject::of_sign_in(paths, Configuration::new(&policy, Vec::new(), Vec::new()));
        let untrusted = |host: &str, issuer: &str| {
            let evidence =
                vec![format!("{host} presents a certificate for x"), format!("{ISSUED_BY}{issuer}")];
            Finding::new("network", Outcome::Failure, "x").because(subject.diagnose(
                Cause::TlsUntrusted,
                Confidence::Likely,
                evidence,
            ))
        };
        let told = |mut findings: Vec<Finding>| {
            tell_inspection_apart(&subject, &mut findings);
            let first = findings[0].diagnoses[0].clone();
            (first.id, first.confidence)
        };
        let (one, other) = (untrusted("login.example.com:443", "CN=A"), untrusted("cdn.example.org", "CN=A"));
        assert_eq!(told(vec![one.clone()]), (Cause::TlsUntrusted.into(), Confidence::Likely.into()));
        let same_owner = untrusted("api.example.com", "CN=A");
        assert_eq!(told(vec![one.clone(), same_owner]).0, Cause::TlsUntrusted);
        assert_eq!(told(vec![one.clone(), untrusted("cdn.example.org", "CN=B")]).0, Cause::TlsUntrusted);
        assert_eq!(told(vec![one, other]), (Cause::TlsIntercepted.into(), Confidence::Certain.into()));
    }
}
