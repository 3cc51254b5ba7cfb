//! PURE: what has to be done, from what policy means and what was observed. [`super::apply`] does it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use policy_schema::Resolved;
use policy_schema::settings::UpdateMode;

use super::observe::Observed;
use crate::app::configuration::{is_before, native_values, render};
use crate::app::descriptor::{Descriptor, System};
use crate::app::observe::{self, Found};
use crate::app::ownership::{OwnershipRecord, is_ours, means_the_same, recordable};
use crate::app::write::Change;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let the app find this.
    WriteConfiguration { path: PathBuf, bytes: Vec<u8> },
    /// Let the app find nothing of ours.
    RemoveConfiguration { path: PathBuf },
    /// Set and remove values that the app reads from the operating system.
    WriteValues { location: String, change: Change },
    /// Remember what was observed.
    Record(OwnershipRecord),
    /// Check the release feed, and install what policy allows.
    CheckForUpdate,
    /// Send what is to be reported.
    SendReport,
    /// Check the documents of the identity provider.
    CheckProvider,
    /// Serve the sinks that keep no queue.
    ServeSinks,
}

/// When work is due; `None` while it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// The check of the release feed.
    pub(crate) update: Option<Timestamp>,
    /// The next report.
    pub(crate) report: Option<Timestamp>,
    /// The check of the identity provider's documents.
    pub(crate) provider: Option<Timestamp>,
    /// The first of the sinks that keep no queue.
    pub(crate) sinks: Option<Timestamp>,
}

/// What to do now. The same policy and an unchanged device plan nothing.
pub(crate) fn plan(
    resolved: &Resolved,
    descriptor: Option<&Descriptor>,
    observed: &Observed,
    due: Due,
) -> Vec<Step> {
    let system = descriptor.and_then(Descriptor::system);
    let mut steps = plan_configuration(resolved, system, &observed.app, observed.now);
    let is_due = |time: Option<Timestamp>| time.is_some_and(|time| time <= observed.now);
    // Updates that were switched off leave nothing behind.
    let off = resolved.policy.update_mode == UpdateMode::Off && observed.journal.offer().is_some();
    if (updates(resolved, system) || off) && is_due(due.update) {
        steps.push(Step::CheckForUpdate);
    }
    if resolved.policy.report_url.is_some() && is_due(due.report) {
        steps.push(Step::SendReport);
    }
    if has_provider(resolved) && is_due(due.provider) {
        steps.push(Step::CheckProvider);
    }
    if is_due(due.sinks) {
        steps.push(Step::ServeSinks);
    }
    steps
}

/// When something is due, if nothing happens before.
pub(crate) fn wake(resolved: &Resolved, descriptor: Option<&Descriptor>, due: Due) -> Option<Timestamp> {
    let system = descriptor.and_then(Descriptor::system);
    let update = due.update.filter(|_| updates(resolved, system));
    let report = due.report.filter(|_| resolved.policy.report_url.is_some());
    let provider = due.provider.filter(|_| has_provider(resolved));
    [update, report, provider, due.sinks].into_iter().flatten().min()
}

fn has_provider(resolved: &Resolved) -> bool {
    resolved.policy.issuer.is_some() && resolved.policy.client_id.is_some()
}

/// Whether the agent manages the app's versions.
pub(crate) fn updates(resolved: &Resolved, system: Option<&System>) -> bool {
    let has_feed = |system: &System| resolved.policy.update_feed.is_some() || !system.feeds.is_empty();
    resolved.policy.update_mode != UpdateMode::Off
        && system.is_some_and(|system| system.installation.is_some() && has_feed(system))
}

