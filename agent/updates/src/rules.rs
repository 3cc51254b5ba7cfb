//! What policy says about the updates of an app.

use policy_schema::Policy;
use policy_schema::settings::UpdateMode;
use policy_schema::version::{Downgrade, Pin};
use policy_schema::window::Window;
use semver::Version;
use serde::{Deserialize, Serialize};

/// The settings that decide which release is installed and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// `UpdateMode`.
    pub mode: UpdateMode,
    /// `UpdateChannel`.
    pub channel: Option<String>,
    /// `UpdatePinnedVersion`.
    pub pinned: Option<Pin>,
    /// `UpdateMinimumVersion`.
    pub minimum: Option<Version>,
    /// `UpdateDowngrades`.
    pub downgrades: Vec<Downgrade>,
    /// `UpdateDeferDays`.
    pub defer_days: u32,
    /// `UpdateRolloutPercent`.
    pub rollout_percent: u32,
    /// `UpdateWindow`.
    pub window: Option<Window>,
    /// `UpdateDeadlineHours`.
    pub deadline_hours: Option<u32>,
}

/// A director has no more of them than policy.
const MAXIMUM_DOWNGRADES: usize = 16;

impl Rules {
    /// Adds the downgrades of a director, as far as policy would take them. Gives the others, with the reason.
    pub fn lead_back(&mut self, mut more: Vec<Downgrade>) -> Vec<String> {
        let mut refused = Vec::new();
        if more.len() > MAXIMUM_DOWNGRADES {
            refused.push(format!("the director has more than {MAXIMUM_DOWNGRADES} downgrades"));
            more.truncate(MAXIMUM_DOWNGRADES);
        }
        let all = [self.downgrades.as_slice(), more.as_slice()].concat();
        let (minimum, pin) = (self.minimum.clone(), self.pinned.clone());
        for downgrade in more {
            let own = self.downgrades.iter().find(|own| downgrade.from.allows(&own.to));
            let away = own.map(|own| format!("policy leads to {}", own.to));
            match downgrade.fault(&all, minimum.as_ref(), pin.as_ref()).or(away) {
                Some(fault) => refused.push(format!("the director's downgrade `{downgrade}`: {fault}")),
                None => self.downgrades.push(downgrade),
            }
        }
        refused
    }
}

impl Rules {
    /// What policy says about the updates of the agent itself: nobody sees them, so they wait for nothing.
    #[must_use]
    pub fn of_agent(policy: &Policy) -> Self {
        Self {
            mode: policy.agent_update_mode,
            channel: None,
            pinned: policy.agent_pinned_version.clone().map(Pin::Exact),
            minimum: None,
            downgrades: Vec::new(),
            defer_days: 0,
            rollout_percent: 100,
            window: None,
            deadline_hours: None,
        }
    }
}

impl From<&Policy> for Rules {
    fn from(policy: &Policy) -> Self {
        Self {
            mode: policy.update_mode,
            channel: policy.update_channel.clone(),
            pinned: policy.update_pinned_version.clone(),
            minimum: policy.update_minimum_version.clone(),
            downgrades: policy.usable_downgrades().cloned().collect(),
            defer_days: policy.update_defer_days,
            rollout_percent: policy.update_rollout_percent,
            window: policy.update_window,
            deadline_hours: policy.update_deadline_hours,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decide::tests::rules;

    #[test]
    fn director_leads_back_only_where_policy_could() {
        let lead = |policy: &str, items: &[&str]| {
            let mut rules = rules(policy);
            let before = rules.downgrades.len();
            let refused = rules.lead_back(items.iter().map(|item| item.parse().unwrap()).collect());
            (rules.downgrades.len() - before, refused.join("; "))
        };
        assert_eq!(lead("", &["2.2.0 to 2.1.0"]), (1, String::new()));
        for (policy, items, words) in [
            ("", &["1 to 9.0.0"][..], "not older"),
            ("", &["1.0.1 to 1.0.1"], "not older"),
            ("", &["1 to 1.0.1"], "not older"),
            ("", &["2.2.0 to 2.1.0", "2.1.0 to 2.2.0"], "leads away from 2.1.0"),
            ("UpdateMinimumVersion = \"2.1.5\"", &["2.2.0 to 2.1.0"], "below `UpdateMinimumVersion`"),
            ("UpdatePinnedVersion = \"2.2\"", &["2.2.0 to 2.1.0"], "does not allow"),
            ("UpdateDowngrades = [\"2.3.0 to 2.2.0\"]", &["2.2.0 to 2.1.0"], "policy leads to 2.2.0"),
        ] {
            let (taken, refused) = lead(policy, items);
            assert!(taken == 0 && refused.contains(words), "{items:?}: {refused}");
        }
        let many: Vec<String> = (0..20).map(|number| format!("2.2.{number} to 2.1.0")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(lead("", &many).0, 16);
    }
}
