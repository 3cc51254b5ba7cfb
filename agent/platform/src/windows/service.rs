//! Requests to stop: from a user at the console, or from Windows when it shuts down.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// A request to stop, of the system or of a user at the console.
pub struct StopSignal {
    interrupt: CtrlC,
    end: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl StopSignal {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refused.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            end: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for the request.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.end.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}

/// How an administrator starts the machine service.
pub const START: &str = "steward agent";

/// Nothing: in a console there is no service manager.
pub fn ready(_: &str) {}

/// Nothing: in a console there is no service manager.
pub fn stopping() {}

/// Nothing: Windows has no umask. Access is that of the folder ([`super::file`]).
pub fn set_umask() {}

/// Nothing: Windows writes no image of a crashed process unless an administrator has asked for it.
pub fn protect_memory() {}

/// The services' logs: none are kept on Windows yet.
#[must_use]
pub fn logs(_: u64) -> Vec<(&'static str, String)> {
    Vec::new()
}
