//! A health report, as a receiver gets it and as the queue on disk keeps it. Made by the machine service and by
//! `steward report`. Part of the published JSON Schema.

use jiff::Timestamp;
use policy_schema::{Extra, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnosis::ReportedDiagnosis;
use crate::health::ComponentHealth;
use crate::session::SessionStatus;
use crate::status::Status;

/// A health report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this format.
    pub format: u32,
    /// A random identifier of this installation.
    pub device_id: String,
    /// Changes with every start of the operating system.
    pub boot_id: Option<String>,
    /// Changes when the sequence starts again.
    pub epoch: String,
    /// Counts the reports of an epoch. A receiver ignores a report that it has already received.
    pub sequence: u64,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// The agent sends the next report before this time. Without it, the device is offline.
    pub next_report_by: Timestamp,
    /// The status of the machine service.
    pub status: Status,
    /// The session of each user whose broker responded.
    pub sign_in: Vec<SessionStatus>,
    /// The causes of all problems, as far as they are known without a request.
    #[serde(default)]
    pub diagnoses: Vec<ReportedDiagnosis>,
    /// Facts about the device, if policy allows it.
    pub posture: Option<Posture>,
    /// The health of the device.
    pub health: ComponentHealth,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Report {
    /// All problems: those of the machine service, and those of the sessions. Every format counts and names the same.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.status.problems.iter().chain(self.sign_in.iter().flat_map(|session| &session.problems))
    }

    /// How many problems there are, including those of the machine service that are not listed.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        let of_sessions: usize = self.sign_in.iter().map(|session| session.problems.len()).sum();
        self.status.problem_count.max(self.status.problems.len()) + of_sessions
    }
}

/// Facts about the device, without names of users or hosts. A fact that the system does not provide is `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Posture {
    /// Name and version of the operating system.
    pub operating_system: Option<String>,
    /// The kernel's version.
    pub kernel: Option<String>,
    /// The processor's architecture, such as `x86_64`.
    pub architecture: String,
    /// The time since the start of the operating system, in seconds.
    pub uptime: Option<u64>,
    /// The memory, in bytes.
    pub memory_total: Option<u64>,
    /// The memory that is available, in bytes.
    pub memory_available: Option<u64>,
    /// The size of the system disk, in bytes.
    pub disk_total: Option<u64>,
    /// The space that is available on the system disk, in bytes.
    pub disk_available: Option<u64>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A report with this status, for tests.
#[cfg(any(test, feature = "samples"))]
#[must_use]
pub fn sample_report(status: Status, sequence: u64) -> Report {
    let at = Timestamp::UNIX_EPOCH;
    Report {
        format: crate::FORMAT,
        device_id: "d".to_owned(),
        boot_id: None,
        epoch: "e".to_owned(),
        sequence,
        sent_at: at,
        next_report_by: at,
        health: crate::health::assess(Some(&status), true, crate::health::Brokers::default(), at),
        status,
        sign_in: Vec::new(),
        diagnoses: Vec::new(),
        posture: None,
        extra: Extra::default(),
    }
}
