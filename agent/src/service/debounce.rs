//! PURE: when to read policy after a hint that it may have changed.
//!
//! One hint is followed at once. Hints that come in a row, or that say that more may be coming, are followed once they
//! have settled, but never later than a limit. Moments are time since the start of the process
//! ([`platform::clock::monotonic`]).

use std::time::Duration;

use platform::watch::Hint;

use crate::policy::Vanished;

/// After a read, the next one waits at least this long, and four times as long as the read took.
const QUIET: Duration = Duration::from_millis(50);
/// What has gone may be about to come back under the same name, as when an editor keeps a copy of the old file.
const SETTLE: Duration = Duration::from_millis(400);
/// Values that Group Policy has removed may take some seconds to be there again.
const SETTLE_VALUES: Duration = Duration::from_secs(3);
/// Changes that never stop coming are not waited for any longer than this.
const LONGEST_SETTLE: Duration = Duration::from_secs(5);

/// Whether a read is pending, and when it may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Debounce {
    /// No read is pending. One that a hint asks for begins after `until`.
    Quiet { until: Duration },
    /// A read is pending. While changes keep coming it is put off, at the latest until `latest`.
    Pending { at: Duration, latest: Option<Duration> },
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A source may have changed.
    Hinted(Hint),
    /// Time has passed.
    Due,
    /// Policy was read, which took so long.
    Read { took: Duration },
    /// Something has vanished. A second read decides, in a moment or later.
    Vanished(Vanished),
}

impl Debounce {
    /// The next state, and whether policy is to be read now.
    pub(super) fn step(self, event: Event, now: Duration) -> (Self, bool) {
        match event {
            Event::Hinted(hint) => {
                let (earliest, latest) = match self {
                    Self::Quiet { until } => (until, None),
                    Self::Pending { at, latest } => (at, latest),
                };
                let (at, latest) = match hint {
                    Hint::Changed | Hint::Rearranged => (earliest, latest),
                    Hint::Unsettled => {
                        let latest = latest.unwrap_or(now + LONGEST_SETTLE);
                        (earliest.max((now + SETTLE).min(latest)), Some(latest))
                    }
                };
                (Self::Pending { at, latest }, at <= now)
            }
            Event::Due => match self {
                Self::Pending { at, .. } => (self, at <= now),
                Self::Quiet { .. } => (self, false),
            },
            Event::Read { took } => (Self::Quiet { until: now + QUIET.max(took * 4) }, false),
            Event::Vanished(vanished) => {
                (Self::Pending { at: now + second_read(vanished), latest: None }, false)
            }
        }
    }

    /// When a pending read is due.
    pub(super) fn due(self) -> Option<Duration> {
        match self {
            Self::Quiet { .. } => None,
            Self::Pending { at, .. } => Some(at),
        }
    }
}

/// How long to wait before the second read after something has vanished.
pub(super) fn second_read(vanished: Vanished) -> Duration {
    match vanished {
        Vanished::Source => SETTLE,
        Vanished::Values => SETTLE_VALUES,
        Vanished::Place => LONGEST_SETTLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A name, events each at its moment in milliseconds, and the moments at which policy is read.
    type Case<'c> = (&'c str, &'c [(u64, Event)], &'c [u64]);

    /// Steps through events, each at its moment; gives the moments at which policy was read.
    fn reads(events: &[(u64, Event)]) -> Vec<u64> {
        let mut state = Debounce::Quiet { until: Duration::ZERO };
        let mut reads = Vec::new();
        for (moment, event) in events {
            let (next, read) = state.step(*event, at(*moment));
            state = next;
            if read {
                reads.push(*moment);
                state = state.step(Event::Read { took: Duration::ZERO }, at(*moment)).0;
            }
        }
        reads
    }

    #[test]
    fn hints_are_followed_at_once_when_quiet_and_later_when_they_come_in_a_row() {
        use Event::{Due, Hinted};
        let (changed, unsettled) = (Hinted(Hint::Changed), Hinted(Hint::Unsettled));
        let cases: [Case<'_>; 7] = [
            ("one change", &[(1000, changed)], &[1000]),
            ("nothing but time", &[(1000, Due), (2000, Due)], &[]),
            (
                "two changes in a row",
                &[(1000, changed), (1010, changed), (1049, Due), (1050, Due)],
                &[1000, 1050],
            ),
            ("two changes apart", &[(1000, changed), (1100, changed)], &[1000, 1100]),
            ("an unsettled one", &[(1000, unsettled), (1399, Due), (1400, Due)], &[1400]),
            (
                "unsettled ones that follow one another",
                &[(1000, unsettled), (1300, unsettled), (1400, Due), (1700, Due)],
                &[1700],
            ),
            ("a change that is unsettled first", &[(1000, unsettled), (1001, changed), (1400, Due)], &[1400]),
        ];
        for (case, events, expected) in cases {
            assert_eq!(reads(events), expected, "{case}");
        }
    }

    #[test]
    fn changes_that_never_stop_are_read_after_the_limit() {
        let events: Vec<(u64, Event)> =
            (0..100).map(|number| (1000 + number * 100, Event::Hinted(Hint::Unsettled))).collect();
        assert_eq!(reads(&events), [6000]);
    }

    #[test]
    fn read_that_took_long_is_followed_by_a_longer_rest() {
        let (state, _) = Debounce::Quiet { until: at(0) }.step(Event::Read { took: at(500) }, at(1000));
        assert_eq!(state, Debounce::Quiet { until: at(3000) });
        let (state, read) = state.step(Event::Hinted(Hint::Changed), at(1500));
        assert_eq!((state.due(), read), (Some(at(3000)), false));
    }

    #[test]
    fn policy_that_has_vanished_is_read_again_in_a_moment() {
        for (vanished, due) in [(Vanished::Source, 1400), (Vanished::Values, 4000), (Vanished::Place, 6000)] {
            let quiet = Debounce::Quiet { until: at(0) };
            let (state, read) = quiet.step(Event::Vanished(vanished), at(1000));
            assert_eq!((state.due(), read), (Some(at(due)), false), "{vanished:?}");
            assert!(state.step(Event::Due, at(due)).1);
        }
    }
}
