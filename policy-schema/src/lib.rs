//! Free of IO: what can be managed ([`settings`]), and what a set of raw policy values means ([`mod@resolve`]).
//!
//! In: what the sources of policy of an operating system hold, already read ([`raw::Source`]). Out: a typed [`Policy`], how each
//! value came about ([`resolve::Resolution`]) and everything that is wrong with the input ([`Problem`]). The agent
//! calls [`resolve::resolve`] whenever a source changes; the exporters read the same list of settings.
#![forbid(unsafe_code)]

#[macro_use]
mod areas;
mod contradiction;
#[cfg(feature = "export")]
pub mod export;
mod loopback;
mod message;
pub mod open;
pub mod preset;
pub mod problem;
pub mod raw;
pub mod read;
pub mod resolve;
pub mod roots;
pub mod settings;
pub mod text;
pub mod value;
pub mod version;
pub mod window;

pub use loopback::is_loopback;
pub use message::{counted, did_you_mean as nearest, visible, without_query, wrap};
pub use open::{Extra, Open};
pub use problem::{Code, Component, Problem, Severity};
pub use resolve::{LastGood, Resolved, resolve};
pub use settings::{Policy, SETTINGS, Setting};
pub use value::{Secret, Value};
