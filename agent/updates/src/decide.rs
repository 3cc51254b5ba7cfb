//! Which release a device installs, and when.
//!
//! In: what policy says ([`Rules`]), the releases of a feed, what is known of the device, and the time. Out: a [`Decision`]. The
//! newest release that may be installed now is chosen; if none may, the decision is about the newest one and says why not.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use policy_schema::settings::UpdateMode;
use policy_schema::version::channel_of;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Verdict};
use crate::feed::Release;
use crate::journal::Journal;
use crate::ring::bucket;
use crate::window::{self, Opening};
use crate::{Reason, Rules};

/// What distinguishes a device in a rollout.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// Its random, stable ID.
    pub id: &'a str,
    /// The name of the app.
    pub app: &'a str,
    /// The version of its kernel, if it is known.
    pub system: Option<&'a str>,
}

/// The app's own updater, where two updaters at once do harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnUpdater {
    /// It is switched off, or does no harm.
    #[default]
    Off,
    /// It is not switched off.
    Active,
    /// It is switched off, and active until the app is started again.
    UntilRestart,
}

/// How things are on a device.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The version of the app.
    pub installed: Option<&'a Version>,
    /// The app's own updater.
    pub own_updater: OwnUpdater,
    /// The ID of the present start of the device, if the system names it.
    pub boot: Option<&'a str>,
    /// What was tried before.
    pub journal: &'a Journal,
    /// The time.
    pub now: Timestamp,
    /// Where the device is.
    pub zone: &'a TimeZone,
}

/// Decides.
///
/// A hold comes first, then the channel and the pin. Nothing leads to an older version but a downgrade that policy names. What
/// was rolled back or failed too often is not installed again. A first installation, and a device below the minimum version,
/// wait neither for deferral nor for rollout; policy can be stricter than the vendor, never looser.
#[must_use]
pub fn decide<'a>(
    rules: &Rules,
    releases: &'a [Release],
    device: &Device<'_>,
    situation: &Situation<'_>,
) -> Decision<'a> {
    let stay = |release, reason| Decision { verdict: Verdict::Stay, release, reason };
    if rules.mode == UpdateMode::Off {
        return stay(None, Reason::Off);
    }
    if let Some(hold) = situation.journal.hold(situation.now) {
        return stay(None, Reason::Held { until: hold.until });
    }
    let mut candidates: Vec<&Release> = releases.iter().collect();
    candidates.sort_by(|one, other| other.version.cmp(&one.version));
    let newest = candidates.first().copied();
    let Some(newest) = newest else {
        let up_to_date = |installed: &Version| Reason::UpToDate { installed: installed.clone() };
        return stay(None, situation.installed.map_or(Reason::NothingOffered, up_to_date));
    };
    let has_channels = releases.iter().any(|release| release.channel.is_some());
    candidates.retain(|release| in_channel(rules.channel.as_deref(), has_channels, release));
    if candidates.is_empty() {
        let channel = rules.channel.clone().unwrap_or_else(|| STABLE.to_owned());
        return stay(Some(newest), Reason::OtherChannel { channel, offered: newest.version.clone() });
    }
    if let Some(pin) = &rules.pinned {
        let offered = candidates.first().map_or(newest, |release| *release);
        candidates.retain(|release| pin.allows(&release.version));
        if candidates.is_empty() {
            let reason = Reason::Pinned { pin: pin.clone(), offered: offered.version.clone() };
            return stay(Some(offered), reason);
        }
    }
    let mut first = None;
    for release in candidates {
        let (verdict, reason) = judge(rules, release, device, situation);
        match verdict {
            Verdict::Install | Verdict::Prepare | Verdict::Announce => {
                return Decision { verdict, release: Some(release), reason };
            }
            Verdict::Stay => first = first.or(Some((release, reason))),
        }
    }
    first.map_or_else(|| stay(None, Reason::NothingOffered), |(release, reason)| stay(Some(release), reason))
}

/// What releases without a channel are in.
const STABLE: &str = "stable";

