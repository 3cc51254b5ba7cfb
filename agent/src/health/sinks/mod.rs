//! Where health goes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use net::http::Payload;
use platform::clock;
use policy_schema::Problem;
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
