//! Signatures of packages. A package of Debian has none that dpkg knows (dpkg(1), `no-debsig`); one of rpm may have one.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::signature::Signature;

/// Whether the signature of a package is right, if it has one (rpmkeys(8)): rpm knows keys, and no names of publishers.
///
/// # Errors
/// `rpmkeys` cannot be run.
pub fn check_signature(_: &fs_err::File, path: &Path) -> io::Result<Signature> {
    if path.extension().is_none_or(|ending| ending != "rpm") {
        return Ok(Signature::NoPublishers);
    }
    let mut command = Command::new("rpmkeys");
    command.arg("--checksig").arg(path).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output()?;
    if output.status.success() {
        return Ok(Signature::NoPublishers);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last().and_then(|line| line.rsplit_once(": ")).map_or("", |(_, said)| said);
    Ok(Signature::Invalid(format!("rpmkeys says: {line}")))
}
