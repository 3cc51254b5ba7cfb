use std::collections::BTreeSet;

use policy_schema::raw::Source;
use policy_schema::read::drop_in;
use policy_schema::{LastGood, resolve};
use proptest::prelude::*;

use super::*;
use crate::feed::{Artifact, Brakes};
use crate::journal::{ATTEMPTS, Attempts, Event, Quarantine, Restart};

/// The rules of a policy, with updates switched on.
pub(crate) fn rules(policy: &str) -> Rules {
    let mode = if policy.contains("UpdateMode") { "" } else { "UpdateMode = \"automatic\"\n" };
    let text = format!("{mode}{policy}");
    let source = Source { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
    Rules::from(&resolve(&[source], &LastGood::default()).policy)
}

/// A release that was published on 2026-11-01.
pub(crate) fn release(version: &str) -> Release {
    Release {
        version: version.parse().unwrap(),
        channel: None,
        published: Some("2026-11-01T00:00:00Z".parse().unwrap()),
        salt: None,
        patches: Vec::new(),
        artifact: Artifact {
            url: format!("https://a.example/{version}").parse().unwrap(),
            sha512: [u8::try_from(version.len()).unwrap(); 64],
            size: 1,
        },
        brakes: Brakes::default(),
    }
}

struct Trial {
    releases: Vec<Release>,
    installed: Option<Version>,
    journal: Journal,
    own_updater: OwnUpdater,
    device: String,
    now: Timestamp,
}

impl Trial {
    fn new(installed: &str, offered: &[&str]) -> Self {
        Self {
            releases: offered.iter().map(|version| release(version)).collect(),
            installed: installed.parse().ok(),
            journal: Journal::default(),
            own_updater: OwnUpdater::Off,
            device: "device-1".to_owned(),
            now: "2026-11-04T12:00:00Z".parse().unwrap(),
        }
    }

    fn decide(&self, policy: &str) -> (Verdict, String, Option<String>) {
        let decision = self.decision(policy);
        let version = decision.release.map(|release| release.version.to_string());
        (decision.verdict, decision.reason.to_string(), version)
    }

    fn decision(&self, policy: &str) -> Decision<'_> {
        let device = Device { id: &self.device, app: "app", system: Some("6.1.0-18-amd64") };
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let (installed, journal, now) = (self.installed.as_ref(), &self.journal, self.now);
        let (own_updater, boot) = (self.own_updater, Some("this start"));
        let situation = Situation { installed, own_updater, boot, journal, now, zone: &zone };
        decide(&rules(policy), &self.releases, &device, &situation)
    }
}

/// Two updaters at once leave no app at all, so neither a minimum version nor a deadline nor a downgrade is in a hurry.
#[test]
fn nothing_is_installed_over_an_app_whose_own_updater_is_active() {
    for policy in ["", "UpdateMinimumVersion = \"2.0.0\"", "UpdateDowngrades = [\"1.9 to 2.0.0\"]"] {
        let mut trial = Trial::new("1.9.0", &["2.0.0"]);
        for (own_updater, expected) in [
            (OwnUpdater::Active, "2.0.0 is out; waits until the app's own updater is switched off"),
            (OwnUpdater::UntilRestart, "2.0.0 is out; waits until the app is started again, because"),
        ] {
            trial.own_updater = own_updater;
            let (verdict, reason, _) = trial.decide(policy);
            assert!(verdict == Verdict::Prepare && reason.starts_with(expected), "{policy}: {reason}");
        }
        // There is no app, and so no updater of it.
        trial.installed = None;
        assert_eq!(trial.decide("").0, Verdict::Install);
    }
}

