//! What a program that was started for a trial has started itself: found by its process group, and ended.

use std::sync::OnceLock;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// A process group of its own. A process that leaves the group is not found.
pub(crate) struct Fence {
    group: OnceLock<Pid>,
}

impl Fence {
    pub(crate) fn around(command: &mut Command) -> Self {
        command.process_group(0);
        Self { group: OnceLock::new() }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as on the other systems")]
    pub(crate) fn hold(&self, child: &Child) -> std::io::Result<()> {
        if let Some(id) = child.id() {
            self.group.get_or_init(|| Pid::from_raw(id.cast_signed()));
        }
        Ok(())
    }

    /// Ends what is left, after the program itself.
    #[expect(clippy::unused_async, reason = "as on the other systems")]
    pub(crate) async fn end_all(self) {
        if let Some(group) = self.group.get() {
            // Mostly nothing is left.
            let _gone = killpg(*group, Signal::SIGKILL);
        }
    }
}
