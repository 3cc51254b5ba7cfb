//! The proxy that the system itself names. A service as LocalSystem has WinHTTP's settings of the device; a user the Internet
//! settings, with their automatic configuration (PAC), which WinHTTP evaluates (Microsoft, "WinHTTP AutoProxy Support").

mod ffi;

use std::io;

use super::security;
use crate::proxy::SystemProxy;

/// What the system says about an address; `None` if it names no proxy at all. May take seconds: a script may have to be found
/// and fetched.
///
/// # Errors
/// The settings cannot be read.
pub fn for_url(url: &str) -> io::Result<Option<SystemProxy>> {
    let of_service = security::is_local_system()?;
    if of_service && let Some((proxies, bypass)) = ffi::of_device()? {
        let source = "WinHTTP's settings of this device (`netsh winhttp show proxy`)".to_owned();
        return Ok(Some(SystemProxy { proxies, bypass, source }));
    }
    let settings = ffi::of_user()?;
    let whose = if of_service { "the Internet settings of SYSTEM" } else { "this user's Internet settings" };
    let mut source = whose.to_owned();
    if settings.detect || settings.script.is_some() {
        let script = settings.script.as_deref();
        let what = script.map_or_else(|| "found in the network".to_owned(), |script| format!("at {script}"));
        match ffi::automatic(url, settings.detect, script) {
            Ok(found) => {
                let source = format!("{whose}, automatic configuration {what}");
                let (proxies, bypass) = found.unwrap_or_default();
                return Ok(Some(SystemProxy { proxies, bypass, source }));
            }
            // A network without a script is nothing unusual.
            Err(_) if script.is_none() => {}
            Err(error) => {
                source = format!("{whose}, whose automatic configuration {what} cannot be used ({error})");
            }
        }
    }
    let told = settings.script.is_some() || settings.proxies.is_some();
    Ok(told.then(|| SystemProxy {
        proxies: settings.proxies.unwrap_or_default(),
        bypass: settings.bypass.unwrap_or_default(),
        source,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_user_and_device_are_read_and_a_script_that_is_not_there_is_an_error() {
        ffi::of_user().unwrap();
        ffi::of_device().unwrap();
        ffi::automatic("https://example.com/", false, Some("http://127.0.0.1:9/none.pac")).unwrap_err();
    }
}
