//! Another process runs it: receives the reports of a fleet, and shows what they say.
//!
//! [`ingest`] turns a request into an [`Arrival`](arrival::Arrival), which is pure; [`store`] keeps it, and responds once it is durable;
//! [`pages`] show what is kept. Every number of a page counts devices that a [`Filter`](filter::Filter) selects, and links to the list with
//! the same filter.
#![forbid(unsafe_code)]

mod arrival;
pub mod cli;
mod clock;
mod filter;
mod ingest;
mod log;
mod pages;
mod server;
mod shared;
mod store;
