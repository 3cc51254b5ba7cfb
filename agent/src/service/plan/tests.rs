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
        agent_journal: updates::Journal::default(),
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
    OwnershipRecord { location: QUICK.to_owned(), values: Some(values.clone()), ..OwnershipRecord::default() }
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
    assert_eq!(steps(&resolved, "amazon-quick", "windows", &observed), [Step::Record(wrote(&Values::new()))]);
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
        (observed(None, None), Due { update: Some(NOW), report: Some(NOW), ..Due::default() });
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
