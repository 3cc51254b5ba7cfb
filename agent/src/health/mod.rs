//! How the device is doing: one model ([`model`]), encoders over it ([`encode`]), and its way to the receiver
//! ([`queue`], [`send`]).

pub(crate) mod encode;
pub(crate) mod model;
pub(crate) mod posture;
pub(crate) mod queue;
pub(crate) mod send;
