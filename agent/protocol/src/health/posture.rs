//! What protects the device, as a part of the tree that decides nothing about the device ([`super`]). Pure.

use jiff::Timestamp;

use super::history::HealthHistory;
use super::{ComponentHealth, ComponentName, State, decisive};

/// What was found out about one protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Which one.
    pub name: ComponentName,
    /// `pass` if it is on, `fail` if it is off, `unknown` if the system does not say; a restart that is pending is `pending`.
    pub state: State,
    /// What was found, or why nothing could be.
    pub reason: String,
    /// Where: a file, a key of the registry, a program.
    pub evidence: String,
}

/// The component of posture, and the history after it.
#[must_use]
pub fn posture(
    protections: &[Protection],
    history: HealthHistory,
    now: Timestamp,
) -> (ComponentHealth, HealthHistory) {
    let part = |protection: &Protection| ComponentHealth {
        evidence: Some(protection.evidence.clone()),
        ..ComponentHealth::new(protection.name, protection.state, &protection.reason, now)
    };
    let mut components: Vec<ComponentHealth> = protections.iter().map(part).collect();
    let history = history.step(&components, now);
    history.apply(&mut components);
    let (state, part) = decisive(&components);
    let reason = match (state, part) {
        (State::Pass, _) => "every protection is on".to_owned(),
        (_, Some(part)) => format!("{}: {}", part.name(), part.reason),
        (_, None) => "nothing was observed".to_owned(),
    };
    let whole = ComponentHealth::new(ComponentName::Posture, state, &reason, now);
    let history = history.step(std::slice::from_ref(&whole), now);
    let mut whole = [ComponentHealth { components, ..whole }];
    history.apply(&mut whole);
    let [whole] = whole;
    (whole, history)
}

/// The component of posture where policy leaves it out of reports.
#[must_use]
pub fn left_out(now: Timestamp) -> ComponentHealth {
    let reason = "policy leaves it out of reports (`ReportPosture`)";
    ComponentHealth::new(ComponentName::Posture, State::NotApplicable, reason, now)
}

/// The component of posture where no agent looks at it, and nobody knows whether policy wants that.
#[must_use]
pub fn not_observed(now: Timestamp) -> ComponentHealth {
    ComponentHealth::new(ComponentName::Posture, State::Unknown, "only a running agent looks at it", now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protection(name: ComponentName, state: State) -> Protection {
        Protection { name, state, reason: "r".to_owned(), evidence: "e".to_owned() }
    }

    #[test]
    fn posture_is_as_its_worst_part_and_never_pass_without_one() {
        use ComponentName::{DiskEncryption, Firewall, PendingRestart};
        let now = Timestamp::UNIX_EPOCH;
        let state = |parts: &[(ComponentName, State)]| {
            let parts: Vec<_> = parts.iter().map(|(name, state)| protection(*name, *state)).collect();
            posture(&parts, HealthHistory::default(), now).0.known_state()
        };
        assert_eq!(state(&[]), State::Unknown);
        assert_eq!(state(&[(DiskEncryption, State::Pass), (PendingRestart, State::Pending)]), State::Pass);
        assert_eq!(state(&[(DiskEncryption, State::Pass), (Firewall, State::Unknown)]), State::Unknown);
        assert_eq!(state(&[(DiskEncryption, State::Fail), (Firewall, State::Unknown)]), State::Fail);
    }
}
