//! How a release reaches a fleet: the decisions of simulated devices over time.
//!
//! In: policy, a feed, what all devices have installed, and a number of devices. Out: how many have updated by when ([`Rollout`]),
//! and why the others have not. Each device checks the feed as the agent does, and decides by the same code.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use semver::Version;

use crate::feed::Release;
use crate::journal::{Event, Journal};
use crate::ring::bucket;
use crate::{Device, OwnUpdater, Rules, Situation, Verdict, decide};

/// Seconds between checks of the feed: 5 h 47 min, so that a device does not come at the same time every day.
pub const INTERVAL: u32 = 20_820;
/// Nothing is simulated beyond so many days.
const HORIZON: i64 = 120;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    /// Policy of all devices.
    pub rules: &'a Rules,
    /// What the feed offers all the time.
    pub releases: &'a [Release],
    /// The name of the app.
    pub app: &'a str,
    /// What all devices have.
    pub installed: Option<&'a Version>,
    /// The version of their kernel.
    pub system: Option<&'a str>,
    /// When the simulation begins.
    pub start: Timestamp,
    /// Where the devices are.
    pub zone: &'a TimeZone,
    /// How many there are.
    pub devices: u32,
}

/// How a release reaches a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// How many devices install something at each time.
    pub installed: BTreeMap<Timestamp, u32>,
    /// How many devices install nothing, by the reason in words.
    pub others: BTreeMap<String, u32>,
}

impl Rollout {
    /// How many devices have installed something by then.
    #[must_use]
    pub fn by(&self, time: Timestamp) -> u32 {
        self.installed.range(..=time).map(|(_, devices)| devices).sum()
    }
}

/// Simulates a fleet.
#[must_use]
pub fn simulate(fleet: &Fleet<'_>) -> Rollout {
    let mut rollout = Rollout::default();
    for number in 0..fleet.devices {
        match install_time(fleet, &format!("device-{number}")) {
            Ok(time) => *rollout.installed.entry(time).or_default() += 1,
            Err(reason) => *rollout.others.entry(reason).or_default() += 1,
        }
    }
    rollout
}

