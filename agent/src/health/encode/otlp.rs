//! Metrics and logs for OpenTelemetry collectors: OTLP over HTTP with JSON (OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding": 64-bit
//! numbers are texts, names are in camelCase). In: a report. Out: the bodies of two requests.

use jiff::Timestamp;
use policy_schema::{Open, Problem, Severity};
use protocol::report::Report;
use serde_json::{Value, json};

use super::metrics::{self, Metric, Point};
use super::resource;

/// The body for `/v1/metrics`.
pub(crate) fn metrics(report: &Report) -> Value {
    let time = nanoseconds(report.sent_at);
    let point = |Point { labels, value }: &Point| {
        let labels: Vec<Value> = labels.iter().map(|(name, value)| attribute(name, value)).collect();
        json!({ "attributes": labels, "timeUnixNano": time, "asDouble": value })
    };
    let metric = |metric: &Metric| {
        let points: Vec<Value> = metric.points.iter().map(point).collect();
        json!({
            "name": format!("steward.{}", metric.name),
            "description": metric.help,
            "unit": metric.unit(),
            "gauge": { "dataPoints": points },
        })
    };
    let metrics: Vec<Value> =
        metrics::of(report).iter().filter(|metric| !metric.points.is_empty()).map(metric).collect();
    json!({ "resourceMetrics": [{
        "resource": resource(report),
        "scopeMetrics": [{ "scope": scope(), "metrics": metrics }],
    }] })
}

/// The body for `/v1/logs`: problems that have begun, and problems that have ended, since the last one.
pub(crate) fn logs(report: &Report, began: &[&Problem], ended: &[Problem]) -> Value {
    let time = nanoseconds(report.sent_at);
    let record = |problem: &Problem, has_ended: bool| {
        let (number, text) = if has_ended { (9, "INFO") } else { severity(problem) };
        let optional = [
            ("steward.setting", &problem.key),
            ("steward.problem.source", &problem.place),
            ("steward.problem.using", &problem.using),
            ("steward.problem.hint", &problem.hint),
        ];
        let mut attributes = vec![
            attribute("steward.problem.code", problem.code.as_str()),
            attribute("steward.problem.state", if has_ended { "ended" } else { "began" }),
        ];
        attributes.extend(optional.iter().filter_map(|(name, value)| Some(attribute(name, value.as_ref()?))));
        json!({
            "timeUnixNano": time,
            "observedTimeUnixNano": time,
            "severityNumber": number,
            "severityText": text,
            "body": { "stringValue": problem.message },
            "attributes": attributes,
        })
    };
    let began = began.iter().map(|problem| record(problem, false));
    let records: Vec<Value> = began.chain(ended.iter().map(|problem| record(problem, true))).collect();
    json!({ "resourceLogs": [{
        "resource": resource(report),
        "scopeLogs": [{ "scope": scope(), "logRecords": records }],
    }] })
}

/// OpenTelemetry, "Logs Data Model": `SeverityNumber`. A severity of a newer version is an error.
fn severity(problem: &Problem) -> (u8, &'static str) {
    match problem.severity {
        Open::Known(Severity::Note) => (9, "INFO"),
        Open::Known(Severity::Warning) => (13, "WARN"),
        Open::Known(Severity::Error) | Open::Unknown(_) => (17, "ERROR"),
    }
}

fn resource(report: &Report) -> Value {
    let attributes: Vec<Value> = resource::identifying(report)
        .iter()
        .chain(&resource::describing(report))
        .map(|(name, value)| attribute(name, value))
        .collect();
    json!({ "attributes": attributes })
}

fn scope() -> Value {
    json!({ "name": "steward", "version": env!("CARGO_PKG_VERSION") })
}

fn attribute(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

fn nanoseconds(time: Timestamp) -> String {
    time.as_nanosecond().to_string()
}
