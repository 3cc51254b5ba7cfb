//! PURE: whether a release is for this device now.
//!
//! In: a release of the feed, what is installed, the rules of policy and the time. Out: a [`Decision`]. Called by [`super::run`].

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use policy_schema::Policy;
use policy_schema::settings::UpdateMode;
use ring::digest;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::feed::Release;

/// What to do about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing, and why.
    Stay(String),
    /// Nothing, because it did not start on this device before. Reported until the feed offers another version.
    Quarantined,
    /// Report that it is available.
    Announce,
    /// Install it.
    Install,
}

/// What policy says about updates of the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpdateRules {
    /// `UpdateMode`.
    mode: UpdateMode,
    /// `UpdatePinnedVersion`.
    pinned: Option<Version>,
    /// `UpdateMinimumVersion`.
    minimum: Option<Version>,
    /// `UpdateDeferDays`.
    defer_days: u32,
    /// `UpdateRolloutPercent`.
    rollout_percent: u32,
}

impl From<&Policy> for UpdateRules {
    fn from(policy: &Policy) -> Self {
        Self {
            mode: policy.update_mode,
            pinned: policy.update_pinned_version.clone(),
            minimum: policy.update_minimum_version.clone(),
            defer_days: policy.update_defer_days,
            rollout_percent: policy.update_rollout_percent,
        }
    }
}

/// What distinguishes this device in a rollout.
pub(crate) struct Device<'a> {
    pub(crate) id: &'a str,
    pub(crate) app: &'a str,
    /// The version of its kernel, if it is known.
    pub(crate) system: Option<&'a str>,
}

/// Decides. A pin decides before everything else. Nothing is downgraded. A quarantined version is not installed again.
/// A device below the minimum version, or without the app, waits for neither deferral nor rollout.
pub(crate) fn choose(
    release: &Release,
    installed: Option<&Version>,
    quarantined: &BTreeSet<Version>,
    rules: &UpdateRules,
    device: &Device<'_>,
    now: Timestamp,
) -> Decision {
    let version = &release.version;
    if let Some(pin) = rules.pinned.as_ref().filter(|pin| *pin != version) {
        return Decision::Stay(format!("pinned to {pin}; the feed offers {version}"));
    }
    if let Some(installed) = installed.filter(|installed| *installed >= version) {
        return Decision::Stay(format!("{installed} is up to date"));
    }
    if quarantined.contains(version) {
        return Decision::Quarantined;
    }
    if let Some(reason) = held_by_vendor(release, installed, device) {
        return Decision::Stay(reason);
    }
    let urgent = match (installed, &rules.minimum) {
        (None, _) => true,
        (Some(installed), Some(minimum)) => installed < minimum,
        (Some(_), None) => false,
    };
    if !urgent {
        if let Some(reason) = deferred(release, rules.defer_days, now) {
            return Decision::Stay(reason);
        }
        if bucket(device, version) >= rules.rollout_percent * 100 {
            let percent = rules.rollout_percent;
            return Decision::Stay(format!(
                "{version} is rolled out to {percent} % of devices, not yet to this one"
            ));
        }
    }
    match rules.mode {
        UpdateMode::Off => Decision::Stay("updates are off".to_owned()),
        UpdateMode::Notify => Decision::Announce,
        UpdateMode::Automatic => Decision::Install,
    }
}

/// Why the vendor keeps the release from this device: policy can be stricter than the vendor, never looser.
fn held_by_vendor(release: &Release, installed: Option<&Version>, device: &Device<'_>) -> Option<String> {
    let (version, brakes) = (&release.version, &release.brakes);
    if let Some(minimum) = &brakes.minimum_system {
        let known = device.system.and_then(numbers).zip(numbers(minimum));
        match known {
            Some((own, minimum)) if own >= minimum => {}
            Some(_) => return Some(format!("{version} needs system version {minimum} or newer")),
            None => {
                return Some(format!(
                    "{version} needs system version {minimum}, and it is not known whether this device has that"
                ));
            }
        }
    }
    // A first installation is no update.
    installed?;
    let percent = brakes.staging_percent?;
    (bucket(device, version) >= percent * 100).then(|| {
        format!("the vendor has released {version} for {percent} % of devices, not yet for this one")
    })
}

/// The numbers that a version of a system begins with: `6.1.0-18-amd64` as 6, 1, 0.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let digits = version.trim().split(|letter: char| letter != '.' && !letter.is_ascii_digit()).next()?;
    let mut numbers: Vec<u64> = digits.split('.').map(|one| one.parse().ok()).collect::<Option<_>>()?;
    numbers.resize(4, 0);
    Some(numbers)
}

fn deferred(release: &Release, days: u32, now: Timestamp) -> Option<String> {
    if days == 0 {
        return None;
    }
    let version = &release.version;
    let Some(published) = release.published else {
        return Some(format!("{version} is deferred: the feed does not say when it was published"));
    };
    let until =
        published.checked_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX);
    (now < until).then(|| format!("{version} is deferred until {}", until.strftime("%Y-%m-%d")))
}