/// Found in a review: an installer that wants a restart and changes nothing before it ran three times, and was then given up.
#[test]
fn version_that_waits_for_a_restart_is_not_installed_again_before_it() {
    let mut trial = Trial::new("1.9.0", &["2.0.0"]);
    let waits = |boot: &str| Some(Restart { version: Version::new(2, 0, 0), boot: boot.to_owned() });
    trial.journal.restart = waits("this start");
    let (verdict, reason, _) = trial.decide("UpdateMinimumVersion = \"2.0.0\"");
    assert_eq!((verdict, &*reason), (Verdict::Stay, "2.0.0 is installed once the device was restarted"));
    // It was restarted, and that did not help.
    trial.journal.restart = waits("the start before");
    assert_eq!(trial.decide("").0, Verdict::Install);
    trial.releases[0].version = Version::new(2, 0, 1);
    trial.journal.restart = waits("this start");
    assert_eq!(trial.decide("").0, Verdict::Install);
}

#[test]
fn policy_and_feed_decide_with_the_reason_in_words() {
    use Verdict::{Announce, Install, Prepare, Stay};
    let slow = "UpdateDeferDays = 30\nUpdateRolloutPercent = 0\n";
    let urgent = format!("{slow}UpdateMinimumVersion = \"1.9.5\"\n");
    let windowed = format!("{urgent}UpdateWindow = \"22:00-05:00\"\nUpdateDeadlineHours = 72\n");
    let cases: &[(&str, &str, &[&str], Verdict, &str)] = &[
        ("", "1.9.0", &["2.0.0"], Install, "2.0.0 is out"),
        ("UpdateMode = \"notify\"", "1.9.0", &["2.0.0"], Announce, "version 2.0.0 is available"),
        ("UpdateMode = \"off\"", "1.9.0", &["2.0.0"], Stay, "updates are off"),
        ("", "2.0.0", &["2.0.0"], Stay, "2.0.0 is up to date"),
        ("", "3.0.0", &["2.0.0"], Stay, "3.0.0 is up to date"),
        ("", "3.0.0", &[], Stay, "3.0.0 is up to date"),
        ("", "", &[], Stay, "the feed offers nothing for this device"),
        (
            "UpdatePinnedVersion = \"1.9.0\"",
            "1.9.0",
            &["2.0.0"],
            Stay,
            "pinned to 1.9.0; the feed offers 2.0.0",
        ),
        (
            "UpdatePinnedVersion = \"oops\"",
            "1.9.0",
            &["2.0.0"],
            Stay,
            "pinned to 0.0.0; the feed offers 2.0.0",
        ),
        ("UpdatePinnedVersion = \"1.9\"", "1.9.0", &["2.0.0", "1.9.7", "1.9.3"], Install, "1.9.7 is out"),
        (
            "UpdatePinnedVersion = \"1.9\"",
            "2.0.0",
            &["2.0.0", "1.9.7"],
            Stay,
            "pinned to 1.9, but 2.0.0 is installed; `UpdateDowngrades` does not name a downgrade from it",
        ),
        (
            "UpdateDowngrades = [\"2.0 to 1.9.7\"]",
            "2.0.0",
            &["2.0.1", "2.0.0", "1.9.7"],
            Install,
            "a downgrade leads from 2.0.0 to 1.9.7",
        ),
        (
            "UpdateDowngrades = [\"2.0 to 1.9.7\"]",
            "1.9.7",
            &["2.0.1", "1.9.7"],
            Stay,
            "a downgrade leads from 2.0.1 to 1.9.7",
        ),
        ("UpdateDowngrades = [\"2.0 to 1.9.7\"]", "1.9.7", &["2.1.0", "1.9.7"], Install, "2.1.0 is out"),
        ("", "1.9.0", &["2.0.0-beta.1"], Install, "2.0.0-beta.1 is out"),
        (
            "UpdateChannel = \"stable\"",
            "1.9.0",
            &["2.0.0-beta.1"],
            Stay,
            "the channel `stable` has no release; the feed offers 2.0.0-beta.1",
        ),
        ("UpdateChannel = \"beta\"", "1.9.0", &["2.0.0-beta.1"], Install, "2.0.0-beta.1 is out"),
        ("UpdateChannel = \"latest\"", "1.9.0", &["2.0.0-beta.1", "1.9.5"], Install, "1.9.5 is out"),
        ("UpdateDeferDays = 7", "1.9.0", &["2.0.0"], Stay, "2.0.0 is deferred until 2026-11-08"),
        ("UpdateRolloutPercent = 0", "1.9.0", &["2.0.0"], Stay, "2.0.0 is rolled out to 0 % of devices"),
        (slow, "", &["2.0.0"], Install, "2.0.0 is out; the app is not installed yet"),
        (&urgent, "1.9.0", &["2.0.0"], Install, "what is installed is below the minimum version 1.9.5"),
        (&urgent, "1.9.6", &["2.0.0"], Stay, "2.0.0 is deferred until 2026-12-01"),
        (&windowed, "1.9.0", &["2.0.0"], Prepare, "2.0.0 is out; waits for the window that opens at 22:00"),
        (
            "UpdateWindow = \"Sun 03:00-04:00\"",
            "1.9.0",
            &["2.0.0"],
            Prepare,
            "2.0.0 is out; waits for the window that opens on 2026-11-08 at 03:00",
        ),
        (
            "UpdateWindow = \"Sun 03:00-04:00\"\nUpdateDeadlineHours = 12",
            "1.9.0",
            &["2.0.0"],
            Prepare,
            "2.0.0 is out; waits for its deadline on 2026-11-05 at 01:00, before the window opens",
        ),
        ("UpdateWindow = \"12:30-14:00\"", "1.9.0", &["2.0.0"], Install, "2.0.0 is out"),
        ("UpdateWindow = \"22:00-05:00\"", "", &["2.0.0"], Install, "the app is not installed yet"),
    ];
    for (policy, installed, offered, verdict, expected) in cases {
        let (found, reason, _) = Trial::new(installed, offered).decide(policy);
        assert!(found == *verdict && reason.contains(expected), "{policy} {installed}: {found:?}: {reason}");
    }
}

