//! Waiting for a program that tries whether it works. Portable; with whose rights it runs is the operating system's
//! question.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a program may take to say that it works.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a program to its end, which has to be a success within the limit.
pub(crate) async fn ends_well(mut command: Command) -> io::Result<()> {
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = tokio::time::timeout(LIMIT, command.output()).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} seconds", LIMIT.as_secs()))
    })??;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: String = complaint.trim().chars().take(300).collect();
    Err(io::Error::other(format!("it ended with {}: {complaint}", output.status)))
}
