//! Sends metrics and logs to an OpenTelemetry collector: OTLP over HTTP (OpenTelemetry Protocol 1.x). In: where, and what a report is
//! made of. Out: what came of it. Metrics say how the device is; a problem is a log record once when it begins and once when it ends.

use net::chain;
use net::http::{Http, Network};
use policy_schema::{Code, Policy, Problem, Secret};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{LONGEST_RETRY_AFTER, SinkOutcome, payload, shown};
use crate::health::encode::otlp;
use crate::health::identity::Identity;
use crate::health::report::{self, ReportInputs};

/// Only this many bytes of a response are read.
const MAXIMUM_RESPONSE: usize = 64 * 1024;

/// What a collector has been told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// The problems that have not ended.
    problems: Vec<Problem>,
    /// What is so, as its metrics say.
    so: Option<String>,
}

/// A collector.
pub(crate) struct Collector {
    base: Url,
    token: Option<Secret>,
    network: Network,
}

/// Why a collector does not have it.
enum Failure {
    /// It may take it soon.
    Passing { reason: String, retry_after: Option<u64> },
    /// It will not take this.
    Lasting(String),
}

impl Collector {
    /// The collector that policy names.
    pub(crate) fn of(policy: &Policy) -> Option<Self> {
        Some(Self {
            base: policy.otlp_url.as_ref()?.parse().ok()?,
            token: policy.otlp_token.clone(),
            network: Network::from(policy),
        })
    }

    pub(crate) fn shown(&self) -> String {
        shown(&self.base)
    }

    fn undelivered(&self, reason: &str) -> Problem {
        Problem::new(Code::ReportUndelivered, reason)
            .key("OtlpUrl")
            .at(self.shown())
            .using("nothing: the next metrics say it")
    }
}

/// Makes a report, and sends its metrics, and the problems that began or ended since `told`.
pub(crate) async fn send(
    collector: Collector,
    inputs: ReportInputs,
    identity: Identity,
    told: Told,
) -> SinkOutcome {
    let (report, protections) = report::make(&inputs, &identity).await;
    let mut now: Vec<&Problem> = report.problems().collect();
    // What this sink itself could not do would begin with each failure and end with each success.
    now.retain(|problem| problem.code != Code::ReportUndelivered);
    // Its sentence may change while it goes on.
    let same = |one: &Problem, other: &Problem| {
        (&one.code, &one.key, &one.place) == (&other.code, &other.key, &other.place)
    };
    let began: Vec<&Problem> = now
        .iter()
        .filter(|problem| !told.problems.iter().any(|known| same(known, problem)))
        .copied()
        .collect();
    let ended: Vec<Problem> = told
        .problems
        .iter()
        .filter(|known| !now.iter().any(|problem| same(known, problem)))
        .cloned()
        .collect();
    let is_news = !began.is_empty() || !ended.is_empty();
    let (body, so) = otlp::metrics(&report, told.so.as_deref());
    let (metrics, logs) = match Http::new(&collector.network) {
        Ok(http) => {
            let metrics = post(&http, &collector, "v1/metrics", body).await;
            // A collector may take logs only.
            let logs = match &metrics {
                Ok(()) | Err(Failure::Lasting(_)) if is_news => {
                    let body = otlp::logs(&report, &began, &ended);
                    Some(post(&http, &collector, "v1/logs", body).await)
                }
                Ok(()) | Err(_) => None,
            };
            (metrics, logs)
        }
        Err(error) => (Err(Failure::Passing { reason: chain(&error), retry_after: None }), None),
    };
    let problems = match &logs {
        Some(Ok(()) | Err(Failure::Lasting(_))) => now.into_iter().cloned().collect(),
        Some(Err(Failure::Passing { .. })) | None => told.problems,
    };
    let told = Told { problems, so: metrics.is_ok().then_some(so) };
    // What may work soon decides when to try again.
    let sent = match (metrics, logs) {
        (_, Some(Err(passing @ Failure::Passing { .. }))) => Err(passing),
        (metrics @ Err(_), _) => metrics,
        (Ok(()), logs) => logs.unwrap_or(Ok(())),
    };
    let (problem, retry, retry_after) = match sent {
        Ok(()) => (None, false, None),
        Err(Failure::Passing { reason, retry_after }) => {
            (Some(collector.undelivered(&reason)), true, retry_after)
        }
        Err(Failure::Lasting(reason)) => {
            let problem = Problem::new(Code::ReportRejected, reason).key("OtlpUrl").at(collector.shown());
            (Some(problem.hint("check `OtlpUrl`, and the log of the collector".to_owned())), false, None)
        }
    };
    SinkOutcome { problem, retry, retry_after, protections, told: Some(told), ..SinkOutcome::nothing() }
}

