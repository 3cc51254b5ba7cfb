//! What Windows offers for time zones only as C functions.
#![expect(unsafe_code, reason = "an ffi.rs file calls C")]

use windows_sys::Win32::Foundation::SYSTEMTIME;
use windows_sys::Win32::System::Time::{GetTimeZoneInformation, TIME_ZONE_ID_INVALID, TIME_ZONE_INFORMATION};

use super::{Change, Rules};

/// The rules of this device; `None` if Windows does not say.
pub(super) fn rules() -> Option<Rules> {
    let mut found = TIME_ZONE_INFORMATION::default();
    // SAFETY: the structure is of the type that is written, and lives as long as the call.
    if unsafe { GetTimeZoneInformation(&raw mut found) } == TIME_ZONE_ID_INVALID {
        return None;
    }
    Some(Rules {
        bias: found.Bias,
        standard_bias: found.StandardBias,
        daylight_bias: found.DaylightBias,
        changes: change(found.StandardDate).zip(change(found.DaylightDate)),
    })
}

/// `None` for a zone without change, or one that changes only once, in one year.
fn change(date: SYSTEMTIME) -> Option<Change> {
    (date.wMonth > 0 && date.wYear == 0).then_some(Change {
        month: date.wMonth,
        week: date.wDay,
        day: date.wDayOfWeek,
        hour: date.wHour,
        minute: date.wMinute,
    })
}
