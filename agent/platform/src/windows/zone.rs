//! The time zone of the device.

mod ffi;

use jiff::tz::TimeZone;

use crate::paths::Paths;

/// The time zone of the device, with the rules that Windows has for this year. UTC if Windows does not say.
#[must_use]
pub fn local(_paths: &Paths) -> TimeZone {
    ffi::rules().and_then(|rules| TimeZone::posix(&rules.posix()).ok()).unwrap_or(TimeZone::UTC)
}

/// What Windows says about a time zone (`TIME_ZONE_INFORMATION`). All differences are to be added to local time to get UTC.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Minutes.
    bias: i32,
    /// Minutes besides, in standard time and in daylight saving time.
    standard_bias: i32,
    daylight_bias: i32,
    /// When each begins, if the zone has both.
    changes: Option<(Change, Change)>,
}

/// The local time at which something begins each year.
#[derive(Clone, Copy, Debug)]
struct Change {
    month: u16,
    /// From 1 to 4, or 5 for the last one.
    week: u16,
    /// From 0, Sunday.
    day: u16,
    hour: u16,
    minute: u16,
}

impl Rules {
    /// As POSIX writes it (XBD 8.3, `TZ`).
    fn posix(&self) -> String {
        let offset = |minutes: i32| {
            let sign = if minutes < 0 { "-" } else { "" };
            format!("{sign}{}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
        };
        let standard = offset(self.bias + self.standard_bias);
        let Some((to_standard, to_daylight)) = self.changes else { return format!("STD{standard}") };
        let change = |change: Change| {
            let Change { month, week, day, hour, minute } = change;
            format!("M{month}.{week}.{day}/{hour}:{minute:02}")
        };
        let daylight = offset(self.bias + self.daylight_bias);
        format!("STD{standard}DST{daylight},{},{}", change(to_daylight), change(to_standard))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn rules_of_windows_give_local_time() {
        let change = |month, week, hour| Change { month, week, day: 0, hour, minute: 0 };
        let berlin = Rules {
            bias: -60,
            standard_bias: 0,
            daylight_bias: -60,
            changes: Some((change(10, 5, 3), change(3, 5, 2))),
        };
        let newfoundland = Rules {
            bias: 210,
            standard_bias: 0,
            daylight_bias: -60,
            changes: Some((change(11, 1, 2), change(3, 2, 2))),
        };
        let kolkata = Rules { bias: -330, standard_bias: 0, daylight_bias: -60, changes: None };
        for (rules, time, expected) in [
            (berlin, "2026-01-15T12:00:00Z", "2026-01-15T13:00:00"),
            (berlin, "2026-03-29T00:59:59Z", "2026-03-29T01:59:59"),
            (berlin, "2026-03-29T01:00:00Z", "2026-03-29T03:00:00"),
            (berlin, "2026-10-25T01:00:00Z", "2026-10-25T02:00:00"),
            (newfoundland, "2026-07-01T12:00:00Z", "2026-07-01T09:30:00"),
            (newfoundland, "2026-12-01T12:00:00Z", "2026-12-01T08:30:00"),
            (kolkata, "2026-07-01T12:00:00Z", "2026-07-01T17:30:00"),
        ] {
            let zone = TimeZone::posix(&rules.posix()).unwrap();
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(zone.to_datetime(time).to_string(), expected, "{rules:?}");
        }
    }

    #[test]
    fn zone_of_this_device_is_readable() {
        let rules = ffi::rules().unwrap();
        assert!(TimeZone::posix(&rules.posix()).is_ok(), "{rules:?}");
    }
}
