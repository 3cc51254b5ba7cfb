//! The agent as a library: machine service and command line. The binary `steward` and tests run it.
//!
//! The way of the data: sources of policy -> [`policy`] -> [`service`] (observe, plan, apply) -> [`health`] -> reports and
//! `steward status`. What a user's session needs is in the crate `broker`.
#![forbid(unsafe_code)]

mod app;
mod cleanup;
pub mod cli;
mod doctor;
mod health;
pub mod lab;
mod logging;
mod policy;
mod repo;
pub mod service;
mod setup;
mod state;
mod support;
mod update;
mod version;
