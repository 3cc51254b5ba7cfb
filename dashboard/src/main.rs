//! The binary `steward-dashboard`: receives reports, and shows what they say.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    dashboard::cli::main()
}
