//! What the components of a device were before: since when each is in its state, until when it was well, and whether it changes
//! again and again. Pure.
//!
//! In: the history so far and the components as they were just observed. Out: the next history, which the machine service publishes
//! in its status and so keeps over a restart. A component that changes at least [`FLAPS`] times in a way that matters to the device, each
//! time within [`CALM`] of the last, shows the worst of its states until it has not changed for that long: whoever watches a fleet sees one
//! change with a count, and never a `pass` between two failures.

use jiff::{SignedDuration, Timestamp};
use policy_schema::{Extra, Open};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ComponentHealth, ComponentName, State};

/// After so many changes a component shows the worst of its states.
pub const FLAPS: u32 = 6;
/// A component that has not changed for this long is calm.
pub const CALM: SignedDuration = SignedDuration::from_mins(10);

/// The histories of all components that were observed. Users have none: a status that everybody may read does not name them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct HealthHistory(Vec<ComponentHistory>);

/// The history of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentHistory {
    /// The component.
    pub name: Open<ComponentName>,
    /// The state that is shown.
    pub state: Open<State>,
    /// Since when it is shown.
    pub since: Timestamp,
    /// Until when it was last `pass`; absent while it is, and if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Timestamp>,
    /// The state that was observed last, if the component changes again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Open<State>>,
    /// How often it changed, in a way that matters to the device, since it was calm.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changes: u32,
    /// When it did so last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

impl HealthHistory {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The history after these components were observed. What is known about others stays.
    #[must_use]
    pub(super) fn step(mut self, components: &[ComponentHealth], now: Timestamp) -> Self {
        for component in components.iter().filter(|component| component.name != ComponentName::User) {
            let known = self.0.iter().position(|known| known.name == component.name);
            match known {
                Some(place) => self.0[place].step(component, now),
                None => self.0.push(ComponentHistory::new(component, now)),
            }
        }
        self
    }

    /// Tells components what they were before, and those that change again and again what they are to show.
    pub(super) fn apply(&self, components: &mut [ComponentHealth]) {
        for component in components {
            if let Some(known) = self.0.iter().find(|known| known.name == component.name) {
                known.apply(component);
            }
        }
    }

    /// The same without a component that changes again and again: an administrator who has mended something wants to see what is.
    #[must_use]
    pub fn calm(mut self, now: Timestamp) -> Self {
        for known in &mut self.0 {
            if let Some(observed) = known.observed.take() {
                known.show(observed, now);
            }
            (known.changes, known.changed_at) = (0, None);
        }
        self
    }

    /// The components that show another state than in the history of before, with both. One that is new, or that was only not observed
    /// before and is well, is no news.
    pub fn changes<'h>(
        &'h self,
        before: &'h Self,
    ) -> impl Iterator<Item = (&'h Open<ComponentName>, State, State)> {
        let known = |state: &Open<State>| state.known().unwrap_or(State::Unknown);
        self.0.iter().filter_map(move |now| {
            let old = before.0.iter().find(|old| old.name == now.name)?;
            let (old, new) = (known(&old.state), known(&now.state));
            let is_begin = old == State::Unknown && new.roll_up().1 == State::Pass;
            (old != new && !is_begin).then_some((&now.name, old, new))
        })
    }

    /// The history as an earlier run left it, which observed until then: what comes after was observed by nobody.
    #[must_use]
    pub fn observed_until(mut self, then: Timestamp) -> Self {
        for known in self.0.iter_mut().filter(|known| known.state == State::Pass) {
            known.last_good = Some(then);
        }
        self
    }

    /// The same without what protects the device: policy does not want it to be known.
    #[must_use]
    pub fn without_posture(mut self) -> Self {
        let names = [
            ComponentName::Posture,
            ComponentName::DiskEncryption,
            ComponentName::Firewall,
            ComponentName::SecureBoot,
            ComponentName::ScreenLock,
            ComponentName::PendingRestart,
        ];
        self.0.retain(|known| !names.iter().any(|name| known.name == *name));
        self
    }
}

impl ComponentHistory {
    fn new(component: &ComponentHealth, now: Timestamp) -> Self {
        Self {
            name: component.name.clone(),
            state: component.state.clone(),
            since: now,
            last_good: None,
            observed: None,
            changes: 0,
            changed_at: None,
            extra: Extra::default(),
        }
    }

