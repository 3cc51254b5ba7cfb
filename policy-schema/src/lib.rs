//! Free of IO: what can be managed ([`settings`]), and what a set of raw policy values means ([`resolve`]).
//!
//! In: what the places of an operating system hold, already read ([`raw::Place`]). Out: a typed [`Policy`], how each
//! value came about ([`resolve::Resolution`]) and everything that is wrong with the input ([`Problem`]). The agent
//! calls [`resolve::resolve`] whenever a place changes; the exporters read the same list of settings.
#![forbid(unsafe_code)]

mod contradiction;
#[cfg(feature = "export")]
pub mod export;
mod message;
pub mod open;
pub mod problem;
pub mod raw;
pub mod read;
pub mod resolve;
pub mod settings;
pub mod value;

pub use message::{did_you_mean as nearest, without_query, wrap};
pub use open::Open;
pub use problem::{Code, Problem, Severity};
pub use resolve::{LastGood, Resolved, resolve};
pub use settings::{Policy, SETTINGS, Setting};
pub use value::{Secret, Value};
