//! The binary `steward`: machine service, broker of a user, command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::cli::main()
}
