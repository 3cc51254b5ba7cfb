//! Runs a version and waits for what comes of it: it proves itself, it ends, its deadline passes, or somebody stops the service.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platform::paths::Paths;
use platform::{clock, service};
use semver::Version;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;
use updates::versions::{Launch, Versions};

use crate::child::{SESSION, SUPERVISED, Word};
use crate::{change, keep_log, program};

/// A version has so long to prove itself, and is stable after that.
const PROBATION: Duration = Duration::from_mins(10);
/// A version that was stopped has so long to end.
const END: Duration = Duration::from_mins(1);
/// The pause before a version that has ended is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// What a version that has ended said last may take so long to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The pause before it is tried again to save that a version works.
const KEEP_AGAIN: Duration = Duration::from_secs(10);
/// The pause before a version is started again that found another machine service running.
const BUSY: Duration = Duration::from_secs(5);
/// So much of the last output of a version is kept, in bytes.
const KEPT: usize = 64 * 1024;
/// The longest line that is read of what a version says, in bytes.
const LONGEST_LINE: u64 = 1024;

/// How the supervision of a version ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The service was stopped.
    Stopped,
    /// What is to run now is another question.
    Next,
}

/// A version that runs.
struct Running<'a> {
    paths: &'a Paths,
    version: &'a Version,
    on_probation: bool,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Mutex<VecDeque<u8>>>,
    stage: Stage,
    /// When to try again to save that it works.
    keep_at: Option<Instant>,
    /// Why it ends, if it said so.
    leaves: Option<Word>,
}

/// How far a version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Started,
    Proved,
    Stable,
}

/// Runs a version until it ends, or `stop` does. `arguments`: those of the program.
pub async fn supervise(
    paths: &Paths,
    launch: &Launch,
    arguments: &[OsString],
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Ended {
    let Some(version) = &launch.version else { return Ended::Next };
    let file = program(paths, version);
    let mut child = match start(&file, arguments, launch.starts) {
        Ok(child) => child,
        Err(error) => {
            tracing::error!("version {version} of the agent cannot be started: {error}");
            give_up(paths, version, format!("it cannot be started: {error}"));
            return Ended::Next;
        }
    };
    tracing::info!("version {version} of the agent was started");
    let output = Arc::default();
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(relay(stderr, Arc::clone(&output)));
    }
    let Some(stdout) = child.stdout.take() else { return Ended::Next };
    let stdin = child.stdin.take();
    let on_probation = launch.on_probation;
    let mut running = Running {
        paths,
        version,
        on_probation,
        child,
        stdin,
        output,
        stage: Stage::Started,
        keep_at: None,
        leaves: None,
    };
    let (words, mut said) = mpsc::channel(4);
    tokio::spawn(listen(stdout, words));
    let deadline = Instant::now() + PROBATION;
    loop {
        let keep_at = running.keep_at;
        let unproved = running.on_probation && running.stage == Stage::Started;
        tokio::select! {
            Some(word) = said.recv() => running.hear(word),
            ended = running.child.wait() => {
                // What it said last may still be on its way.
                while let Ok(Some(word)) = tokio::time::timeout(LAST_WORDS, said.recv()).await {
                    running.hear(word);
                }
                running.ended(&ended);
                if running.leaves == Some(Word::Restart) {
                    return Ended::Next;
                }
                let pause = if running.leaves == Some(Word::Busy) { BUSY } else { PAUSE };
                tokio::select! {
                    () = stop.as_mut() => return Ended::Stopped,
                    () = tokio::time::sleep(pause) => return Ended::Next,
                }
            }
            () = stop.as_mut() => {
                running.stop().await;
                return Ended::Stopped;
            }
            () = service::session_change() => running.tell_session().await,
            () = tokio::time::sleep_until(keep_at.unwrap_or(deadline)), if keep_at.is_some() => running.keep_proof(),
            () = tokio::time::sleep_until(deadline), if unproved => {
                running.miss_deadline().await;
                return Ended::Next;
            }
            () = tokio::time::sleep_until(deadline), if !unproved && running.stage != Stage::Stable => running.is_stable(),
        }
    }
}

fn start(file: &Path, arguments: &[OsString], starts: u32) -> io::Result<Child> {
    let mut command = Command::new(file);
    command.args(arguments).env(SUPERVISED, starts.to_string());
    // What it has for systemd, this process passes on: systemd listens to no other. That it is watched, it learns all the same.
    command.env_remove("WATCHDOG_PID");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn()
}

