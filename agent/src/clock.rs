//! The one place that asks for the time and for randomness. Everything else gets them as arguments.
#![expect(clippy::disallowed_methods, reason = "this is the one place")]

use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The time of day.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// How long to wait from `now` until `then`; nothing if it has passed.
pub(crate) fn until(now: Timestamp, then: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(now.duration_until(then)).unwrap_or_default()
}

/// A time some seconds later, at the end of time at the latest.
pub(crate) fn after(time: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Unpredictable bytes of the operating system.
pub(crate) fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has no randomness");
    bytes
}
