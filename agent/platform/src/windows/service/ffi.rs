//! What Windows offers for services only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use std::io;
use std::path::Path;
use std::ptr::{null, null_mut};

use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE,
    RegisterEventSourceW, ReportEventW,
};

use super::super::ffi::{succeeded, wide};
use super::SOURCE;
use crate::role::Severity;

/// The longest text of an event has 31,839 characters (Microsoft, `ReportEventW`).
const MAXIMUM_TEXT: usize = 30_000;

/// Writes one entry into the event log.
pub(super) fn report_event(severity: Severity, text: &str) -> io::Result<()> {
    let source = wide(Path::new(SOURCE));
    let text: String = text.chars().filter(|character| *character != '\0').take(MAXIMUM_TEXT / 2).collect();
    let text = wide(Path::new(&text));
    let (kind, number) = match severity {
        Severity::Error => (EVENTLOG_ERROR_TYPE, 3),
        Severity::Warning => (EVENTLOG_WARNING_TYPE, 2),
        Severity::Information => (EVENTLOG_INFORMATION_TYPE, 1),
    };
    // SAFETY: source and text end in NUL and live as long as the calls; what is null is optional. The list has the one text
    // that is passed as its number. What is registered is released once.
    unsafe {
        let log = RegisterEventSourceW(null(), source.as_ptr());
        if log.is_null() {
            return Err(io::Error::last_os_error());
        }
        let texts = [text.as_ptr()];
        let reported =
            succeeded(ReportEventW(log, kind, 0, number, null_mut(), 1, 0, texts.as_ptr(), null()));
        DeregisterEventSource(log);
        reported
    }
}