/// Found by review: `policy check` said that it never happens, and the agent installed the same version again and again.
#[test]
fn downgrade_that_leads_to_no_older_version_does_nothing() {
    let trial = Trial::new("2.1.0", &["2.1.0", "2.0.4"]);
    for policy in [
        "UpdateDowngrades = [\"2.1 to 2.1.0\"]",
        "UpdateDowngrades = [\"2.1.0 to 2.0.4\"]\nUpdateMinimumVersion = \"2.0.5\"",
        "UpdateDowngrades = [\"2.1.0 to 2.0.4\", \"2.0.4 to 2.1.0\"]",
    ] {
        assert_eq!(trial.decide(policy).1, "2.1.0 is up to date", "{policy}");
    }
    let upgrade = "UpdateDowngrades = [\"2.0.0 to 2.1.0\"]\nUpdateDeferDays = 90";
    assert!(Trial::new("2.0.0", &["2.1.0"]).decide(upgrade).1.contains("deferred"));
}

#[test]
fn pre_release_of_a_feed_with_channels_is_not_for_the_stable_channel() {
    let mut trial = Trial::new("1.9.0", &["3.0.0-beta.1", "2.1.0"]);
    trial.releases[1].channel = Some("stable".to_owned());
    assert_eq!(trial.decide("").2.as_deref(), Some("2.1.0"));
    assert_eq!(trial.decide("UpdateChannel = \"beta\"").2.as_deref(), Some("3.0.0-beta.1"));
}

#[test]
fn release_is_installed_at_its_deadline_outside_the_window() {
    let mut trial = Trial::new("1.9.0", &["2.0.0"]);
    let policy = "UpdateWindow = \"Sun 03:00-04:00\"\nUpdateDeadlineHours = 12";
    let (journal, _) = Journal::default().step(Event::Decided(trial.decision(policy)), trial.now);
    trial.journal = journal;
    trial.now = "2026-11-04T23:59:59Z".parse().unwrap();
    assert_eq!(trial.decide(policy).0, Verdict::Prepare);
    trial.now = "2026-11-05T00:00:00Z".parse().unwrap();
    assert_eq!(trial.decide(policy).0, Verdict::Install);
    assert_eq!(trial.decide(policy).1, "2.0.0 has been waiting until its deadline");
    // A clock that goes back ten years does not make a deadline of ten years.
    trial.now = "2016-11-05T00:00:00Z".parse().unwrap();
    let (_, reason, _) = trial.decide(policy);
    assert!(reason.contains("deadline at 13:00"), "{reason}");
}

