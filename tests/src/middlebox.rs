//! What may stand between a device and a server: TLS inspection, and a proxy that wants a password.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A TLS-inspecting gateway: a server at `https://localhost:PORT` whose certificate comes from an unknown authority. It
/// forwards everything to another server.
pub struct TlsInspection {
    /// `https://localhost:PORT`.
    pub address: String,
    /// The authority's certificate, in PEM.
    pub authority: String,
}

/// Whether the certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is valid.
    Now,
    /// It expired years ago.
    Expired,
}

impl TlsInspection {
    /// Starts one in front of a server with plain HTTP.
    ///
    /// # Panics
    /// No port is free, or there is no randomness.
    pub async fn in_front_of(server: SocketAddr, validity: Validity) -> Self {
        // A repeated call finds that a provider is installed, which is the goal.
        drop(rustls::crypto::ring::default_provider().install_default());
        let name = |params: &mut CertificateParams, name: &str| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        };
        let mut authority_params = CertificateParams::default();
        name(&mut authority_params, "Example Corp Inspection CA");
        authority_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority_params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate().expect("there is randomness");
        let authority = authority_params.self_signed(&authority_key).expect("it is a certificate").pem();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a name");
        name(&mut params, "localhost");
        if validity == Validity::Expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = Issuer::new(authority_params, authority_key);
        let certificate = params.signed_by(&key, &issuer).expect("it is a certificate");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it is a key");
        let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(tls.expect("they fit")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let port = listener.local_addr().expect("it is bound").port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate closes the connection.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                });
            }
        });
        Self { address: format!("https://localhost:{port}"), authority }
    }
}

/// Starts a proxy that wants a user name and a password (RFC 9110, section 15.5.8); gives its address.
///
/// # Panics
/// No port is free.
pub async fn proxy_with_password() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                drop(client.read(&mut request).await);
                let response = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\
                              content-length: 0\r\nconnection: close\r\n\r\n";
                drop(client.write_all(response.as_bytes()).await);
            });
        }
    });
    format!("http://{address}")
}
