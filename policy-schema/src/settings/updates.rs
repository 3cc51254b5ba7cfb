//! Updates of the app and of the agent.

use super::Setting;
use super::choices::UpdateMode;
use crate::value::{Format, Literal};

settings! {
    updates: "Updates" {
        /// Update mode
        ///
        /// What happens when the feed has a new version of the app.
        UpdateMode => update_mode: UpdateMode =
            Setting::choice(UpdateMode::CHOICES, "automatic").default(Literal::Text("notify"));
        /// Update feed
        ///
        /// The address of the release feed. Unset, the app vendor's.
        UpdateFeed => update_feed: Option<String> =
            Setting::text(Format::Url, "https://updates.example.com/quick/latest.yml");
        /// Update channel
        ///
        /// The channel of the feed to follow.
        UpdateChannel => update_channel: Option<String> = Setting::text(Format::Name, "stable").not_yet_effective();
        /// Pinned version
        ///
        /// Only this version is installed. Set the app's own updater to `none` as well, else the two work against each
        /// other. A pin that cannot be understood matches no version, so nothing is installed.
        UpdatePinnedVersion => update_pinned_version: Option<semver::Version> =
            Setting::text(Format::Version, "2.1.0").strict(Literal::Text("0.0.0"));
        /// Minimum version
        ///
        /// An older version is updated at once: deferral and rollout do not delay it.
        UpdateMinimumVersion => update_minimum_version: Option<semver::Version> = Setting::text(Format::Version, "2.0.0");
        /// Deferral
        ///
        /// A release is installed only when it has been out for so many days.
        UpdateDeferDays => update_defer_days: u32 =
            Setting::integer(0, 90, "days", 7).default(Literal::Integer(0)).strict(Literal::Integer(90));
        /// Rollout
        ///
        /// The share of devices that install a release. Each device keeps its place in the order for one release.
        UpdateRolloutPercent => update_rollout_percent: u32 =
            Setting::integer(0, 100, "percent", 10).default(Literal::Integer(100)).strict(Literal::Integer(0));
        /// Update window
        ///
        /// The local times at which updates may be installed.
        UpdateWindow => update_window: Option<String> =
            Setting::text(Format::Window, "Mon-Fri 22:00-05:00").not_yet_effective();
        /// Update deadline
        ///
        /// After this number of hours an update is installed even outside the window.
        UpdateDeadlineHours => update_deadline_hours: Option<u32> =
            Setting::integer(1, 2160, "hours", 72).not_yet_effective();
        /// Download bandwidth
        ///
        /// The most that a download may take.
        UpdateBandwidthKilobytes => update_bandwidth_kilobytes: Option<u32> =
            Setting::integer(16, 1_000_000, "kilobytes a second", 512).not_yet_effective();
        /// Agent update mode
        ///
        /// What happens when there is a new version of the agent itself.
        AgentUpdateMode => agent_update_mode: UpdateMode =
            Setting::choice(UpdateMode::CHOICES, "automatic").default(Literal::Text("notify")).not_yet_effective();
        /// Agent update feed
        ///
        /// The address of the agent's own release repository.
        AgentUpdateFeed => agent_update_feed: Option<String> =
            Setting::text(Format::Url, "https://updates.example.com/steward/").not_yet_effective();
        /// Pinned agent version
        ///
        /// Only this version of the agent is installed.
        AgentPinnedVersion => agent_pinned_version: Option<semver::Version> =
            Setting::text(Format::Version, "1.4.0").strict(Literal::Text("0.0.0")).not_yet_effective();
    }
}
