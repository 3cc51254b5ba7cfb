//! When a window of policy is open, in the local time of a device.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};
use policy_schema::window::Window;

/// When a window is open next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It is open.
    Now,
    /// It opens then.
    At(Timestamp),
}

/// Looks from `now` on. Where clocks go forward over the time at which it opens or closes, that moves by the same hour, so it
/// opens on every one of its days; where they go back, the first of the two times counts.
pub(crate) fn next(window: &Window, zone: &TimeZone, now: Timestamp) -> Opening {
    let today = zone.to_datetime(now).date();
    // One that opened yesterday may be open still, and the next one opens within a week.
    let days = (-1..=8).filter_map(|days| today.checked_add(days.days()).ok());
    let mut opens = Timestamp::MAX;
    for day in days.filter(|day| window.opens_on(day.weekday())) {
        let Some((from, until)) = on_day(window, zone, day) else { continue };
        if from <= now && now < until {
            return Opening::Now;
        }
        if from > now {
            opens = opens.min(from);
        }
    }
    Opening::At(opens)
}

fn on_day(window: &Window, zone: &TimeZone, day: Date) -> Option<(Timestamp, Timestamp)> {
    let over_midnight = window.closes() <= window.opens();
    let last = if over_midnight { day.checked_add(1.day()).ok()? } else { day };
    let (opens, closes) = (day.to_datetime(window.opens()), last.to_datetime(window.closes()));
    let moment = |time| zone.to_ambiguous_timestamp(time);
    let (from, until) = (moment(opens).compatible().ok()?, moment(closes).compatible().ok()?);
    if matches!(moment(opens).offset(), AmbiguousOffset::Gap { .. }) {
        // It opens later, and is open as long as on other days.
        return Some((from, from.checked_add(opens.duration_until(closes)).ok()?));
    }
    Some((from, until))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn opening(window: &str, zone: &str, now: &str) -> String {
        let zone = TimeZone::posix(zone).unwrap();
        match next(&window.parse().unwrap(), &zone, now.parse().unwrap()) {
            Opening::Now => "now".to_owned(),
            Opening::At(time) => time.to_string(),
        }
    }

    #[test]
    fn window_opens_at_local_time_on_its_days() {
        for (window, now, expected) in [
            // 2026-11-26 is a Thursday; Berlin is one hour ahead.
            ("22:00-05:00", "2026-11-26T20:59:59Z", "2026-11-26T21:00:00Z"),
            ("22:00-05:00", "2026-11-26T21:00:00Z", "now"),
            ("22:00-05:00", "2026-11-27T03:59:59Z", "now"),
            ("22:00-05:00", "2026-11-27T04:00:00Z", "2026-11-27T21:00:00Z"),
            ("Mon-Fri 22:00-05:00", "2026-11-28T03:00:00Z", "now"),
            ("Mon-Fri 22:00-05:00", "2026-11-28T04:00:00Z", "2026-11-30T21:00:00Z"),
            ("Thu 09:00-17:00", "2026-11-26T16:00:00Z", "2026-12-03T08:00:00Z"),
        ] {
            assert_eq!(opening(window, BERLIN, now), expected, "{window} {now}");
        }
    }

    #[test]
    fn window_is_not_skipped_where_clocks_change() {
        for (window, now, expected) in [
            // Clocks go forward at 2026-03-29T01:00:00Z: there is no 02:30.
            ("02:15-02:45", "2026-03-29T00:30:00Z", "2026-03-29T01:15:00Z"),
            ("02:15-02:45", "2026-03-29T01:20:00Z", "now"),
            ("02:30-03:10", "2026-03-29T01:15:00Z", "2026-03-29T01:30:00Z"),
            ("02:30-03:10", "2026-03-29T01:30:00Z", "now"),
            ("02:30-03:10", "2026-03-29T02:10:00Z", "2026-03-30T00:30:00Z"),
            ("22:00-05:00", "2026-03-29T02:59:00Z", "now"),
            // They go back at 2026-10-25T01:00:00Z: 02:30 comes twice.
            ("02:15-02:45", "2026-10-25T00:20:00Z", "now"),
            ("02:15-02:45", "2026-10-25T01:20:00Z", "2026-10-26T01:15:00Z"),
        ] {
            assert_eq!(opening(window, BERLIN, now), expected, "{window} {now}");
        }
    }

    proptest! {
        #[test]
        fn next_opening_is_in_the_future_within_eight_days_and_open(
            second in 0_i64..4_000_000_000,
            opens in (0_i8..24, 0_i8..60),
            closes in (0_i8..24, 0_i8..60),
            first in 0_usize..7,
            last in 0_usize..7,
            zone in prop::sample::select(vec!["UTC0", BERLIN, "NZST-12NZDT,M9.5.0,M4.1.0/3", "NST3:30NDT,M3.2.0,M11.1.0"]),
        ) {
            let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let text = format!("{}-{} {:02}:{:02}-{:02}:{:02}", days[first], days[last], opens.0, opens.1, closes.0, closes.1);
            let Ok(window) = text.parse::<Window>() else { return Ok(()) };
            let zone = TimeZone::posix(zone).unwrap();
            let now = Timestamp::from_second(second).unwrap();
            if let Opening::At(time) = next(&window, &zone, now) {
                prop_assert!(time > now && time.duration_since(now).as_hours() <= 8 * 24, "{} {}", text, now);
                prop_assert_eq!(next(&window, &zone, time), Opening::Now, "{} {}", text, now);
            }
        }
    }
}
