//! What was found out about a protection of the device, and the readers of what programs print about it, which are tested everywhere.
//! Used by each operating system's `protection.rs`.
//!
//! Nothing is guessed: what the system does not tell is [`Finding::Unknown`], with the reason.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::clock;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is on; a restart is pending. With what was seen.
    On(String),
    /// It is off; none is pending. With what was seen.
    Off(String),
    /// The system does not tell: why.
    Unknown(String),
}

/// What was found, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What.
    pub finding: Finding,
    /// A file, a key of the registry, a program.
    pub source: String,
}

impl Observation {
    pub(crate) fn new(finding: Finding, source: impl Into<String>) -> Self {
        Self { finding, source: source.into() }
    }

    pub(crate) fn unknown(reason: impl Into<String>, source: impl Into<String>) -> Self {
        Self::new(Finding::Unknown(reason.into()), source)
    }
}

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long to wait until a program that has printed everything has ended as well.
const PAUSE: Duration = Duration::from_millis(2);
/// More of what it prints is not read.
const MAXIMUM_OUTPUT: u64 = 16 * 1024 * 1024;

/// Runs a program that prints something, in the language of programs. One that does not end in time is ended.
///
/// # Errors
/// It does not exist, it failed (what it said, in one line), or it took too long.
#[cfg_attr(windows, expect(dead_code, reason = "Windows tells everything in its registry"))]
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    output_within(command, LIMIT)
}

fn output_within(command: &mut Command, limit: Duration) -> Result<String, String> {
    let command =
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        if is_missing { "it is not installed".to_owned() } else { error.to_string() }
    })?;
    // A pipe may stay open after the end of the program, in a process that it started: nobody waits for these threads.
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let pipe = pipe.map(|pipe| pipe.take(MAXIMUM_OUTPUT).read_to_end(&mut bytes));
            drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
            drop(pipe);
        });
        receiver
    };
    let printed = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let said = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let late = || format!("it did not end within {} s", limit.as_secs());
    let begun = clock::monotonic();
    let printed = printed.recv_timeout(limit);
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if printed.is_ok() && clock::monotonic().saturating_sub(begun) < limit => {
                std::thread::sleep(PAUSE);
            }
            None => {
                // It may have ended by itself just now.
                drop(child.kill());
                drop(child.wait());
                return Err(late());
            }
        }
    };
    let printed = printed.map_err(|_| late())?;
    if status.success() {
        return Ok(printed);
    }
    let said = said.recv_timeout(limit).unwrap_or_default();
    Err(said.lines().next().map_or_else(|| format!("it ended with {status}"), ToOwned::to_owned))
}

/// What `fdesetup isactive` of macOS prints (fdesetup(8)): `true` or `false`. Its exit code says the same, so it is not looked at.
#[cfg(any(test, target_os = "macos"))]
pub(crate) fn file_vault(said: &str) -> Finding {
    match said.trim() {
        "true" => Finding::On("FileVault is on".to_owned()),
        "false" => Finding::Off("FileVault is off".to_owned()),
        other => Finding::Unknown(format!("it printed {other:?}")),
    }
}

/// What `socketfilterfw --getglobalstate` of macOS prints: a sentence that differs between versions, and `(State = N)`, where 0 is
/// off, 1 on, and 2 on for everything.
#[cfg(any(test, target_os = "macos"))]
pub(crate) fn application_firewall(said: &str) -> Finding {
    let state =
        said.split_once("State = ").and_then(|(_, rest)| rest.split_once(')')).map(|(state, _)| state);
    match state {
        Some("1") => Finding::On("the application firewall is on".to_owned()),
        Some("2") => Finding::On("the application firewall blocks all connections".to_owned()),
        Some("0") => Finding::Off("the application firewall is off".to_owned()),
        Some(_) | None => Finding::Unknown(format!("it printed {:?}", said.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by review: a program that hangs stopped all reports.
    #[cfg(unix)]
    #[test]
    fn program_that_hangs_is_ended_and_one_that_fails_says_why() {
        let run = |script: &str, limit| output_within(Command::new("/bin/sh").args(["-c", script]), limit);
        let long = Duration::from_secs(20);
        assert_eq!(run("echo a; echo b >&2", long).as_deref(), Ok("a\n"));
        assert_eq!(run("echo wrong >&2; exit 3", long).unwrap_err(), "wrong");
        assert!(run("exec sleep 60", Duration::from_millis(200)).unwrap_err().contains("did not end"));
        assert!(run("exec >&-; sleep 60", Duration::from_millis(200)).unwrap_err().contains("did not end"));
        // More than a pipe holds.
        assert_eq!(run("head -c 300000 /dev/zero", long).map(|text| text.len()), Ok(300_000));
        assert_eq!(output(&mut Command::new("/none")).unwrap_err(), "it is not installed");
    }

    #[test]
    fn output_of_macos_is_on_off_or_unknown() {
        let kind = |finding| match finding {
            Finding::On(_) => "on",
            Finding::Off(_) => "off",
            Finding::Unknown(_) => "unknown",
        };
        for (said, expected) in
            [("true\n", "on"), ("false\n", "off"), ("", "unknown"), ("FileVault is On.\n", "unknown")]
        {
            assert_eq!(kind(file_vault(said)), expected, "{said}");
        }
        for (said, expected) in [
            ("Firewall is enabled. (State = 1)\n", "on"),
            ("Firewall is blocking all non-essential incoming connections. (State = 2)\n", "on"),
            ("Firewall is disabled. (State = 0)\n", "off"),
            ("Firewall is enabled.\n", "unknown"),
            ("(State = 7)\n", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(kind(application_firewall(said)), expected, "{said}");
        }
    }
}
