//! Lines for whoever runs the server.

use std::io::Write as _;

/// Writes one.
pub(crate) fn log(line: &str) {
    // Nobody may read it.
    let _closed = writeln!(std::io::stderr(), "steward-dashboard: {line}");
}
