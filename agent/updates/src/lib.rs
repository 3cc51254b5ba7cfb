//! Free of IO: which release of an app a device installs and when ([`decide`]), and the journal of an update ([`journal`]).
//!
//! In: policy, what a feed offers ([`feed`]), what is installed, the journal so far, the time and the time zone. Out: a
//! [`Decision`] with its reason in words, and the steps that the shell around this crate performs. The agent calls it for each
//! check of a feed, and `steward update plan` for any policy, feed and time, or for a whole fleet ([`rollout`]).
#![forbid(unsafe_code)]

pub mod decide;
mod decision;
pub mod feed;
pub mod installed;
pub mod journal;
pub mod notices;
pub mod patch;
mod reason;
mod ring;
pub mod rollout;
mod rules;
pub mod signed;
pub mod versions;
mod window;

pub use decide::{Device, OwnUpdater, Situation, decide};
pub use decision::{Decision, Verdict};
pub use feed::Release;
pub use journal::Journal;
pub use reason::Reason;
pub use rules::Rules;
