//! What was found out about a protection of the device, and the readers of what programs print about it, which are tested everywhere.
//! Used by each operating system's `protection.rs`.
//!
//! Nothing is guessed: what the system does not tell is [`Finding::Unknown`], with the reason.

use std::process::{Command, Stdio};

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

/// Runs a program that prints something, in the language of programs.
///
/// # Errors
/// It does not exist, or it failed: what it said, in one line.
#[cfg_attr(windows, expect(dead_code, reason = "Windows tells everything in its registry"))]
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        if is_missing { "it is not installed".to_owned() } else { error.to_string() }
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().map_or_else(|| format!("it ended with {}", output.status), ToOwned::to_owned))
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
