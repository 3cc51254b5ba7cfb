//! PURE: when a report is due, and whether a new one has to be made.

use jiff::Timestamp;
use platform::clock;

/// The bound of the pause after the first failure, which may be a moment's, and of every later one, in seconds. A fleet that tried more
/// often in between would come back in a herd: what arrives in the second in which a receiver is back is what each device tries in the
/// hour before, times the rate of a quiet hour.
const FIRST_PAUSE: u64 = 30;
const LONGEST_PAUSE: u64 = 30 * 60;
/// Two reports of an unchanged device are not closer than this, in seconds.
const CLOSEST: u64 = 60;
/// How soon a change that came while a report was under way is reported, in seconds.
const SOON: u64 = 1;

/// The delivery of reports. `dirty` says that there is something that no report has told yet; else only what waits on
/// disk is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing is under way; the next one is due then.
    Waiting {
        /// When.
        due: Timestamp,
        /// There is something that no report has told.
        dirty: bool,
        /// How many tries have failed, one after the other.
        failures: u32,
    },
    /// One is under way.
    Sending {
        /// Something has changed since it began.
        dirty: bool,
        /// How many tries have failed before it.
        failures: u32,
    },
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something has changed that is to be reported by then.
    Changed {
        /// When.
        by: Timestamp,
    },
    /// An administrator wants to know whether it works now.
    Requested {
        /// The time.
        now: Timestamp,
    },
    /// Policy names another receiver: what the last one wanted says nothing about this one.
    OtherReceiver {
        /// When it is served at the latest.
        by: Timestamp,
    },
    /// A delivery begins.
    Started,
    /// A delivery has ended.
    Finished(End),
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// Between reports while nothing changes, in seconds.
    pub interval: u64,
    /// The place of this device within each interval ([`next_slot`]).
    pub phase: u64,
    /// How long the receiver wants to be left alone, in seconds.
    pub retry_after: Option<u64>,
    /// Spreads the retries of a fleet.
    pub random: u64,
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing waits any more.
    Delivered,
    /// The receiver works, but has not taken every report.
    InPart,
    /// Reports still wait on disk.
    Left,
    /// No new report could be made.
    NotMade,
}

