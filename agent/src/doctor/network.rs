//! Whether servers can be reached, and what stands in the way: names, firewalls, proxies, whoever opens the encryption,
//! captive portals.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use url::Url;

use super::{Confidence, Diagnosis, Finding, Outcome, Subject};
use crate::http::{Http, HttpError, Look, Witness, chain, host};

/// How long one server may take.
const LIMIT: Duration = Duration::from_secs(6);
/// Pages and documents are read up to here, in bytes.
const MAXIMUM: usize = 512 * 1024;

/// A client that knows what stands in its way.
#[derive(Clone)]
pub(super) struct Scout {
    http: Http,
    witness: Witness,
}

impl Scout {
    pub(super) fn new(subject: &Subject) -> Result<Self, HttpError> {
        let (http, witness) = Http::watched(&subject.configuration.network)?;
        Ok(Self { http, witness })
    }

    /// Looks at an address; says what is the matter if nothing answers there.
    pub(super) async fn look(
        &self,
        subject: &Subject,
        url: &Url,
        token: Option<&str>,
    ) -> Result<Look, Diagnosis> {
        match tokio::time::timeout(LIMIT, self.http.look(url, token, MAXIMUM)).await {
            Ok(Ok(look)) if look.status == 407 => Err(subject.diagnose(
                "proxy-authentication",
                Confidence::Certain,
                format!("{}: the proxy answered 407", host(url)),
            )),
            Ok(Ok(look)) => Ok(look),
            Ok(Err(error)) => Err(self.explain(subject, url, &error)),
            Err(_) => Err(subject.diagnose(
                "connection-timed-out",
                Confidence::Likely,
                format!("{} did not answer within {} seconds", host(url), LIMIT.as_secs()),
            )),
        }
    }

    /// The same for a JSON document.
    pub(super) async fn document(
        &self,
        subject: &Subject,
        url: &Url,
    ) -> Result<(serde_json::Value, Look), Diagnosis> {
        let look = self.look(subject, url, None).await?;
        match (look.status, serde_json::from_slice(&look.body)) {
            (200, Ok(document)) => Ok((document, look)),
            _ => Err(not_a_document(subject, url, &look)),
        }
    }

    fn explain(&self, subject: &Subject, url: &Url, error: &HttpError) -> Diagnosis {
        let said = chain(error);
        let of = |id, confidence, evidence: Vec<String>| subject.diagnose(id, confidence, evidence);
        let place = host(url);
        let shown = url.host_str().and_then(|name| self.witness.of(name));
        if let Some(shown) = shown
            && let Some(reason) = &shown.refused
        {
            let evidence = vec![
                format!("{place} shows a certificate for {}", shown.subject),
                format!("issued by {}", shown.issuer),
                reason.to_string(),
            ];
            let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
            let id = if *reason == unknown { "tls-intercepted" } else { "certificate-unusable" };
            return of(id, Confidence::Certain, evidence);
        }
        let lower = said.to_lowercase();
        let id = match () {
            () if lower.contains("proxy auth") => "proxy-authentication",
            () if lower.contains("tunnel") || lower.contains("proxy") => "proxy-unreachable",
            () if ["dns error", "dns name", "lookup address"].iter().any(|part| lower.contains(part)) => {
                "name-not-found"
            }
            () if has_kind(error, std::io::ErrorKind::ConnectionRefused) => "connection-refused",
            () if has_kind(error, std::io::ErrorKind::TimedOut) || lower.contains("timed out") => {
                "connection-timed-out"
            }
            () if is_tls(error) => "tls-failed",
            () => "connection-refused",
        };
        of(id, Confidence::Certain, vec![said])
    }
}

/// Why no client could be made.
pub(super) fn of_settings(subject: &Subject, error: &HttpError) -> Diagnosis {
    let id =
        if matches!(error, HttpError::Trust(_)) { "trust-unusable" } else { "network-settings-unusable" };
    subject.diagnose(id, Confidence::Certain, chain(error))
}

