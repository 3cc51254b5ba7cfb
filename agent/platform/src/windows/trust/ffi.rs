//! The functions of Windows that verify a signature.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::CStr;
use std::fs::File;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Security::Cryptography::{CERT_NAME_ATTR_TYPE, CertGetNameStringW};
use windows_sys::Win32::Security::WinTrust::{
    WINTRUST_ACTION_GENERIC_VERIFY_V2, WINTRUST_DATA, WINTRUST_DATA_0, WINTRUST_FILE_INFO,
    WTD_CACHE_ONLY_URL_RETRIEVAL, WTD_CHOICE_FILE, WTD_DISABLE_MD2_MD4, WTD_REVOKE_NONE,
    WTD_STATEACTION_CLOSE, WTD_STATEACTION_VERIFY, WTD_UI_NONE, WTHelperGetProvCertFromChain,
    WTHelperGetProvSignerFromChain, WTHelperProvDataFromStateData, WinVerifyTrust,
};

use super::super::ffi::{units, wide};

/// Verifies a file: gives the code of `WinVerifyTrust`, and the common name of the signer if it is 0.
pub(super) fn verify(file: &File, path: &Path) -> (u32, Option<String>) {
    let path = wide(path);
    let mut subject = WINTRUST_FILE_INFO {
        cbStruct: units(size_of::<WINTRUST_FILE_INFO>()),
        pcwszFilePath: path.as_ptr(),
        hFile: file.as_raw_handle(),
        ..WINTRUST_FILE_INFO::default()
    };
    let mut data = WINTRUST_DATA {
        cbStruct: units(size_of::<WINTRUST_DATA>()),
        dwUIChoice: WTD_UI_NONE,
        fdwRevocationChecks: WTD_REVOKE_NONE,
        dwUnionChoice: WTD_CHOICE_FILE,
        Anonymous: WINTRUST_DATA_0 { pFile: &raw mut subject },
        dwStateAction: WTD_STATEACTION_VERIFY,
        dwProvFlags: WTD_CACHE_ONLY_URL_RETRIEVAL | WTD_DISABLE_MD2_MD4,
        ..WINTRUST_DATA::default()
    };
    let mut action = WINTRUST_ACTION_GENERIC_VERIFY_V2;
    // SAFETY: the structures have their sizes in them and live until after the second call, as do the path and the open file.
    let code = unsafe { WinVerifyTrust(null_mut(), &raw mut action, (&raw mut data).cast()) };
    let publisher = if code == 0 { signer(&data) } else { None };
    data.dwStateAction = WTD_STATEACTION_CLOSE;
    // SAFETY: as above; what the first call keeps is freed by this one.
    unsafe { WinVerifyTrust(null_mut(), &raw mut action, (&raw mut data).cast()) };
    (code.cast_unsigned(), publisher)
}

/// The attribute of a subject that is its common name (RFC 4519, section 2.3).
const COMMON_NAME: &CStr = c"2.5.4.3";

/// The common name in the certificate of the first signer.
fn signer(data: &WINTRUST_DATA) -> Option<String> {
    // SAFETY: the state was made by a successful verification and is not closed yet. Each pointer is checked before it is used,
    // and belongs to that state.
    let certificate = unsafe {
        let provider = WTHelperProvDataFromStateData(data.hWVTStateData);
        if provider.is_null() {
            return None;
        }
        let signer = WTHelperGetProvSignerFromChain(provider, 0, 0, 0);
        if signer.is_null() {
            return None;
        }
        let certificate = WTHelperGetProvCertFromChain(signer, 0);
        if certificate.is_null() {
            return None;
        }
        (*certificate).pCert
    };
    if certificate.is_null() {
        return None;
    }
    let mut name = vec![0_u16; 1024];
    // SAFETY: the certificate is part of the state; the buffer lives as long as the call and has the length that is passed.
    let length = unsafe {
        CertGetNameStringW(
            certificate,
            CERT_NAME_ATTR_TYPE,
            0,
            COMMON_NAME.as_ptr().cast(),
            name.as_mut_ptr(),
            units(name.len()),
        )
    };
    // With its NUL. A certificate without a name gives an empty one.
    let length = usize::try_from(length).unwrap_or(0).saturating_sub(1);
    String::from_utf16(name.get(..length)?).ok().filter(|name| !name.is_empty())
}
