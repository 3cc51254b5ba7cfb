//! Why a request brought no usable response.

use super::DOCUMENT_LIMIT;

/// Why a request brought no usable response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A proxy address or a certificate of policy cannot be used.
    #[error("the network settings cannot be used")]
    Settings(#[source] reqwest::Error),
    /// The operating system's trust store cannot be used.
    #[error("the trust store of this device cannot be used")]
    Trust(#[source] rustls::Error),
    /// Policy asks for a fixed proxy and names none.
    #[error("`ProxyMode` is `fixed`, but `ProxyUrl` is not set")]
    ProxyMissing,
    /// No response came.
    #[error("{host} could not be reached")]
    Unreachable {
        /// The server, with its port if it is not the usual one.
        host: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The response ended before its body was whole.
    #[error("the response from {host} broke off")]
    Broken {
        /// The server, with its port if it is not the usual one.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The status of the response is not 200.
    #[error("{host} responded with status {status}")]
    Status {
        /// The server.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The response leads to another server, which may not be asked, or to another one again and again.
    #[error("{host} redirects to {to}, which neither the feed nor policy allows")]
    Redirect {
        /// The server.
        host: String,
        /// The other server, with the scheme.
        to: String,
    },
    /// The response has another part of the file than was asked for.
    #[error("{host} responded with another part of the file than was requested")]
    Range {
        /// The server.
        host: String,
    },
    /// The server has too much to do.
    #[error("{host} asks to come back in {seconds} seconds")]
    Later {
        /// The server.
        host: String,
        /// From now.
        seconds: u64,
    },
    /// The response was not whole in time.
    #[error("{host} did not finish its response within {} seconds", DOCUMENT_LIMIT.as_secs())]
    TooSlow {
        /// The server.
        host: String,
    },
    /// The response is larger than it may be.
    #[error("{host} responded with more than {limit} bytes")]
    TooLarge {
        /// The server.
        host: String,
        /// In bytes.
        limit: usize,
    },
}

impl HttpError {
    /// Why the server does not take the certificate that was shown to it, if that is the reason (RFC 8446, section 6.2).
    #[must_use]
    pub fn refused_certificate(&self) -> Option<&'static str> {
        use rustls::AlertDescription as Alert;
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            // An error of IO shows the one inside it, and not itself, as its source.
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            let tls = error
                .downcast_ref::<rustls::Error>()
                .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
            if let Some(rustls::Error::AlertReceived(alert)) = tls {
                return [
                    (Alert::CertificateRevoked, "it is revoked"),
                    (Alert::CertificateExpired, "it has expired"),
                    (Alert::UnknownCA, "another authority signed it"),
                    (Alert::BadCertificate, "it is not a valid one"),
                    (Alert::CertificateUnknown, "it is not taken"),
                    (Alert::UnsupportedCertificate, "it is of a kind that is not taken"),
                    (Alert::CertificateRequired, "the server saw none"),
                    (Alert::AccessDenied, "the device may not report"),
                ]
                .into_iter()
                .find_map(|(kind, why)| (kind == *alert).then_some(why));
            }
            source = error.source();
        }
        None
    }

    /// Whether the request certainly never reached the server.
    #[must_use]
    pub fn never_arrived(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.is_connect())
    }
}
