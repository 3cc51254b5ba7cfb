//! Reading keys of the registry whole, and watching them. Policy and the apps' own policies come from here.

mod ffi;
mod watch;

use std::io;

use policy_schema::read::registry::RegistryValue;
use windows_registry::{Key, LOCAL_MACHINE};

pub(super) use ffi::subkeys;
pub(super) use watch::{KeyWatch, NamedKey};

/// How often a key is read that is being written to.
const READS: u32 = 20;

/// Every value of a key. One that is too large to be policy is listed, but its content is not. Values are numbered, so
/// one that is deleted while they are read would hide another: the key is read again until it did not change.
///
/// # Errors
/// The system refused, or the key changed during each of 20 reads (`ResourceBusy`).
pub(super) fn values(key: &Key) -> io::Result<Vec<RegistryValue>> {
    for _ in 0..READS {
        let before = ffi::information(key)?;
        let values = ffi::values(key, before.longest_value)?;
        if ffi::information(key)?.written == before.written {
            return Ok(values);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the key keeps changing"))
}

/// A key of `HKEY_LOCAL_MACHINE` to watch; `None` if it does not exist.
///
/// # Errors
/// Why it cannot be opened.
pub(super) fn open(name: String) -> Result<Option<NamedKey>, String> {
    match LOCAL_MACHINE.open(&name) {
        Ok(key) => Ok(Some((name, key))),
        Err(error) if is_absent(error.code().0) => Ok(None),
        Err(error) => Err(format!(r"HKLM\{name}: {error}")),
    }
}

/// The nearest key above a key that exists.
///
/// # Errors
/// Why it cannot be opened.
pub(super) fn open_above(name: &str) -> Result<Option<NamedKey>, String> {
    let above = std::iter::successors(Some(name), |key| Some(key.rsplit_once('\\')?.0)).skip(1);
    above.map(|key| open(key.to_owned())).find_map(Result::transpose).transpose()
}

/// Whether an error says that a key or value does not exist, or is just being deleted (winerror.h, as HRESULT).
pub(super) fn is_absent(code: i32) -> bool {
    [0x8007_0002_u32, 0x8007_0003, 0x8007_03fa].contains(&code.cast_unsigned())
}
