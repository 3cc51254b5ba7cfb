//! Free of IO: what processes and servers tell each other. Shared by the agent, the broker, the command line,
//! dashboards, collectors and tests.
//!
//! Everything here is a value that goes over a local API, into a report or onto disk: the status of a device
//! ([`status`]), its health as a tree ([`health`]), a report ([`report`]), the session of a user ([`session`]), the
//! resolved policy ([`policy`]), the two local APIs ([`agent`], [`broker`], [`app`]) with their endpoints ([`endpoint`]), and
//! the causes of problems ([`diagnosis`]).
//!
//! Enums are open ([`policy_schema::Open`]): a name that only a newer version knows survives a round trip through an
//! older one. `tests/fixtures/frozen` has samples of released formats, which every version must read.
#![forbid(unsafe_code)]

pub mod agent;
pub mod app;
pub mod broker;
pub mod diagnosis;
pub mod endpoint;
pub mod health;
pub mod opamp;
pub mod openapi;
pub mod overview;
pub mod policy;
pub mod report;
pub mod session;
pub mod status;
pub mod update;

/// The version of the formats of status and report. It grows when a field changes its meaning, but not for a new field.
pub const FORMAT: u32 = 1;