/// The address of a kind of data, which follows the address of policy (OpenTelemetry, "OTLP/HTTP Request").
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Posts one body. Only what the protocol names is tried again (OpenTelemetry, "OTLP/HTTP Response": 429, 502, 503, 504).
/// Every collector takes gzip (OpenTelemetry, "Protocol Details").
async fn post(http: &Http, collector: &Collector, path: &str, body: Vec<u8>) -> Result<(), Failure> {
    let url = below(&collector.base, path);
    let payload = payload("application/json", body, true);
    let token = collector.token.as_ref().map(Secret::expose);
    let response = http
        .post(&url, token, payload, MAXIMUM_RESPONSE)
        .await
        .map_err(|error| Failure::Passing { reason: chain(&error), retry_after: None })?;
    match response.status {
        200..=299 => accepted(&response.body),
        status @ (429 | 502..=504) => Err(Failure::Passing {
            reason: format!("the collector responded with status {status}"),
            retry_after: response.retry_after.map(|seconds| seconds.min(LONGEST_RETRY_AFTER)),
        }),
        status => {
            Err(Failure::Lasting(format!("the collector responded with status {status} at {}", url.path())))
        }
    }
}

/// Whether the response to a body that arrived is a collector's, and says that it took everything. A captive portal is successful as
/// well, but responds with a page.
fn accepted(body: &[u8]) -> Result<(), Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Partial {
        rejected_data_points: Value,
        rejected_log_records: Value,
        error_message: Option<String>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Response {
        partial_success: Option<Partial>,
    }
    if body.is_empty() {
        return Ok(());
    }
    let response = serde_json::from_slice::<Response>(body).map_err(|_| Failure::Passing {
        reason: "the response is not a collector's: it is no JSON".to_owned(),
        retry_after: None,
    })?;
    let Some(partial) = response.partial_success else { return Ok(()) };
    // Numbers of 64 bits are texts in JSON, but not from every collector.
    let count = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0);
    match count(&partial.rejected_data_points).saturating_add(count(&partial.rejected_log_records)) {
        0 => Ok(()),
        rejected => {
            let message = partial.error_message.unwrap_or_default();
            let message: String =
                message.chars().filter(|character| !character.is_control()).take(200).collect();
            Err(Failure::Lasting(format!("the collector did not take {rejected} of the values: {message}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_taken_in_full_in_part_or_is_no_collectors() {
        let kind = |body: &str| match accepted(body.as_bytes()) {
            Ok(()) => "taken",
            Err(Failure::Lasting(_)) => "in part",
            Err(Failure::Passing { .. }) => "no collector",
        };
        for (body, expected) in [
            ("", "taken"),
            ("{}", "taken"),
            (r#"{"partialSuccess":{}}"#, "taken"),
            (r#"{"partialSuccess":null}"#, "taken"),
            (r#"{"partialSuccess":{"errorMessage":"slow down"}}"#, "taken"),
            (r#"{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"no"}}"#, "in part"),
            (r#"{"partialSuccess":{"rejectedLogRecords":1,"errorMessage":null}}"#, "in part"),
            (
                r#"{"partialSuccess":{"rejectedDataPoints":"18446744073709551615","rejectedLogRecords":"1"}}"#,
                "in part",
            ),
            ("<h1>Welcome to the hotel</h1>", "no collector"),
        ] {
            assert_eq!(kind(body), expected, "{body}");
        }
    }

    #[test]
    fn addresses_follow_that_of_policy() {
        for (base, expected) in [
            ("https://otel.example.com:4318", "https://otel.example.com:4318/v1/metrics"),
            ("https://otel.example.com/ingest/", "https://otel.example.com/ingest/v1/metrics"),
            ("https://otel.example.com/a?key=1", "https://otel.example.com/a/v1/metrics?key=1"),
        ] {
            assert_eq!(below(&base.parse().unwrap(), "v1/metrics").as_str(), expected);
        }
    }
}
