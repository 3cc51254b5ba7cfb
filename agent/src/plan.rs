//! PURE: what has to be done, from what policy means and what is there. Called by the main loop; `apply` does it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use policy_schema::Resolved;
use policy_schema::settings::UpdateMode;

use crate::app::descriptor::{Descriptor, System};
use crate::app::{self, Change, Found, Noted};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let the app find this.
    WriteConfiguration { path: PathBuf, bytes: Vec<u8> },
    /// Let the app find nothing of ours.
    RemoveConfiguration { path: PathBuf },
    /// Set and remove values that the app reads from the operating system.
    WriteValues { place: String, change: Change },
    /// Remember what was seen.
    Note(Noted),
    /// Look at the release feed, and install what policy allows.
    CheckForUpdate,
    /// Send what is to be reported.
    SendReport,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) app: app::Observed,
    /// When the feed is to be looked at again; `None` while that is going on.
    pub(crate) update_due: Option<Timestamp>,
    /// When the next report is to be sent; `None` while that is going on.
    pub(crate) report_due: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

/// What to do now. The same policy and an unchanged device plan nothing.
pub(crate) fn plan(resolved: &Resolved, descriptor: Option<&Descriptor>, observed: &Observed) -> Vec<Step> {
    let system = descriptor.and_then(Descriptor::system);
    let mut steps = plan_configuration(resolved, system, &observed.app, observed.now);
    let due = |time: Option<Timestamp>| time.is_some_and(|time| time <= observed.now);
    if updates(resolved, system) && due(observed.update_due) {
        steps.push(Step::CheckForUpdate);
    }
    if resolved.policy.report_url.is_some() && due(observed.report_due) {
        steps.push(Step::SendReport);
    }
    steps
}

/// When something has to be looked at again, if nothing happens before.
pub(crate) fn wake(
    resolved: &Resolved,
    descriptor: Option<&Descriptor>,
    update_due: Option<Timestamp>,
    report_due: Option<Timestamp>,
) -> Option<Timestamp> {
    let system = descriptor.and_then(Descriptor::system);
    let update = update_due.filter(|_| updates(resolved, system));
    let report = report_due.filter(|_| resolved.policy.report_url.is_some());
    [update, report].into_iter().flatten().min()
}

/// Whether the agent looks after the app's versions.
pub(crate) fn updates(resolved: &Resolved, system: Option<&System>) -> bool {
    let has_feed = |system: &System| resolved.policy.update_feed.is_some() || system.feed.is_some();
    resolved.policy.update_mode != UpdateMode::Off
        && system.is_some_and(|system| system.installation.is_some() && has_feed(system))
}

fn plan_configuration(
    resolved: &Resolved,
    system: Option<&System>,
    observed: &app::Observed,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = leave_old_place(observed);
    if let (Some(system), Some(place)) = (system, &observed.place) {
        let step = match &observed.found {
            Found::File(found) => plan_file(resolved, system, observed, place, found.as_ref()),
            Found::Registry(found) => plan_values(resolved, system, observed, place, found),
            // Only the MDM writes there; when what it manages changes, the app has to be started anew.
            Found::ManagedPreferences(found) => note_change(observed, place, found, now),
            Found::Unreadable(_) => None,
        };
        steps.extend(step);
    }
    if let (true, Some(noted)) = (steps.is_empty(), &observed.noted) {
        // A change that was cut off has turned out to be finished, and the app has been started since.
        let waits = |changed: &Timestamp| {
            observed.running_since.is_some_and(|started| app::is_before(started, *changed))
        };
        let settled = Noted { before: None, changed_at: noted.changed_at.filter(waits), ..noted.clone() };
        if settled != *noted {
            steps.push(Step::Note(settled));
        }
    }
    steps
}

/// Another app was managed before: what it was told no longer holds.
fn leave_old_place(observed: &app::Observed) -> Vec<Step> {
    let Some(noted) = &observed.noted else { return Vec::new() };
    if noted.place.is_empty() || observed.place.as_ref() == Some(&noted.place) {
        return Vec::new();
    }
    if noted.seen {
        return vec![Step::Note(Noted::default())];
    }
    match &noted.values {
        None => vec![Step::RemoveConfiguration { path: noted.place.clone().into() }],
        Some(ours) => {
            let still = |name: &&String| app::is_ours(name, observed.left.get(*name), Some(noted));
            let names = ours.keys().chain(noted.before.iter().flat_map(|before| before.keys()));
            let gone: BTreeSet<&String> =
                names.filter(|name| observed.left.contains_key(*name)).filter(still).collect();
            let change = Change { gone: gone.into_iter().cloned().collect(), ..Change::default() };
            if change.gone.is_empty() {
                return Vec::new();
            }
            vec![Step::WriteValues { place: noted.place.clone(), change }]
        }
    }
}

