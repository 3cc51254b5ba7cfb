//! PURE: when something is done that is done again and again: checks of the release feed and the identity provider, the file of
//! metrics.

use jiff::Timestamp;

/// A check that recurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recurring {
    /// Nothing is under way; the next one is due then.
    Waiting { due: Timestamp },
    /// One is under way. `again`: something changed since, so that another one follows at once.
    InProgress { again: bool },
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An administrator asks for a check.
    Requested { now: Timestamp },
    /// What it depends on has changed: policy, or what is written. The next one is due at `due`.
    Changed { due: Timestamp },
    /// One begins.
    Started,
    /// One has ended; the next one is due at `next`.
    Finished { now: Timestamp, next: Timestamp },
}

impl Recurring {
    /// The next state.
    pub(super) fn step(self, event: Event) -> Self {
        match (self, event) {
            (Self::Waiting { .. }, Event::Requested { now: due } | Event::Changed { due }) => {
                Self::Waiting { due }
            }
            (Self::InProgress { .. }, Event::Changed { .. }) => Self::InProgress { again: true },
            (Self::Waiting { .. }, Event::Started) => Self::InProgress { again: false },
            // A request gets the result of the one that is under way.
            (Self::InProgress { again }, Event::Requested { .. } | Event::Started) => {
                Self::InProgress { again }
            }
            (Self::InProgress { again: true }, Event::Finished { now, .. }) => Self::Waiting { due: now },
            (Self::InProgress { again: false } | Self::Waiting { .. }, Event::Finished { next, .. }) => {
                Self::Waiting { due: next }
            }
        }
    }

    /// A clock that was set back must not leave anything due in years.
    pub(super) fn no_later_than(self, latest: Timestamp) -> Self {
        match self {
            Self::Waiting { due } => Self::Waiting { due: due.min(latest) },
            in_progress @ Self::InProgress { .. } => in_progress,
        }
    }

    /// When the next one is due; `None` while one is under way.
    pub(super) fn due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { due } => Some(due),
            Self::InProgress { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_event_leads_to_the_next_state() {
        use Recurring::{InProgress, Waiting};
        let now = at(10);
        let finished = Event::Finished { now, next: at(500) };
        let cases = [
            ("requested", Waiting { due: at(500) }, Event::Requested { now }, Waiting { due: now }),
            ("policy changed", Waiting { due: at(500) }, Event::Changed { due: now }, Waiting { due: now }),
            ("begun", Waiting { due: now }, Event::Started, InProgress { again: false }),
            (
                "requested meanwhile",
                InProgress { again: false },
                Event::Requested { now },
                InProgress { again: false },
            ),
            (
                "policy changed meanwhile",
                InProgress { again: false },
                Event::Changed { due: now },
                InProgress { again: true },
            ),
            ("finished", InProgress { again: false }, finished, Waiting { due: at(500) }),
            ("finished under an older policy", InProgress { again: true }, finished, Waiting { due: now }),
        ];
        for (case, state, event, expected) in cases {
            assert_eq!(state.step(event), expected, "{case}");
        }
        assert_eq!(Waiting { due: Timestamp::MAX }.no_later_than(now).due(), Some(now));
    }
}
