//! Sends reports as JSON to `ReportUrl`: oldest first, Retry-After obeyed. When to try again is decided by
//! [`crate::service`].

use jiff::Timestamp;
use net::chain;
use net::http::{Fetched, Http, Network};
use platform::{clock, file};
use policy_schema::settings::ReportAcknowledgement;
use policy_schema::{Code, Policy, Problem, Secret};
use protocol::report::Report;
use serde_json::Value;
use url::Url;

use crate::health::queue::Queue;
use crate::health::report::{self, ReportInputs};
use crate::state;

/// The longest Retry-After that is obeyed, in seconds.
const LONGEST_RETRY_AFTER: u64 = 24 * 60 * 60;

/// Only this many bytes of a response are read.
const MAXIMUM_RESPONSE: usize = 64 * 1024;
/// How often a report may fail while others are taken.
const ATTEMPTS: u32 = 3;

/// Where reports go.
pub(crate) struct Receiver {
    url: Url,
    acknowledgement: ReportAcknowledgement,
    token: Option<Secret>,
    network: Network,
    /// In seconds; the promise of the next report is twice this.
    pub(crate) interval: u64,
}

impl Receiver {
    /// Where policy wants reports to go.
    pub(crate) fn of(policy: &Policy) -> Option<Self> {
        Some(Self {
            url: policy.report_url.as_ref()?.parse().ok()?,
            acknowledgement: policy.report_acknowledgement,
            token: policy.report_enrollment_token.clone(),
            network: Network::from(policy),
            interval: u64::from(policy.report_interval_minutes) * 60,
        })
    }

    /// Whether a successful response is the receiver's own. A captive portal is successful as well.
    fn acknowledges(&self, response: &Fetched, sequence: u64) -> bool {
        let repeats = || {
            let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            let found = &body["sequence"];
            found.as_u64() == Some(sequence) || found.as_str() == Some(&sequence.to_string())
        };
        match self.acknowledgement {
            ReportAcknowledgement::AnySuccess => true,
            ReportAcknowledgement::Receipt => matches!(response.status, 202 | 204) || repeats(),
        }
    }

    /// The address as others may see it: a query can hold a key.
    fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.to_string()
    }
}

/// What came of a delivery. The queue comes back with it.
pub(crate) struct DeliveryReport {
    pub(crate) queue: Queue,
    pub(crate) problems: Vec<Problem>,
    /// Whether the receiver has taken a report.
    pub(crate) delivered: bool,
    /// Whether a report that was due could not be made.
    pub(crate) not_made: bool,
    /// How long the receiver wants to be left alone, in seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) finished_at: Timestamp,
}

/// Makes a report, if there is anything to tell, puts it on disk, and sends what waits there.
pub(crate) async fn deliver(
    receiver: Receiver,
    queue: Queue,
    inputs: Option<ReportInputs>,
) -> DeliveryReport {
    let mut delivery = DeliveryReport {
        queue,
        problems: Vec::new(),
        delivered: false,
        not_made: false,
        retry_after: None,
        finished_at: clock::now(),
    };
    let from_memory = match inputs {
        Some(inputs) => make(&mut delivery, &inputs).await,
        None => None,
    };
    match Http::new(&receiver.network) {
        Ok(http) => {
            // What is sent of the queue makes room on a full disk.
            let may_go_on = send(&http, &receiver, &mut delivery).await;
            if let Some(report) = from_memory.filter(|_| may_go_on) {
                send_from_memory(&http, &receiver, &mut delivery, report).await;
            }
        }
        Err(error) => delivery.problems.push(undelivered(&receiver, &chain(&error))),
    }
    delivery.finished_at = clock::now();
    delivery
}

/// Makes a report and puts it on disk. One that cannot be put there is given back, to be sent from memory: the receiver must
/// hear of a full disk.
async fn make(delivery: &mut DeliveryReport, inputs: &ReportInputs) -> Option<Report> {
    let queue = &mut delivery.queue;
    // Without a durable number two reports could share one.
    let counted = queue.next_sequence();
    if counted.is_ok() {
        let report = report::make(inputs, queue.identity()).await;
        match queue.add(&report) {
            Ok(problem) => {
                delivery.problems.extend(problem);
                return None;
            }
            Err(error) => return Some(from_memory(delivery, report, &error)),
        }
    }
    let error = counted.err()?;
    let Some(identity) = queue.identity_in_memory() else {
        delivery.not_made = true;
        delivery
            .problems
            .push(Problem::new(Code::AgentStateUnwritable, format!("no report was made: {error}")));
        return None;
    };
    let report = report::make(inputs, &identity).await;
    Some(from_memory(delivery, report, &error))
}

/// A report that says of itself that it could not be kept.
fn from_memory(delivery: &mut DeliveryReport, mut report: Report, error: &std::io::Error) -> Report {
    let message = format!("the report could not be kept on disk: {error}");
    let problem = Problem::new(Code::AgentStateUnwritable, message).using("memory: it is sent from there");
    report.status.problem_count += 1;
    report.status.problems.push(problem.clone());
    delivery.problems.push(problem);
    // Until it is delivered, the next attempt makes a new one.
    delivery.not_made = true;
    report
}

