//! What a body from a device says, or why it is refused. Pure.

use std::collections::BTreeMap;

use policy_schema::{Open, Severity};
use protocol::report::{Heartbeat, Report};
use serde::Deserialize as _;
use serde_json::Value;

use crate::clock::Moment;

/// The longest names of devices and epochs, in bytes.
const NAME: usize = 128;
/// The longest text that is kept for lists, in bytes.
const TEXT: usize = 200;
/// A device promises the next report within this time, in milliseconds; what it promises beyond that does not count.
const PROMISES: std::ops::RangeInclusive<i64> = 60_000..=8 * 24 * 3_600_000;
/// Of bodies.
const LEVEL: i32 = 3;
/// So many problems of a device are counted.
const PROBLEMS: usize = 200;

/// A report or a heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arrival {
    pub(crate) device: String,
    pub(crate) epoch: String,
    pub(crate) sequence: i64,
    /// By the clock of the device.
    pub(crate) sent_at: Moment,
    pub(crate) received_at: Moment,
    /// Until when the device sends the next one, by the clock of this server.
    pub(crate) promised_until: Moment,
    /// Equal digests say the same about the device.
    pub(crate) digest: String,
    /// What a report says; nothing in a heartbeat.
    pub(crate) facts: Option<Box<Facts>>,
}

/// What lists and counts need of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The state of the device.
    pub(crate) state: String,
    pub(crate) agent_version: String,
    /// The installed version of the app; empty if there is none.
    pub(crate) app_version: String,
    pub(crate) policy: String,
    pub(crate) system: String,
    /// By code, the worst severity of each.
    pub(crate) problems: BTreeMap<String, String>,
    /// The whole report, compressed with Zstandard.
    pub(crate) body: Vec<u8>,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the body is larger than 1 MiB")]
    TooLarge,
    #[error("the body did not arrive whole within 30 seconds")]
    Incomplete,
    #[error("the body is not compressed as its header says")]
    Compression,
    #[error("the media type is not application/json")]
    MediaType,
    #[error("the body is not JSON, or too deep")]
    Json,
    #[error("the body is neither a report nor a heartbeat of this format")]
    Report,
    #[error(
        "device_id or epoch is empty, longer than 128 bytes, or has other characters than letters, digits, `.`, `_` and `-`"
    )]
    Name,
    #[error("sequence is too large")]
    Sequence,
    #[error("the request comes from a web page")]
    WebPage,
}

/// Reads a body that has arrived at this time.
pub(crate) fn read(body: &[u8], received_at: Moment) -> Result<Arrival, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|_| Refusal::Json)?;
    if value.get("health").is_some() || value.get("status").is_some() {
        let report = Report::deserialize(&value).map_err(|_| Refusal::Report)?;
        let heartbeat = report.heartbeat();
        let facts = facts(&report, body).map_err(|_| Refusal::Report)?;
        return arrival(heartbeat, received_at, Some(Box::new(facts)));
    }
    arrival(Heartbeat::deserialize(&value).map_err(|_| Refusal::Report)?, received_at, None)
}

fn arrival(said: Heartbeat, received_at: Moment, facts: Option<Box<Facts>>) -> Result<Arrival, Refusal> {
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // `.` and `..` mean something else in addresses.
        (1..=NAME).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
    };
    if !is_name(&said.device_id)
        || !is_name(&said.epoch)
        || !(said.digest.is_empty() || is_name(&said.digest))
    {
        return Err(Refusal::Name);
    }
    let promise = said.next_report_by.as_millisecond().saturating_sub(said.sent_at.as_millisecond());
    Ok(Arrival {
        sequence: said.sequence.try_into().map_err(|_| Refusal::Sequence)?,
        device: said.device_id,
        epoch: said.epoch,
        sent_at: said.sent_at.as_millisecond(),
        received_at,
        promised_until: received_at.saturating_add(promise.clamp(*PROMISES.start(), *PROMISES.end())),
        digest: said.digest,
        facts,
    })
}

fn facts(report: &Report, body: &[u8]) -> std::io::Result<Facts> {
    let text = |text: &str| text.chars().filter(|one| !one.is_control()).take(TEXT).collect::<String>();
    let mut problems = BTreeMap::<String, Open<Severity>>::new();
    for problem in report.problems().take(PROBLEMS) {
        let worst = problems.entry(text(problem.code.as_str())).or_insert_with(|| problem.severity.clone());
        *worst = worst.clone().max(problem.severity.clone());
    }
    let system = report.posture.as_ref().and_then(|posture| posture.operating_system.as_deref());
    Ok(Facts {
        state: report.health.known_state().as_str().to_owned(),
        agent_version: text(&report.status.agent_version),
        app_version: text(report.status.app.installed.as_deref().unwrap_or_default()),
        policy: text(&report.status.policy.hash),
        system: text(system.unwrap_or_default()),
        problems: problems
            .into_iter()
            .map(|(code, severity)| (code, text(severity_in_words(&severity))))
            .collect(),
        // Now: it may have to wait.
        body: zstd::bulk::compress(body, LEVEL)?,
    })
}

/// A severity as printed, even if only a newer version knows it.
pub(crate) fn severity_in_words(severity: &Open<Severity>) -> &str {
    match severity {
        Open::Known(Severity::Note) => "note",
        Open::Known(Severity::Warning) => "warning",
        Open::Known(Severity::Error) => "error",
        Open::Unknown(name) => name,
    }
}
