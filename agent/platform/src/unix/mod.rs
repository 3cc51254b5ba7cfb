//! What Linux and macOS have in common.

pub mod disk;
pub mod file;
pub mod install;
pub mod ipc;
pub(crate) mod memory;
pub(crate) mod preferences;
pub(crate) mod shell;
pub(crate) mod signal;
pub mod zone;
