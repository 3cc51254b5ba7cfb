//! Signals, and the umask of this process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request to stop, of the service manager or of a user at the terminal.
pub struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refused.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the request.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Asks a process to close: apps end in order then, as at the end of the session. One that has ended meanwhile is no fault.
pub(crate) fn ask_to_close(id: u32) {
    // 0 means every process of this group.
    let Some(id) = i32::try_from(id).ok().filter(|id| *id > 0) else { return };
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
}

/// Sets this process's umask to 022, so that the modes that the code names hold: files that every user may read, but
/// only their owner may write. The umask that the process was started with may be stricter, which would hide them, or
/// wider, which would let others write.
pub fn set_umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}

/// Fails: systemd and launchd run the machine service as an ordinary process.
///
/// # Errors
/// Always.
pub fn dispatch(_: impl FnOnce(StopSignal) -> bool + Send + 'static) -> io::Result<()> {
    let message = "only Windows has a service control manager; elsewhere `steward agent` is the service";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// Never ends: brokers say themselves when a session changes.
pub fn session_change() -> std::future::Pending<()> {
    std::future::pending()
}
