//! The time of this server, which is the time of everything that is kept: clocks of devices may be wrong.

use jiff::Timestamp;

/// A moment, in milliseconds since 1970 (UTC).
pub(crate) type Moment = i64;

pub(crate) fn now() -> Moment {
    platform::clock::now().as_millisecond()
}

/// As pages print it.
pub(crate) fn print(moment: Moment) -> String {
    Timestamp::from_millisecond(moment)
        .map_or_else(|_| "unknown".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
