//! What Windows offers for proxies only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::ffi::{OsStr, c_void};
use std::io;
use std::path::Path;
use std::ptr::{NonNull, null};

use windows_sys::Win32::Foundation::GlobalFree;
use windows_sys::Win32::Networking::WinHttp::{
    WINHTTP_ACCESS_TYPE_NAMED_PROXY, WINHTTP_ACCESS_TYPE_NO_PROXY, WINHTTP_AUTO_DETECT_TYPE_DHCP,
    WINHTTP_AUTO_DETECT_TYPE_DNS_A, WINHTTP_AUTOPROXY_AUTO_DETECT, WINHTTP_AUTOPROXY_CONFIG_URL,
    WINHTTP_AUTOPROXY_OPTIONS, WINHTTP_CURRENT_USER_IE_PROXY_CONFIG, WINHTTP_PROXY_INFO, WinHttpCloseHandle,
    WinHttpGetDefaultProxyConfiguration, WinHttpGetIEProxyConfigForCurrentUser, WinHttpGetProxyForUrl,
    WinHttpOpen, WinHttpSetTimeouts,
};

use super::super::ffi::{succeeded, wide};

/// How long each step of finding and fetching a script may take, in milliseconds.
const LIMIT: i32 = 5000;
/// `ERROR_WINHTTP_LOGIN_FAILURE` (winhttp.h).
const LOGIN_FAILURE: i32 = 12015;
/// The longest text that is read, in UTF-16 units.
const MAXIMUM_TEXT: usize = 64 * 1024;

/// A list of proxies, and of what is reached without them.
pub(super) type Named = (String, String);

/// The Internet settings of a user.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// A script is looked for in the network (WPAD).
    pub(super) detect: bool,
    pub(super) script: Option<String>,
    pub(super) proxies: Option<String>,
    pub(super) bypass: Option<String>,
}

/// The Internet settings of the user who runs this process.
pub(super) fn of_user() -> io::Result<Settings> {
    let mut found = WINHTTP_CURRENT_USER_IE_PROXY_CONFIG::default();
    // SAFETY: the structure is of the type that is written, and lives as long as the call. What it points to afterwards is
    // given to `Text` alone.
    unsafe {
        succeeded(WinHttpGetIEProxyConfigForCurrentUser(&raw mut found))?;
        Ok(Settings {
            detect: found.fAutoDetect != 0,
            script: Text::owned(found.lpszAutoConfigUrl),
            proxies: Text::owned(found.lpszProxy),
            bypass: Text::owned(found.lpszProxyBypass),
        })
    }
}

/// WinHTTP's settings of the device; `None` if they name no proxy.
pub(super) fn of_device() -> io::Result<Option<Named>> {
    let mut found = WINHTTP_PROXY_INFO::default();
    // SAFETY: the structure is of the type that is written, and lives as long as the call.
    succeeded(unsafe { WinHttpGetDefaultProxyConfiguration(&raw mut found) })?;
    // SAFETY: Windows has written it.
    Ok(unsafe { named(&found) })
}

/// What a script says about an address: one that is found in the network, or one at an address. `None` if it says that no
/// proxy is needed.
///
/// Who serves the script is told who asks only if it demands that and an administrator has named its address: whoever answers
/// a search in the network must not get the user's credentials.
pub(super) fn automatic(url: &str, detect: bool, script: Option<&str>) -> io::Result<Option<Named>> {
    match ask(url, detect, script, false) {
        Err(error) if error.raw_os_error() == Some(LOGIN_FAILURE) && script.is_some() => {
            ask(url, false, script, true)
        }
        result => result,
    }
}

fn ask(url: &str, detect: bool, script: Option<&str>, log_on: bool) -> io::Result<Option<Named>> {
    let url = wide(Path::new(OsStr::new(url)));
    let script = script.map(|script| wide(Path::new(OsStr::new(script))));
    let mut options =
        WINHTTP_AUTOPROXY_OPTIONS { fAutoLogonIfChallenged: i32::from(log_on), ..Default::default() };
    if let Some(script) = &script {
        options.dwFlags |= WINHTTP_AUTOPROXY_CONFIG_URL;
        options.lpszAutoConfigUrl = script.as_ptr();
    }
    if detect {
        options.dwFlags |= WINHTTP_AUTOPROXY_AUTO_DETECT;
        options.dwAutoDetectFlags = WINHTTP_AUTO_DETECT_TYPE_DHCP | WINHTTP_AUTO_DETECT_TYPE_DNS_A;
    }
    let session = Session::open()?;
    let mut found = WINHTTP_PROXY_INFO::default();
    // SAFETY: the session is open. Address and script end in NUL; they, the options and the result live as long as the call,
    // and the result is of the type that is written.
    unsafe {
        succeeded(WinHttpGetProxyForUrl(session.0.as_ptr(), url.as_ptr(), &raw mut options, &raw mut found))?;
        Ok(named(&found))
    }
}

/// A session, which WinHTTP needs to fetch a script.
struct Session(NonNull<c_void>);

impl Session {
    fn open() -> io::Result<Self> {
        let name = wide(Path::new("steward"));
        // SAFETY: the name ends in NUL and lives as long as the call; what is null is optional. What is returned is given to
        // `Self` alone.
        let session = unsafe { WinHttpOpen(name.as_ptr(), WINHTTP_ACCESS_TYPE_NO_PROXY, null(), null(), 0) };
        let session = NonNull::new(session).map(Self).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the session is open.
        succeeded(unsafe { WinHttpSetTimeouts(session.0.as_ptr(), LIMIT, LIMIT, LIMIT, LIMIT) })?;
        Ok(session)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: `open` got it, and it is closed once.
        unsafe { WinHttpCloseHandle(self.0.as_ptr()) };
    }
}

/// Reads and frees the texts of a result.
///
/// # Safety
/// WinHTTP has written it, and nothing else frees its texts.
unsafe fn named(found: &WINHTTP_PROXY_INFO) -> Option<Named> {
    // SAFETY: the caller promises it.
    let (proxies, bypass) = unsafe { (Text::owned(found.lpszProxy), Text::owned(found.lpszProxyBypass)) };
    proxies
        .filter(|_| found.dwAccessType == WINHTTP_ACCESS_TYPE_NAMED_PROXY)
        .map(|proxies| (proxies, bypass.unwrap_or_default()))
}

/// A text that WinHTTP allocated with `GlobalAlloc`.
struct Text(NonNull<u16>);

impl Text {
    /// Reads a text and frees it; `None` if it is null or empty.
    ///
    /// # Safety
    /// It is null, or it comes from `GlobalAlloc`, ends in NUL, and nothing else frees it.
    unsafe fn owned(text: *mut u16) -> Option<String> {
        let text = Self(NonNull::new(text)?);
        let start = text.0.as_ptr();
        // SAFETY: the caller promises a NUL at the end, and nothing behind it is read.
        let units = unsafe {
            let length = (0..MAXIMUM_TEXT).take_while(|&index| *start.add(index) != 0).count();
            std::slice::from_raw_parts(start, length)
        };
        Some(String::from_utf16_lossy(units)).filter(|text| !text.is_empty())
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: the caller of `owned` has promised that it comes from `GlobalAlloc` and that nothing else frees it.
        unsafe { GlobalFree(self.0.as_ptr().cast()) };
    }
}