/// `latest` is what electron-builder calls the stable channel. A release without a channel is in that of its pre-release. Without
/// a channel in policy, a feed without channels decides by itself what it offers.
fn in_channel(wanted: Option<&str>, has_channels: bool, release: &Release) -> bool {
    let plain = |channel: &str| if channel == "latest" { STABLE.to_owned() } else { channel.to_owned() };
    if wanted.is_none() && !has_channels {
        return true;
    }
    let own = release.channel.as_deref().or_else(|| channel_of(&release.version)).unwrap_or(STABLE);
    plain(own) == plain(wanted.unwrap_or(STABLE))
}

fn judge(
    rules: &Rules,
    release: &Release,
    device: &Device<'_>,
    situation: &Situation<'_>,
) -> (Verdict, Reason) {
    let version = || release.version.clone();
    let journal = situation.journal;
    let downgrade = match direction(rules, release, situation.installed) {
        Ok(downgrade) => downgrade,
        Err(reason) => return (Verdict::Stay, reason),
    };
    if let Some(quarantine) = journal.quarantine(&release.version) {
        let (at, why) = (quarantine.at, quarantine.reason.clone());
        return (Verdict::Stay, Reason::Quarantined { version: version(), at, why });
    }
    if journal.waits_for_restart(&release.version, situation.boot) {
        return (Verdict::Stay, Reason::Restart { version: version() });
    }
    let tried = journal.attempts(&release.artifact.digest());
    if let Some((tried, until)) = tried.and_then(|tried| Some((tried, tried.exhausted(situation.now)?))) {
        let (attempts, last) = (tried.count(), tried.last.clone());
        return (Verdict::Stay, Reason::Exhausted { version: version(), attempts, last, until });
    }
    if let Some(reason) = held_by_vendor(release, situation.installed, device) {
        return (Verdict::Stay, reason);
    }
    let minimum = rules.minimum.as_ref();
    let below = minimum.filter(|minimum| situation.installed.is_some_and(|installed| installed < *minimum));
    let urgent = situation.installed.is_none() || below.is_some() || downgrade.is_some();
    if !urgent {
        if let Some(reason) = deferred(release, rules.defer_days, situation.now) {
            return (Verdict::Stay, reason);
        }
        let salt = release.salt.clone().unwrap_or_else(|| release.version.to_string());
        if bucket(device.id, device.app, &salt) >= rules.rollout_percent * 100 {
            return (Verdict::Stay, Reason::Rollout { version: version(), percent: rules.rollout_percent });
        }
    }
    if rules.mode == UpdateMode::Notify {
        return (Verdict::Announce, Reason::Available { version: version() });
    }
    // Not even a version below the minimum is replaced: two updaters at once leave no app at all.
    if situation.installed.is_some() && situation.own_updater != OwnUpdater::Off {
        let restart = situation.own_updater == OwnUpdater::UntilRestart;
        return (Verdict::Prepare, Reason::OwnUpdater { version: version(), restart });
    }
    let at_once = match (situation.installed, downgrade, below) {
        (None, ..) => Some(Reason::First { version: version() }),
        (Some(_), Some(from), _) => Some(Reason::Downgrade { version: version(), from }),
        (Some(_), None, Some(minimum)) if rules.deadline_hours.is_none() => {
            Some(Reason::BelowMinimum { version: version(), minimum: minimum.clone() })
        }
        (Some(_), None, _) => None,
    };
    match at_once {
        Some(reason) => (Verdict::Install, reason),
        None => timed(rules, release, situation),
    }
}

