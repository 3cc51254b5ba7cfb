//! Authenticode signatures (Microsoft, `WinVerifyTrust`).

mod ffi;

use std::io;
use std::path::Path;

use crate::signature::Signature;

/// The codes of `WinVerifyTrust` for a file without a signature (Microsoft, "Example C Program: Verifying the Signature of a PE
/// File"): none, one that no provider knows, a form that none knows.
const UNSIGNED: [u32; 3] = [0x800b_0100, 0x800b_0001, 0x800b_0003];
/// The system's own failure: the cryptographic services do not answer, and so on.
const UNREADABLE: [u32; 3] = [0x8009_2026, 0x8007_0005, 0x8007_000e];

/// Verifies a file through its open handle. Revocation is not asked for online: the update must not depend on it.
///
/// # Errors
/// The system does not say.
pub fn check_signature(file: &fs_err::File, path: &Path) -> io::Result<Signature> {
    let (code, publisher) = ffi::verify(file.file(), path);
    match (code, publisher) {
        (0, Some(publisher)) => Ok(Signature::By(publisher)),
        (0, None) => Ok(Signature::Invalid("its certificate has no name".to_owned())),
        (code, _) if UNSIGNED.contains(&code) => Ok(Signature::Unsigned),
        (code, _) if UNREADABLE.contains(&code) => Err(io::Error::from_raw_os_error(code.cast_signed())),
        (code, _) => Ok(Signature::Invalid(meaning(code))),
    }
}

/// What a code of `WinVerifyTrust` means (Microsoft, "Trust and certificate error codes").
fn meaning(code: u32) -> String {
    let known = match code {
        0x8009_6010 => "the file was changed after it was signed",
        0x800b_0101 => "its certificate had expired, and no time of signing is proven",
        0x800b_0109 => "this device does not trust the authority of its certificate",
        0x800b_010a => "its certificate has no complete chain to an authority",
        0x800b_010c => "its certificate was revoked",
        0x800b_0111 => "its publisher is explicitly not trusted on this device",
        0x800b_0004 => "the system does not trust it",
        _ => return format!("Windows refuses it with {code:#x}"),
    };
    known.to_owned()
}
