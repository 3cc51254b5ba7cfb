//! Why a device does what it does about a release, in a form that is kept and in words.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use policy_schema::version::Pin;
use semver::Version;
use serde::Serialize;

/// Why. As text it is a sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "a variant says what its fields are")]
pub enum Reason {
    /// Nothing newer is for this device.
    UpToDate { installed: Version },
    /// The feed has nothing that this device may install, and the device has nothing.
    NothingOffered,
    /// The releases are all in other channels.
    OtherChannel { channel: String, offered: Version },
    /// The pin allows none of the releases.
    Pinned { pin: Pin, offered: Version },
    /// What is installed is newer than the pin, and no downgrade is named.
    NewerThanPin { pin: Pin, installed: Version },
    /// Policy leads devices from this version to one that is not offered.
    LedAway { version: Version, to: Version },
    /// An administrator holds updates on this device.
    Held { until: Option<Timestamp> },
    /// It was rolled back on this device.
    Quarantined { version: Version, at: Option<Timestamp>, why: String },
    /// The same file failed too often.
    Exhausted { version: Version, attempts: u32, last: String, until: Option<Timestamp> },
    /// The system is too old for it.
    System { version: Version, needs: String, known: bool },
    /// The vendor has not released it for this device yet.
    VendorRollout { version: Version, percent: u32 },
    /// It has not been out long enough.
    Deferred { version: Version, until: Option<Timestamp> },
    /// Policy has not released it for this device yet.
    Rollout { version: Version, percent: u32 },
    /// `UpdateMode` is `off`.
    Off,
    /// `UpdateMode` is `notify`.
    Available { version: Version },
    /// The window is closed.
    Window { version: Version, opens: Timestamp, local: DateTime, same_day: bool },
    /// It is installed before the window opens.
    Deadline { version: Version, at: Timestamp, local: DateTime, same_day: bool },
    /// The app's own updater is active; `restart`: until the app is started again.
    OwnUpdater { version: Version, restart: bool },
    /// The app is open. `deadline`: it is closed then, by `UpdateAppClose`.
    AppOpen { version: Version, deadline: Option<Timestamp> },
    /// It is installed once the device was restarted.
    Restart { version: Version },
    /// It is not signed by a publisher who may install the app.
    Publisher { version: Version, fault: String },
    /// Nothing is in the way.
    Due { version: Version },
    /// The app is not installed yet.
    First { version: Version },
    /// What is installed is below the minimum version.
    BelowMinimum { version: Version, minimum: Version },
    /// It has been waiting until its deadline.
    DeadlinePassed { version: Version },
    /// Policy names this downgrade.
    Downgrade { version: Version, from: Version },
}