#[test]
fn hold_quarantine_and_failed_attempts_keep_a_release_away() {
    let mut trial = Trial::new("1.9.0", &["2.0.0", "1.9.5"]);
    trial.journal.quarantined.push(Quarantine {
        version: Version::new(2, 0, 0),
        at: Some("2026-11-02T00:00:00Z".parse().unwrap()),
        reason: "it does not start".to_owned(),
    });
    assert_eq!(trial.decide("").2.as_deref(), Some("1.9.5"), "an older one that is good is chosen");
    trial.releases.truncate(1);
    assert_eq!(
        trial.decide("").1,
        "2.0.0 is quarantined: rolled back on 2026-11-02, because it does not start"
    );
    trial.journal.quarantined.clear();
    let sha512 = trial.releases[0].artifact.digest();
    let last = "the archive has no program".to_owned();
    let at = trial.now;
    trial.journal.attempts.push(Attempts { sha512, installations: ATTEMPTS, other_files: 0, last, at });
    assert!(trial.decide("").1.starts_with("2.0.0 was tried 3 times"), "{:?}", trial.decide(""));
    (trial.journal.attempts[0].installations, trial.journal.attempts[0].other_files) = (0, ATTEMPTS);
    assert!(
        trial.decide("").1.contains("not tried again until 2026-11-05 12:00 UTC"),
        "{:?}",
        trial.decide("")
    );
    trial.now = "2026-11-05T12:00:00Z".parse().unwrap();
    assert_eq!(trial.decide("").0, Verdict::Install, "the server may send the right file again");
    trial.now = at;
    trial.journal.attempts[0].installations = ATTEMPTS;
    trial.releases[0].artifact.sha512 = [9; 64];
    assert_eq!(trial.decide("").0, Verdict::Install, "another file of the same version is another attempt");
    let until = Some("2026-11-05T00:00:00Z".parse().unwrap());
    trial.journal.hold = Some(protocol::update::Hold { since: trial.now, until });
    assert_eq!(trial.decide("").1, "held on this device by an administrator until 2026-11-05 00:00 UTC");
    trial.now = "2026-11-05T00:00:00Z".parse().unwrap();
    assert_eq!(trial.decide("").0, Verdict::Install);
}

#[test]
fn rollout_reaches_its_share_of_devices_and_keeps_them_when_it_grows() {
    let mut trial = Trial::new("1.0.0", &["2.0.0"]);
    let mut chosen = |percent: u32| -> BTreeSet<u32> {
        let policy = format!("UpdateRolloutPercent = {percent}");
        let of_device = |device: &u32| {
            trial.device = device.to_string();
            trial.decide(&policy).0 == Verdict::Install
        };
        (0..1000).filter(of_device).collect()
    };
    let (ten, thirty) = (chosen(10), chosen(30));
    assert!((60..=140).contains(&ten.len()), "{}", ten.len());
    assert!(ten.is_subset(&thirty) && thirty.len() > ten.len());
    assert_eq!(chosen(100).len(), 1000);
}

