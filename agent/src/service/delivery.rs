//! PURE: when a report is due, and whether a new one has to be made.

use jiff::Timestamp;
use platform::clock;

/// The first bound of the pause after a failure, and the largest, in seconds.
const FIRST_PAUSE: u64 = 5;
const LONGEST_PAUSE: u64 = 15 * 60;
/// How soon a change that came while a report was under way is reported, in seconds.
const SOON: u64 = 1;

/// The delivery of reports. `dirty` says that there is something that no report has told yet; else only what waits on
/// disk is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Nothing is under way; the next one is due then.
    Waiting { due: Timestamp, dirty: bool, failures: u32 },
    /// One is under way.
    Sending { dirty: bool, failures: u32 },
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Something has changed that is to be reported by then.
    Changed { by: Timestamp },
    /// A delivery begins.
    Started,
    /// A delivery has ended.
    Finished(End),
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    /// Between reports while nothing changes, in seconds.
    pub(super) interval: u64,
    /// How long the receiver wants to be left alone, in seconds.
    pub(super) retry_after: Option<u64>,
    /// Spreads the retries of a fleet.
    pub(super) random: u64,
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing waits any more.
    Delivered,
    /// Reports still wait on disk.
    Left,
    /// No new report could be made.
    NotMade,
}

impl Delivery {
    /// At the start everything is new.
    pub(super) fn new(now: Timestamp) -> Self {
        Self::Waiting { due: now, dirty: true, failures: 0 }
    }

    /// The next state.
    pub(super) fn step(self, event: Event) -> Self {
        match (self, event) {
            (Self::Waiting { due, failures: 0, .. }, Event::Changed { by }) => {
                Self::Waiting { due: due.min(by), dirty: true, failures: 0 }
            }
            // A receiver that fails, or wants to be left alone, is not called earlier because a whole fleet has changed.
            (Self::Waiting { due, failures, .. }, Event::Changed { .. }) => {
                Self::Waiting { due, dirty: true, failures }
            }
            (Self::Sending { failures, .. }, Event::Changed { .. }) => {
                Self::Sending { dirty: true, failures }
            }
            (Self::Waiting { failures, .. } | Self::Sending { failures, .. }, Event::Started) => {
                Self::Sending { dirty: false, failures }
            }
            (
                Self::Waiting { dirty, failures, .. } | Self::Sending { dirty, failures },
                Event::Finished(end),
            ) => Self::finished(dirty, failures, end),
        }
    }

    fn finished(dirty: bool, failures: u32, end: End) -> Self {
        let End { at, outcome, interval, retry_after, random } = end;
        let due = |seconds| clock::after(at, seconds);
        match outcome {
            // The next one tells how the device is then.
            Outcome::Delivered => {
                Self::Waiting { due: due(if dirty { SOON } else { interval }), dirty: true, failures: 0 }
            }
            Outcome::Left | Outcome::NotMade => {
                let asked = retry_after.unwrap_or(0);
                let pause = pause(failures, random).max(asked).min(interval.max(asked));
                let dirty = dirty || outcome == Outcome::NotMade;
                Self::Waiting { due: due(pause), dirty, failures: failures.saturating_add(1) }
            }
        }
    }

    /// A clock that was set back must not leave anything due in years.
    pub(super) fn no_later_than(self, latest: Timestamp) -> Self {
        match self {
            Self::Waiting { due, dirty, failures } => Self::Waiting { due: due.min(latest), dirty, failures },
            sending @ Self::Sending { .. } => sending,
        }
    }

    /// When the next one is due; `None` while one is under way.
    pub(super) fn due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { due, .. } => Some(due),
            Self::Sending { .. } => None,
        }
    }

    /// Whether a new report has to be made.
    pub(super) fn is_dirty(self) -> bool {
        match self {
            Self::Waiting { dirty, .. } | Self::Sending { dirty, .. } => dirty,
        }
    }
}

/// The pause before the next try, in seconds: anything from 1 to a bound that doubles up to its cap ("full jitter"), so
/// that a fleet that lost its receiver does not come back at once.
pub(super) fn pause(failures: u32, random: u64) -> u64 {
    let bound = FIRST_PAUSE.saturating_mul(1 << failures.min(20)).min(LONGEST_PAUSE);
    1 + random % bound
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn end(outcome: Outcome) -> Event {
        Event::Finished(End { at: at(1000), outcome, interval: HOUR, retry_after: None, random: 4 })
    }

    #[test]
    fn each_event_leads_to_the_next_state() {
        use Delivery::{Sending, Waiting};
        let waiting = |due, dirty, failures| Waiting { due: at(due), dirty, failures };
        let cases = [
            ("a change hurries", waiting(5000, true, 0), Event::Changed { by: at(10) }, waiting(10, true, 0)),
            (
                "a change delays nothing",
                waiting(5, false, 2),
                Event::Changed { by: at(10) },
                waiting(5, true, 2),
            ),
            (
                "a change does not hurry to a receiver that fails",
                waiting(5000, false, 1),
                Event::Changed { by: at(10) },
                waiting(5000, true, 1),
            ),
            ("begun", waiting(5, true, 2), Event::Started, Sending { dirty: false, failures: 2 }),
            (
                "a change while one is under way",
                Sending { dirty: false, failures: 0 },
                Event::Changed { by: at(10) },
                Sending { dirty: true, failures: 0 },
            ),
            (
                "delivered",
                Sending { dirty: false, failures: 3 },
                end(Outcome::Delivered),
                waiting(4600, true, 0),
            ),
            (
                "and changed since",
                Sending { dirty: true, failures: 3 },
                end(Outcome::Delivered),
                waiting(1001, true, 0),
            ),
            ("left", Sending { dirty: false, failures: 0 }, end(Outcome::Left), waiting(1005, false, 1)),
            (
                "left and changed",
                Sending { dirty: true, failures: 0 },
                end(Outcome::Left),
                waiting(1005, true, 1),
            ),
            (
                "not made",
                Sending { dirty: false, failures: 0 },
                end(Outcome::NotMade),
                waiting(1005, true, 1),
            ),
        ];
        for (case, state, event, expected) in cases {
            assert_eq!(state.step(event), expected, "{case}");
        }
    }

    #[test]
    fn receiver_that_wants_to_be_left_alone_is() {
        let end = End {
            at: at(0),
            outcome: Outcome::Left,
            interval: 300,
            retry_after: Some(7200),
            random: u64::MAX,
        };
        let state = Delivery::Sending { dirty: false, failures: u32::MAX }.step(Event::Finished(end));
        assert_eq!(state.due(), Some(at(7200)));
        // Without its wish, a try is never later than the interval.
        let end = End { retry_after: None, ..end };
        let state = Delivery::Sending { dirty: false, failures: 30 }.step(Event::Finished(end));
        assert!(state.due().unwrap() <= at(300));
    }

    #[test]
    fn clock_that_was_set_back_leaves_nothing_due_in_years() {
        let state = Delivery::Waiting { due: Timestamp::MAX, dirty: true, failures: 0 };
        assert_eq!(state.no_later_than(at(9)).due(), Some(at(9)));
    }

    #[test]
    fn pauses_grow_to_their_cap_and_use_the_whole_range() {
        for failures in [0, 3, 30, u32::MAX] {
            let pauses: Vec<u64> = (0..20_000).map(|random| pause(failures, random)).collect();
            let bound = (FIRST_PAUSE << failures.min(20)).min(LONGEST_PAUSE);
            assert_eq!((pauses.iter().min(), pauses.iter().max()), (Some(&1), Some(&bound)));
        }
    }
}