impl Delivery {
    /// At the start everything is new.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self::Waiting { due: now, dirty: true, failures: 0 }
    }

    /// The next state.
    #[must_use]
    pub fn step(self, event: Event) -> Self {
        match (self, event) {
            (Self::Waiting { due, failures: 0, .. }, Event::Changed { by }) => {
                Self::Waiting { due: due.min(by), dirty: true, failures: 0 }
            }
            // A receiver that fails, or wants to be left alone, is not called earlier because a whole fleet has changed.
            (Self::Waiting { due, failures, .. }, Event::Changed { .. }) => {
                Self::Waiting { due, dirty: true, failures }
            }
            (Self::Waiting { dirty, failures, .. }, Event::Requested { now }) if failures > 0 => {
                Self::Waiting { due: now, dirty, failures }
            }
            (quiet, Event::Requested { .. }) => quiet,
            (Self::Waiting { .. }, Event::OtherReceiver { by }) => {
                Self::Waiting { due: by, dirty: true, failures: 0 }
            }
            (Self::Sending { .. }, Event::OtherReceiver { .. }) => Self::Sending { dirty: true, failures: 0 },
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
        let End { at, outcome, interval, phase, retry_after, random } = end;
        let due = |seconds| clock::after(at, seconds);
        match outcome {
            // The next one tells how the device is then.
            Outcome::Delivered => {
                let due = if dirty { due(SOON) } else { next_slot(at, interval, phase) };
                Self::Waiting { due, dirty: true, failures: 0 }
            }
            Outcome::InPart => {
                let pause = if dirty { SOON } else { pause(1, random).min(interval) };
                let pause = pause.max(retry_after.unwrap_or(0));
                Self::Waiting { due: due(pause), dirty, failures: 0 }
            }
            Outcome::Left | Outcome::NotMade => {
                let asked = retry_after.unwrap_or(0);
                let pause = pause(failures, random).max(asked).min(interval.max(asked));
                // After a moment the same report goes again; after longer, one that says how the device is then.
                let dirty = dirty || outcome == Outcome::NotMade || failures > 0;
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
    #[must_use]
    pub fn due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { due, .. } => Some(due),
            Self::Sending { .. } => None,
        }
    }

    /// Whether a new report has to be made.
    #[must_use]
    pub fn is_dirty(self) -> bool {
        match self {
            Self::Waiting { dirty, .. } | Self::Sending { dirty, .. } => dirty,
        }
    }
}

/// When an unchanged device reports again: each device has its own place in every interval, whatever happened before. So a fleet that
/// lost its receiver, or changed in one instant, is spread again after one interval. `phase` is any number that is the device's own.
#[must_use]
pub fn next_slot(now: Timestamp, interval: u64, phase: u64) -> Timestamp {
    let interval = interval.max(1);
    let second = u64::try_from(now.as_second()).unwrap_or(0);
    let wait = (phase % interval + interval - second % interval) % interval;
    clock::after(now, if wait < CLOSEST.min(interval) { wait + interval } else { wait })
}

/// The pause before the next try, in seconds: anything from 1 to its bound ("full jitter"), so that a fleet that lost its receiver
/// does not come back at once.
pub(super) fn pause(failures: u32, random: u64) -> u64 {
    let bound = if failures == 0 { FIRST_PAUSE } else { LONGEST_PAUSE };
    1 + random % bound
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    /// The place of the device of the tests in each hour.
    const PHASE: u64 = 100;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn end(outcome: Outcome) -> Event {
        Event::Finished(End {
            at: at(1000),
            outcome,
            interval: HOUR,
            phase: PHASE,
            retry_after: None,
            random: 4,
        })
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
            ("asked for", waiting(5000, true, 2), Event::Requested { now: at(10) }, waiting(10, true, 2)),
            (
                "asked for in vain",
                waiting(5000, true, 0),
                Event::Requested { now: at(10) },
                waiting(5000, true, 0),
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
                waiting(3700, true, 0),
            ),
            (
                "and changed since",
                Sending { dirty: true, failures: 3 },
                end(Outcome::Delivered),
                waiting(1001, true, 0),
            ),
            ("in part", Sending { dirty: false, failures: 3 }, end(Outcome::InPart), waiting(1005, false, 0)),
            (
                "in part and changed",
                Sending { dirty: true, failures: 3 },
                end(Outcome::InPart),
                waiting(1001, true, 0),
            ),
            (
                "another receiver",
                waiting(5000, false, 9),
                Event::OtherReceiver { by: at(10) },
                waiting(10, true, 0),
            ),
            (
                "another receiver while one is under way",
                Sending { dirty: false, failures: 9 },
                Event::OtherReceiver { by: at(10) },
                Sending { dirty: true, failures: 0 },
            ),
            ("left again", Sending { dirty: false, failures: 1 }, end(Outcome::Left), waiting(1005, true, 2)),
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
            phase: PHASE,
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
    fn pauses_use_the_whole_range_up_to_their_bound() {
        for (failures, bound) in [(0, FIRST_PAUSE), (1, LONGEST_PAUSE), (u32::MAX, LONGEST_PAUSE)] {
            let pauses: Vec<u64> = (0..20_000).map(|random| pause(failures, random)).collect();
            assert_eq!((pauses.iter().min(), pauses.iter().max()), (Some(&1), Some(&bound)));
        }
    }

    #[test]
    fn device_reports_in_its_own_place_of_each_interval_and_never_twice_in_a_minute() {
        for (now, expected) in
            [(0, 100), (39, 100), (41, 3700), (100, 3700), (1000, 3700), (3700, 7300), (7199, 7300)]
        {
            assert_eq!(next_slot(at(now), HOUR, PHASE), at(expected), "{now}");
            assert_eq!(next_slot(at(now), HOUR, PHASE + 50 * HOUR), at(expected), "{now}");
        }
        // A clock before 1970, and an interval that no policy allows.
        assert!(next_slot(Timestamp::MIN, HOUR, 1) > Timestamp::MIN && next_slot(at(5), 0, 1) > at(5));
    }

    /// The herd: a fleet whose receiver was away for an hour does not come back in one instant, neither then nor an hour later. By the
    /// scheduler itself, with a clock of its own.
    #[test]
    fn fleet_spreads_itself_after_an_outage() {
        const DEVICES: usize = 100_000;
        const OUTAGE: std::ops::Range<i64> = 7200..10_800;
        const END: i64 = 10_800 + 3 * 3600;
        // A generator that is good enough to spread, and the same in each run (Steele, Lea, Flood: "SplitMix").
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let phases: Vec<u64> = (0..DEVICES).map(|_| random()).collect();
        let mut devices: Vec<Delivery> = phases
            .iter()
            .map(|phase| Delivery::Waiting { due: next_slot(at(0), HOUR, *phase), dirty: true, failures: 0 })
            .collect();
        let mut buckets: Vec<Vec<usize>> = vec![Vec::new(); usize::try_from(END).unwrap()];
        let place = |due: Timestamp| usize::try_from(due.as_second()).unwrap();
        for (device, delivery) in devices.iter().enumerate() {
            buckets[place(delivery.due().unwrap())].push(device);
        }
        let mut arrivals = vec![0_usize; buckets.len()];
        for second in 0..buckets.len() {
            let now = at(i64::try_from(second).unwrap());
            for device in std::mem::take(&mut buckets[second]) {
                arrivals[second] += 1;
                let is_away = OUTAGE.contains(&now.as_second());
                let outcome = if is_away { Outcome::Left } else { Outcome::Delivered };
                let (phase, random) = (phases[device], random());
                let end = End { at: now, outcome, interval: HOUR, phase, retry_after: None, random };
                let next = devices[device].step(Event::Started).step(Event::Finished(end));
                devices[device] = next;
                if let Some(bucket) = buckets.get_mut(place(next.due().unwrap())) {
                    bucket.push(device);
                }
            }
        }
        let hour = |first: usize| &arrivals[first..first + 3600];
        let (mean, peak) =
            (|first| hour(first).iter().sum::<usize>() / 3600, |first| *hour(first).iter().max().unwrap());
        for first in [3600, 10_800, 14_400, 18_000] {
            assert!(peak(first) <= 3 * mean(first), "{first}: {} of {}", peak(first), mean(first));
        }
        // An hour later nothing of it is left.
        assert!(mean(14_400) <= DEVICES / 3600 + 1, "{}", mean(14_400));
    }
}
