//! Another process runs it (agent, broker and command line): everything that goes over a connection.
//!
//! [`http`] is the one HTTP client, with proxy and trust as policy says; [`certificate_observer`] observes its
//! connections. [`server`] serves a local API and [`client`] calls one, both with the same endpoint
//! ([`protocol::endpoint`]). [`admission`] makes sure that a handler runs only for a caller that was admitted. Nothing
//! here knows the routes of the agent or the broker.
#![forbid(unsafe_code)]

pub mod admission;
pub mod certificate_observer;
pub mod client;
pub mod http;
pub mod loopback;
pub mod proxy;
pub mod server;

pub use chain::chain;

mod chain;
mod connections;
mod header;
