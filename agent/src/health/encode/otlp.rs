//! Metrics and logs for OpenTelemetry collectors: OTLP over HTTP with JSON (OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding": 64-bit
//! numbers are texts, names are in camelCase). In: a report. Out: the bodies of two requests.

use jiff::Timestamp;
use policy_schema::{Open, Problem, Severity};
use protocol::report::Report;
use serde::Serialize;
use serde_json::{Value, json};

use super::metrics;
use super::resource;

/// An attribute that is a text.
#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: Text<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Text<'a> {
    string_value: &'a str,
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metrics<'a> {
    resource_metrics: [ResourceMetrics<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    resource: Resource<'a>,
    scope_metrics: [ScopeMetrics<'a>; 1],
}

#[derive(Serialize)]
struct ScopeMetrics<'a> {
    scope: Value,
    metrics: Vec<Metric<'a>>,
}

/// Without a description: it would be a third of what goes over the wire.
#[derive(Serialize)]
struct Metric<'a> {
    name: String,
    unit: &'a str,
    gauge: Gauge<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gauge<'a> {
    data_points: Vec<Point<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Point<'a> {
    attributes: Vec<Attribute<'a>>,
    time_unix_nano: &'a str,
    as_double: f64,
}

/// The body for `/v1/metrics`, and what it says is so. To a collector that knows just that, it does not say again what is not so: most
/// values are those of states that a component is not in.
pub(crate) fn metrics(report: &Report, known: Option<&str>) -> (Vec<u8>, String) {
    let time = nanoseconds(report.sent_at);
    let attributes = attributes_of(report);
    let mut found = metrics::of(report);
    let is_not_so = |point: &metrics::Point| point.value == 0.0 && !point.labels.is_empty();
    let so = found.iter().filter(|metric| metric.points.iter().any(is_not_so));
    let so = so.flat_map(|metric| metric.points.iter().filter(|point| !is_not_so(point)));
    let so =
        so.flat_map(|point| &point.labels).map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
    if known == Some(so.as_str()) {
        for metric in &mut found {
            metric.points.retain(|point| !is_not_so(point));
        }
    }
    let metrics = found.iter().filter(|metric| !metric.points.is_empty()).map(|metric| Metric {
        name: format!("steward.{}", metric.name),
        unit: metric.unit(),
        gauge: Gauge { data_points: metric.points.iter().map(|one| point(one, &time)).collect() },
    });
    let body = Metrics {
        resource_metrics: [ResourceMetrics {
            resource: resource(&attributes),
            scope_metrics: [ScopeMetrics { scope: scope(), metrics: metrics.collect() }],
        }],
    };
    // Of texts and numbers; none of it can fail to be written.
    (serde_json::to_vec(&body).unwrap_or_default(), so)
}

fn point<'a>(point: &'a metrics::Point, time: &'a str) -> Point<'a> {
    Point {
        attributes: point.labels.iter().map(|(name, value)| attribute(name, value)).collect(),
        time_unix_nano: time,
        as_double: point.value,
    }
}

/// The body for `/v1/logs`: problems that have begun, and problems that have ended, since the last one.
pub(crate) fn logs(report: &Report, began: &[&Problem], ended: &[Problem]) -> Vec<u8> {
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
    let attributes = attributes_of(report);
    let body = json!({ "resourceLogs": [{
        "resource": resource(&attributes),
        "scopeLogs": [{ "scope": scope(), "logRecords": records }],
    }] });
    body.to_string().into_bytes()
}

/// OpenTelemetry, "Logs Data Model": `SeverityNumber`. A severity of a newer version is an error.
fn severity(problem: &Problem) -> (u8, &'static str) {
    match problem.severity {
        Open::Known(Severity::Note) => (9, "INFO"),
        Open::Known(Severity::Warning) => (13, "WARN"),
        Open::Known(Severity::Error) | Open::Unknown(_) => (17, "ERROR"),
    }
}

fn attributes_of(report: &Report) -> resource::Attributes {
    resource::identifying(report).into_iter().chain(resource::describing(report)).collect()
}

fn resource(attributes: &resource::Attributes) -> Resource<'_> {
    Resource { attributes: attributes.iter().map(|(name, value)| attribute(name, value)).collect() }
}

fn scope() -> Value {
    json!({ "name": "steward", "version": env!("CARGO_PKG_VERSION") })
}

fn attribute<'a>(key: &'a str, value: &'a str) -> Attribute<'a> {
    Attribute { key, value: Text { string_value: value } }
}

fn nanoseconds(time: Timestamp) -> String {
    time.as_nanosecond().to_string()
}

#[cfg(test)]
mod tests {
    use policy_schema::Open;
    use protocol::health::State;
    use protocol::report::sample_report;
    use protocol::status::sample_status;

    use super::*;

    fn values(body: &[u8]) -> Vec<f64> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let metrics = body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        let points = metrics.iter().flat_map(|metric| metric["gauge"]["dataPoints"].as_array().unwrap());
        points.map(|point| point["asDouble"].as_f64().unwrap()).collect()
    }

    /// A state that has ended would last for ever if nobody said that it is not so any more.
    #[test]
    fn zero_values_are_sent_first_and_after_each_change_of_state() {
        let zeros = |body: &[u8]| values(body).iter().filter(|value| **value == 0.0).count();
        let mut report = sample_report(sample_status(), 1);
        let (first, so) = metrics(&report, None);
        let (again, same) = metrics(&report, Some(&so));
        assert!(so == same && zeros(&first) > 10 && zeros(&again) < zeros(&first) / 5, "{}", zeros(&again));
        let ones = |body: &[u8]| values(body).iter().filter(|value| **value != 0.0).count();
        assert_eq!(ones(&first), ones(&again), "what is so is always said");
        report.health.state = Open::Known(State::Fail);
        let (changed, other) = metrics(&report, Some(&so));
        assert!(other != so && zeros(&changed) == zeros(&first));
    }
}