impl Reason {
    /// When time alone may change it.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Held { until } | Self::Deferred { until, .. } | Self::Exhausted { until, .. } => *until,
            Self::Window { opens, .. } => Some(*opens),
            Self::Deadline { at, .. } => Some(*at),
            Self::AppOpen { deadline, .. } => *deadline,
            Self::UpToDate { .. }
            | Self::NothingOffered
            | Self::OtherChannel { .. }
            | Self::Pinned { .. }
            | Self::NewerThanPin { .. }
            | Self::LedAway { .. }
            | Self::Quarantined { .. }
            | Self::System { .. }
            | Self::VendorRollout { .. }
            | Self::Rollout { .. }
            | Self::Off
            | Self::Available { .. }
            | Self::OwnUpdater { .. }
            | Self::Restart { .. }
            | Self::Publisher { .. }
            | Self::Due { .. }
            | Self::First { .. }
            | Self::BelowMinimum { .. }
            | Self::DeadlinePassed { .. }
            | Self::Downgrade { .. } => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpToDate { installed } => write!(formatter, "{installed} is up to date"),
            Self::NothingOffered => write!(formatter, "the feed offers nothing for this device"),
            Self::OtherChannel { channel, offered } => {
                write!(formatter, "the channel `{channel}` has no release; the feed offers {offered}")
            }
            Self::Pinned { pin, offered } => write!(formatter, "pinned to {pin}; the feed offers {offered}"),
            Self::NewerThanPin { pin, installed } => write!(
                formatter,
                "pinned to {pin}, but {installed} is installed; `UpdateDowngrades` does not name a downgrade from it"
            ),
            Self::LedAway { version, to } => {
                write!(
                    formatter,
                    "a downgrade leads from {version} to {to}, which is not offered to this device"
                )
            }
            Self::Held { until: Some(until) } => {
                write!(formatter, "held on this device by an administrator until {}", minute(*until))
            }
            Self::Held { until: None } => {
                write!(
                    formatter,
                    "held on this device by an administrator; `steward update release` ends that"
                )
            }
            Self::Quarantined { version, at, why } => {
                let on = at.as_ref().map_or_else(String::new, |at| format!(" on {}", day(at)));
                write!(formatter, "{version} is quarantined: rolled back{on}, because {why}")
            }
            Self::Exhausted { version, attempts, last, until } => {
                write!(formatter, "{version} was tried {attempts} times and is not tried again until ")?;
                match until {
                    Some(until) => write!(formatter, "{}: {last}", minute(*until)),
                    None => write!(formatter, "the feed offers another file: {last}"),
                }
            }
            Self::System { version, needs, known: true } => {
                write!(formatter, "{version} needs system version {needs} or newer")
            }
            Self::System { version, needs, known: false } => write!(
                formatter,
                "{version} needs system version {needs}, and it is not known whether this device has that"
            ),
            Self::VendorRollout { version, percent } => write!(
                formatter,
                "the vendor has released {version} for {percent} % of devices, not yet for this one"
            ),
            Self::Deferred { version, until: Some(until) } => {
                write!(formatter, "{version} is deferred until {}", day(until))
            }
            Self::Deferred { version, until: None } => {
                write!(formatter, "{version} is deferred: the feed does not say when it was published")
            }
            Self::Rollout { version, percent } => {
                write!(formatter, "{version} is rolled out to {percent} % of devices, not yet to this one")
            }
            Self::Off => write!(formatter, "updates are off"),
            Self::Available { version } => write!(formatter, "version {version} is available"),
            Self::Window { version, local, same_day, .. } => write!(
                formatter,
                "{version} is out; waits for the window that opens {}",
                moment(*local, *same_day)
            ),
            Self::Deadline { version, local, same_day, .. } => write!(
                formatter,
                "{version} is out; waits for its deadline {}, before the window opens",
                moment(*local, *same_day)
            ),
            Self::OwnUpdater { version, restart: false } => {
                write!(formatter, "{version} is out; waits until the app's own updater is switched off")
            }
            Self::OwnUpdater { version, restart: true } => write!(
                formatter,
                "{version} is out; waits until the app is started again, because its own updater is active until then"
            ),
            Self::AppOpen { version, deadline } => {
                let after = deadline.map(|deadline| format!(", which it is after {}", minute(deadline)));
                let after = after.unwrap_or_default();
                write!(formatter, "{version} is ready; waits until the app is closed{after}")
            }
            Self::Restart { version } => {
                write!(formatter, "{version} is installed once the device was restarted")
            }
            Self::Publisher { version, fault } => write!(formatter, "{version} is not installed: {fault}"),
            Self::Due { version } => write!(formatter, "{version} is out"),
            Self::First { version } => write!(formatter, "{version} is out; the app is not installed yet"),
            Self::BelowMinimum { version, minimum } => {
                write!(
                    formatter,
                    "{version} is out; what is installed is below the minimum version {minimum}"
                )
            }
            Self::DeadlinePassed { version } => {
                write!(formatter, "{version} has been waiting until its deadline")
            }
            Self::Downgrade { version, from } => {
                write!(formatter, "a downgrade leads from {from} to {version}")
            }
        }
    }
}

fn moment(local: DateTime, same_day: bool) -> String {
    local.strftime(if same_day { "at %H:%M" } else { "on %Y-%m-%d at %H:%M" }).to_string()
}

fn day(time: &Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