fn plan_configuration(
    resolved: &Resolved,
    system: Option<&System>,
    observed: &observe::Observed,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = leave_old_location(observed);
    if let (Some(system), Some(location)) = (system, &observed.location) {
        let step = match &observed.found {
            Found::File(found) => plan_file(resolved, system, observed, location, found.as_ref()),
            Found::Registry(found) => plan_values(resolved, system, observed, location, found),
            Found::ManagedPreferences(found) => record_change(observed, location, found, now),
            Found::Unreadable(_) => None,
        };
        steps.extend(step);
    }
    if let (true, Some(record)) = (steps.is_empty(), &observed.ownership) {
        // A change that was cut off has turned out to be finished, and the app has been started since, or was not open.
        let opened_before = |started| record.changed_at.is_some_and(|changed| is_before(started, changed));
        let was_open = observed.running_since.map_or(record.was_open, opened_before);
        let changed_at = record.changed_at.filter(|_| was_open);
        let was_open = changed_at.is_some();
        let settled = OwnershipRecord { before: None, changed_at, was_open, ..record.clone() };
        if settled != *record {
            steps.push(Step::Record(settled));
        }
    }
    steps
}

/// Another app was managed before: what it was told no longer holds.
pub(crate) fn leave_old_location(observed: &observe::Observed) -> Vec<Step> {
    let Some(record) = &observed.ownership else { return Vec::new() };
    if record.location.is_empty() || observed.location.as_ref() == Some(&record.location) {
        return Vec::new();
    }
    if record.observed_only {
        return vec![Step::Record(OwnershipRecord::default())];
    }
    match &record.values {
        None => vec![Step::RemoveConfiguration { path: record.location.clone().into() }],
        Some(ours) => {
            let still = |name: &&String| is_ours(name, observed.left.get(*name), Some(record));
            let names = ours.keys().chain(record.before.iter().flat_map(|before| before.keys()));
            let gone: BTreeSet<&String> =
                names.filter(|name| observed.left.contains_key(*name)).filter(still).collect();
            let change = Change { gone: gone.into_iter().cloned().collect(), ..Change::default() };
            if change.gone.is_empty() {
                return Vec::new();
            }
            vec![Step::WriteValues { location: record.location.clone(), change }]
        }
    }
}

fn plan_file(
    resolved: &Resolved,
    system: &System,
    observed: &observe::Observed,
    location: &str,
    found: Option<&Vec<u8>>,
) -> Option<Step> {
    let written_before = observed.ownership.as_ref().is_some_and(|record| record.location == location);
    let path = PathBuf::from(location);
    match render(system, resolved) {
        Some(bytes) if found != Some(&bytes) || !written_before => {
            Some(Step::WriteConfiguration { path, bytes })
        }
        None if written_before => Some(Step::RemoveConfiguration { path }),
        Some(_) | None => None,
    }
}

/// Values that the agent wrote follow policy; any other value is somebody else's, such as a Group Policy's, and wins.
fn plan_values(
    resolved: &Resolved,
    system: &System,
    observed: &observe::Observed,
    location: &str,
    found: &platform::native::Values,
) -> Option<Step> {
    let record = observed.ownership.as_ref().filter(|record| record.location == location);
    let wanted = native_values(system, resolved);
    let mut change = Change::default();
    let names = system.configuration.iter().flat_map(|configuration| configuration.values.keys());
    for name in names {
        let there = found.get(name);
        let as_wanted =
            wanted.get(name).zip(there).is_some_and(|(wanted, there)| means_the_same(there, wanted));
        // With the record lost, what is as policy wants it was written by the agent, as far as can be known.
        if !(is_ours(name, there, record) || observed.lost && as_wanted) {
            continue;
        }
        match wanted.get(name) {
            Some(value) => {
                if !as_wanted {
                    change.set.insert(name.clone(), value.clone());
                }
                change.ours.insert(name.clone(), value.clone());
            }
            None if there.is_some() => change.gone.push(name.clone()),
            None => {}
        }
    }
    if !change.set.is_empty() || !change.gone.is_empty() {
        return Some(Step::WriteValues { location: location.to_owned(), change });
    }
    // What somebody else has set by now is theirs, also if they set the same value later.
    let recorded = record.and_then(|record| record.values.as_ref());
    let differs = recorded.map_or(!change.ours.is_empty(), |recorded| *recorded != change.ours);
    differs.then(|| {
        let record = record.cloned().unwrap_or_default();
        Step::Record(OwnershipRecord {
            location: location.to_owned(),
            values: Some(change.ours),
            before: None,
            observed_only: false,
            ..record
        })
    })
}

