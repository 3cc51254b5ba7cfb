//! The way to the receiver: oldest first, full jitter after a failure, Retry-After obeyed.

use jiff::Timestamp;
use policy_schema::{Code, Problem, Secret};
use url::Url;

use super::model::Report;
use super::queue::Queue;
use crate::clock;
use crate::http::{Http, Network, chain};

/// In seconds.
const FIRST_PAUSE: u64 = 5;
const LONGEST_PAUSE: u64 = 15 * 60;
const LONGEST_RETRY_AFTER: u64 = 24 * 60 * 60;

/// Where reports go.
pub(crate) struct Receiver {
    pub(crate) url: Url,
    pub(crate) token: Option<Secret>,
    pub(crate) network: Network,
    /// In seconds; the promise of the next report is twice this.
    pub(crate) interval: u64,
}

impl Receiver {
    /// The address as others may see it: a query can hold a key.
    fn place(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.to_string()
    }
}

/// What came of sending. The queue comes back with it.
pub(crate) struct Delivery {
    pub(crate) queue: Queue,
    pub(crate) problem: Option<Problem>,
    /// Whether the receiver has taken a report.
    pub(crate) delivered: bool,
    /// How long the receiver wants to be left alone, in seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) finished_at: Timestamp,
}

/// Sends what waits, until it is empty or something fails.
pub(crate) async fn send(receiver: Receiver, queue: Queue) -> Delivery {
    let mut problem = None;
    let mut retry_after = None;
    let mut delivered = false;
    match Http::new(&receiver.network) {
        Err(error) => problem = Some(undelivered(&receiver, &chain(&error))),
        Ok(http) => {
            for path in queue.waiting() {
                let Some(report) = Queue::read(&path) else { continue };
                match deliver(&http, &receiver, report).await {
                    Answer::Accepted => delivered = true,
                    Answer::Refused(refusal) => problem = Some(refusal),
                    Answer::Later(later, pause) => {
                        problem = Some(later);
                        retry_after = pause;
                        break;
                    }
                }
                if let Err(error) = agent_platform::file::remove(&path) {
                    problem = Some(undelivered(&receiver, &error.to_string()));
                    break;
                }
            }
        }
    }
    Delivery { queue, problem, delivered, retry_after, finished_at: clock::now() }
}

enum Answer {
    /// The receiver has it.
    Accepted,
    /// The receiver will never take it: it is dropped, and said so.
    Refused(Problem),
    /// Not now.
    Later(Problem, Option<u64>),
}

async fn deliver(http: &Http, receiver: &Receiver, mut report: Report) -> Answer {
    report.sent_at = clock::now();
    report.next_report_by = clock::after(report.sent_at, receiver.interval * 2);
    let json = match serde_json::to_vec(&report) {
        Ok(json) => json,
        Err(error) => return Answer::Refused(undelivered(receiver, &error.to_string())),
    };
    match http.post_json(&receiver.url, receiver.token.as_ref().map(Secret::expose), json).await {
        Err(error) => Answer::Later(undelivered(receiver, &chain(&error)), None),
        // 409: it has it already, because an answer of its got lost.
        Ok((200..=299 | 409, _)) => Answer::Accepted,
        Ok((status @ (400 | 413 | 422), _)) => {
            Answer::Refused(rejected(receiver, status).using("nothing: this report was dropped"))
        }
        Ok((status @ (401 | 403 | 404 | 405 | 410), _)) => {
            Answer::Later(rejected(receiver, status).using("the queue on disk"), None)
        }
        Ok((status, retry_after)) => {
            let pause = retry_after.map(|seconds| seconds.min(LONGEST_RETRY_AFTER));
            Answer::Later(undelivered(receiver, &format!("the receiver answered {status}")), pause)
        }
    }
}

/// The pause before the next try, in seconds: anything from nothing to a bound that doubles up to its cap ("full
/// jitter"), so that a fleet that lost its receiver does not come back at once.
pub(crate) fn pause(failures: u32, random: u64) -> u64 {
    let bound = FIRST_PAUSE.saturating_mul(1 << failures.min(20)).min(LONGEST_PAUSE);
    1 + random % bound
}

fn undelivered(receiver: &Receiver, reason: &str) -> Problem {
    Problem::new(Code::ReportUndelivered, reason).at(receiver.place()).using("the queue on disk")
}

fn rejected(receiver: &Receiver, status: u16) -> Problem {
    Problem::new(Code::ReportRejected, format!("the receiver answered {status}"))
        .at(receiver.place())
        .hint("check `ReportUrl` and `ReportEnrollmentToken`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_cap_and_use_the_whole_range() {
        for failures in [0, 3, 30, u32::MAX] {
            let pauses: Vec<u64> = (0..20_000).map(|random| pause(failures, random)).collect();
            let bound = (FIRST_PAUSE << failures.min(20)).min(LONGEST_PAUSE);
            assert_eq!((pauses.iter().min(), pauses.iter().max()), (Some(&1), Some(&bound)));
        }
    }
}
