//! Where health goes.

use jiff::Timestamp;
use platform::clock;
use policy_schema::Problem;
use protocol::health::Protection;

pub(crate) mod http;
pub(crate) mod otlp;
pub(crate) mod textfile;

/// The longest Retry-After that is obeyed, in seconds.
const LONGEST_RETRY_AFTER: u64 = 24 * 60 * 60;

/// A sink that keeps no queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ReportTextfile`.
    Textfile,
    /// `OtlpUrl`.
    Otlp,
}

/// What came of an attempt of a sink that keeps no queue: it tells how the device is, and what it could not tell the next attempt tells.
pub(crate) struct SinkOutcome {
    pub(crate) problem: Option<Problem>,
    /// It failed, and may work soon.
    pub(crate) retry: bool,
    /// How long the other side wants to be left alone, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// What protects the device, if that was looked at.
    pub(crate) protections: Vec<Protection>,
    /// What collectors of logs know now.
    pub(crate) told: Option<otlp::Told>,
    pub(crate) finished_at: Timestamp,
}

impl SinkOutcome {
    /// There was nothing to do.
    pub(crate) fn nothing() -> Self {
        Self {
            problem: None,
            retry: false,
            retry_after: None,
            protections: Vec::new(),
            told: None,
            finished_at: clock::now(),
        }
    }
}
