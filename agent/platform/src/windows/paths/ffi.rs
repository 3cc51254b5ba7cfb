//! What Windows offers for folders only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::ptr::null_mut;

use windows_sys::Win32::System::Com::CoTaskMemFree;
use windows_sys::Win32::UI::Shell::{FOLDERID_ProgramData, SHGetKnownFolderPath};

use super::super::ffi::LONGEST_PATH;

/// The folder of what programs keep for the whole device.
pub(super) fn program_data() -> Option<PathBuf> {
    let (folder, mut text) = (FOLDERID_ProgramData, null_mut());
    // SAFETY: the identifier is a local variable, the user is that of this process, and the result is written to a local variable. It is
    // a text that ends in NUL, or null, and belongs to this function, which frees it once, after it was copied.
    unsafe {
        let result = SHGetKnownFolderPath(&raw const folder, 0, null_mut(), &raw mut text);
        let path = (result >= 0 && !text.is_null()).then(|| {
            let length = (0..LONGEST_PATH).take_while(|index| *text.add(*index) != 0).count();
            PathBuf::from(OsString::from_wide(std::slice::from_raw_parts(text, length)))
        });
        CoTaskMemFree(text.cast_const().cast());
        path
    }
}
