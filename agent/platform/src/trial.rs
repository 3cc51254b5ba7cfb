//! Running a program that checks whether it works. Portable; each operating system decides with which rights it runs.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a program may take to say that it works.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a program, which must exit with success within the limit.
pub(crate) async fn run_to_success(mut command: Command) -> io::Result<()> {
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = tokio::time::timeout(LIMIT, command.output()).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} seconds", LIMIT.as_secs()))
    })??;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let message: String = message.trim().chars().take(300).collect();
    Err(io::Error::other(format!("it ended with {}: {message}", output.status)))
}
