//! When users are told of an update that waits for their app, and when the app is closed for it.
//!
//! In: the update that waits ([`Waiting`]), and the time. Out: what to do ([`Step`]). Called by the machine service in each round.
//! It is kept in memory only: after a restart of the agent users are told once more, which does no harm, and nobody's app is closed
//! without that.

use jiff::{SignedDuration, Timestamp};
use policy_schema::settings::UpdateAppClose;
use semver::Version;

use crate::Journal;
use crate::journal::State;

/// Between the last notice and the end of the app.
pub const GRACE: SignedDuration = SignedDuration::from_mins(15);
/// How long an app may take to close when it is asked to.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);
/// Users are told again after that.
const REMINDER: SignedDuration = SignedDuration::from_hours(24);
/// And so long before a deadline.
const BEFORE_DEADLINE: [SignedDuration; 3] =
    [SignedDuration::from_hours(4), SignedDuration::from_hours(1), GRACE];

/// An update that is ready, and waits until the app is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What is installed then.
    pub version: Version,
    /// When it should be.
    pub deadline: Option<Timestamp>,
    /// Whether the app is closed at the deadline.
    pub force: bool,
}

impl Waiting {
    /// What waits, if users are to be told of it.
    #[must_use]
    pub fn of(journal: &Journal, close: UpdateAppClose, deadline_hours: Option<u32>) -> Option<Self> {
        let State::Waiting { offer, why, .. } = &journal.state else { return None };
        if !why.app_open || close == UpdateAppClose::Never {
            return None;
        }
        let deadline = deadline_hours.and_then(|hours| offer.deadline(hours));
        let force = close == UpdateAppClose::ForceAtDeadline && deadline.is_some();
        Some(Self { version: offer.version.clone(), deadline, force })
    }

    /// When the last notice before the end of the app is due.
    fn last_notice(&self) -> Option<Timestamp> {
        let deadline = self.deadline.filter(|_| self.force)?;
        deadline.checked_sub(GRACE).ok()
    }
}

/// What users were told of the update that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Notices {
    /// Nothing waits, or nobody is to be told.
    #[default]
    Quiet,
    /// They were told last at `at`. `closes`: it was said that the app is closed then.
    Told {
        /// Of this version.
        version: Version,
        /// When.
        at: Timestamp,
        /// When the app is closed, if that was the last notice.
        closes: Option<Timestamp>,
    },
    /// The app was asked to close.
    Closing {
        /// For this version.
        version: Version,
        /// When.
        at: Timestamp,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell the users who have the app open.
    Tell {
        /// When the app is closed, if it is.
        closes: Option<Timestamp>,
    },
    /// Ask the app to close.
    Close,
    /// End the app, and install.
    Force,
    /// It does not wait any more: take notices back, and start the app again where it was closed for it.
    Resume,
}

impl Notices {
    /// What comes next.
    #[must_use]
    pub fn step(self, waiting: Option<&Waiting>, now: Timestamp) -> (Self, Option<Step>) {
        let Some(waiting) = waiting else {
            return (Self::Quiet, (self != Self::Quiet).then_some(Step::Resume));
        };
        match &self {
            Self::Told { version, at, closes } if *version == waiting.version && *at <= now => {
                match closes.filter(|_| waiting.force) {
                    // The device slept when the time came, and its user has forgotten the notice.
                    Some(closes) if later(closes, GRACE) < now => tell(waiting, now),
                    Some(closes) if closes <= now => {
                        (Self::Closing { version: version.clone(), at: now }, Some(Step::Close))
                    }
                    _ if next_notice(waiting, *at, *closes).is_some_and(|next| next <= now) => {
                        tell(waiting, now)
                    }
                    _ => (self, None),
                }
            }
            Self::Closing { version, at } if *version == waiting.version && *at <= now => {
                if now < later(*at, PATIENCE) && waiting.force {
                    return (self, None);
                }
                if later(*at, GRACE) < now {
                    return tell(waiting, now);
                }
                // Should it be open again after that, its users are told first.
                let told = Self::Told { version: version.clone(), at: now, closes: None };
                (told, waiting.force.then_some(Step::Force))
            }
            // Nobody was told, or of another version, or the clock was set back.
            Self::Quiet | Self::Told { .. } | Self::Closing { .. } => tell(waiting, now),
        }
    }

    /// When [`Self::step`] has something to do, if nothing happens before.
    #[must_use]
    pub fn due(&self, waiting: Option<&Waiting>) -> Option<Timestamp> {
        let waiting = waiting?;
        match self {
            Self::Quiet => None,
            Self::Told { at, closes, .. } => {
                let closes = closes.filter(|_| waiting.force);
                closes.into_iter().chain(next_notice(waiting, *at, closes)).min()
            }
            Self::Closing { at, .. } => Some(later(*at, PATIENCE)),
        }
    }
}

fn tell(waiting: &Waiting, now: Timestamp) -> (Notices, Option<Step>) {
    let is_last = waiting.last_notice().is_some_and(|last| last <= now);
    let deadline = waiting.deadline.filter(|_| waiting.force);
    let closes = deadline.map(|deadline| if is_last { deadline.max(later(now, GRACE)) } else { deadline });
    let told =
        Notices::Told { version: waiting.version.clone(), at: now, closes: closes.filter(|_| is_last) };
    (told, Some(Step::Tell { closes }))
}

