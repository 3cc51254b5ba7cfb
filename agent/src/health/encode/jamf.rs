//! The result of an extension attribute of Jamf Pro.

use protocol::report::Report;

use super::codes;

/// `<result>` with one line of text. Codes and states need no escaping: they are plain names.
pub(super) fn encode(report: &Report) -> String {
    let codes = codes(report);
    let state = report.health.state();
    if codes.is_empty() {
        format!("<result>{state}</result>\n")
    } else {
        format!("<result>{state}: {codes}</result>\n")
    }
}
