//! Metrics in the text format of Prometheus.
//!
//! Results of `writeln!` are ignored here: writing to a `String` cannot fail.

use std::fmt::Write as _;

use protocol::report::Report;

use super::metrics::{self, Metric, Point};

pub(super) fn encode(report: &Report) -> String {
    let mut text = String::new();
    for Metric { name, help, points } in metrics::of(report) {
        let _ = writeln!(text, "# HELP steward_{name} {help}\n# TYPE steward_{name} gauge");
        for Point { labels, value } in points {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "steward_{name}{labels} {value}");
        }
    }
    text
}

/// A value of a label (Prometheus, "Exposition formats").
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
