//! The binary `steward`: machine service, user broker, command line.
#![forbid(unsafe_code)]

mod api;
mod app;
mod broker;
mod cli;
mod clock;
mod doctor;
mod health;
mod http;
mod logging;
mod plan;
mod policy;
mod report;
mod run;
mod setup;
mod support;
mod update;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
