//! A process that dies in the middle of its work: `strace` kills it on entering one of its system calls on some files.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A trap that is set.
pub struct Trap(Child);

impl Trap {
    /// Sets one: the process dies when it enters a system call on one of the paths for the `when`-th time, from 1.
    ///
    /// # Errors
    /// `strace` is not installed, or may not look at the process.
    pub async fn set(process: u32, call: &str, when: usize, paths: &[&Path]) -> anyhow::Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
        command.arg(format!("inject={call}:signal=SIGKILL:when={when}"));
        for path in paths {
            command.arg("-P").arg(path);
        }
        command.arg("-p").arg(process.to_string());
        let mut tracer = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut said = BufReader::new(tracer.stderr.take().context("it is piped")?).lines();
        loop {
            let line = tokio::time::timeout(crate::wait::LIMIT, said.next_line()).await??;
            let line = line.context("strace has ended")?;
            if line.contains("attached") {
                // It goes on to talk, and must not be stopped by a reader that has gone.
                tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
                return Ok(Self(tracer));
            }
            anyhow::ensure!(line.contains("Requested path"), "{line}");
        }
    }

    /// Takes it away: whoever did not step into it goes on as before.
    ///
    /// # Errors
    /// `strace` cannot be waited for.
    pub async fn take_away(mut self) -> anyhow::Result<()> {
        // Without asking: where a process with several threads has just died, a tracer that is asked to let go of it can
        // wait for ever.
        self.0.kill().await?;
        Ok(())
    }
}
