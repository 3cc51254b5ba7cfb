//! The lab's report receiver.

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::post;
use flate2::read::GzDecoder;
use protocol::report::{Heartbeat, Receipt, Report};
use serde_json::Value;

use crate::wait::until;

/// A running receiver.
pub struct Receiver {
    base: String,
    shared: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    reports: Vec<Value>,
    heartbeats: Vec<Heartbeat>,
    /// It takes heartbeats.
    takes_heartbeats: bool,
    /// It takes bodies that are compressed; how many came so.
    takes_gzip: bool,
    compressed: usize,
    /// It wants the report in place of the next heartbeat.
    resend: bool,
    tokens: Vec<Option<String>>,
    refuse_with: Option<u16>,
    stall: Duration,
    refused: usize,
    /// What it says of a report that it took.
    response: Response,
    /// The number of a report that makes it fail.
    poison: Option<u64>,
}

/// What a receiver, or whatever stands in its place, says of a report that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Response {
    /// 204.
    #[default]
    NoContent,
    /// 200 and the number of the report.
    Sequence,
    /// 200 and a page, as a captive portal responds. Such a one takes nothing.
    Page,
}

impl Receiver {
    /// Starts a receiver on a free port.
    pub async fn start() -> Self {
        let shared = Arc::<Mutex<Inner>>::default();
        let routes = Router::new().route("/v1/reports", post(receive)).with_state(Arc::clone(&shared));
        Self { base: format!("http://{}", crate::serve(routes).await), shared }
    }

    /// Where reports go.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/v1/reports", self.base)
    }

    /// Refuses everything with a status from now on, or accepts it again.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn refuse_with(&self, status: Option<u16>) {
        self.shared.lock().expect("no task panics").refuse_with = status;
    }

    /// Responds like this to a report that it took, from now on.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn respond_with(&self, response: Response) {
        self.shared.lock().expect("no task panics").response = response;
    }

    /// Takes heartbeats and compressed bodies from now on, as the responses to reports say.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn offer_heartbeats_and_gzip(&self) {
        let mut inner = self.shared.lock().expect("no task panics");
        (inner.takes_heartbeats, inner.takes_gzip, inner.response) = (true, true, Response::Sequence);
    }

    /// Takes no heartbeats any more, as a receiver of before.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn withdraw_heartbeats(&self) {
        self.shared.lock().expect("no task panics").takes_heartbeats = false;
    }

    /// Wants the report in place of the next heartbeat.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn ask_for_report(&self) {
        self.shared.lock().expect("no task panics").resend = true;
    }

    /// Takes no compressed bodies any more.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn refuse_gzip(&self) {
        self.shared.lock().expect("no task panics").takes_gzip = false;
    }

    /// The heartbeats that have arrived.
    ///
    /// # Panics
    /// A server task has panicked.
    #[must_use]
    pub fn heartbeats(&self) -> Vec<Heartbeat> {
        self.shared.lock().expect("no task panics").heartbeats.clone()
    }

    /// How many bodies came compressed.
    ///
    /// # Panics
    /// A server task has panicked.
    #[must_use]
    pub fn compressed(&self) -> usize {
        self.shared.lock().expect("no task panics").compressed
    }

    /// Fails at the report of this number, from now on.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn fail_at(&self, sequence: u64) {
        self.shared.lock().expect("no task panics").poison = Some(sequence);
    }

    /// Waits this long before it responds to a report, from now on.
    ///
    /// # Panics
    /// A server task has panicked.
    pub fn stall(&self, stall: Duration) {
        self.shared.lock().expect("no task panics").stall = stall;
    }

    /// How many reports were refused.
    ///
    /// # Panics
    /// A server task has panicked.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.shared.lock().expect("no task panics").refused
    }

    /// The reports that have arrived.
    ///
    /// # Panics
    /// One of them is not as this version of the protocol says, or a server task has panicked.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let read = |report: Value| serde_json::from_value(report).expect("it is a report");
        self.raw_reports().into_iter().map(read).collect()
    }

    /// The reports that have arrived, as they came.
    ///
    /// # Panics
    /// A server task has panicked.
    #[must_use]
    pub fn raw_reports(&self) -> Vec<Value> {
        self.shared.lock().expect("no task panics").reports.clone()
    }

    /// The bearer tokens of what has arrived.
    ///
    /// # Panics
    /// A server task has panicked.
    #[must_use]
    pub fn tokens(&self) -> Vec<Option<String>> {
        self.shared.lock().expect("no task panics").tokens.clone()
    }

    /// Waits for a report that meets a condition.
    pub async fn report_where(&self, what: &str, condition: impl Fn(&Report) -> bool) -> Report {
        until(what, async || {
            let reports = self.reports();
            reports.iter().rev().find(|report| condition(report)).cloned().ok_or(reports.last().cloned())
        })
        .await
    }
}

async fn receive(
    State(shared): State<Arc<Mutex<Inner>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, String) {
    let mut response_headers = HeaderMap::new();
    let is_compressed = headers.get("content-encoding").is_some_and(|coding| coding == "gzip");
    let mut plain = Vec::new();
    if is_compressed {
        GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("it is gzip");
    } else {
        plain = body.to_vec();
    }
    let report: Value = serde_json::from_slice(&plain).expect("it is JSON");
    let stall = shared.lock().expect("no task panics").stall;
    tokio::time::sleep(stall).await;
    let mut inner = shared.lock().expect("no task panics");
    if inner.takes_gzip {
        response_headers.insert("accept-encoding", HeaderValue::from_static("zstd, gzip"));
    } else if is_compressed {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, response_headers, String::new());
    }
    inner.compressed += usize::from(is_compressed);
    if let Some(status) = inner.refuse_with {
        inner.refused += 1;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return (status, response_headers, String::new());
    }
    let sequence = report["sequence"].as_u64();
    if inner.poison.is_some() && inner.poison == sequence {
        inner.refused += 1;
        return (StatusCode::INTERNAL_SERVER_ERROR, response_headers, String::new());
    }
    if inner.response == Response::Page {
        inner.refused += 1;
        return (StatusCode::OK, response_headers, "<h1>Welcome to the hotel</h1>".to_owned());
    }
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    inner.tokens.push(token.map(ToOwned::to_owned));
    let is_heartbeat = report.get("health").is_none();
    if is_heartbeat {
        inner.heartbeats.push(serde_json::from_value(report).expect("it is a heartbeat"));
    } else {
        inner.reports.push(report);
    }
    let resend = is_heartbeat && std::mem::take(&mut inner.resend);
    let receipt = Receipt { sequence, heartbeats: inner.takes_heartbeats, resend };
    match inner.response {
        Response::Sequence => {
            (StatusCode::OK, response_headers, serde_json::to_string(&receipt).expect("it is JSON"))
        }
        Response::NoContent | Response::Page => (StatusCode::NO_CONTENT, response_headers, String::new()),
    }
}
