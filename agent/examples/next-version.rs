//! `steward` as a newer version, for tests: the same program with another number.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use semver::Version;

fn main() -> ExitCode {
    agent::lab::main_as(Version::new(2, 0, 0))
}