/// When users are told again, after they were told at `at`; `None` once they were told the last time.
fn next_notice(waiting: &Waiting, at: Timestamp, closes: Option<Timestamp>) -> Option<Timestamp> {
    if closes.is_some() && waiting.force {
        return None;
    }
    let reminder = later(at, REMINDER);
    let before = waiting.deadline.into_iter().flat_map(|deadline| {
        BEFORE_DEADLINE.into_iter().filter_map(move |before| deadline.checked_sub(before).ok())
    });
    let next = before.filter(|next| at < *next).fold(reminder, Timestamp::min);
    // Not twice in a moment, and never too late for the last one.
    let last = waiting.last_notice().filter(|last| *last <= next).map(|last| last.max(later(at, GRACE)));
    Some(last.unwrap_or(next))
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    fn waiting(deadline: Option<i64>, force: bool) -> Waiting {
        Waiting { version: Version::new(1, 1, 0), deadline: deadline.map(at), force }
    }

    /// Everything that happens in so many minutes, each with its minute.
    fn run(
        notices: &mut Notices,
        waiting: Option<&Waiting>,
        minutes: std::ops::Range<i64>,
    ) -> Vec<(i64, Step)> {
        let mut happened = Vec::new();
        let begun = minutes.start;
        for minute in minutes {
            let due = notices.due(waiting).is_none_or(|due| due <= at(minute));
            let (next, step) = std::mem::take(notices).step(waiting, at(minute));
            // At first because something else happened.
            assert!(due || step.is_none() || minute == begun, "{minute}: {step:?} was not due");
            *notices = next;
            happened.extend(step.map(|step| (minute, step)));
        }
        happened
    }

    fn told(closes: Option<i64>) -> Step {
        Step::Tell { closes: closes.map(at) }
    }

    #[test]
    fn users_are_reminded_once_a_day_without_a_deadline() {
        let mut notices = Notices::default();
        let happened = run(&mut notices, Some(&waiting(None, false)), 0..3000);
        assert_eq!(happened, [(0, told(None)), (1440, told(None)), (2880, told(None))]);
        assert_eq!(run(&mut notices, None, 3000..3010), [(3000, Step::Resume)]);
        assert_eq!(notices.due(None), None);
    }

    #[test]
    fn users_are_reminded_before_a_deadline_and_nothing_is_closed_unless_policy_says_so() {
        let mut notices = Notices::default();
        let happened = run(&mut notices, Some(&waiting(Some(600), false)), 0..2200);
        let minutes: Vec<i64> = happened.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(minutes, [0, 360, 540, 585, 2025]);
        assert!(happened.iter().all(|(_, step)| *step == told(None)));
    }

    #[test]
    fn app_is_asked_to_close_at_the_deadline_and_ended_a_minute_later() {
        let mut notices = Notices::default();
        let happened = run(&mut notices, Some(&waiting(Some(600), true)), 0..640);
        let expected = [
            (0, told(Some(600))),
            (360, told(Some(600))),
            (540, told(Some(600))),
            (585, told(Some(600))),
            (600, Step::Close),
            (601, Step::Force),
            // It was opened again.
            (616, told(Some(631))),
            (631, Step::Close),
            (632, Step::Force),
        ];
        assert_eq!(happened, expected);
    }

    /// A laptop that was closed over the weekend.
    #[test]
    fn deadline_that_passed_unnoticed_leaves_the_user_15_minutes() {
        let mut notices = Notices::default();
        let forced = waiting(Some(600), true);
        assert_eq!(run(&mut notices, Some(&forced), 0..1), [(0, told(Some(600)))]);
        let happened = run(&mut notices, Some(&forced), 5000..5017);
        assert_eq!(happened, [(5000, told(Some(5015))), (5015, Step::Close), (5016, Step::Force)]);
        // It was closed again after the last notice, or after the app was asked to close.
        for asleep in [590, 600] {
            let mut notices = Notices::default();
            run(&mut notices, Some(&forced), 0..asleep + 1);
            let happened = run(&mut notices, Some(&forced), 5000..5016);
            assert_eq!(happened, [(5000, told(Some(5015))), (5015, Step::Close)]);
        }
        // The same after a restart of the agent.
        let happened = run(&mut Notices::default(), Some(&forced), 5000..5016);
        assert_eq!(happened, [(5000, told(Some(5015))), (5015, Step::Close)]);
    }

    #[test]
    fn policy_that_no_longer_forces_closes_nothing() {
        let mut notices = Notices::default();
        run(&mut notices, Some(&waiting(Some(600), true)), 0..590);
        assert_eq!(run(&mut notices, Some(&waiting(Some(600), false)), 590..700), []);
        let mut notices = Notices::Closing { version: Version::new(1, 1, 0), at: at(600) };
        assert_eq!(run(&mut notices, Some(&waiting(Some(600), false)), 600..700), []);
    }

    #[test]
    fn other_version_and_clock_that_was_set_back_are_told_at_once() {
        let mut notices = Notices::default();
        let forced = waiting(Some(600), true);
        run(&mut notices, Some(&forced), 0..590);
        let newer = Waiting { version: Version::new(1, 2, 0), ..waiting(Some(5000), true) };
        assert_eq!(run(&mut notices, Some(&newer), 590..591), [(590, told(Some(5000)))]);
        assert_eq!(run(&mut notices, Some(&newer), 10..11), [(10, told(Some(5000)))]);
    }
}