/// The device's position in the rollout of a release, from 0 to 9999. It is the same at every check of the release.
fn bucket(device: &Device<'_>, version: &Version) -> u32 {
    let digest =
        digest::digest(&digest::SHA256, format!("{}|{}|{version}", device.id, device.app).as_bytes());
    let (head, _) = digest.as_ref().split_at(8);
    let number = u64::from_be_bytes(head.try_into().expect("SHA-256 has more than 8 bytes"));
    u32::try_from(number % 10_000).expect("a remainder of 10,000 fits")
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::Source;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;
    use crate::update::feed::{Artifact, Brakes};

    fn decide(policy: &str, installed: Option<&str>, quarantined: &[&str]) -> Decision {
        decide_for(policy, installed, quarantined, "device-1")
    }

    fn decide_for(policy: &str, installed: Option<&str>, quarantined: &[&str], device: &str) -> Decision {
        decide_with(Brakes::default(), policy, installed, quarantined, device)
    }

    fn decide_with(
        brakes: Brakes,
        policy: &str,
        installed: Option<&str>,
        quarantined: &[&str],
        device: &str,
    ) -> Decision {
        let source = Source { rank: 1, name: "test".to_owned(), contents: drop_in::read(policy.as_bytes()) };
        let policy = resolve(&[source], &LastGood::default()).policy;
        let release = Release {
            version: Version::new(2, 0, 0),
            published: Some("2026-11-01T00:00:00Z".parse().unwrap()),
            artifact: Artifact { url: "https://a.example/a".parse().unwrap(), sha512: [0; 64], size: 1 },
            brakes,
        };
        let installed = installed.map(|version| version.parse().unwrap());
        let quarantined = quarantined.iter().map(|version| version.parse().unwrap()).collect();
        let now = "2026-11-04T00:00:00Z".parse().unwrap();
        choose(
            &release,
            installed.as_ref(),
            &quarantined,
            &UpdateRules::from(&policy),
            &Device { id: device, app: "app", system: Some("6.1.0-18-amd64") },
            now,
        )
    }

    const AUTOMATIC: &str = "UpdateMode = \"automatic\"\n";

    #[test]
    fn update_mode_decides_about_a_newer_version() {
        assert_eq!(decide(AUTOMATIC, Some("1.9.0"), &[]), Decision::Install);
        assert_eq!(decide("UpdateMode = \"notify\"", Some("1.9.0"), &[]), Decision::Announce);
        assert!(matches!(decide("UpdateMode = \"off\"", Some("1.9.0"), &[]), Decision::Stay(_)));
    }

    #[test]
    fn release_that_is_not_for_this_device_is_not_installed_and_says_why() {
        let extended = |more: &str| format!("{AUTOMATIC}{more}");
        let cases = [
            (AUTOMATIC.to_owned(), "2.0.0", "2.0.0 is up to date"),
            (AUTOMATIC.to_owned(), "3.0.0", "3.0.0 is up to date"),
            (extended("UpdatePinnedVersion = \"1.9.0\""), "1.9.0", "pinned to 1.9.0; the feed offers 2.0.0"),
            (extended("UpdatePinnedVersion = \"oops\""), "1.9.0", "pinned to 0.0.0; the feed offers 2.0.0"),
            (extended("UpdateDeferDays = 7"), "1.9.0", "2.0.0 is deferred until 2026-11-08"),
            (extended("UpdateRolloutPercent = 0"), "1.9.0", "rolled out to 0 % of devices"),
        ];
        for (policy, installed, expected) in cases {
            let decision = decide(&policy, Some(installed), &[]);
            assert!(
                matches!(&decision, Decision::Stay(reason) if reason.contains(expected)),
                "{policy}: {decision:?}"
            );
        }
        assert_eq!(decide(AUTOMATIC, Some("1.9.0"), &["2.0.0"]), Decision::Quarantined);
    }

    #[test]
    fn device_below_minimum_or_without_app_does_not_wait_for_deferral_and_rollout() {
        let slow = format!("{AUTOMATIC}UpdateDeferDays = 30\nUpdateRolloutPercent = 0\n");
        assert_eq!(decide(&slow, None, &[]), Decision::Install);
        let minimum = format!("{slow}UpdateMinimumVersion = \"1.9.5\"");
        assert_eq!(decide(&minimum, Some("1.9.0"), &[]), Decision::Install);
        assert!(matches!(decide(&minimum, Some("1.9.6"), &[]), Decision::Stay(_)));
    }

    #[test]
    fn rollout_reaches_its_share_of_devices_and_keeps_them_when_it_grows() {
        let chosen = |percent: u32| -> BTreeSet<u32> {
            let policy = format!("{AUTOMATIC}UpdateRolloutPercent = {percent}");
            (0..1000)
                .filter(|device| {
                    decide_for(&policy, Some("1.0.0"), &[], &device.to_string()) == Decision::Install
                })
                .collect()
        };
        let (ten, thirty) = (chosen(10), chosen(30));
        assert!((60..=140).contains(&ten.len()), "{}", ten.len());
        assert!(ten.is_subset(&thirty) && thirty.len() > ten.len());
        assert_eq!(chosen(100).len(), 1000);
    }

    #[test]
    fn brakes_of_the_vendor_hold_whatever_policy_says() {
        let staged = |percent, installed: Option<&str>| {
            let brakes = Brakes { staging_percent: Some(percent), ..Brakes::default() };
            let urgent = format!("{AUTOMATIC}UpdateMinimumVersion = \"2.0.0\"");
            decide_with(brakes, &urgent, installed, &[], "device-1")
        };
        assert!(
            matches!(staged(0, Some("1.0.0")), Decision::Stay(reason) if reason.contains("0 % of devices"))
        );
        assert_eq!(staged(100, Some("1.0.0")), Decision::Install);
        assert_eq!(staged(0, None), Decision::Install, "a first installation is no update");
        for (minimum, installs) in
            [("6.1", true), ("6.0.9", true), ("6.1.0", true), ("6.2", false), ("10", false), ("new", false)]
        {
            let brakes = Brakes { minimum_system: Some(minimum.to_owned()), ..Brakes::default() };
            let decision = decide_with(brakes, AUTOMATIC, Some("1.0.0"), &[], "device-1");
            assert_eq!(decision == Decision::Install, installs, "{minimum}: {decision:?}");
        }
    }
}
