//! Running a program that checks whether it works, and nothing of it after that. Portable; each operating system decides
//! with which rights it runs and how what it started is found ([`os::fence`](crate::os)).

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::os::fence::Fence;

/// How long a program may take to say that it works.
const LIMIT: Duration = Duration::from_secs(20);
/// How long what it has said may take to arrive, once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How much of what it says is read, in bytes.
const MAXIMUM_SAID: u64 = 4096;
/// How much of that is shown, in characters.
const MAXIMUM_SHOWN: usize = 300;

/// Runs a program, which must exit with success within the limit. Whatever it has started ends with it.
pub(crate) async fn run_to_success(mut command: Command) -> io::Result<()> {
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let fence = Fence::around(&mut command);
    let mut child = command.spawn()?;
    if let Err(error) = fence.hold(&child)
        && child.try_wait()?.is_none()
    {
        return Err(error);
    }
    let mut said = Vec::new();
    let status = watch(&mut child, &mut said, fence).await?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("it ended with {status}: {}", plain(&said))))
}

async fn watch(child: &mut Child, said: &mut Vec<u8>, fence: Fence) -> io::Result<ExitStatus> {
    let stderr = child.stderr.take();
    let mut listening = std::pin::pin!(listen(stderr, said));
    let mut heard = false;
    let ended = tokio::time::timeout(LIMIT, async {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                () = &mut listening, if !heard => heard = true,
            }
        }
    })
    .await;
    if ended.is_err() {
        child.kill().await?;
    }
    fence.end_all().await;
    if !heard {
        // A pipe that something else still holds has nothing more to say.
        let _silent = tokio::time::timeout(LAST_WORDS, listening).await;
    }
    ended.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} seconds", LIMIT.as_secs()))
    })?
}

/// Reads the beginning, and the rest as well, so that a program that says more does not have to wait.
async fn listen(stderr: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    // What cannot be read was not said.
    let _unread = (&mut stderr).take(MAXIMUM_SAID).read_to_end(said).await;
    let _unread = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}

/// Text for a message: one line, without what a terminal obeys.
fn plain(said: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(said)
        .chars()
        .map(|letter| if letter.is_control() || is_format(letter) { ' ' } else { letter })
        .collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAXIMUM_SHOWN).collect()
}

/// The lines of a text that say anything, each plain.
pub(crate) fn lines(said: &[u8]) -> Vec<String> {
    said.split(|byte| *byte == b'\n').map(plain).filter(|line| !line.is_empty()).collect()
}

/// Characters without a width that change how others are shown (Unicode Standard Annex 9).
const fn is_format(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    async fn run(script: &str) -> io::Result<()> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run_to_success(command).await
    }

    #[tokio::test]
    async fn what_a_program_says_is_shown_as_one_plain_line() {
        let error =
            run("printf 'one\\033[31m\\n two\\302\\205\\342\\200\\256three' >&2; exit 3").await.unwrap_err();
        assert!(error.to_string().ends_with("3: one [31m two three"), "{error}");
    }

    #[tokio::test]
    async fn much_output_keeps_nobody_waiting() {
        run("head -c 1000000 /dev/zero >&2").await.unwrap();
        let error = run("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1").await.unwrap_err();
        assert!(error.to_string().len() < 400, "{error}");
    }

    /// A self-check that leaves a process behind, in a session of its own and with the pipe in its hands.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn detached_child_ends_with_the_check() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        let script = format!(
            "setsid sh -c 'echo $$ > {0}; sleep 60 & sleep 60' & while [ ! -s {0} ]; do sleep 0.02; done",
            file.display()
        );
        run(&script).await.unwrap();
        let id = fs_err::read_to_string(file).unwrap();
        assert!(!std::path::Path::new("/proc").join(id.trim()).exists(), "the child survived");
    }
}