/// What answers in the place of a document.
pub(super) fn not_a_document(subject: &Subject, url: &Url, look: &Look) -> Diagnosis {
    let start = super::probe::excerpt(&String::from_utf8_lossy(&look.body));
    let evidence = vec![format!("{url} answered {}: {start}", look.status)];
    let elsewhere = |location: &String| {
        let target = url.join(location).ok();
        target.is_none_or(|target| target.host_str() != url.host_str())
    };
    if (300..400).contains(&look.status) && look.location.as_ref().is_some_and(elsewhere) {
        let to = look.location.clone().unwrap_or_default();
        let evidence = [evidence, vec![format!("it sends everybody to {to}")]].concat();
        return subject.diagnose("captive-portal", Confidence::Likely, evidence);
    }
    match look.status {
        200 if look.body.trim_ascii_start().starts_with(b"<") => {
            subject.diagnose("captive-portal", Confidence::Likely, evidence)
        }
        500.. => subject.diagnose("server-fault", Confidence::Certain, evidence),
        _ => {
            let text = String::from_utf8_lossy(&look.body);
            let known = super::catalogue::spoken_of(&text);
            let id = known.first().copied().unwrap_or("discovery-missing");
            subject.diagnose(id, Confidence::Certain, evidence)
        }
    }
}

/// The servers that policy and the app need besides the identity provider.
pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let scout = match Scout::new(&subject) {
        Ok(scout) => scout,
        Err(error) => {
            let diagnosis = of_settings(&subject, &error);
            return vec![
                Finding::new("network", Outcome::Failure, "the network settings cannot be used")
                    .because(diagnosis),
            ];
        }
    };
    let scout = Arc::new(scout);
    // By host: two addresses of one server are one question.
    let mut asked = BTreeSet::new();
    // An app that does not exist here needs nothing here; a policy may be meant for other systems.
    let app = subject.app.filter(|app| subject.before_roll_out || app.system().is_some());
    let domains = app.iter().flat_map(|app| app.domains());
    let addresses: Vec<Url> = subject
        .addresses
        .iter()
        .cloned()
        .chain(domains.filter(|domain| !domain.contains('*')).map(|domain| format!("https://{domain}/")))
        .filter_map(|address| address.parse().ok())
        .filter(|url| asked.insert(host(url)))
        .collect();
    let mut looks = tokio::task::JoinSet::new();
    for (number, url) in addresses.iter().cloned().enumerate() {
        let (scout, subject) = (Arc::clone(&scout), Arc::clone(&subject));
        looks.spawn(async move { (number, scout.look(&subject, &url, None).await) });
    }
    let mut results: Vec<(usize, Result<Look, Diagnosis>)> = looks.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    let findings = results.into_iter().map(|(number, result)| {
        let place = host(&addresses[number]);
        match result {
            Ok(look) => {
                let by = addresses[number].host_str().and_then(|name| scout.witness.of(name));
                let by = by.map(|shown| format!("certificate by {}", shown.issuer));
                Finding::pass("network", format!("{place} answers"))
                    .seen(std::iter::once(format!("status {}", look.status)).chain(by))
            }
            Err(diagnosis) => Finding::new("network", Outcome::Failure, format!("{place} cannot be reached"))
                .because(diagnosis),
        }
    });
    let mut findings: Vec<Finding> = findings.collect();
    let patterns: Vec<&str> =
        app.iter().flat_map(|app| app.domains()).filter(|domain| domain.contains('*')).collect();
    if !patterns.is_empty() {
        findings.push(
            Finding::skipped("network", "the app needs more hosts, known only as patterns; let them through")
                .seen(patterns.into_iter().map(ToOwned::to_owned)),
        );
    }
    findings
}

fn causes(error: &HttpError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source())
}

fn has_kind(error: &HttpError, kind: std::io::ErrorKind) -> bool {
    causes(error)
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|cause| cause.kind() == kind))
}

/// Errors of TLS arrive wrapped in errors of input and output, sometimes more than once.
fn is_tls(error: &HttpError) -> bool {
    fn inside(cause: &(dyn Error + 'static)) -> bool {
        cause.is::<rustls::Error>()
            || cause
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .is_some_and(|inner| inside(inner as &(dyn Error + 'static)))
    }
    causes(error).any(inside)
}
