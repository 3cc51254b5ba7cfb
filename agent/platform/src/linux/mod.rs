//! Linux.

pub mod app;
pub mod desktop;
pub(crate) mod fence;
pub(crate) mod installer;
pub(crate) mod memory;
pub mod native;
pub(crate) mod paths;
pub mod policy;
pub mod posture;
pub(crate) mod preferences;
pub mod process;
pub(crate) mod protection;
pub mod service;
pub mod system_proxy;
pub(crate) mod tcp;
pub mod trust;
pub(crate) mod vault;

pub use crate::unix::{disk, file, install, ipc, zone};
