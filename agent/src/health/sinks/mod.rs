//! Where health goes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use net::http::{Network, Payload};
use platform::clock;
use policy_schema::settings::ReportCertificate;
use policy_schema::{Policy, Problem, Secret};
use protocol::health::Protection;
use url::Url;

pub(crate) mod http;
pub(crate) mod opamp;
pub(crate) mod otlp;
pub(crate) mod textfile;

/// The longest Retry-After that is obeyed, in seconds.
pub(super) const LONGEST_RETRY_AFTER: u64 = 24 * 60 * 60;
/// A shorter body is not compressed, in bytes.
const WORTH_COMPRESSING: usize = 512;

/// A sink that keeps no queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ReportTextfile`.
    Textfile,
    /// `OtlpUrl`.
    Otlp,
    /// `OpampUrl`.
    Opamp,
}

/// Whom a sink serves: the address or path, and how to get there. What is known about one says nothing about another, and with another
/// token or another way, what failed may work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) token: Option<Secret>,
    pub(crate) certificate: ReportCertificate,
    pub(crate) network: Option<Network>,
}

impl Target {
    /// Whom policy names for a sink that keeps no queue.
    pub(crate) fn of(kind: Kind, policy: &Policy) -> Option<Self> {
        let (address, token) = match kind {
            Kind::Textfile => (&policy.report_textfile, &None),
            Kind::Otlp => (&policy.otlp_url, &policy.otlp_token),
            Kind::Opamp => (&policy.opamp_url, &policy.opamp_token),
        };
        let network = (kind != Kind::Textfile).then(|| Network::from(policy));
        let certificate = ReportCertificate::Never;
        Some(Self { address: address.clone()?, token: token.clone(), certificate, network })
    }

    /// The receiver of reports that policy names.
    pub(crate) fn of_reports(policy: &Policy) -> Option<Self> {
        Some(Self {
            address: policy.report_url.clone()?,
            token: policy.report_enrollment_token.clone(),
            certificate: policy.report_certificate,
            network: Some(Network::from(policy)),
        })
    }

    /// Without a token, by a direct way.
    pub(crate) fn plain(address: &str) -> Self {
        let certificate = ReportCertificate::Never;
        Self { address: address.to_owned(), token: None, certificate, network: None }
    }
}

/// What came of an attempt of a sink that keeps no queue: it tells how the device is, and what it could not tell the next attempt tells.
pub(crate) struct SinkOutcome {
    pub(crate) problem: Option<Problem>,
    /// It failed, and may work soon.
    pub(crate) retry: bool,
    /// How long the other side wants to be left alone, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// How often the other side wants to hear from this device, in seconds.
    pub(crate) interval: Option<u64>,
    /// What protects the device, if that was looked at.
    pub(crate) protections: Vec<Protection>,
    /// What collectors of logs know now.
    pub(crate) told: Option<otlp::Told>,
    /// What an OpAMP server knows now, and the connection to it.
    pub(crate) client: Option<opamp::Client>,
    pub(crate) finished_at: Timestamp,
}

impl SinkOutcome {
    /// There was nothing to do.
    pub(crate) fn nothing() -> Self {
        Self {
            problem: None,
            retry: false,
            retry_after: None,
            interval: None,
            protections: Vec::new(),
            told: None,
            client: None,
            finished_at: clock::now(),
        }
    }
}

/// An address as others may see it: a query can hold a key.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// The body of a request. `gzip`: the other side takes what is compressed (RFC 1952).
fn payload(kind: &'static str, bytes: Vec<u8>, gzip: bool) -> Payload {
    let gzip = gzip && bytes.len() >= WORTH_COMPRESSING;
    let bytes = if gzip { compressed(&bytes) } else { bytes };
    Payload { kind, gzip, header: None, bytes }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Memory takes everything.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory takes everything")
}
