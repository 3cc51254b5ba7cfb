//! Sends reports as JSON to `ReportUrl`: oldest first, Retry-After obeyed. To a receiver that takes heartbeats, a report that says
//! the same as the last goes as one. When to try again is decided by [`crate::service`].

use std::path::PathBuf;

use jiff::Timestamp;
use net::chain;
use net::http::Http;
use platform::{clock, file};
use policy_schema::{Code, Problem, without_query};
use protocol::health::Protection;
use protocol::report::{Receipt, Report};
use serde::Serialize;

use super::LONGEST_RETRY_AFTER;
use crate::health::queue::Queue;
use crate::health::report::{self, ReportInputs};
use crate::state;

pub(crate) use receiver::{Known, Receiver};

use receiver::Undelivered;

mod receiver;

/// How often a report may fail while others are taken.
const ATTEMPTS: u32 = 3;

/// What came of a delivery. The queue comes back with it.
pub(crate) struct DeliveryReport {
    pub(crate) queue: Queue,
    /// What the receiver said of itself so far.
    pub(crate) known: Known,
    /// What protects the device, if that was looked at.
    pub(crate) protections: Vec<Protection>,
    pub(crate) problems: Vec<Problem>,
    /// Whether the receiver has taken a report.
    pub(crate) delivered: bool,
    /// Whether a report that was due could not be made.
    pub(crate) not_made: bool,
    /// How long the receiver wants to be left alone, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// Until when the certificate for reports is valid.
    pub(crate) certificate_until: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

/// Makes a report, if there is anything to tell, puts it on disk, and sends what waits there.
pub(crate) async fn deliver(
    mut receiver: Receiver,
    queue: Queue,
    inputs: Option<ReportInputs>,
    private: PathBuf,
) -> DeliveryReport {
    let mut delivery = DeliveryReport {
        queue,
        known: Known::default(),
        protections: Vec::new(),
        problems: Vec::new(),
        delivered: false,
        not_made: false,
        retry_after: None,
        certificate_until: None,
        finished_at: clock::now(),
    };
    let made = match inputs {
        Some(inputs) => make(&mut delivery, &receiver, &inputs).await,
        None => Made::Nothing,
    };
    let prepared = receiver.prepare(&delivery.queue.identity().device_id, &private).await;
    delivery.certificate_until = prepared.until;
    delivery.problems.extend(prepared.problem);
    match Http::new(&receiver.network) {
        Ok(http) => match made {
            Made::Heartbeat(report) => send_heartbeat(&http, &mut receiver, &mut delivery, *report).await,
            Made::Nothing => drop(send(&http, &mut receiver, &mut delivery).await),
            // What is sent of the queue makes room on a full disk.
            Made::InMemory(report) => {
                if send(&http, &mut receiver, &mut delivery).await {
                    send_from_memory(&http, &mut receiver, &mut delivery, *report).await;
                }
            }
        },
        Err(error) => {
            delivery.not_made |= matches!(made, Made::Heartbeat(_));
            delivery.problems.push(undelivered(&receiver, &chain(&error)));
        }
    }
    if receiver.refused.is_some() {
        delivery.certificate_until = None;
    }
    delivery.problems.extend(receiver.refused);
    delivery.known = receiver.known;
    delivery.finished_at = clock::now();
    delivery
}

/// What was made.
enum Made {
    /// Nothing new, or a report that is in the queue now.
    Nothing,
    /// A report for which there is no room on disk.
    InMemory(Box<Report>),
    /// A report that says the same as the one that the receiver has.
    Heartbeat(Box<Report>),
}

/// Makes a report and puts it on disk, unless the receiver has one that says the same. One that cannot be put there is given back, to
/// be sent from memory: the receiver must hear of a full disk.
async fn make(delivery: &mut DeliveryReport, receiver: &Receiver, inputs: &ReportInputs) -> Made {
    let queue = &mut delivery.queue;
    // Without a durable number two reports could share one.
    let counted = queue.next_sequence();
    let Err(error) = counted else {
        let (report, protections) = report::make(inputs, queue.identity()).await;
        delivery.protections = protections;
        if receiver.known.has(&report.digest, report.sent_at) && queue.waiting().is_empty() {
            return Made::Heartbeat(Box::new(report));
        }
        return match queue.add(&report) {
            Ok(problem) => {
                delivery.problems.extend(problem);
                Made::Nothing
            }
            Err(error) => Made::InMemory(Box::new(from_memory(delivery, report, &error))),
        };
    };
    let Some(identity) = queue.identity_in_memory() else {
        delivery.not_made = true;
        delivery
            .problems
            .push(Problem::new(Code::AgentStateUnwritable, format!("no report was made: {error}")));
        return Made::Nothing;
    };
    let (report, protections) = report::make(inputs, &identity).await;
    delivery.protections = protections;
    Made::InMemory(Box::new(from_memory(delivery, report, &error)))
}

/// A report that says of itself that it could not be kept.
fn from_memory(delivery: &mut DeliveryReport, mut report: Report, error: &std::io::Error) -> Report {
    let message = format!("the report could not be kept on disk: {error}");
    let problem = Problem::new(Code::AgentStateUnwritable, message).using("memory: it is sent from there");
    report.status.problem_count += 1;
    report.status.problems.push(problem.clone());
    report::seal(&mut report);
    delivery.problems.push(problem);
    // Until it is delivered, the next attempt makes a new one.
    delivery.not_made = true;
    report
}

async fn send_from_memory(
    http: &Http,
    receiver: &mut Receiver,
    delivery: &mut DeliveryReport,
    report: Report,
) {
    match post_report(http, receiver, report).await {
        Verdict::Accepted(_) => {
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

/// Sends a heartbeat. If the receiver wants the report after all, it gets that.
async fn send_heartbeat(
    http: &Http,
    receiver: &mut Receiver,
    delivery: &mut DeliveryReport,
    mut report: Report,
) {
    stamp(&mut report, receiver);
    match post(http, receiver, report.sequence, &report.heartbeat()).await {
        Verdict::Accepted(Receipt { resend: false, heartbeats, .. }) => {
            delivery.delivered = true;
            // Whoever does not say so again may be another receiver by now, or an older version.
            if !heartbeats {
                receiver.known.has = None;
            }
        }
        Verdict::Accepted(_) | Verdict::Refused(_) => {
            receiver.known.has = None;
            // It has seen the number of the heartbeat.
            let counted = delivery.queue.next_sequence();
            report.sequence = delivery.queue.identity().sequence;
            match counted.and_then(|()| delivery.queue.add(&report)) {
                Ok(problem) => {
                    delivery.problems.extend(problem);
                    send(http, receiver, delivery).await;
                }
                Err(error) => {
                    delivery.not_made = true;
                    let message = format!("no report was made: {error}");
                    delivery.problems.push(Problem::new(Code::AgentStateUnwritable, message));
                }
            }
        }
        // The next attempt tells how the device is then, in a report: it may be heartbeats that the receiver cannot take.
        Verdict::Failed(problem) => {
            receiver.known.has = None;
            delivery.not_made = true;
            delivery.problems.push(problem.using("nothing: the next report says it"));
        }
        Verdict::Later(problem, pause) => {
            delivery.not_made = true;
            delivery.problems.push(problem.using("nothing: the next report says it"));
            delivery.retry_after = pause;
        }
    }
}

/// Sends what waits, until it is empty or the receiver cannot be used now. Whether it can.
async fn send(http: &Http, receiver: &mut Receiver, delivery: &mut DeliveryReport) -> bool {
    let mut failed = Vec::new();
    for path in delivery.queue.waiting() {
        let report = match Queue::load(&path) {
            Ok(Some(report)) => report,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                delivery.problems.push(state::unreadable("a report that waits", &error));
                // One that cannot be read where it is would wait for ever. One that is damaged was put aside already.
                if path.exists() {
                    let aside = delivery.queue.put_aside(&path);
                    drop(aside.inspect_err(|error| tracing::warn!("it could not be put aside: {error}")));
                }
                continue;
            }
        };
        match post_report(http, receiver, report).await {
            Verdict::Accepted(_) => delivery.delivered = true,
            // It stays on this device, for whoever wants to know what is wrong with it.
            Verdict::Refused(refusal) => {
                delivery.problems.push(match delivery.queue.put_aside(&path) {
                    Ok(aside) => refusal.using(format!("nothing: it was put aside as {}", aside.display())),
                    Err(error) => undelivered(receiver, &error.to_string()),
                });
                continue;
            }
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
    /// The receiver has it, and says this.
    Accepted(Receipt),
    /// The receiver will never take it: it is put aside, and said so.
    Refused(Problem),
    /// The receiver failed, perhaps only with this report.
    Failed(Problem),
    /// Not now.
    Later(Problem, Option<u64>),
}

/// The times at which a report is sent, and promises the next.
fn stamp(report: &mut Report, receiver: &Receiver) {
    report.sent_at = clock::now();
    report.next_report_by = clock::after(report.sent_at, receiver.interval * 2);
}

async fn post_report(http: &Http, receiver: &mut Receiver, mut report: Report) -> Verdict {
    stamp(&mut report, receiver);
    let verdict = post(http, receiver, report.sequence, &report).await;
    if let Verdict::Accepted(receipt) = &verdict {
        receiver.known.has = receipt.heartbeats.then_some((report.digest, report.sent_at));
    }
    verdict
}

async fn post(http: &Http, receiver: &mut Receiver, sequence: u64, body: &impl Serialize) -> Verdict {
    let json = match serde_json::to_vec(body) {
        Ok(json) => json,
        Err(error) => return Verdict::Refused(undelivered(receiver, &error.to_string())),
    };
    let response = match receiver.post(http, &json).await {
        Ok(response) => response,
        Err(Undelivered { reason, only_this: true }) => {
            return Verdict::Failed(undelivered(receiver, &reason));
        }
        Err(Undelivered { reason, only_this: false }) => {
            return Verdict::Later(undelivered(receiver, &reason), None);
        }
    };
    // What it took before it may not take any more, and then says so (RFC 9110, section 15.5.16).
    if response.status == 415 && receiver.known.gzip {
        receiver.known.gzip = false;
        return Box::pin(post(http, receiver, sequence, body)).await;
    }
    receiver.known.gzip |= response.takes_gzip;
    match response.status {
        // 409: it has it already, because its response got lost.
        409 => Verdict::Accepted(Receipt::default()),
        status @ 200..=299 => {
            if let Some(receipt) = receiver.receipt(&response, sequence) {
                return Verdict::Accepted(receipt);
            }
            let reason =
                format!("the response is not a receiver's: status {status}, without the report's sequence");
            let hint = "let the receiver respond with 202 or 204, or with {\"sequence\": ...}; or set `ReportAcknowledgement` to \
                        `any-success`. A captive portal responds like this too";
            Verdict::Later(undelivered(receiver, &reason).hint(hint.to_owned()), None)
        }
        status @ (400 | 413 | 422) => Verdict::Refused(
            rejected(receiver, status).using("nothing: the next report says how the device is"),
        ),
        status @ (401 | 403 | 404 | 405 | 410) => {
            Verdict::Later(rejected(receiver, status).using("the queue on disk"), None)
        }
        // A token goes nowhere but where policy says.
        300..=399 => {
            let to = response.location.as_deref().map(without_query).unwrap_or_default();
            let reason = format!("the receiver redirects to `{to}`, which is not followed");
            let hint = "set `ReportUrl` to the address where reports go".to_owned();
            Verdict::Later(undelivered(receiver, &reason).hint(hint), None)
        }
        status => {
            let problem = undelivered(receiver, &format!("the receiver responded with status {status}"));
            let pause = response.retry_after.map(|seconds| seconds.min(LONGEST_RETRY_AFTER));
            // What it says of itself, and what stands between, is about all reports.
            if pause.is_some() || matches!(status, 429 | 502..=504) {
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
