//! Lines for whoever runs the server.

use std::error::Error;
use std::io::Write as _;

/// Writes one.
pub(crate) fn log(line: &str) {
    // Nobody may read it.
    let _closed = writeln!(std::io::stderr(), "steward-dashboard: {line}");
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text.extend([": ", &next.to_string()]);
        cause = next.source();
    }
    text
}
