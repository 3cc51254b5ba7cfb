//! Sends reports as JSON to `ReportUrl`: oldest first, Retry-After obeyed. When to try again is decided by
//! [`crate::service`].

use jiff::Timestamp;
use net::chain;
use net::http::{Http, Network};
use platform::{clock, file};
use policy_schema::{Code, Policy, Problem, Secret};
use protocol::report::Report;
use url::Url;

use crate::health::queue::Queue;
use crate::health::report::{self, ReportInputs};
use crate::state;

/// The longest Retry-After that is obeyed, in seconds.
const LONGEST_RETRY_AFTER: u64 = 24 * 60 * 60;

/// Where reports go.
pub(crate) struct Receiver {
    url: Url,
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
            token: policy.report_enrollment_token.clone(),
            network: Network::from(policy),
            interval: u64::from(policy.report_interval_minutes) * 60,
        })
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
    mut queue: Queue,
    inputs: Option<ReportInputs>,
) -> DeliveryReport {
    let (mut problems, mut not_made) = (Vec::new(), false);
    if let Some(inputs) = inputs {
        // Without a durable number two reports could share one: then no new one is made.
        let kept = match queue.next_sequence() {
            Ok(()) => queue.add(&report::make(&inputs, queue.identity()).await),
            Err(error) => Err(error),
        };
        match kept {
            Ok(problem) => problems.extend(problem),
            Err(error) => {
                not_made = true;
                let message = format!("no report was made: {error}");
                problems.push(Problem::new(Code::AgentStateUnwritable, message));
            }
        }
    }
    let mut delivery = DeliveryReport {
        queue,
        problems,
        delivered: false,
        not_made,
        retry_after: None,
        finished_at: clock::now(),
    };
    // Also if no report could be made: on a full disk, what is sent makes room.
    send(&receiver, &mut delivery).await;
    delivery.finished_at = clock::now();
    delivery
}

/// Sends what waits, until it is empty or something fails.
async fn send(receiver: &Receiver, delivery: &mut DeliveryReport) {
    let http = match Http::new(&receiver.network) {
        Ok(http) => http,
        Err(error) => {
            delivery.problems.push(undelivered(receiver, &chain(&error)));
            return;
        }
    };
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
        match post(&http, receiver, report).await {
            Verdict::Accepted => delivery.delivered = true,
            Verdict::Refused(refusal) => delivery.problems.push(refusal),
            Verdict::Later(later, pause) => {
                delivery.problems.push(later);
                delivery.retry_after = pause;
                return;
            }
        }
        if let Err(error) = file::remove(&path) {
            delivery.problems.push(undelivered(receiver, &error.to_string()));
            return;
        }
    }
}

enum Verdict {
    /// The receiver has it.
    Accepted,
    /// The receiver will never take it: it is dropped, and said so.
    Refused(Problem),
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
    match http.post_json(&receiver.url, receiver.token.as_ref().map(Secret::expose), json).await {
        Err(error) => Verdict::Later(undelivered(receiver, &chain(&error)), None),
        // 409: it has it already, because its response got lost.
        Ok((200..=299 | 409, _)) => Verdict::Accepted,
        Ok((status @ (400 | 413 | 422), _)) => {
            Verdict::Refused(rejected(receiver, status).using("nothing: this report was dropped"))
        }
        Ok((status @ (401 | 403 | 404 | 405 | 410), _)) => {
            Verdict::Later(rejected(receiver, status).using("the queue on disk"), None)
        }
        Ok((status, retry_after)) => {
            let pause = retry_after.map(|seconds| seconds.min(LONGEST_RETRY_AFTER));
            Verdict::Later(
                undelivered(receiver, &format!("the receiver responded with status {status}")),
                pause,
            )
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
