//! The one place that asks for the time. Decisions get it as an argument.
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::posture;

/// The time of day.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The moment on a clock that nobody can set: time since it was first asked.
#[must_use]
pub fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// A moment by two clocks: the one that people set, and the one that counts since the system has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time of day.
    pub wall: Timestamp,
    /// `None` if the system does not say.
    pub boot: Option<SinceBoot>,
}

/// Seconds since the system has started, those included in which it slept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinceBoot {
    /// The ID of this start.
    #[serde(rename = "boot")]
    pub id: String,
    /// Counted from it.
    pub seconds: i64,
}

impl From<Timestamp> for Moment {
    fn from(wall: Timestamp) -> Self {
        Self { wall, boot: None }
    }
}

/// This moment by both clocks.
#[must_use]
pub fn moment() -> Moment {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let boot = BOOT.get_or_init(posture::boot_id).clone().zip(posture::seconds_since_boot());
    Moment { wall: now(), boot: boot.map(|(id, seconds)| SinceBoot { id, seconds }) }
}

/// How long to wait from `now` until `then`; nothing if it has passed.
#[must_use]
pub fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_until(then)).unwrap_or_default()
}

/// A time some seconds later, at the end of time at the latest.
#[must_use]
pub fn after(time: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_the_start_of_the_system_goes_on_within_one_start() {
        let first = moment();
        let second = moment();
        let (Some(first), Some(second)) = (first.boot, second.boot) else {
            // Wine has no boot ID.
            return;
        };
        assert_eq!(first.id, second.id);
        assert!(first.seconds > 0 && second.seconds >= first.seconds);
    }
}