/// What the MDM writes there is the app's; when it changes, the app has to be started again.
fn record_change(
    observed: &observe::Observed,
    location: &str,
    found: &platform::native::Values,
    now: Timestamp,
) -> Option<Step> {
    let record = observed.ownership.as_ref().filter(|record| record.location == location);
    let before = record.and_then(|record| record.values.as_ref());
    let found = recordable(found);
    if before == Some(&found) {
        return None;
    }
    Some(Step::Record(OwnershipRecord {
        location: location.to_owned(),
        values: Some(found),
        // What lay there before it was observed first may have lain there before the app started.
        changed_at: before.map(|_| now),
        observed_only: true,
        ..OwnershipRecord::default()
    }))
}

#[cfg(test)]
mod tests {
    use platform::native::Values;
    use policy_schema::raw::{RawValue, Source};
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;
    use crate::app::descriptor;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn policy(text: &str) -> Resolved {
        let source = Source { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
        resolve(&[source], &LastGood::default())
    }

    fn notes() -> Option<&'static Descriptor> {
        descriptor::find("lab-notes")
    }

    fn observed(found: Option<&[u8]>, written_before: Option<&str>) -> Observed {
        let record = written_before
            .map(|location| OwnershipRecord { location: location.to_owned(), ..OwnershipRecord::default() });
        observed_app("/managed.json", Found::File(found.map(<[u8]>::to_vec)), record)
    }

    fn observed_app(location: &str, found: Found, ownership: Option<OwnershipRecord>) -> Observed {
        Observed {
            app: observe::Observed {
                location: Some(location.to_owned()),
                found,
                ownership,
                ..observe::Observed::default()
            },
            installed: None,
            journal: updates::Journal::default(),
            watch_failure: None,
            problems: Vec::new(),
            now: NOW,
        }
    }