    fn step(&mut self, component: &ComponentHealth, now: Timestamp) {
        let before = self.observed.take().unwrap_or_else(|| self.state.clone());
        // A change in the future is of a clock that was set back since.
        let is_calm = self.changed_at.is_none_or(|at| now < at || now.duration_since(at) >= CALM);
        if is_calm {
            (self.changes, self.changed_at) = (0, None);
        }
        // The root follows its components, which are calm already.
        if turns(&before, &component.state) && component.name != ComponentName::Device {
            self.changes = self.changes.saturating_add(1);
            self.changed_at = Some(now);
        }
        let shown = if self.changes >= FLAPS {
            self.observed = Some(component.state.clone());
            worse(&self.state, &component.state).clone()
        } else {
            component.state.clone()
        };
        self.show(shown, now);
    }

    fn show(&mut self, state: Open<State>, now: Timestamp) {
        if self.state != state {
            if self.state == State::Pass {
                self.last_good.get_or_insert(now);
            }
            (self.state, self.since) = (state, now);
        }
        if self.state == State::Pass {
            self.last_good = None;
        }
    }

    fn apply(&self, component: &mut ComponentHealth) {
        let observed = self.observed.as_ref().unwrap_or(&self.state);
        if *observed != component.state {
            // It was observed by somebody else since, or is not observed any more.
            component.last_good = self.last_good;
            if component.last_state.as_ref() == Some(observed) {
                component.last_state = Some(self.state.clone());
                if self.state == State::Pass {
                    component.last_good = Some(component.observed_at);
                }
            }
            return;
        }
        component.since = Some(self.since);
        component.last_good = self.last_good;
        if self.changes >= FLAPS {
            component.flaps = Some(self.changes);
            let now = component.state().to_owned();
            component.reason = format!(
                "it changes again and again ({} times); now {now}: {}",
                self.changes, component.reason
            );
            component.state = self.state.clone();
        }
    }
}

/// Whether a change of state changes how the device is. One from or to a state in which nothing was observed says nothing.
fn turns(before: &Open<State>, after: &Open<State>) -> bool {
    let observed = |state: &Open<State>| {
        let state = state.known().unwrap_or(State::Unknown);
        Some(state.roll_up().0).filter(|_| !matches!(state, State::Unknown | State::Stale))
    };
    observed(before).zip(observed(after)).is_some_and(|(before, after)| before != after)
}

