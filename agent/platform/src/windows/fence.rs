//! What a program that was started for a trial has started itself: held by a job object, and ended.

mod ffi;

use std::io;

use tokio::process::{Child, Command};

/// A job that ends all its processes when it is closed (Microsoft, "Job Objects"). What the program starts belongs to it,
/// apart from what it starts before it is held.
pub(crate) struct Fence {
    job: Option<ffi::Job>,
}

impl Fence {
    pub(crate) fn around(_command: &mut Command) -> Self {
        Self { job: ffi::Job::new().ok() }
    }

    pub(crate) fn hold(&self, child: &Child) -> io::Result<()> {
        match (&self.job, child.raw_handle()) {
            (Some(job), Some(process)) => job.take(process),
            // Without a job, or already at its end.
            _ => Ok(()),
        }
    }

    /// Ends what is left, after the program itself.
    #[expect(clippy::unused_async, reason = "as on the other systems")]
    pub(crate) async fn end_all(self) {
        drop(self.job);
    }
}