fn plan_file(
    resolved: &Resolved,
    system: &System,
    observed: &app::Observed,
    place: &str,
    found: Option<&Vec<u8>>,
) -> Option<Step> {
    let written_before = observed.noted.as_ref().is_some_and(|noted| noted.place == place);
    let path = PathBuf::from(place);
    match app::render(system, resolved) {
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
    observed: &app::Observed,
    place: &str,
    found: &agent_platform::native::Values,
) -> Option<Step> {
    let noted = observed.noted.as_ref().filter(|noted| noted.place == place);
    let wanted = app::native_values(system, resolved);
    let mut change = Change::default();
    let names = system.configuration.iter().flat_map(|configuration| configuration.values.keys());
    for name in names {
        let there = found.get(name);
        if !app::is_ours(name, there, noted) {
            continue;
        }
        match wanted.get(name) {
            Some(value) => {
                if there.is_none_or(|there| !app::means_the_same(there, value)) {
                    change.set.insert(name.clone(), value.clone());
                }
                change.ours.insert(name.clone(), value.clone());
            }
            None if there.is_some() => change.gone.push(name.clone()),
            None => {}
        }
    }
    let nothing = change.set.is_empty() && change.gone.is_empty();
    (!nothing).then(|| Step::WriteValues { place: place.to_owned(), change })
}

fn note_change(
    observed: &app::Observed,
    place: &str,
    found: &agent_platform::native::Values,
    now: Timestamp,
) -> Option<Step> {
    let noted = observed.noted.as_ref().filter(|noted| noted.place == place);
    let seen = noted.and_then(|noted| noted.values.as_ref());
    let found = app::notable(found);
    if seen == Some(&found) || (seen.is_none() && found.is_empty()) {
        return None;
    }
    // What lay there before the first look may have lain there before the app started.
    let changed_at = seen.map(|_| now);
    let place = place.to_owned();
    Some(Step::Note(Noted { place, values: Some(found), changed_at, seen: true, ..Noted::default() }))
}

#[cfg(test)]
mod tests {
    use agent_platform::native::Values;
    use policy_schema::raw::{Place, RawValue};
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn policy(text: &str) -> Resolved {
        let place = Place { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
        resolve(&[place], &LastGood::default())
    }

    fn notes() -> Option<&'static Descriptor> {
        app::descriptor::find("lab-notes")
    }

    fn observed(found: Option<&[u8]>, written_before: Option<&str>) -> Observed {
        let noted = written_before.map(|place| Noted { place: place.to_owned(), ..Noted::default() });
        observed_app("/managed.json", Found::File(found.map(<[u8]>::to_vec)), noted)
    }

    fn observed_app(place: &str, found: Found, noted: Option<Noted>) -> Observed {
        Observed {
            app: app::Observed {
                place: Some(place.to_owned()),
                found,
                noted,
                left: Values::new(),
                running_since: None,
            },
            update_due: None,
            report_due: Some(NOW),
            now: NOW,
        }
    }

    fn system(app: &str, system: &str) -> &'static System {
        &app::descriptor::find(app).unwrap().systems[system]
    }

    fn steps(resolved: &Resolved, app: &str, on: &str, observed: &Observed) -> Vec<Step> {
        plan_configuration(resolved, Some(system(app, on)), &observed.app, NOW)
    }

    fn file_steps(resolved: &Resolved, observed: &Observed) -> Vec<Step> {
        steps(resolved, "lab-notes", "linux", observed)
    }

    fn written(resolved: &Resolved) -> Vec<u8> {
        app::render(system("lab-notes", "linux"), resolved).unwrap()
    }

    #[test]
    fn the_same_policy_twice_plans_nothing() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let bytes = written(&resolved);
        let first = file_steps(&resolved, &observed(None, None));
        assert_eq!(first, [Step::WriteConfiguration { path: "/managed.json".into(), bytes: bytes.clone() }]);
        assert!(file_steps(&resolved, &observed(Some(&bytes), Some("/managed.json"))).is_empty());
    }

    #[test]
    fn a_configuration_that_somebody_changed_is_put_right() {
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
    fn another_app_takes_the_place_of_the_first() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let steps = file_steps(&resolved, &observed(None, Some("/other.json")));
        assert_eq!(steps[0], Step::RemoveConfiguration { path: "/other.json".into() });
        let mut without_app = observed(None, Some("/other.json"));
        without_app.app.place = None;
        assert_eq!(plan_configuration(&resolved, None, &without_app.app, NOW).len(), 1);
    }

    const QUICK: &str = r"HKLM\SOFTWARE\Policies\Amazon\Quick";

    fn values(entries: &[(&str, RawValue)]) -> Values {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn wrote(values: &Values) -> Noted {
        Noted { place: QUICK.to_owned(), values: Some(values.clone()), ..Noted::default() }
    }

    #[test]
    fn values_are_set_once_changed_with_policy_and_removed_with_it() {
        let quick = |text: &str, found: &Values, noted| {
            let observed = observed_app(QUICK, Found::Registry(found.clone()), noted);
            steps(&policy(text), "amazon-quick", "windows", &observed)
        };
        let blocked = "SocialSignIn = \"blocked\"\nAppSelfUpdate = \"none\"";
        let first = values(&[
            ("DisableAutoUpdates", RawValue::Str("patch".to_owned())),
            ("DisableSocialLogin", RawValue::Int(1)),
        ]);
        let change = Change { set: first.clone(), gone: Vec::new(), ours: first.clone() };
        let step = Step::WriteValues { place: QUICK.to_owned(), change };
        assert_eq!(quick(blocked, &Values::new(), None), [step]);
        assert_eq!(quick(blocked, &first, Some(wrote(&first))), []);

        let minor = values(&[("DisableAutoUpdates", RawValue::Str("minor".to_owned()))]);
        let change =
            Change { set: minor.clone(), gone: vec!["DisableSocialLogin".to_owned()], ours: minor.clone() };
        let step = Step::WriteValues { place: QUICK.to_owned(), change };
        assert_eq!(quick("AppSelfUpdate = \"patch-only\"", &first, Some(wrote(&first))), [step]);
    }

    /// Group Policy writes its values again and again; an agent that did so as well would never come to rest.
    #[test]
    fn what_a_group_policy_sets_is_never_fought_over() {
        let theirs = values(&[("DisableSocialLogin", RawValue::Int(0))]);
        let ours = values(&[("DisableSocialLogin", RawValue::Int(1))]);
        let resolved = policy("SocialSignIn = \"blocked\"");
        for noted in [None, Some(wrote(&ours))] {
            let observed = observed_app(QUICK, Found::Registry(theirs.clone()), noted);
            assert_eq!(steps(&resolved, "amazon-quick", "windows", &observed), []);
        }
        // The same value, but theirs: it stays when our policy is withdrawn.
        let observed = observed_app(QUICK, Found::Registry(ours.clone()), None);
        assert_eq!(steps(&resolved, "amazon-quick", "windows", &observed), []);
        assert_eq!(steps(&policy(""), "amazon-quick", "windows", &observed), []);
    }

    #[test]
    fn values_of_an_app_that_is_managed_no_more_are_removed_where_they_are_still_ours() {
        let ours = values(&[("DisableSocialLogin", RawValue::Int(1)), ("Other", RawValue::Int(1))]);
        let mut observed = observed_app("/managed.json", Found::File(None), Some(wrote(&ours)));
        observed.app.left = values(&[("DisableSocialLogin", RawValue::Int(1)), ("Other", RawValue::Int(7))]);
        let change = Change { gone: vec!["DisableSocialLogin".to_owned()], ..Change::default() };
        assert_eq!(
            file_steps(&policy(""), &observed),
            [Step::WriteValues { place: QUICK.to_owned(), change }]
        );
    }

    #[test]
    fn a_change_is_forgotten_when_the_app_has_been_started_since() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let mut observed = observed(Some(&written(&resolved)), Some("/managed.json"));
        let noted = observed.app.noted.clone().unwrap();
        observed.app.noted = Some(Noted { changed_at: Some(NOW), ..noted.clone() });
        observed.app.running_since = Some(NOW);
        assert_eq!(file_steps(&resolved, &observed), []);
        for started in [None, Some(Timestamp::from_second(1).unwrap())] {
            observed.app.running_since = started;
            assert_eq!(file_steps(&resolved, &observed), [Step::Note(noted.clone())]);
        }
    }

    #[test]
    fn a_changed_profile_is_noted_and_the_first_look_is_no_change() {
        let found = values(&[("DisableSocialLogin", RawValue::Bool(true))]);
        let quick = |noted| {
            let observed =
                observed_app("com.aws.QuickWork.mac", Found::ManagedPreferences(found.clone()), noted);
            steps(&policy("SocialSignIn = \"blocked\""), "amazon-quick", "macos", &observed)
        };
        let seen = Noted {
            place: "com.aws.QuickWork.mac".to_owned(),
            values: Some(found.clone()),
            seen: true,
            ..Noted::default()
        };
        assert_eq!(quick(None), [Step::Note(seen.clone())]);
        assert_eq!(quick(Some(seen.clone())), []);
        let before = Noted { values: Some(Values::new()), ..seen.clone() };
        assert_eq!(quick(Some(before)), [Step::Note(Noted { changed_at: Some(NOW), ..seen })]);
    }

    #[test]
    fn work_that_is_due_is_planned_only_where_policy_wants_it() {
        let feed = "UpdateFeed = \"https://a.example/latest.yml\"\nReportUrl = \"https://a.example/\"\n";
        let due = Observed { update_due: Some(NOW), ..observed(None, None) };
        assert_eq!(plan(&policy(feed), notes(), &due), [Step::CheckForUpdate, Step::SendReport]);
        assert_eq!(plan(&policy(&format!("{feed}UpdateMode = \"off\"")), notes(), &due), [Step::SendReport]);
        assert_eq!(plan(&policy(feed), app::descriptor::find("amazon-quick"), &due), [Step::SendReport]);
        let later = Observed { update_due: Some(Timestamp::MAX), report_due: None, ..due };
        assert!(plan(&policy(feed), notes(), &later).is_empty());
        assert_eq!(wake(&policy(feed), notes(), Some(Timestamp::MAX), None), Some(Timestamp::MAX));
        assert_eq!(wake(&policy(""), notes(), Some(Timestamp::MAX), None), None);
    }
}
