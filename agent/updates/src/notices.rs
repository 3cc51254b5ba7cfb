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
/// How long an app may take to close when it is asked to. Before that, users who have opened it since the last notice are told as
/// often.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);
/// Whoever comes later than this has slept, with the device, when the time came.
const LATE: SignedDuration = SignedDuration::from_mins(2);
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
    pub fn of(
        journal: &Journal,
        close: UpdateAppClose,
        deadline_hours: Option<u32>,
        now: Timestamp,
    ) -> Option<Self> {
        let State::Waiting { offer, why, .. } = &journal.state else { return None };
        if !why.app_open || close == UpdateAppClose::Never || journal.hold(now).is_some() {
            return None;
        }
        let deadline = deadline_hours.and_then(|hours| offer.deadline(hours));
        let force = close == UpdateAppClose::ForceAtDeadline && deadline.is_some();
        Some(Self { version: offer.version.clone(), deadline, force })
    }

    /// Whether the app is still to be closed at a time that was said.
    fn closes_by(&self, closes: Timestamp) -> bool {
        self.force && self.deadline.is_some_and(|deadline| deadline <= closes)
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
    /// The agent starts: an earlier one may have closed the app.
    #[default]
    Unknown,
    /// Nothing waits, or nobody is to be told.
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
        /// Only those who were not told yet.
        again: bool,
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
                let promised = closes.filter(|closes| waiting.closes_by(*closes));
                match promised {
                    // The device slept when the time came, and its user has forgotten the notice.
                    Some(closes) if later(closes, LATE) < now => tell(waiting, now),
                    Some(closes) if closes <= now => {
                        (Self::Closing { version: version.clone(), at: now }, Some(Step::Close))
                    }
                    Some(closes) if later(*at, PATIENCE) <= now => {
                        let told = Self::Told { version: version.clone(), at: now, closes: promised };
                        (told, Some(Step::Tell { closes: Some(closes), again: true }))
                    }
                    Some(_) => (self, None),
                    None if next_notice(waiting, *at) <= now => tell(waiting, now),
                    // What was promised once does not come true by itself later.
                    None => (Self::Told { version: version.clone(), at: *at, closes: None }, None),
                }
            }
            Self::Closing { version, at } if *version == waiting.version && *at <= now => {
                if now < later(*at, PATIENCE) && waiting.force {
                    return (self, None);
                }
                if later(*at, LATE) < now {
                    return tell(waiting, now);
                }
                // Should it be open again after that, its users are told first.
                let told = Self::Told { version: version.clone(), at: now, closes: None };
                (told, waiting.force.then_some(Step::Force))
            }
            // Nobody was told, or of another version, or the clock was set back.
            Self::Unknown | Self::Quiet | Self::Told { .. } | Self::Closing { .. } => tell(waiting, now),
        }
    }

    /// When [`Self::step`] has something to do, if nothing happens before.
    #[must_use]
    pub fn due(&self, waiting: Option<&Waiting>) -> Option<Timestamp> {
        let waiting = waiting?;
        match self {
            Self::Unknown | Self::Quiet => None,
            Self::Told { at, closes, .. } => Some(match closes.filter(|closes| waiting.closes_by(*closes)) {
                Some(closes) => closes.min(later(*at, PATIENCE)),
                None => next_notice(waiting, *at),
            }),
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
    (told, Some(Step::Tell { closes, again: false }))
}

/// When users are told again, after they were told at `at`.
fn next_notice(waiting: &Waiting, at: Timestamp) -> Timestamp {
    let reminder = later(at, REMINDER);
    let before = waiting.deadline.into_iter().flat_map(|deadline| {
        BEFORE_DEADLINE.into_iter().filter_map(move |before| deadline.checked_sub(before).ok())
    });
    let next = before.filter(|next| at < *next).fold(reminder, Timestamp::min);
    // Not twice in a moment, and never too late for the last one.
    let last = waiting.last_notice().filter(|last| *last <= next).map(|last| last.max(later(at, GRACE)));
    last.unwrap_or(next)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use protocol::update::Command;

    use super::*;
    use crate::journal::Event;
    use crate::{Decision, Reason, Verdict};

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
            // Those who have opened it since the last notice are told every minute.
            let again = matches!(step, Some(Step::Tell { again: true, .. }));
            happened.extend(step.filter(|_| !again).map(|step| (minute, step)));
        }
        happened
    }

    fn told(closes: Option<i64>) -> Step {
        Step::Tell { closes: closes.map(at), again: false }
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
    fn users_are_reminded_before_a_deadline_and_app_stays_open_without_force() {
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

    #[test]
    fn user_who_opens_the_app_after_the_last_notice_is_told_within_a_minute() {
        let mut notices = Notices::default();
        let forced = waiting(Some(600), true);
        run(&mut notices, Some(&forced), 0..586);
        let (next, step) = notices.step(Some(&forced), at(586));
        assert_eq!(step, Some(Step::Tell { closes: Some(at(600)), again: true }));
        assert_eq!(next.due(Some(&forced)), Some(at(587)));
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
        // It forces again, or cannot be installed for a while, or has a later deadline: the old time is not kept.
        let happened = run(&mut notices, Some(&waiting(Some(600), true)), 700..716);
        assert_eq!(happened, [(700, told(Some(715))), (715, Step::Close)]);
        let mut notices = Notices::default();
        run(&mut notices, Some(&waiting(Some(600), true)), 0..590);
        let happened = run(&mut notices, Some(&waiting(Some(900), true)), 590..886);
        assert_eq!(happened, [(660, told(Some(900))), (840, told(Some(900))), (885, told(Some(900)))]);
        let mut notices = Notices::Closing { version: Version::new(1, 1, 0), at: at(600) };
        assert_eq!(run(&mut notices, Some(&waiting(Some(600), false)), 600..700), []);
    }

    #[test]
    fn agent_that_starts_resumes_what_an_earlier_one_closed_and_tells_once() {
        assert_eq!(run(&mut Notices::default(), None, 0..5), [(0, Step::Resume)]);
        assert_eq!(run(&mut Notices::default(), Some(&waiting(None, false)), 0..5), [(0, told(None))]);
    }

    /// Found in a review: on a device that an administrator holds, the app was closed and started again every 15 minutes.
    #[test]
    fn nothing_waits_for_the_app_while_an_administrator_holds_updates() {
        let release = crate::decide::tests::release("2.0.0");
        let decision = Decision {
            verdict: Verdict::Install,
            release: Some(&release),
            reason: Reason::Due { version: release.version.clone() },
        };
        let open = Reason::AppOpen { version: release.version.clone(), deadline: None };
        let events = [Event::Decided(decision), Event::Fetched { wait: None }, Event::NotReady(open)];
        let step = |journal: Journal, event| journal.step(event, at(0)).0;
        let journal = events.into_iter().fold(Journal::default(), step);
        let force = UpdateAppClose::ForceAtDeadline;
        let waiting = Waiting::of(&journal, force, Some(1), at(0)).unwrap();
        assert!(waiting.force && waiting.deadline == Some(at(60)));
        assert!(!Waiting::of(&journal, force, None, at(0)).unwrap().force);
        assert_eq!(Waiting::of(&journal, UpdateAppClose::Never, Some(1), at(0)), None);
        let hold = Command::Hold { until: Some(at(100)) };
        let journal = step(journal, Event::Commanded { command: hold, installed: None });
        assert_eq!(Waiting::of(&journal, force, Some(1), at(99)), None);
        assert!(Waiting::of(&journal, force, Some(1), at(100)).is_some());
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
