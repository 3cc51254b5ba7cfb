//! What may stand between a device and a server: whoever opens the encryption, and proxies that want a password.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server at `https://localhost:PORT` whose certificate comes from an authority that nobody knows. It passes on to
/// another what it reads.
pub struct Inspection {
    /// `https://localhost:PORT`.
    pub address: String,
    /// The authority's certificate, in PEM.
    pub authority: String,
}

/// How good the certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It holds.
    Now,
    /// It ended years ago.
    Over,
}

impl Inspection {
    /// Opens one in front of a server that speaks plain HTTP.
    ///
    /// # Panics
    /// The machine gives no port or no randomness.
    pub async fn in_front_of(server: SocketAddr, validity: Validity) -> Self {
        // Repeated calls find a provider installed already, which is the aim.
        drop(rustls::crypto::ring::default_provider().install_default());
        let name = |params: &mut CertificateParams, name: &str| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        };
        let mut above = CertificateParams::default();
        name(&mut above, "Example Corp Inspection CA");
        above.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        above.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let above_key = KeyPair::generate().expect("there is randomness");
        let authority = above.self_signed(&above_key).expect("it is a certificate").pem();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a name");
        name(&mut params, "localhost");
        if validity == Validity::Over {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = Issuer::new(above, above_key);
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
                    // A client that does not trust the certificate hangs up.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                });
            }
        });
        Self { address: format!("https://localhost:{port}"), authority }
    }
}

/// A proxy that wants a user name and password of everybody (RFC 9110, section 15.5.8); gives its address.
///
/// # Panics
/// The machine gives no port.
pub async fn proxy_with_password() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut question = [0; 4096];
                drop(client.read(&mut question).await);
                let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\
                              content-length: 0\r\nconnection: close\r\n\r\n";
                drop(client.write_all(answer.as_bytes()).await);
            });
        }
    });
    format!("http://{address}")
}
