//! PURE: when the brokers are asked for their sessions, because one of them said that something has changed.
//!
//! Any local user can say so as often as they like; the brokers are asked once for many of them.

use std::time::Duration;

/// How long to wait for more changes before the brokers are asked.
const SETTLE: Duration = Duration::from_millis(200);
/// How long to wait if they were asked a moment ago.
const REST: Duration = Duration::from_secs(2);

/// Whether the brokers are being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionCheck {
    /// Nobody said anything since they were asked last.
    Idle,
    /// They are being asked. `again`: something has changed since.
    InProgress { again: bool },
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A broker says that its session has changed.
    Changed,
    /// The brokers were asked.
    Observed,
}

impl SessionCheck {
    /// The next state, and after which pause the brokers are to be asked, if they are.
    pub(super) fn step(self, event: Event) -> (Self, Option<Duration>) {
        match (self, event) {
            (Self::Idle, Event::Changed) => (Self::InProgress { again: false }, Some(SETTLE)),
            (Self::InProgress { .. }, Event::Changed) => (Self::InProgress { again: true }, None),
            (Self::InProgress { again: true }, Event::Observed) => {
                (Self::InProgress { again: false }, Some(REST))
            }
            (Self::InProgress { again: false } | Self::Idle, Event::Observed) => (Self::Idle, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_ask_the_brokers_once_and_once_more() {
        let mut state = SessionCheck::Idle;
        let mut pauses = Vec::new();
        let events = std::iter::repeat_n(Event::Changed, 1000).chain([Event::Observed, Event::Observed]);
        for event in events {
            let (next, pause) = state.step(event);
            pauses.extend(pause);
            state = next;
        }
        assert_eq!((pauses, state), (vec![SETTLE, REST], SessionCheck::Idle));
    }
}