    fn system(app: &str, system: &str) -> &'static System {
        &descriptor::find(app).unwrap().systems[system]
    }

    fn steps(resolved: &Resolved, app: &str, on: &str, observed: &Observed) -> Vec<Step> {
        plan_configuration(resolved, Some(system(app, on)), &observed.app, NOW)
    }

    fn file_steps(resolved: &Resolved, observed: &Observed) -> Vec<Step> {
        steps(resolved, "lab-notes", "linux", observed)
    }

    fn written(resolved: &Resolved) -> Vec<u8> {
        render(system("lab-notes", "linux"), resolved).unwrap()
    }

    #[test]
    fn same_policy_twice_plans_nothing() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let bytes = written(&resolved);
        let first = file_steps(&resolved, &observed(None, None));
        assert_eq!(first, [Step::WriteConfiguration { path: "/managed.json".into(), bytes: bytes.clone() }]);
        assert!(file_steps(&resolved, &observed(Some(&bytes), Some("/managed.json"))).is_empty());
    }

    #[test]
    fn configuration_changed_by_somebody_else_is_restored() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let steps = file_steps(&resolved, &observed(Some(b"{}"), Some("/managed.json")));
        assert!(matches!(steps[..], [Step::WriteConfiguration { .. }]));
    }

    #[test]
    fn withdrawn_policy_removes_what_was_written_and_nothing_else() {
        let resolved = policy("LogLevel = \"debug\"");
        let steps = file_steps(&resolved, &observed(Some(b"{}"), Some("/managed.json")));
        assert_eq!(steps, [Step::RemoveConfiguration { path: "/managed.json".into() }]);
        assert!(file_steps(&resolved, &observed(Some(b"somebody's own"), None)).is_empty());
    }

    #[test]
    fn another_app_replaces_the_first() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let steps = file_steps(&resolved, &observed(None, Some("/other.json")));
        assert_eq!(steps[0], Step::RemoveConfiguration { path: "/other.json".into() });
        let mut without_app = observed(None, Some("/other.json"));
        without_app.app.location = None;
        assert_eq!(plan_configuration(&resolved, None, &without_app.app, NOW).len(), 1);
    }

    const QUICK: &str = r"HKLM\SOFTWARE\Policies\Amazon\Quick";

    fn values(entries: &[(&str, RawValue)]) -> Values {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn wrote(values: &Values) -> OwnershipRecord {
        OwnershipRecord {
            location: QUICK.to_owned(),
            values: Some(values.clone()),
            ..OwnershipRecord::default()
        }
    }

    #[test]
    fn values_are_set_once_changed_with_policy_and_removed_with_it() {
        let quick = |text: &str, found: &Values, record| {
            let observed = observed_app(QUICK, Found::Registry(found.clone()), record);
            steps(&policy(text), "amazon-quick", "windows", &observed)
        };
        let blocked = "SocialSignIn = \"blocked\"\nAppSelfUpdate = \"none\"";
        let first = values(&[
            ("DisableAutoUpdates", RawValue::Str("patch".to_owned())),
            ("DisableSocialLogin", RawValue::Int(1)),
        ]);
        let change = Change { set: first.clone(), gone: Vec::new(), ours: first.clone() };
        let step = Step::WriteValues { location: QUICK.to_owned(), change };
        assert_eq!(quick(blocked, &Values::new(), None), [step]);
        assert_eq!(quick(blocked, &first, Some(wrote(&first))), []);

        let minor = values(&[("DisableAutoUpdates", RawValue::Str("minor".to_owned()))]);
        let change =
            Change { set: minor.clone(), gone: vec!["DisableSocialLogin".to_owned()], ours: minor.clone() };
        let step = Step::WriteValues { location: QUICK.to_owned(), change };
        assert_eq!(quick("AppSelfUpdate = \"patch-only\"", &first, Some(wrote(&first))), [step]);
    }

    /// Group Policy writes its values again and again; an agent that did so as well would never come to rest.
    #[test]
    fn value_of_a_group_policy_is_never_changed() {
        let theirs = values(&[("DisableSocialLogin", RawValue::Int(0))]);
        let ours = values(&[("DisableSocialLogin", RawValue::Int(1))]);
        let resolved = policy("SocialSignIn = \"blocked\"");
        let observed = observed_app(QUICK, Found::Registry(theirs.clone()), None);
        assert_eq!(steps(&resolved, "amazon-quick", "windows", &observed), []);
        // What was ours is theirs from then on: were it ours still, it would be removed with our policy once they set the
        // same value as we did.
        let observed = observed_app(QUICK, Found::Registry(theirs), Some(wrote(&ours)));
        assert_eq!(
            steps(&resolved, "amazon-quick", "windows", &observed),
            [Step::Record(wrote(&Values::new()))]
        );
        let observed = observed_app(QUICK, Found::Registry(ours.clone()), Some(wrote(&Values::new())));
        assert_eq!(steps(&policy("# nothing"), "amazon-quick", "windows", &observed), []);
        // The same value, but theirs: it stays when our policy is withdrawn.
        let observed = observed_app(QUICK, Found::Registry(ours.clone()), None);
        assert_eq!(steps(&resolved, "amazon-quick", "windows", &observed), []);
        assert_eq!(steps(&policy("# nothing"), "amazon-quick", "windows", &observed), []);
    }

    #[test]
    fn value_that_somebody_deleted_is_set_again() {
        let ours = values(&[("DisableSocialLogin", RawValue::Int(1))]);
        let observed = observed_app(QUICK, Found::Registry(Values::new()), Some(wrote(&ours)));
        let change = Change { set: ours.clone(), gone: Vec::new(), ours };
        assert_eq!(
            steps(&policy("SocialSignIn = \"blocked\""), "amazon-quick", "windows", &observed),
            [Step::WriteValues { location: QUICK.to_owned(), change }]
        );
    }

    /// Found by trial: with a damaged record, values stayed for good that nobody owned any more.
    #[test]
    fn lost_record_is_rebuilt_from_what_is_as_policy_wants_it() {
        let found = values(&[
            ("DisableAutoUpdates", RawValue::Str("major".to_owned())),
            ("DisableSocialLogin", RawValue::Int(1)),
        ]);
        let resolved = policy("SocialSignIn = \"blocked\"\nAppSelfUpdate = \"none\"");
        let mut observed = observed_app(QUICK, Found::Registry(found), None);
        observed.app.lost = true;
        let ours = values(&[("DisableSocialLogin", RawValue::Int(1))]);
        assert_eq!(
            steps(&resolved, "amazon-quick", "windows", &observed),
            [Step::Record(wrote(&ours))],
            "the other value is not as policy wants it, so nobody knows whose it is"
        );
    }

    #[test]
    fn values_of_an_app_no_longer_managed_are_removed_if_still_ours() {
        let ours = values(&[("DisableSocialLogin", RawValue::Int(1)), ("Other", RawValue::Int(1))]);
        let mut observed = observed_app("/managed.json", Found::File(None), Some(wrote(&ours)));
        observed.app.left = values(&[("DisableSocialLogin", RawValue::Int(1)), ("Other", RawValue::Int(7))]);
        let change = Change { gone: vec!["DisableSocialLogin".to_owned()], ..Change::default() };
        assert_eq!(
            file_steps(&policy("# nothing"), &observed),
            [Step::WriteValues { location: QUICK.to_owned(), change }]
        );
    }

    #[test]
    fn change_is_forgotten_once_the_app_was_started_since() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let mut observed = observed(Some(&written(&resolved)), Some("/managed.json"));
        let record = observed.app.ownership.clone().unwrap();
        let changed = OwnershipRecord { changed_at: Some(NOW), ..record.clone() };
        let was_open = OwnershipRecord { was_open: true, ..changed.clone() };
        let later = Timestamp::from_second(1).ok();
        for (before, running_since, after) in [
            // It was not open, or was started since.
            (&changed, None, &record),
            (&changed, later, &record),
            // It is open since before, and then it is closed: what it may have begun goes on.
            (&changed, Some(NOW), &was_open),
            (&was_open, Some(NOW), &was_open),
            (&was_open, None, &was_open),
            (&was_open, later, &record),
        ] {
            observed.app.ownership = Some(before.clone());
            observed.app.running_since = running_since;
            let expected = if before == after { vec![] } else { vec![Step::Record(after.clone())] };
            assert_eq!(file_steps(&resolved, &observed), expected, "{before:?} {running_since:?}");
        }
    }

    #[test]
    fn changed_profile_is_recorded_and_the_first_observation_is_no_change() {
        let found = values(&[("DisableSocialLogin", RawValue::Bool(true))]);
        let quick = |record| {
            let observed =
                observed_app("com.aws.QuickWork.mac", Found::ManagedPreferences(found.clone()), record);
            steps(&policy("SocialSignIn = \"blocked\""), "amazon-quick", "macos", &observed)
        };
        let seen = OwnershipRecord {
            location: "com.aws.QuickWork.mac".to_owned(),
            values: Some(found.clone()),
            observed_only: true,
            ..OwnershipRecord::default()
        };
        assert_eq!(quick(None), [Step::Record(seen.clone())]);
        assert_eq!(quick(Some(seen.clone())), []);
        let before = OwnershipRecord { values: Some(Values::new()), ..seen.clone() };
        assert_eq!(quick(Some(before)), [Step::Record(OwnershipRecord { changed_at: Some(NOW), ..seen })]);
    }

    #[test]
    fn due_work_is_planned_only_where_policy_wants_it() {
        let feed = "UpdateFeed = \"https://a.example/latest.yml\"\nReportUrl = \"https://a.example/\"\n";
        let (observed, both) =
            (observed(None, None), Due { update: Some(NOW), report: Some(NOW), provider: None, sinks: None });
        let planned = |text: &str, app, due| plan(&policy(text), app, &observed, due);
        assert_eq!(planned(feed, notes(), both), [Step::CheckForUpdate, Step::SendReport]);
        let off = format!("{feed}UpdateMode = \"off\"");
        assert_eq!(planned(&off, notes(), both), [Step::SendReport]);
        assert_eq!(planned(feed, descriptor::find("amazon-quick"), both), [Step::SendReport]);
        let later = Due { update: Some(Timestamp::MAX), ..Due::default() };
        assert_eq!(planned(feed, notes(), later), []);
        assert_eq!(wake(&policy(feed), notes(), later), Some(Timestamp::MAX));
        assert_eq!(wake(&policy("# nothing"), notes(), later), None);
    }
}
