//! Metrics and logs for a collector of OpenTelemetry, read with OpenTelemetry's own messages.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Route, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::post;
use e2e::device::Device;
use e2e::wait::until;
use policy_schema::Code;
use serde_json::{Value, json};

use super::external_provider::python;
use super::fixture::movable_clock;

/// A collector that keeps what it gets.
#[derive(Clone)]
struct Collector(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    bodies: Vec<(String, Bytes)>,
    refuse_with: Option<(u16, &'static str)>,
    /// It has no address for this kind of data.
    without: Option<&'static str>,
    attempts: usize,
    response: String,
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self(Arc::new(Mutex::new(Inner { response: "{}".to_owned(), ..Inner::default() })));
        let routes = Router::new().route("/v1/{kind}", post(receive)).with_state(collector.clone());
        let address = format!("http://{}", e2e::serve(routes).await);
        (collector, address)
    }

    fn bodies(&self, kind: &str) -> Vec<Bytes> {
        let inner = self.0.lock().unwrap();
        inner.bodies.iter().filter(|(of, _)| of == kind).map(|(_, body)| body.clone()).collect()
    }

    /// What OpenTelemetry's messages read in the last body, once something in it meets a condition.
    async fn last_where(&self, device: &Device, kind: &str, condition: impl Fn(&Value) -> bool) -> Value {
        until(kind, async || {
            let body = self.bodies(kind).pop().ok_or(Value::Null)?;
            let file = device.path("otlp.json");
            fs_err::write(&file, body).unwrap();
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/otlp.py");
            let (script, file) = (script.display().to_string(), file.display().to_string());
            let output = device.run(&python(), &[&script, kind, &file]).await;
            let read: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
            let met = read["found"].as_array().unwrap().iter().any(&condition);
            if met { Ok(read) } else { Err(read) }
        })
        .await
    }
}

async fn receive(
    State(collector): State<Collector>,
    Route(kind): Route<String>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, String) {
    let mut inner = collector.0.lock().unwrap();
    inner.attempts += 1;
    let mut response = HeaderMap::new();
    if let Some((status, retry_after)) = inner.refuse_with {
        response.insert(RETRY_AFTER, HeaderValue::from_static(retry_after));
        return (StatusCode::from_u16(status).unwrap(), response, String::new());
    }
    if inner.without == Some(kind.as_str()) {
        return (StatusCode::NOT_FOUND, response, String::new());
    }
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["authorization"], "Bearer otlp-token");
    let body = match headers.get("content-encoding") {
        Some(encoding) => {
            assert_eq!(encoding, "gzip");
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
            plain.into()
        }
        None => body,
    };
    inner.bodies.push((kind, body));
    (StatusCode::OK, response, inner.response.clone())
}

fn policy(address: &str) -> String {
    format!(
        "App = \"lab-notes\"\nProxyMode = \"direct\"\nOtlpUrl = \"{address}\"\nOtlpToken = \"otlp-token\"\n"
    )
}

fn is_state(state: &'static str) -> impl Fn(&Value) -> bool {
    move |point| {
        point["name"] == "steward.component_state"
            && point["component"] == "policy"
            && point["state"] == state
            && point["value"] == 1.0
    }
}

#[tokio::test]
async fn collector_gets_metrics_and_each_problem_when_it_begins_and_when_it_ends() {
    let (collector, address) = Collector::start().await;
    let device = Device::new();
    device.push("50.toml", &policy(&address));
    let _agent = device.start_agent().await;
    let metrics = collector.last_where(&device, "metrics", is_state("pass")).await;
    let report = device.report().await;
    let resource = &metrics["resource"];
    assert_eq!(resource["service.instance.id"], json!(report.device_id));
    assert_eq!((&resource["service.name"], &resource["os.type"]), (&json!("steward"), &json!("linux")));
    assert!(collector.bodies("logs").is_empty(), "nothing is wrong");

    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    let logs = collector.last_where(&device, "logs", |_| true).await;
    let [record] = &logs["found"].as_array().unwrap()[..] else { panic!("{logs}") };
    assert_eq!(record["steward.problem.code"], "policy.invalid-value");
    assert_eq!((&record["severity"], &record["steward.problem.state"]), (&json!(17), &json!("began")));
    assert!(record["steward.problem.source"].as_str().unwrap().contains("60.toml"), "{record}");
    collector.last_where(&device, "metrics", is_state("fail")).await;

    device.push("60.toml", "UpdateMode = \"off\"\n");
    let is_end = |record: &Value| record["steward.problem.state"] == "ended";
    let ended = collector.last_where(&device, "logs", is_end).await;
    assert_eq!(ended["found"][0]["severity"], 9);
    assert_eq!(collector.bodies("logs").len(), 2, "each once");
    let text = String::from_utf8_lossy(&collector.bodies("metrics").concat()).into_owned();
    let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(!text.contains(&format!("\"{}\"", host.trim())), "{text}");
}

#[tokio::test]
async fn collector_that_is_busy_is_left_alone_and_one_that_refuses_is_an_error() {
    let (collector, address) = Collector::start().await;
    collector.0.lock().unwrap().refuse_with = Some((429, "7200"));
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    device.push("50.toml", &policy(&address));
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::ReportUndelivered).await;
    assert_eq!(problem.key.as_deref(), Some("OtlpUrl"));
    // Whatever changes, it is not called before the time that it named.
    device.push("60.toml", "OrganizationName = \"Example Corp\"\n");
    device.settings_become(5).await;
    minutes(90);
    device.printed(&["policy", "reload"]).await;
    assert_eq!(collector.0.lock().unwrap().attempts, 1);
    collector.0.lock().unwrap().refuse_with = None;
    minutes(121);
    device.printed(&["policy", "reload"]).await;
    collector.last_where(&device, "metrics", is_state("pass")).await;
    device.machine_status_where("no problem", |status| status.problems.is_empty()).await;

    let partial = json!({ "partialSuccess": { "rejectedDataPoints": "3", "errorMessage": "too many" } });
    collector.0.lock().unwrap().response = partial.to_string();
    device.push("60.toml", "OrganizationName = \"Another\"\n");
    let problem = device.problem(Code::ReportRejected).await;
    assert!(problem.message.contains("did not take 3 of the values: too many"), "{problem}");
    // The problem of a collector that policy does not name any more is none.
    device.push("50.toml", "App = \"lab-notes\"\n");
    device.machine_status_where("no problem", |status| status.problems.is_empty()).await;
}

/// Found when the code was read again: a collector without metrics was never told of a problem either.
#[tokio::test]
async fn collector_that_takes_logs_only_is_told_of_problems() {
    let (collector, address) = Collector::start().await;
    collector.0.lock().unwrap().without = Some("metrics");
    let device = Device::new();
    device.push("50.toml", &policy(&address));
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::ReportRejected).await;
    assert!(problem.message.contains("status 404 at /v1/metrics"), "{problem}");
    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    let is_policy = |record: &Value| record["steward.problem.code"] == "policy.invalid-value";
    collector.last_where(&device, "logs", is_policy).await;
}
