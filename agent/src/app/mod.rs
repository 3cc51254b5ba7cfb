//! The desktop app's managed configuration: observe, compare, write.
//!
//! In: the policy and what the app would find ([`observe`]). Out: what has to be written, and what cannot be. What an app
//! reads, and where, is data ([`descriptor`]); what policy makes of it is [`configuration`]. Three kinds of locations: a
//! file, which is the agent's alone; values of the registry, which a Group Policy of the app's own may set as well, and then
//! it wins; managed preferences, which belong to the MDM, so they are only observed. What the agent wrote is in the
//! [`ownership`] record. [`crate::service`] decides, from values only.

pub(crate) mod configuration;
pub(crate) mod descriptor;
pub(crate) mod observe;
pub(crate) mod ownership;
pub(crate) mod write;
