//! Linux.

pub mod file;
pub mod install;
pub mod ipc;
pub mod paths;
pub mod policy;
pub mod posture;
pub mod service;
pub mod vault;
