//! Observes which certificates servers present, trusted or not. The doctor shows them, for example to name a proxy that
//! opens the encryption between this device and a server.
//!
//! In: TLS handshakes of a client ([`crate::http::Http::observed`]). Out: a [`CertificateObserver`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// The certificate of the last connection to each host name.
#[derive(Clone, Debug, Default)]
pub struct CertificateObserver(Arc<Mutex<BTreeMap<String, Presented>>>);

/// A certificate that a server presented.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The issuer of the certificate, as a distinguished name (RFC 4514).
    pub issuer: String,
    /// The subject of the certificate, as a distinguished name (RFC 4514).
    pub subject: String,
    /// Why the certificate is not trusted; `None` if it is.
    pub refused: Option<Error>,
}

impl CertificateObserver {
    /// The certificate that the server of this host name presented last.
    #[must_use]
    pub fn presented_by(&self, name: &str) -> Option<Presented> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// The operating system's verification, observed.
#[derive(Debug)]
struct ObservedVerifier {
    system: Verifier,
    observer: CertificateObserver,
}

/// Makes TLS settings that trust the operating system's certificates and `more`, and an observer of the connections.
pub(crate) fn observe(
    more: impl Iterator<Item = Vec<u8>>,
) -> Result<(ClientConfig, CertificateObserver), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let more: Vec<CertificateDer<'static>> = more.map(CertificateDer::from).collect();
    // Wine 8 cannot make an empty store.
    let system = if more.is_empty() {
        Verifier::new(Arc::clone(&provider))?
    } else {
        Verifier::new_with_extra_roots(more, Arc::clone(&provider))?
    };
    let observer = CertificateObserver::default();
    let verifier = ObservedVerifier { system, observer: observer.clone() };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((tls, observer))
}

impl ServerCertVerifier for ObservedVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.system.verify_server_cert(certificate, chain, name, ocsp, now);
        // One that cannot be parsed is shown without names.
        let parsed = Certificate::from_der(certificate).ok();
        let names = parsed.map(|parsed| {
            let contents = parsed.tbs_certificate();
            (contents.issuer().to_string(), contents.subject().to_string())
        });
        let unreadable = || ("(unreadable)".to_owned(), "(unreadable)".to_owned());
        let (issuer, subject) = names.unwrap_or_else(unreadable);
        let presented = Presented { issuer, subject, refused: verdict.as_ref().err().cloned() };
        let name = name.to_str().into_owned();
        self.observer.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, presented);
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.system.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.system.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.system.supported_verify_schemes()
    }
}