fn worse<'s>(one: &'s Open<State>, other: &'s Open<State>) -> &'s Open<State> {
    let rank = |state: &Open<State>| state.known().unwrap_or(State::Unknown).roll_up().0;
    if rank(other) > rank(one) { other } else { one }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn seen(state: State, minute: i64) -> [ComponentHealth; 1] {
        [ComponentHealth::new(ComponentName::Update, state, "x", at(minute))]
    }

    /// What is shown after a component was in these states at these minutes.
    fn shown(states: &[(i64, State)]) -> ComponentHealth {
        let mut history = HealthHistory::default();
        for (minute, state) in states {
            history = history.step(&seen(*state, *minute), at(*minute));
        }
        let (minute, state) = *states.last().unwrap();
        let mut components = seen(state, minute);
        history.apply(&mut components);
        let [component] = components;
        component
    }

    #[test]
    fn component_tells_since_when_it_is_as_it_is_and_until_when_it_was_well() {
        use State::{Fail, NotApplicable, Pass, Unknown};
        type Case<'c> = (&'c [(i64, State)], i64, Option<i64>);
        let cases: [Case<'_>; 5] = [
            (&[(1, Unknown)], 1, None),
            (&[(1, Unknown), (2, Pass), (9, Pass)], 2, None),
            (&[(1, Pass), (30, Fail), (40, Fail)], 30, Some(30)),
            (&[(1, Pass), (30, Fail), (60, NotApplicable)], 60, Some(30)),
            (&[(1, Pass), (30, Fail), (90, Pass)], 90, None),
        ];
        for (states, since, last_good) in cases {
            let shown = shown(states);
            assert_eq!((shown.since, shown.last_good), (Some(at(since)), last_good.map(at)), "{states:?}");
            assert_eq!(shown.known_state(), states.last().unwrap().1);
        }
    }

    #[test]
    fn component_that_changes_again_and_again_shows_the_worst_until_it_is_calm() {
        let states = |count: i64| -> Vec<(i64, State)> {
            (0..=count)
                .map(|minute| (minute, if minute % 2 == 0 { State::Pass } else { State::Fail }))
                .collect()
        };
        assert_eq!((shown(&states(4)).known_state(), shown(&states(4)).flaps), (State::Pass, None));
        let flapping = shown(&states(6));
        assert_eq!((flapping.known_state(), flapping.flaps), (State::Fail, Some(6)));
        assert!(flapping.reason.contains("now pass"), "{}", flapping.reason);
        assert_eq!(shown(&states(60)).since, Some(at(5)), "one change with a count");
        let calm = |minute| shown(&[states(6), vec![(minute, State::Pass)]].concat());
        assert_eq!(calm(15).known_state(), State::Fail);
        assert_eq!(
            (calm(16).known_state(), calm(16).since, calm(16).flaps),
            (State::Pass, Some(at(16)), None)
        );
    }

    #[test]
    fn change_without_consequence_and_one_that_nobody_observed_is_no_flapping() {
        for other in [State::Pending, State::NotApplicable, State::Unknown, State::Stale] {
            let states: Vec<(i64, State)> =
                (0..50).map(|minute| (minute, if minute % 2 == 0 { State::Pass } else { other })).collect();
            assert_eq!(shown(&states).flaps, None, "{other:?}");
        }
    }

    #[test]
    fn administrator_who_asks_sees_what_is() {
        let mut history = HealthHistory::default();
        for minute in 0..=6 {
            let state = if minute % 2 == 0 { State::Pass } else { State::Fail };
            history = history.step(&seen(state, minute), at(minute));
        }
        let mut components = seen(State::Pass, 6);
        history.calm(at(7)).apply(&mut components);
        let [shown] = components;
        assert_eq!((shown.known_state(), shown.flaps), (State::Pass, None));
        assert_eq!((shown.since, shown.last_good), (Some(at(7)), None));
    }

    #[test]
    fn clock_that_was_set_back_keeps_nothing_flapping_for_years() {
        let mut states: Vec<(i64, State)> = (1_000_000..1_000_007)
            .map(|minute| (minute, if minute % 2 == 0 { State::Pass } else { State::Fail }))
            .collect();
        assert_eq!(shown(&states).known_state(), State::Fail);
        states.push((5, State::Pass));
        assert_eq!((shown(&states).known_state(), shown(&states).flaps), (State::Pass, None));
    }

    /// Nobody observed anything while the agent did not run.
    #[test]
    fn component_that_failed_while_the_agent_was_off_was_good_until_it_went_off() {
        let history = HealthHistory::default().step(&seen(State::Pass, 1), at(1)).observed_until(at(9));
        let mut failed = seen(State::Fail, 5000);
        history.clone().step(&failed, at(5000)).apply(&mut failed);
        assert_eq!((failed[0].since, failed[0].last_good), (Some(at(5000)), Some(at(9))));
        let mut good = seen(State::Pass, 5000);
        history.step(&good, at(5000)).apply(&mut good);
        assert_eq!((good[0].since, good[0].last_good), (Some(at(1)), None));
    }

    #[test]
    fn stale_component_was_good_until_it_was_observed_last() {
        let history = HealthHistory::default().step(&seen(State::Pass, 1), at(1));
        let [component] = seen(State::Stale, 8);
        let mut stale = [ComponentHealth { last_state: Some(State::Pass.into()), ..component }];
        history.apply(&mut stale);
        assert_eq!((stale[0].known_state(), stale[0].last_good), (State::Stale, Some(at(8))));
    }

    #[test]
    fn change_of_a_state_is_news_and_the_first_look_is_none() {
        use State::{Fail, Pass, Pending, Unknown};
        let changes = |before, after| {
            let before = HealthHistory::default().step(&seen(before, 1), at(1));
            let after = before.clone().step(&seen(after, 2), at(2));
            after.changes(&before).map(|(_, old, new)| (old, new)).collect::<Vec<_>>()
        };
        assert_eq!(changes(Pass, Fail), [(Pass, Fail)]);
        assert_eq!(changes(Unknown, Fail), [(Unknown, Fail)]);
        assert_eq!(changes(Fail, Unknown), [(Fail, Unknown)]);
        assert_eq!(
            (changes(Unknown, Pass), changes(Unknown, Pending), changes(Fail, Fail)),
            (vec![], vec![], vec![])
        );
        let first = HealthHistory::default().step(&seen(Fail, 1), at(1));
        assert_eq!(first.changes(&HealthHistory::default()).count(), 0);
    }

    #[test]
    fn history_of_a_newer_version_survives_and_is_never_pass() {
        let text = r#"[{"name":"lighthouse","state":"drowsy","since":"2026-01-01T00:00:00Z","angle":3}]"#;
        let history: HealthHistory = serde_json::from_str(text).unwrap();
        let stepped = history.step(&seen(State::Pass, 1), at(1));
        let json = serde_json::to_value(&stepped).unwrap();
        assert_eq!((&json[0]["state"], &json[0]["angle"]), (&"drowsy".into(), &3.into()));
        assert_eq!(json.as_array().unwrap().len(), 2);
    }
}
