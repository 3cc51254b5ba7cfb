//! Kills a process in the middle of its work, or lets a system call fail: `strace` does it when the process enters a system call on
//! certain files.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A step of a process at which it is killed, or at which something fails.
pub struct CrashPoint(Child);

impl CrashPoint {
    /// Sets one: the process is killed when it enters a system call on one of the paths for the `when`-th time, from 1.
    ///
    /// # Errors
    /// `strace` is not installed, or may not trace the process.
    pub async fn set(process: u32, call: &str, when: usize, paths: &[&Path]) -> anyhow::Result<Self> {
        Self::inject(process, call, &format!("signal=SIGKILL:when={when}"), paths).await
    }

    /// Sets one at which the system call fails with an error, such as `ENOSPC`, from the `when`-th time on.
    ///
    /// # Errors
    /// As for [`Self::set`].
    pub async fn fail(
        process: u32,
        call: &str,
        error: &str,
        when: usize,
        paths: &[&Path],
    ) -> anyhow::Result<Self> {
        Self::inject(process, call, &format!("error={error}:when={when}+"), paths).await
    }

    async fn inject(process: u32, call: &str, what: &str, paths: &[&Path]) -> anyhow::Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
        command.arg(format!("inject={call}:{what}"));
        for path in paths {
            command.arg("-P").arg(path);
        }
        command.arg("-p").arg(process.to_string());
        let mut tracer = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(tracer.stderr.take().context("it is piped")?).lines();
        loop {
            let line = tokio::time::timeout(crate::wait::LIMIT, lines.next_line()).await??;
            let line = line.context("strace has ended")?;
            if line.contains("attached") {
                // It writes more, and would end if nobody read that.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(Self(tracer));
            }
            anyhow::ensure!(line.contains("Requested path"), "{line}");
        }
    }

    /// Removes it: a process that did not reach it goes on as before.
    ///
    /// # Errors
    /// `strace` cannot be waited for.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        // Killed, not asked to detach: where a process with several threads has just died, `strace` can wait for it
        // forever.
        self.0.kill().await?;
        Ok(())
    }
}
