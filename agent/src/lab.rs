//! What simulations and benches take from the agent, so that they imitate nothing that matters: when a report is due, under which identity
//! a device reports, and what a report becomes in each dialect. `cargo xtask fleet` and `cargo xtask bench` use it.

pub use crate::health::encode::dialects;
pub use crate::health::identity::{Identity, Origin};
pub use crate::service::delivery::{Delivery, End, Event, Outcome, next_slot};
