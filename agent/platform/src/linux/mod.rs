//! Linux.

pub mod native;
pub mod paths;
pub mod policy;
pub mod posture;
pub mod service;
pub mod vault;

pub use crate::unix::{file, install, ipc};