async fn send_from_memory(http: &Http, receiver: &Receiver, delivery: &mut DeliveryReport, report: Report) {
    match post(http, receiver, report).await {
        Verdict::Accepted => {
            delivery.delivered = true;
            delivery.not_made = false;
        }
        Verdict::Refused(problem) | Verdict::Failed(problem) => delivery.problems.push(problem),
        Verdict::Later(problem, pause) => {
            delivery.problems.push(problem);
            delivery.retry_after = pause;
        }
    }
}

/// Sends what waits, until it is empty or the receiver cannot be used now. Whether it can.
async fn send(http: &Http, receiver: &Receiver, delivery: &mut DeliveryReport) -> bool {
    let mut failed = Vec::new();
    for path in delivery.queue.waiting() {
        let report = match Queue::load(&path) {
            Ok(Some(report)) => report,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                delivery.problems.push(state::unreadable("a report that waits", &error));
                continue;
            }
        };
        match post(http, receiver, report).await {
            Verdict::Accepted => delivery.delivered = true,
            Verdict::Refused(refusal) => delivery.problems.push(refusal),
            // The next one tells whether the receiver fails, or only with this report.
            Verdict::Failed(problem) => {
                failed.push((path, problem));
                if failed.len() > 1 && !delivery.delivered {
                    break;
                }
                continue;
            }
            Verdict::Later(later, pause) => {
                delivery.problems.push(later);
                delivery.retry_after = pause;
                return false;
            }
        }
        if let Err(error) = file::remove(&path) {
            delivery.problems.push(undelivered(receiver, &error.to_string()));
            return false;
        }
    }
    let may_go_on = failed.is_empty() || delivery.delivered;
    for (path, problem) in failed {
        // A receiver that takes others cannot take this one.
        if delivery.delivered && delivery.queue.failed_again(&path) >= ATTEMPTS {
            let message = format!("the receiver takes other reports, but not this one: {}", problem.message);
            let problem = match delivery.queue.put_aside(&path) {
                Ok(aside) => Problem::new(Code::ReportRejected, message)
                    .at(receiver.shown())
                    .using(format!("nothing: it was put aside as {}", aside.display())),
                Err(error) => undelivered(receiver, &error.to_string()),
            };
            delivery.problems.push(problem);
        } else {
            delivery.problems.push(problem);
        }
    }
    may_go_on
}

enum Verdict {
    /// The receiver has it.
    Accepted,
    /// The receiver will never take it: it is dropped, and said so.
    Refused(Problem),
    /// The receiver failed, perhaps only with this report.
    Failed(Problem),
    /// Not now.
    Later(Problem, Option<u64>),
}

async fn post(http: &Http, receiver: &Receiver, mut report: Report) -> Verdict {
    report.sent_at = clock::now();
    report.next_report_by = clock::after(report.sent_at, receiver.interval * 2);
    let json = match serde_json::to_vec(&report) {
        Ok(json) => json,
        Err(error) => return Verdict::Refused(undelivered(receiver, &error.to_string())),
    };
    let token = receiver.token.as_ref().map(Secret::expose);
    let response = match http.post_json(&receiver.url, token, json, MAXIMUM_RESPONSE).await {
        Ok(response) => response,
        Err(error) => return Verdict::Later(undelivered(receiver, &chain(&error)), None),
    };
    match response.status {
        // 409: it has it already, because its response got lost.
        409 => Verdict::Accepted,
        200..=299 if receiver.acknowledges(&response, report.sequence) => Verdict::Accepted,
        status @ 200..=299 => {
            let reason =
                format!("the response is not a receiver's: status {status}, without the report's sequence");
            let hint = "let the receiver respond with 202 or 204, or with {\"sequence\": ...}; or set `ReportAcknowledgement` to \
                        `any-success`. A captive portal responds like this too";
            Verdict::Later(undelivered(receiver, &reason).hint(hint.to_owned()), None)
        }
        status @ (400 | 413 | 422) => {
            Verdict::Refused(rejected(receiver, status).using("nothing: this report was dropped"))
        }
        status @ (401 | 403 | 404 | 405 | 410) => {
            Verdict::Later(rejected(receiver, status).using("the queue on disk"), None)
        }
        status => {
            let problem = undelivered(receiver, &format!("the receiver responded with status {status}"));
            let pause = response.retry_after.map(|seconds| seconds.min(LONGEST_RETRY_AFTER));
            // What it says of itself, and what stands between, is about all reports.
            if pause.is_some() || matches!(status, 300..=399 | 429 | 502..=504) {
                Verdict::Later(problem, pause)
            } else {
                Verdict::Failed(problem)
            }
        }
    }
}

fn undelivered(receiver: &Receiver, reason: &str) -> Problem {
    Problem::new(Code::ReportUndelivered, reason).at(receiver.shown()).using("the queue on disk")
}

fn rejected(receiver: &Receiver, status: u16) -> Problem {
    Problem::new(Code::ReportRejected, format!("the receiver responded with status {status}"))
        .at(receiver.shown())
        .hint("check `ReportUrl` and `ReportEnrollmentToken`".to_owned())
}
