//! The wish that the process end: from a person at the console, or from Windows when it shuts down.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// The wish of the system, or of a person at the console, that the process end.
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

    /// Waits for the wish.
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

/// The service is ready. Nobody asks at the console.
pub fn ready(_: &str) {}

/// The service is about to end. Nobody asks at the console.
pub fn stopping() {}

/// Access comes with folders here ([`super::file`]); there is no umask.
pub fn clear_umask() {}

/// The services' logs: none are kept on Windows yet.
#[must_use]
pub fn logs(_: u64) -> Vec<(&'static str, String)> {
    Vec::new()
}
