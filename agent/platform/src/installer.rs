//! Running an installer of the operating system to its end.
//!
//! Nothing ends an installer in the middle: it has no pipe to this process, it is no part of its unit, and it is not killed when
//! it takes too long. What it says goes to a file.

use std::ffi::OsString;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::os::installer;
use crate::paths::Paths;
use crate::trial;

/// How long one may take before it is left alone.
const LIMIT: Duration = Duration::from_hours(1);
/// So much of the end of what it said is read, in bytes.
const MAXIMUM_SAID: u64 = 4096;

/// What to run.
#[derive(Clone, Debug)]
pub struct Installer<'a> {
    /// A word for it, of letters, digits and hyphens.
    pub name: &'a str,
    /// The program: a path, or a name that is found as usual.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where what it says goes. What is there is replaced.
    pub log: &'a Path,
    /// A folder for its temporary files that nobody else can open (Windows): it may run what it puts there.
    pub temporary: &'a Path,
}

/// How one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// The last lines of what it said.
    pub said: Vec<String>,
}

/// Runs one to its end.
///
/// # Errors
/// It cannot be started, or it has not ended within an hour. Then it goes on.
pub async fn run(paths: &Paths, what: &Installer<'_>) -> io::Result<Ended> {
    let log = fs_err::File::create(what.log)?;
    let mut command = installer::command(paths, what.name, &what.program, &what.arguments, what.log);
    command.stdin(Stdio::null());
    command.stdout(log.try_clone()?.into_parts().0).stderr(log.into_parts().0);
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command.env("TEMP", what.temporary).env("TMP", what.temporary);
    let mut child = command.spawn()?;
    let ended = tokio::time::timeout(LIMIT, child.wait()).await;
    let Ok(status) = ended else {
        let text = format!("it did not end within {} minutes", LIMIT.as_secs() / 60);
        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
    };
    Ok(Ended { code: status?.code(), said: last_words(what.log).unwrap_or_default() })
}

/// The end of a log.
fn last_words(log: &Path) -> io::Result<Vec<String>> {
    let mut file = fs_err::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAXIMUM_SAID)))?;
    let mut said = Vec::new();
    file.take(MAXIMUM_SAID).read_to_end(&mut said)?;
    Ok(trial::lines(&said))
}