#[test]
fn brakes_of_the_vendor_hold_whatever_policy_says() {
    let decide = |brakes: Brakes, policy: &str, installed: &str| {
        let mut trial = Trial::new(installed, &["2.0.0"]);
        trial.releases[0].brakes = brakes;
        trial.decide(policy)
    };
    let staged = |percent: u32, installed: &str| {
        let brakes = Brakes { staging: Some(percent * 100), ..Brakes::default() };
        decide(brakes, "UpdateMinimumVersion = \"2.0.0\"", installed)
    };
    assert!(staged(0, "1.0.0").1.contains("0 % of devices"));
    assert_eq!(staged(100, "1.0.0").0, Verdict::Install);
    assert_eq!(staged(0, "").0, Verdict::Install, "a first installation is no update");
    for (minimum, installs) in
        [("6.1", true), ("6.0.9", true), ("6.1.0", true), ("6.2", false), ("10", false), ("new", false)]
    {
        let brakes = Brakes { minimum_system: Some(minimum.to_owned()), ..Brakes::default() };
        let (verdict, reason, _) = decide(brakes, "", "1.0.0");
        assert_eq!(verdict == Verdict::Install, installs, "{minimum}: {reason}");
    }
}

fn version() -> impl Strategy<Value = String> {
    let pre = prop::sample::select(vec!["", "-beta.1"]);
    ((0_u8..3), (0_u8..3), pre).prop_map(|(major, minor, pre)| format!("{major}.{minor}.0{pre}"))
}

fn policy() -> impl Strategy<Value = String> {
    let line = |name: &'static str, values: Vec<&'static str>| {
        prop::sample::select(values).prop_map(move |value| {
            if value.is_empty() { String::new() } else { format!("{name} = {value}\n") }
        })
    };
    (
        line("UpdateMode", vec!["\"automatic\"", "\"automatic\"", "\"notify\"", "\"off\""]),
        line("UpdateChannel", vec!["", "\"stable\"", "\"beta\""]),
        line("UpdatePinnedVersion", vec!["", "", "\"1\"", "\"1.1\"", "\"1.1.0\""]),
        line("UpdateMinimumVersion", vec!["", "\"1.0.0\""]),
        line("UpdateDowngrades", vec!["", "[\"2 to 1.1.0\"]", "[\"1.1 to 1.0.0\", \"2.1.0 to 1.0.0\"]"]),
        line("UpdateDeferDays", vec!["", "2", "30"]),
        line("UpdateRolloutPercent", vec!["", "0", "50"]),
        line("UpdateWindow", vec!["", "\"22:00-05:00\""]),
        line("UpdateDeadlineHours", vec!["", "1"]),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i)| [a, b, c, d, e, f, g, h, i].concat())
}

proptest! {
    #[test]
    fn decision_keeps_to_policy_whatever_the_feed_offers(
        text in policy(),
        installed in prop::option::of(version()),
        offered in prop::collection::btree_set(version(), 0..5),
        quarantined in prop::option::of(version()),
        device in 0_u16..100,
    ) {
        let offered: Vec<&str> = offered.iter().map(String::as_str).collect();
        let mut trial = Trial::new(installed.as_deref().unwrap_or_default(), &offered);
        trial.device = format!("device-{device}");
        let quarantine = |version: &String| Quarantine {
            version: version.parse().unwrap(),
            at: None,
            reason: String::new(),
        };
        trial.journal.quarantined.extend(quarantined.as_ref().map(quarantine));
        let rules = rules(&text);
        let decision = trial.decision(&text);
        prop_assert!(!decision.reason.to_string().is_empty());
        if decision.verdict == Verdict::Stay {
            return Ok(());
        }
        let version = &decision.release.unwrap().version;
        prop_assert!(rules.mode != UpdateMode::Off);
        prop_assert!(decision.verdict == Verdict::Announce || rules.mode == UpdateMode::Automatic);
        prop_assert!(rules.pinned.is_none_or(|pin| pin.allows(version)));
        prop_assert!(trial.journal.quarantine(version).is_none());
        if rules.channel.as_deref() == Some("stable") {
            prop_assert!(version.pre.is_empty());
        }
        if let Some(installed) = &trial.installed {
            let named = rules.downgrades.iter().any(|one| one.from.allows(installed) && one.to == *version);
            prop_assert!(version > installed || named, "{} to {}", installed, version);
        }
        prop_assert!(!rules.downgrades.iter().any(|one| one.from.allows(version)), "it would go back at once");
    }
}
