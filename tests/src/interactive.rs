//! A program that a user runs and types into.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout};

use crate::device::Device;
use crate::process::program;
use crate::wait::LIMIT;

/// A running program with its input and output; it is killed when this is dropped.
pub struct Interactive {
    child: Child,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Interactive {
    /// Starts `steward`.
    ///
    /// # Panics
    /// The program was not built.
    #[must_use]
    pub fn steward(device: &Device, arguments: &[&str]) -> Self {
        let root = device.root_text();
        Self::start(device, &program("steward"), &[&["--root", &root], arguments].concat())
    }

    /// Starts another program.
    ///
    /// # Panics
    /// The program was not built.
    #[must_use]
    pub fn start(device: &Device, program: &Path, arguments: &[&str]) -> Self {
        let mut child = device
            .command(program, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program is built");
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, output }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        nix::sys::signal::kill(Pid::from_raw(id), signal).expect("it can be signalled");
    }

    /// The next line of its output.
    ///
    /// # Panics
    /// There is none in time.
    pub async fn next_line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.output.next_line()).await;
        let line = line.expect("a line in time").expect("readable output").expect("one more line");
        line.trim_end().to_owned()
    }

    /// The next line of its output that is an address.
    pub async fn next_address(&mut self) -> String {
        loop {
            let line = self.next_line().await;
            if line.starts_with("http") {
                return line;
            }
        }
    }

    /// Waits until it has shown a text, which may be a question without a line break behind it.
    ///
    /// # Panics
    /// It does not show it in time.
    pub async fn shows(&mut self, text: &str) {
        let mut shown = Vec::new();
        let reading = async {
            loop {
                let reader = self.output.get_mut();
                let byte = reader.read_u8().await;
                shown.push(byte.unwrap_or_else(|_| panic!("it ended: {}", String::from_utf8_lossy(&shown))));
                if shown.ends_with(text.as_bytes()) {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("it shows the text in time");
    }

    /// Presses keys, as a terminal sends them.
    ///
    /// # Panics
    /// It does not read its input.
    pub async fn press(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(keys.as_bytes()).await.expect("it reads its input");
    }

    /// Types a line.
    ///
    /// # Panics
    /// It does not read its input.
    pub async fn type_line(&mut self, line: &str) {
        self.press(&format!("{line}\n")).await;
    }

    /// The rest of its output, with its errors at the end.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn remaining_output(mut self) -> String {
        let mut text = String::new();
        let reading = async {
            while let Ok(Some(line)) = self.output.next_line().await {
                text.push_str(&line);
                text.push('\n');
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("it ends in time");
        let errors = self.child.wait_with_output().await.expect("it can be waited for").stderr;
        text.push_str(&String::from_utf8_lossy(&errors));
        text
    }

    /// Waits for its end; whether it succeeded.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn succeeds(mut self) -> bool {
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        ended.expect("it ends in time").expect("it can be waited for").success()
    }
}
