//! Updates of the app and of the agent.

use super::Setting;
use super::choices::{UpdateAppClose, UpdateMode};
use crate::roots::TrustedRoots;
use crate::value::{Format, Literal};
use crate::version::{Downgrade, Pin};
use crate::window::Window;

/// Of two files that nobody has.
const EXAMPLE_OF_ROOTS: &str = "1:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4+1:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// What no root has.
const NO_ROOTS: &str = "1:0000000000000000000000000000000000000000000000000000000000000000+1:0000000000000000000000000000000000000000000000000000000000000000";

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
        /// Trusted roots
        ///
        /// Makes `UpdateFeed` the address of a signed repository (The Update Framework), as `steward repo` makes it: the versions and the
        /// SHA-256 of its two roots, `image/1.root.json` and `director/1.root.json`. `steward repo status` prints them. Only what is signed
        /// from there is installed. Unset, the feed is trusted for its address, and installers for their publisher.
        UpdateTrustedRoots => update_trusted_roots: Option<TrustedRoots> =
            Setting::text(Format::TrustedRoots, EXAMPLE_OF_ROOTS).strict(Literal::Text(NO_ROOTS));
        /// Hosts of releases
        ///
        /// Hosts besides that of the feed that files of releases may come from, and that servers may redirect to, always over
        /// https. A leading dot allows a domain and everything below it.
        UpdateAllowedHosts => update_allowed_hosts: Vec<String> =
            Setting::list(Format::Host, 16, &["downloads.example.com"]).default(Literal::List(&[])).items_stand_alone();
        /// Sources of releases
        ///
        /// Folders, shares and addresses that may have the file of a release under its own name. They are tried in this order
        /// before the address in the feed. The file must be the one that the feed describes, wherever it comes from.
        UpdateSources => update_sources: Vec<String> =
            Setting::list(Format::UpdateSource, 8, &["/srv/updates", "https://cache.example.com/updates/"])
                .default(Literal::List(&[])).items_stand_alone();
        /// Publishers
        ///
        /// Who may have signed the app's installers, instead of the publishers that this version knows for the app: names in
        /// certificates on Windows, team IDs on macOS. An installer of somebody else is not started.
        UpdatePublishers => update_publishers: Vec<String> =
            Setting::list(Format::Publisher, 16, &["Example Corp, Inc.", "A1B2C3D4E5"]).default(Literal::List(&[])).items_stand_alone();
        /// Update channel
        ///
        /// The channel of the feed to follow. Releases of other channels are not for this device. Unset, the stable channel, or
        /// whatever a feed without channels offers.
        UpdateChannel => update_channel: Option<String> =
            Setting::text(Format::Name, "stable").strict(Literal::Text("stable"));
        /// Pinned version
        ///
        /// Only this version is installed, or only versions that begin so: `2.1` allows 2.1.0 and 2.1.7. Set the app's own
        /// updater to `none` as well, else the two work against each other. A pin never leads to an older version; name it in
        /// `UpdateDowngrades` too. A pin that cannot be understood matches no version, so nothing is installed.
        UpdatePinnedVersion => update_pinned_version: Option<Pin> =
            Setting::text(Format::Pin, "2.1.0").strict(Literal::Text("0.0.0"));
        /// Downgrades
        ///
        /// Each item names what is installed, a version or the beginning of one, and the older version to install instead. There
        /// is no other way to an older version. A device on that older version is not updated to the newer one again.
        UpdateDowngrades => update_downgrades: Vec<Downgrade> =
            Setting::list(Format::Downgrade, 16, &["2.2.0 to 2.1.0"]).default(Literal::List(&[])).items_stand_alone();
        /// Minimum version
        ///
        /// An older version is updated at once: deferral and rollout do not delay it. It waits for the window only if there is a
        /// deadline (`UpdateDeadlineHours`).
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
        /// The times at which updates may be installed, in the local time of the device. A window that passes midnight belongs to
        /// the day on which it opens. Downloads and the first installation of the app do not wait for it.
        UpdateWindow => update_window: Option<Window> =
            Setting::text(Format::Window, "Mon-Fri 22:00-05:00").strict(Literal::Text("Sun 03:00-04:00"));
        /// Update deadline
        ///
        /// An update is installed even outside the window when it has been waiting on the device for so many hours. Time in
        /// which deferral or rollout kept it back does not count. An app that is open is closed for it only if `UpdateAppClose`
        /// says so.
        UpdateDeadlineHours => update_deadline_hours: Option<u32> = Setting::integer(1, 2160, "hours", 72);
        /// Open app
        ///
        /// What happens when an update is ready and the app is open. Users are told by a notification of their desktop, with the
        /// name of the organisation, and again from time to time. Before the app is closed at a deadline, they are told for at least
        /// 15 minutes; where the desktop shows no notifications, it is closed all the same. `force-at-deadline` needs a deadline
        /// (`UpdateDeadlineHours`).
        UpdateAppClose => update_app_close: UpdateAppClose =
            Setting::choice(UpdateAppClose::CHOICES, "force-at-deadline").default(Literal::Text("ask"));
        /// Download bandwidth
        ///
        /// The most that a download may take.
        UpdateBandwidthKilobytes => update_bandwidth_kilobytes: Option<u32> =
            Setting::integer(16, 1_000_000, "kilobytes a second", 512).strict(Literal::Integer(64));
        /// Agent update mode
        ///
        /// What happens when there is a new version of the agent itself (`AgentUpdateFeed`). A new version runs on probation: one that does not
        /// work gives way to the version before, and is not tried again.
        AgentUpdateMode => agent_update_mode: UpdateMode =
            Setting::choice(UpdateMode::CHOICES, "automatic").default(Literal::Text("notify"));
        /// Agent update feed
        ///
        /// The address of the signed repository with the releases of the agent itself, which `steward repo` makes; it may be the one of
        /// `UpdateFeed`. Without it, the agent stays what its package installed.
        AgentUpdateFeed => agent_update_feed: Option<String> =
            Setting::text(Format::Url, "https://updates.example.com/steward/");
        /// Trusted roots of the agent update feed
        ///
        /// The first roots of that repository, as in `UpdateTrustedRoots`. Without it, `UpdateTrustedRoots` holds for both; without either,
        /// nothing is installed.
        AgentUpdateTrustedRoots => agent_update_trusted_roots: Option<TrustedRoots> =
            Setting::text(Format::TrustedRoots, EXAMPLE_OF_ROOTS).strict(Literal::Text(NO_ROOTS));
        /// Pinned agent version
        ///
        /// Only this version of the agent is installed, if it is newer than that of the package. A pin never leads to an older version.
        AgentPinnedVersion => agent_pinned_version: Option<semver::Version> =
            Setting::text(Format::Version, "1.4.0").strict(Literal::Text("0.0.0"));
    }
}