/// The version that a downgrade comes from; `None` for a release that is newer than what is installed.
fn direction(
    rules: &Rules,
    release: &Release,
    installed: Option<&Version>,
) -> Result<Option<Version>, Reason> {
    let version = &release.version;
    let Some(installed) = installed else {
        return led_away(rules, version);
    };
    if let Some(downgrade) = rules.downgrades.iter().find(|downgrade| downgrade.from.allows(installed)) {
        // Whatever else is offered: the way is prescribed.
        return if version.cmp_precedence(&downgrade.to).is_eq() {
            Ok(Some(installed.clone()))
        } else {
            Err(Reason::LedAway { version: installed.clone(), to: downgrade.to.clone() })
        };
    }
    if installed.cmp_precedence(version).is_ge() {
        let pin = rules.pinned.as_ref().filter(|pin| !pin.allows(installed));
        return Err(match pin {
            Some(pin) => Reason::NewerThanPin { pin: pin.clone(), installed: installed.clone() },
            None => Reason::UpToDate { installed: installed.clone() },
        });
    }
    led_away(rules, version)
}

/// A version that policy leads away from is not installed either: the device would go back at once.
fn led_away(rules: &Rules, version: &Version) -> Result<Option<Version>, Reason> {
    match rules.downgrades.iter().find(|downgrade| downgrade.from.allows(version)) {
        Some(downgrade) => Err(Reason::LedAway { version: version.clone(), to: downgrade.to.clone() }),
        None => Ok(None),
    }
}

/// An update that is due waits for the window, at most until its deadline.
fn timed(rules: &Rules, release: &Release, situation: &Situation<'_>) -> (Verdict, Reason) {
    let (now, zone) = (situation.now, situation.zone);
    let version = release.version.clone();
    let opening = rules.window.as_ref().map_or(Opening::Now, |window| window::next(window, zone, now));
    let Opening::At(opens) = opening else { return (Verdict::Install, Reason::Due { version }) };
    let since = situation.journal.wanted_since(&release.artifact.digest()).unwrap_or(now).min(now);
    let deadline = rules.deadline_hours.map(|hours| later(since, SignedDuration::from_hours(hours.into())));
    let today = zone.to_datetime(now).date();
    let local = |at| {
        let local = zone.to_datetime(at);
        (local, local.date() == today)
    };
    match deadline {
        Some(at) if at <= now => (Verdict::Install, Reason::DeadlinePassed { version }),
        Some(at) if at < opens => {
            let (local, same_day) = local(at);
            (Verdict::Prepare, Reason::Deadline { version, at, local, same_day })
        }
        Some(_) | None => {
            let (local, same_day) = local(opens);
            (Verdict::Prepare, Reason::Window { version, opens, local, same_day })
        }
    }
}

/// Why the vendor keeps the release from this device.
fn held_by_vendor(release: &Release, installed: Option<&Version>, device: &Device<'_>) -> Option<Reason> {
    let (version, brakes) = (&release.version, &release.brakes);
    if let Some(needs) = &brakes.minimum_system {
        let both = device.system.and_then(numbers).zip(numbers(needs));
        if both.as_ref().is_none_or(|(own, minimum)| own < minimum) {
            let (version, needs) = (version.clone(), needs.clone());
            return Some(Reason::System { version, needs, known: both.is_some() });
        }
    }
    // A first installation is no update.
    installed?;
    let share = brakes.staging?;
    let salt = release.salt.clone().unwrap_or_else(|| version.to_string());
    // A share of less than a percent is not called nothing.
    let percent = share.div_ceil(100);
    (bucket(device.id, device.app, &salt) >= share)
        .then(|| Reason::VendorRollout { version: version.clone(), percent })
}

/// The numbers that a version of a system begins with: `6.1.0-18-amd64` as 6, 1, 0.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let digits = version.trim().split(|letter: char| letter != '.' && !letter.is_ascii_digit()).next()?;
    let mut numbers: Vec<u64> = digits.split('.').map(|one| one.parse().ok()).collect::<Option<_>>()?;
    numbers.resize(4, 0);
    Some(numbers)
}

fn deferred(release: &Release, days: u32, now: Timestamp) -> Option<Reason> {
    if days == 0 {
        return None;
    }
    let version = release.version.clone();
    let until = release.published.map(|at| later(at, SignedDuration::from_hours(24 * i64::from(days))));
    until.is_none_or(|until| now < until).then_some(Reason::Deferred { version, until })
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
