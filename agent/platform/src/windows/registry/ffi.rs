//! What Windows offers for the registry only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::os::windows::io::{AsRawHandle as _, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use policy_schema::read::registry::{MAXIMUM_VALUE, RegistryValue};
use windows_registry::Key;
use windows_sys::Win32::Foundation::{
    ERROR_MORE_DATA, ERROR_NO_MORE_ITEMS, ERROR_SUCCESS, FILETIME, HANDLE, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::Registry::{
    REG_NOTIFY_CHANGE_ATTRIBUTES, REG_NOTIFY_CHANGE_LAST_SET, REG_NOTIFY_CHANGE_NAME,
    REG_NOTIFY_CHANGE_SECURITY, REG_NOTIFY_THREAD_AGNOSTIC, RegEnumKeyExW, RegEnumValueW,
    RegNotifyChangeKeyValue, RegQueryInfoKeyW,
};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects};

use super::super::ffi::{error, owned, succeeded, units};

/// The longest name of a value has 16383 characters, that of a key 255 (Microsoft, "Registry element size limits").
const LONGEST_VALUE_NAME: usize = 16_384;
const LONGEST_KEY_NAME: usize = 256;

/// What the registry keeps about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyInformation {
    /// Bytes of its longest value.
    pub(super) longest_value: usize,
    /// When it was last written to, in steps of 100 nanoseconds (FILETIME).
    pub(super) written: u64,
}

/// What the registry keeps about a key.
pub(super) fn information(key: &Key) -> io::Result<KeyInformation> {
    let mut longest = 0;
    let mut written = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    // SAFETY: `key` is open as long as it is borrowed. Both pointers that are not null are to local variables of the
    // type that the function writes.
    let code = unsafe {
        RegQueryInfoKeyW(
            key.as_raw(),
            null_mut(),
            null_mut(),
            null(),
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut longest,
            null_mut(),
            &raw mut written,
        )
    };
    if code != ERROR_SUCCESS {
        return Err(error(code));
    }
    Ok(KeyInformation {
        longest_value: longest as usize,
        written: u64::from(written.dwHighDateTime) << 32 | u64::from(written.dwLowDateTime),
    })
}

/// The values of a key, read one after the other; `longest` is how many bytes the longest has. A value that is larger
/// than [`MAXIMUM_VALUE`] is no policy: it is listed with one byte more than that, all zero.
pub(super) fn values(key: &Key, longest: usize) -> io::Result<Vec<RegistryValue>> {
    let mut name = vec![0_u16; LONGEST_VALUE_NAME];
    let mut data = vec![0_u8; longest.clamp(1024, MAXIMUM_VALUE)];
    let mut values = Vec::new();
    loop {
        let index = u32::try_from(values.len()).map_err(io::Error::other)?;
        let (mut name_length, mut length, mut kind) = (units(name.len()), units(data.len()), 0);
        // SAFETY: `key` is open as long as it is borrowed. Both buffers live as long as the call and are at least as
        // long as the length that goes with each; the kind is a local variable.
        let code = unsafe {
            RegEnumValueW(
                key.as_raw(),
                index,
                name.as_mut_ptr(),
                &raw mut name_length,
                null(),
                &raw mut kind,
                data.as_mut_ptr(),
                &raw mut length,
            )
        };
        let bytes = match code {
            ERROR_SUCCESS => data[..length as usize].to_vec(),
            ERROR_NO_MORE_ITEMS => return Ok(values),
            // It has grown since the longest was measured.
            ERROR_MORE_DATA if data.len() < MAXIMUM_VALUE => {
                data.resize((data.len() * 2).min(MAXIMUM_VALUE), 0);
                continue;
            }
            ERROR_MORE_DATA => vec![0; MAXIMUM_VALUE + 1],
            code => return Err(error(code)),
        };
        let name = String::from_utf16_lossy(&name[..name_length as usize]);
        values.push(RegistryValue { name, kind, bytes });
    }
}

/// The names of all subkeys of a key.
pub(in crate::os) fn subkeys(key: &Key) -> io::Result<Vec<String>> {
    let mut name = vec![0_u16; LONGEST_KEY_NAME];
    let mut names = Vec::new();
    loop {
        let index = u32::try_from(names.len()).map_err(io::Error::other)?;
        let mut length = units(name.len());
        // SAFETY: `key` is open as long as it is borrowed. The buffer lives as long as the call and is at least as
        // long as the length says; what is null is optional.
        let code = unsafe {
            RegEnumKeyExW(
                key.as_raw(),
                index,
                name.as_mut_ptr(),
                &raw mut length,
                null(),
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        match code {
            ERROR_SUCCESS => names.push(String::from_utf16_lossy(&name[..length as usize])),
            ERROR_NO_MORE_ITEMS => return Ok(names),
            code => return Err(error(code)),
        }
    }
}

/// Which changes of a key are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Its values, and everything below it.
    Tree,
    /// Only that a subkey is created or deleted.
    Subkeys,
}

/// A request for one notification of the next change of a key. It owns the key, because a key that is closed is
/// watched no more, and the signal, because Windows sets it as long as the key is open.
pub(super) struct Notification {
    // Fields are dropped in this order: first the key.
    _key: Key,
    signal: Arc<Signal>,
}

impl Notification {
    /// Sets the signal at the next change, and then never again.
    pub(super) fn request(key: Key, scope: Scope, signal: &Arc<Signal>) -> io::Result<Self> {
        let (subtree, filter) = match scope {
            Scope::Tree => (
                1,
                REG_NOTIFY_CHANGE_NAME
                    | REG_NOTIFY_CHANGE_ATTRIBUTES
                    | REG_NOTIFY_CHANGE_LAST_SET
                    | REG_NOTIFY_CHANGE_SECURITY,
            ),
            Scope::Subkeys => (0, REG_NOTIFY_CHANGE_NAME),
        };
        // SAFETY: key and event are open now, and `Self` keeps both open and closes the key first.
        let code = unsafe {
            RegNotifyChangeKeyValue(
                key.as_raw(),
                subtree,
                filter | REG_NOTIFY_THREAD_AGNOSTIC,
                signal.0.as_raw_handle(),
                1,
            )
        };
        if code == ERROR_SUCCESS {
            Ok(Self { _key: key, signal: Arc::clone(signal) })
        } else {
            Err(error(code))
        }
    }

    /// What it sets.
    pub(super) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }
}

/// An auto-reset event: the thread that has waited for it resets it.
#[derive(Debug)]
pub(super) struct Signal(OwnedHandle);

impl Signal {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: null for attributes and name means the defaults. The new handle is given to `owned` alone.
        unsafe { owned(CreateEventW(null(), 0, 0, null())) }.map(Self)
    }

    pub(super) fn set(&self) -> io::Result<()> {
        // SAFETY: `self` owns the event, so it is open.
        succeeded(unsafe { SetEvent(self.0.as_raw_handle()) })
    }

    /// Waits until one of at most 64 signals is set, and returns its index.
    pub(super) fn wait_for_one(signals: &[&Self]) -> io::Result<usize> {
        let handles: Vec<HANDLE> = signals.iter().map(|signal| signal.0.as_raw_handle()).collect();
        // SAFETY: the signals are borrowed, so their events are open; the number is that of the handles.
        let seen = unsafe { WaitForMultipleObjects(units(handles.len()), handles.as_ptr(), 0, INFINITE) };
        let index = seen.wrapping_sub(WAIT_OBJECT_0) as usize;
        if index < signals.len() { Ok(index) } else { Err(io::Error::last_os_error()) }
    }
}