/// When a device installs something, or why it does not.
fn install_time(fleet: &Fleet<'_>, id: &str) -> Result<Timestamp, String> {
    let device = Device { id, app: fleet.app, system: fleet.system };
    let interval = SignedDuration::from_secs(INTERVAL.into());
    let add = |time: Timestamp, by| time.checked_add(by).unwrap_or(Timestamp::MAX);
    // Devices check the feed at any time, whatever their place in a rollout.
    let phase = u64::from(bucket(id, fleet.app, "phase of the check")) * u64::from(INTERVAL) / 10_000;
    let mut now = add(fleet.start, SignedDuration::from_secs(i64::try_from(phase).unwrap_or_default()));
    let horizon = add(fleet.start, SignedDuration::from_hours(24 * HORIZON));
    let mut journal = Journal::default();
    loop {
        let situation = Situation {
            boot: None,
            installed: fleet.installed,
            own_updater: OwnUpdater::Off,
            journal: &journal,
            now,
            zone: fleet.zone,
        };
        let decision = decide(fleet.rules, fleet.releases, &device, &situation);
        let until = decision.reason.until();
        let text = decision.reason.to_string();
        let next = match (decision.verdict, until) {
            (Verdict::Install, _) => return Ok(now),
            (Verdict::Announce, _) | (Verdict::Stay, None) => return Err(text),
            (Verdict::Prepare, until) => {
                (journal, _) = journal.step(Event::Decided(decision), now);
                until.unwrap_or(horizon)
            }
            // The first check after that.
            (Verdict::Stay, Some(until)) => {
                let checks = until.duration_since(now).as_secs().max(0) / i64::from(INTERVAL) + 1;
                add(now, interval.saturating_mul(i32::try_from(checks).unwrap_or(i32::MAX)))
            }
        };
        if next > horizon || next <= now {
            return Err(text);
        }
        now = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::{release, rules};

    fn rollout(policy: &str, devices: u32) -> Rollout {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let installed = Version::new(1, 0, 0);
        let fleet = Fleet {
            rules: &rules(policy),
            releases: &[release("2.0.0")],
            app: "app",
            installed: Some(&installed),
            system: None,
            start: "2026-11-02T08:00:00Z".parse().unwrap(),
            zone: &zone,
            devices,
        };
        simulate(&fleet)
    }

    fn by(rollout: &Rollout, time: &str) -> u32 {
        rollout.by(time.parse().unwrap())
    }

    #[test]
    fn fleet_without_limits_updates_within_one_interval_of_checks() {
        let rollout = rollout("", 1000);
        assert_eq!(by(&rollout, "2026-11-02T13:47:00Z"), 1000);
        let half = by(&rollout, "2026-11-02T10:53:30Z");
        assert!((420..580).contains(&half), "{half}");
    }

    #[test]
    fn fleet_with_window_ring_and_deferral_updates_as_policy_says() {
        let policy =
            "UpdateDeferDays = 7\nUpdateRolloutPercent = 30\nUpdateWindow = \"Mon-Fri 22:00-05:00\"\n";
        let rollout = rollout(policy, 1000);
        // Published on 2026-11-01 at 00:00; seven days later is a Sunday, and Monday's window opens at 21:00 UTC.
        assert_eq!(by(&rollout, "2026-11-09T20:59:59Z"), 0);
        let all = by(&rollout, "2026-11-09T21:00:00Z");
        assert!((240..360).contains(&all), "{all}");
        let others: Vec<_> = rollout.others.iter().collect();
        assert_eq!(others.len(), 1);
        assert_eq!(*others[0].1 + all, 1000);
        assert!(others[0].0.contains("rolled out to 30 % of devices"), "{others:?}");
    }

    /// Lets each of a fleet check once. Gives how many changed.
    fn check(fleet: &mut [Version], rules: &Rules, releases: &[Release]) -> usize {
        let (journal, zone) = (Journal::default(), TimeZone::UTC);
        let mut changed = 0;
        for (number, installed) in fleet.iter_mut().enumerate() {
            let id = format!("device-{number}");
            let situation = Situation {
                boot: None,
                installed: Some(installed),
                own_updater: OwnUpdater::Off,
                journal: &journal,
                now: "2026-11-20T08:00:00Z".parse().unwrap(),
                zone: &zone,
            };
            let device = Device { id: &id, app: "app", system: None };
            let decision = decide(rules, releases, &device, &situation);
            if let (Verdict::Install, Some(release)) = (decision.verdict, decision.release) {
                *installed = release.version.clone();
                changed += 1;
            }
        }
        changed
    }

    /// What an administrator does with a rollout: begins it, pauses it by leaving it alone, goes on, stops it, and takes it back.
    #[test]
    fn rollout_to_ten_thousand_devices_is_paused_resumed_stopped_and_rolled_back() {
        let (old, new) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
        let mut fleet = vec![old.clone(); 10_000];
        let mut policy = rules("");
        let staged = |permyriad| {
            let mut newer = release("2.0.0");
            newer.brakes.staging = Some(permyriad);
            [newer, release("1.0.0")]
        };
        assert_eq!(check(&mut fleet, &policy, &staged(0)), 0);
        let first = check(&mut fleet, &policy, &staged(500));
        assert!((400..600).contains(&first), "{first}");
        let early: Vec<bool> = fleet.iter().map(|version| *version == new).collect();
        assert_eq!(check(&mut fleet, &policy, &staged(500)), 0, "a rollout that is paused holds its number");
        let more = check(&mut fleet, &policy, &staged(2500));
        assert!((2300..2700).contains(&(first + more)), "{first} {more}");
        assert!(early.iter().zip(&fleet).all(|(early, version)| !early || *version == new));
        assert_eq!(check(&mut fleet, &policy, &staged(0)), 0, "one that is stopped takes nothing back");
        // The director leads back, and offers the new version no more.
        assert!(policy.lead_back(vec!["2.0.0 to 1.0.0".parse().unwrap()]).is_empty());
        assert_eq!(check(&mut fleet, &policy, &[release("1.0.0")]), first + more);
        assert!(fleet.iter().all(|version| *version == old));
        let mut better = release("2.0.1");
        better.brakes.staging = Some(10_000);
        assert_eq!(check(&mut fleet, &policy, &[better, release("1.0.0")]), 10_000);
    }

    #[test]
    fn deadline_comes_before_a_window_that_opens_later() {
        let rollout = rollout("UpdateWindow = \"Sun 03:00-04:00\"\nUpdateDeadlineHours = 48\n", 200);
        assert_eq!(by(&rollout, "2026-11-04T07:59:59Z"), 0);
        assert_eq!(by(&rollout, "2026-11-04T13:47:00Z"), 200);
    }
}
