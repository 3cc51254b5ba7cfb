//! A health report, as a receiver gets it and as the queue on disk keeps it. Made by the machine service and by
//! `steward report`. Part of the published JSON Schema.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy_schema::{Code, Extra, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::diagnosis::ReportedDiagnosis;
use crate::health::{ComponentHealth, ComponentName};
use crate::session::SessionStatus;
use crate::status::Status;
use crate::update::HistoryEntry;

/// A health report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this format.
    pub format: u32,
    /// A random identifier of this installation.
    pub device_id: String,
    /// The identifier of the device that this one is a copy of: it has that device's files on another machine, so it took an
    /// identifier of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloned_from: Option<String>,
    /// Changes with every start of the operating system.
    pub boot_id: Option<String>,
    /// Changes when the sequence starts again, as it does with every start of the operating system: a device that was set back to an
    /// earlier state does not repeat numbers that its receiver has seen.
    pub epoch: String,
    /// Counts the reports of an epoch. A receiver ignores a report that it has already received.
    pub sequence: u64,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// A hash of what matters in this report ([`Report::essence`]), in hexadecimal. Equal hashes say the same about the device.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The agent sends the next report before this time. Without it, the device is offline.
    pub next_report_by: Timestamp,
    /// The status of the machine service.
    pub status: Status,
    /// The session of each user whose broker responded.
    pub sign_in: Vec<SessionStatus>,
    /// The causes of all problems, as far as they are known without a request.
    #[serde(default)]
    pub diagnoses: Vec<ReportedDiagnosis>,
    /// What happened in updates of the app, the newest last; at most 20 events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub update_history: Vec<HistoryEntry>,
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

    /// What matters in this report: what a dashboard would show differently. Times, counters and measurements that always move are
    /// not in it, nor are sentences, nor whether reports arrive: that changes with each one. The base of `digest`.
    #[must_use]
    pub fn essence(&self) -> impl Serialize {
        fn parts(part: &ComponentHealth) -> Vec<Value> {
            let inner =
                part.components.iter().filter(|part| part.name != ComponentName::Report).flat_map(parts);
            let own = json!([part.name, part.instance, part.state, part.code]);
            std::iter::once(own).chain(inner).collect()
        }
        let problem = |problem: &Problem| json!([problem.code, problem.severity, problem.key, problem.place]);
        let session = |one: &SessionStatus| json!([one.state, one.account, one.kept, one.lasting]);
        let (app, update) = (&self.status.app, &self.status.update);
        let system = self.posture.as_ref().map(|posture| {
            json!([
                posture.operating_system,
                posture.operating_system_build,
                posture.kernel,
                posture.architecture
            ])
        });
        json!({
            "device": [self.format, self.boot_id, self.cloned_from, self.status.agent_version],
            "policy": self.status.policy.hash,
            "health": parts(&self.health),
            "problems": self.problems().filter(|one| one.code != Code::ReportUndelivered).map(problem).collect::<Vec<_>>(),
            "diagnoses": self.diagnoses.iter().map(|one| &one.id).collect::<Vec<_>>(),
            "sessions": self.sign_in.iter().map(session).collect::<Vec<_>>(),
            "app": [json!(app.name), json!(app.installed), json!(app.repaired), json!(app.configuration)],
            "update": [json!(update.mode), json!(update.offered), json!(update.quarantined), json!(update.hold),
                json!(update.progress.as_ref().map(|progress| &progress.stage))],
            "history": self.update_history.last(),
            "system": system,
        })
    }

    /// The heartbeat that says as much as this report, to whoever has one with the same `digest`.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            format: self.format,
            device_id: self.device_id.clone(),
            epoch: self.epoch.clone(),
            sequence: self.sequence,
            sent_at: self.sent_at,
            next_report_by: self.next_report_by,
            digest: self.digest.clone(),
            extra: Extra::default(),
        }
    }

    /// How many problems there are, including those of the machine service that are not listed.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        let of_sessions: usize = self.sign_in.iter().map(|session| session.problems.len()).sum();
        self.status.problem_count.max(self.status.problems.len()) + of_sessions
    }
}

/// What a device sends in place of a report that would say the same as the last that its receiver has, if that receiver takes
/// heartbeats ([`Receipt`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The version of this format.
    pub format: u32,
    /// As in a report.
    pub device_id: String,
    /// As in a report.
    pub epoch: String,
    /// As in a report: heartbeats and reports are counted together.
    pub sequence: u64,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// The agent sends the next report or heartbeat before this time.
    pub next_report_by: Timestamp,
    /// The `digest` of the report that is still true.
    pub digest: String,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a receiver may say about a report or a heartbeat that it has: the body of its response, in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The number of the report or the heartbeat.
    pub sequence: Option<u64>,
    /// Whether it takes heartbeats in place of reports that say the same as the one before.
    #[serde(default)]
    pub heartbeats: bool,
    /// It does not have the report that the heartbeat speaks of, and wants a whole one now.
    #[serde(default)]
    pub resend: bool,
}

/// What `steward report --show` shows: the next report as it would be sent now, to whom, when, and what it leaves out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Preview {
    /// Who gets reports; nobody, if it is empty.
    pub destinations: Vec<Destination>,
    /// What is not in the report, and why.
    pub left_out: Vec<LeftOut>,
    /// The report as it would be sent now. Its number, its times and the receiver's copy change when it is sent.
    pub report: Report,
}

/// Who gets reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// The setting that says so.
    pub setting: String,
    /// The address without a query, or the path of the file.
    pub url: String,
    /// In which form: `report`, `metrics and logs (OTLP)`, `metrics (Prometheus)`.
    pub form: String,
    /// Whether a token goes with it.
    pub token: bool,
    /// Whether it goes with the certificate of this device, over mutual TLS.
    #[serde(default)]
    pub certificate: bool,
    /// When the next one is due; `null` while one is sent.
    pub next: Option<Timestamp>,
    /// How often, in seconds, while nothing changes.
    pub interval: u64,
    /// Whether a heartbeat would be sent in place of the report, because the receiver has one that says the same.
    pub heartbeat: bool,
    /// Reports that wait on disk for it.
    pub queued: usize,
}

/// What a report leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why: the setting, or that it is never sent.
    pub why: String,
}

/// Facts about the device, without names of users or hosts. A fact that the system does not provide is `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Posture {
    /// Name and version of the operating system.
    pub operating_system: Option<String>,
    /// The number of its build, as its maker counts: `22631.4317`, `24A335`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_system_build: Option<String>,
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
    /// Why a fact is `null`, by the name of its field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, String>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A report with this status, for tests.
#[cfg(any(test, feature = "samples"))]
#[must_use]
pub fn sample_report(status: Status, sequence: u64) -> Report {
    let at = Timestamp::UNIX_EPOCH;
    let mut health = crate::health::assess(Some(&status), true, crate::health::Brokers::default(), at);
    health.components.push(crate::health::left_out(at));
    Report {
        format: crate::FORMAT,
        device_id: "d".to_owned(),
        cloned_from: None,
        boot_id: None,
        epoch: "e".to_owned(),
        sequence,
        sent_at: at,
        digest: String::new(),
        next_report_by: at,
        health,
        status,
        sign_in: Vec::new(),
        diagnoses: Vec::new(),
        update_history: Vec::new(),
        posture: None,
        extra: Extra::default(),
    }
}
