//! Who was at the other end of an encrypted connection, trusted or not: for naming whoever opens the encryption between
//! this device and a server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// What was shown at the last connection to each name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<Mutex<BTreeMap<String, Shown>>>);

/// A certificate that a server showed.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Who issued the certificate, as a name of X.509 (RFC 4514).
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// Why it was not trusted.
    pub(crate) refused: Option<Error>,
}

impl Witness {
    /// What a server of a name showed.
    pub(crate) fn of(&self, name: &str) -> Option<Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// The operating system's verification, watched.
#[derive(Debug)]
struct Watched {
    system: Verifier,
    witness: Witness,
}

/// Settings for connections that trust what the operating system does, and some certificates besides.
pub(super) fn watched(more: impl Iterator<Item = Vec<u8>>) -> Result<(ClientConfig, Witness), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let more: Vec<CertificateDer<'static>> = more.map(CertificateDer::from).collect();
    // Wine 8 cannot make a store of none.
    let system = if more.is_empty() {
        Verifier::new(Arc::clone(&provider))?
    } else {
        Verifier::new_with_extra_roots(more, Arc::clone(&provider))?
    };
    let witness = Witness::default();
    let watched = Watched { system, witness: witness.clone() };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(watched))
        .with_no_client_auth();
    Ok((tls, witness))
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.system.verify_server_cert(certificate, chain, name, ocsp, now);
        let parsed = Certificate::from_der(certificate).ok();
        let names = parsed.map(|parsed| {
            let about = parsed.tbs_certificate();
            (about.issuer().to_string(), about.subject().to_string())
        });
        let (issuer, subject) =
            names.unwrap_or_else(|| ("something unreadable".to_owned(), "something unreadable".to_owned()));
        let shown = Shown { issuer, subject, refused: verdict.as_ref().err().cloned() };
        let name = name.to_str().into_owned();
        self.witness.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, shown);
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
