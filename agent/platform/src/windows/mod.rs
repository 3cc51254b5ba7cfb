//! Windows.

pub mod app;
pub mod desktop;
pub mod disk;
pub(crate) mod fence;
mod ffi;
pub mod file;
mod group_policy;
pub mod install;
pub(crate) mod installer;
pub mod ipc;
pub(crate) mod memory;
pub mod native;
pub(crate) mod paths;
pub mod policy;
pub mod posture;
pub(crate) mod preferences;
pub mod process;
pub(crate) mod protection;
mod registry;
mod security;
pub mod service;
pub mod system_proxy;
pub(crate) mod tcp;
pub mod trust;
pub(crate) mod vault;
pub mod zone;
