//! What a report observes besides the machine service's own facts.

pub(crate) mod posture;
pub(crate) mod provider;
pub(crate) mod sessions;
