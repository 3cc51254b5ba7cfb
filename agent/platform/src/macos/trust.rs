//! Signatures of installer packages.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::pkgutil;
use crate::signature::Signature;

/// What `pkgutil --check-signature` says about a package.
///
/// # Errors
/// It cannot be run, or says nothing that is understood.
pub fn check_signature(_: &fs_err::File, path: &Path) -> io::Result<Signature> {
    let mut command = Command::new("/usr/sbin/pkgutil");
    command.arg("--check-signature").arg(path).env("LC_ALL", "C").stdin(Stdio::null());
    pkgutil::signature(&String::from_utf8_lossy(&command.output()?.stdout))
}