/// Passes on the words that a version says, until it says nothing any more.
async fn listen(stdout: impl AsyncRead + Unpin, words: mpsc::Sender<Word>) {
    let mut said = BufReader::new(stdout);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut said).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
        if let Some(word) = Word::parse(&String::from_utf8_lossy(&line)) {
            let _gone = words.send(word).await;
        }
        line.clear();
    }
}

/// Passes on what a version writes to its standard error, and keeps the end of it.
async fn relay(mut from: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let piece = &piece[..count];
        // Where nobody reads it, it is kept all the same.
        let _unread = io::stderr().write_all(piece);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(piece);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}

impl Running<'_> {
    fn hear(&mut self, word: Word) {
        match word {
            Word::Ready => service::ready(&format!("version {}", self.version)),
            Word::Alive => service::alive(),
            Word::Restart | Word::Busy => self.leaves = Some(word),
            Word::Proved if self.stage == Stage::Started => {
                self.stage = Stage::Proved;
                self.keep_proof();
            }
            Word::Proved => {}
        }
    }

    /// Saves that it works. Where that fails, as on a full disk, it is tried again: that says nothing about the version.
    fn keep_proof(&mut self) {
        self.keep_at = match change(self.paths, |versions| versions.proved(self.version)) {
            Ok(_) => {
                tracing::info!("version {} of the agent works", self.version);
                None
            }
            Err(error) => {
                if self.keep_at.is_none() {
                    tracing::warn!(
                        "that version {} of the agent works cannot be saved: {error}",
                        self.version
                    );
                }
                Some(Instant::now() + KEEP_AGAIN)
            }
        };
    }

    /// It has ended, and nobody asked for that.
    fn ended(&self, status: &io::Result<ExitStatus>) {
        if self.leaves == Some(Word::Restart) {
            tracing::info!("version {} of the agent makes way for another one", self.version);
            return;
        }
        if self.leaves == Some(Word::Busy) {
            tracing::warn!("version {} of the agent waits for another machine service to end", self.version);
            return self.uncount();
        }
        let how = status.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        tracing::error!("version {} of the agent ended: {how}", self.version);
        self.keep_output(&format!("it ended: {how}"));
    }

    async fn stop(&mut self) {
        service::stopping();
        drop(self.stdin.take());
        if tokio::time::timeout(END, self.child.wait()).await.is_err() {
            tracing::warn!("version {} of the agent did not end within {} s", self.version, END.as_secs());
            self.kill().await;
        }
        if self.stage != Stage::Stable {
            self.uncount();
        }
    }

    /// This start says nothing about the version.
    fn uncount(&self) {
        let kept = change(self.paths, Versions::stopped);
        kept.map_or_else(|error| tracing::warn!("a start cannot be taken back: {error}"), drop);
    }

    fn is_stable(&mut self) {
        self.stage = Stage::Stable;
        let kept = change(self.paths, |versions| versions.stable(self.version));
        kept.map_or_else(|error| tracing::warn!("that a version is stable cannot be kept: {error}"), drop);
    }

    async fn tell_session(&mut self) {
        if let Some(stdin) = &mut self.stdin {
            // One that has ended is heard of otherwise.
            drop(stdin.write_all(format!("{SESSION}\n").as_bytes()).await);
        }
    }

    async fn miss_deadline(&mut self) {
        let reason = format!("it did not show within {} minutes that it works", PROBATION.as_secs() / 60);
        tracing::error!("version {} of the agent is given up: {reason}", self.version);
        self.kill().await;
        self.keep_output(&reason);
        give_up(self.paths, self.version, reason);
    }

    async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!("version {} of the agent cannot be ended: {error}", self.version);
        }
    }

    fn keep_output(&self, reason: &str) {
        if self.stage == Stage::Stable {
            return;
        }
        let kept = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("{} version {}: {reason}\n", clock::now(), self.version).into_bytes();
        text.extend(kept.iter());
        drop(kept);
        keep_log(self.paths, &text);
    }
}

fn give_up(paths: &Paths, version: &Version, reason: String) {
    if let Err(error) = change(paths, |versions| versions.give_up(version, reason, clock::now())) {
        tracing::error!("that version {version} of the agent failed cannot be kept: {error}");
    }
}
