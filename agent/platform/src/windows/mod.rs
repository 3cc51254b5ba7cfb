//! Windows.

mod ffi;
pub mod file;
pub mod install;
pub mod ipc;
mod key_watch;
pub mod native;
pub(crate) mod paths;
pub mod policy;
pub mod posture;
pub mod program;
pub mod service;
pub(crate) mod vault;
