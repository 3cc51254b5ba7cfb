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
