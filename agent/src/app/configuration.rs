//! PURE: what policy makes of an app's configuration, and what is wrong with what the app finds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use platform::native::Values;
use platform::policy::WHERE;
use policy_schema::raw::RawValue;
use policy_schema::{Code, Problem, Resolved, Value};
use updates::OwnUpdater;

use super::descriptor::{Descriptor, System};
use super::observe::{Found, Observed};
use super::ownership::{is_ours, means_the_same};

/// What the app is to find: the values that policy sets, by the app's own names.
pub(crate) fn wanted(system: &System, resolved: &Resolved) -> BTreeMap<String, serde_json::Value> {
    let values = system.configuration.iter().flat_map(|configuration| &configuration.values);
    values
        .filter_map(|(name, source)| {
            let resolution = resolved.get(&source.setting)?;
            if !resolution.origin.is_set_by_policy() {
                return None;
            }
            let value = resolution.value.as_ref()?;
            let value = match &source.map {
                None => serde_json::to_value(value).ok()?,
                Some(map) => match value {
                    Value::Text(text) => map.get(text)?.clone(),
                    Value::Boolean(_) | Value::Integer(_) | Value::List(_) | Value::Secret(_) => return None,
                },
            };
            Some((name.clone(), value))
        })
        .collect()
}

/// The same as the content of a file. `None` if policy sets nothing.
pub(crate) fn render(system: &System, resolved: &Resolved) -> Option<Vec<u8>> {
    let values = wanted(system, resolved);
    if values.is_empty() {
        return None;
    }
    let mut bytes = serde_json::to_vec_pretty(&values).ok()?;
    bytes.push(b'\n');
    Some(bytes)
}

/// The same as values of the registry or of preferences.
pub(crate) fn native_values(system: &System, resolved: &Resolved) -> Values {
    wanted(system, resolved)
        .into_iter()
        .filter_map(|(name, value)| Some((name, serde_json::from_value::<RawValue>(value).ok()?)))
        .collect()
}

/// What lies at the app's location and is not as policy wants it: names of values, or the file.
pub(crate) fn unlike_policy(system: &System, resolved: &Resolved, observed: &Observed) -> Vec<String> {
    match &observed.found {
        Found::Registry(found) => {
            let wanted = native_values(system, resolved);
            let differs = |(name, there): &(&String, &RawValue)| {
                wanted.get(*name).is_none_or(|wanted| !means_the_same(there, wanted))
            };
            found.iter().filter(differs).map(|(name, _)| name.clone()).collect()
        }
        Found::File(Some(_)) if render(system, resolved).is_none() => {
            observed.location.clone().into_iter().collect()
        }
        Found::File(_) | Found::ManagedPreferences(_) | Found::Unreadable(_) => Vec::new(),
    }
}

/// What is not as policy says and not the agent's to change, and whether the app has to be started again.
pub(crate) fn problems(descriptor: &Descriptor, resolved: &Resolved, observed: &Observed) -> Vec<Problem> {
    let Some(system) = descriptor.system() else { return Vec::new() };
    let mut problems = Vec::new();
    if let (Some(since), Some(changed)) =
        (observed.running_since, observed.ownership.as_ref().and_then(|record| record.changed_at))
        && is_before(since, changed)
    {
        let message = format!(
            "{} has been running since {}, but its configuration changed at {}",
            descriptor.title,
            since.strftime("%Y-%m-%d %H:%M:%S UTC"),
            changed.strftime("%Y-%m-%d %H:%M:%S UTC")
        );
        let hint =
            format!("quit {} and start it again; it reads its configuration only then", descriptor.title);
        problems.push(Problem::new(Code::AppRestartPending, message).hint(hint));
    }
    let (found, managed) = match &observed.found {
        Found::Registry(found) => (found, false),
        Found::ManagedPreferences(found) => (found, true),
        Found::Unreadable(error) => {
            let location = observed.location.clone().unwrap_or_default();
            let problem = Problem::new(Code::AppConfigurationUnreadable, error.clone()).at(location);
            problems
                .push(problem.using("the configuration that is there; the agent tries again in a minute"));
            return problems;
        }
        Found::File(_) => return problems,
    };
    let location = observed.location.as_deref().unwrap_or_default();
    for (name, value) in native_values(system, resolved) {
        let there = found.get(&name);
        if there.is_some_and(|there| means_the_same(there, &value))
            || (!managed && is_ours(&name, there, observed.ownership.as_ref()))
        {
            continue;
        }
        let setting = system.configuration.as_ref().and_then(|configuration| configuration.values.get(&name));
        let there = there.map_or_else(|| "nothing".to_owned(), shown);
        let hint = if managed {
            "deploy the app's profile: `steward export --format mobileconfig` writes it".to_owned()
        } else {
            format!("set it only once: in that Group Policy, or in {WHERE}")
        };
        problems.push(
            Problem::new(
                Code::AppConfigurationConflict,
                format!(
                    "policy wants {name} = {} for {}, which finds {there}",
                    shown(&value),
                    descriptor.title
                ),
            )
            .key(setting.map_or_else(|| name.clone(), |source| source.setting.clone()))
            .at(location)
            .using(if managed {
                "what the MDM manages"
            } else {
                "the value that is there, because the agent did not write it"
            })
            .hint(hint),
        );
    }
    problems
}

/// Whether the app's own updater is active. What cannot be read is not known to switch it off.
pub(crate) fn own_updater(system: &System, observed: &Observed) -> OwnUpdater {
    let Some((name, off)) = system.own_updater_off() else { return OwnUpdater::Off };
    let found = match &observed.found {
        Found::Registry(values) | Found::ManagedPreferences(values) => values.get(name).cloned(),
        Found::File(Some(bytes)) => {
            let content: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
            content.and_then(|content| serde_json::from_value(content.get(name)?.clone()).ok())
        }
        Found::File(None) | Found::Unreadable(_) => None,
    };
    let off = off.and_then(|off| serde_json::from_value::<RawValue>(off.clone()).ok());
    let is_off = found.zip(off).is_some_and(|(found, off)| means_the_same(&found, &off));
    let changed = observed.ownership.as_ref().filter(|record| record.changed_at.is_some());
    // One that was closed may still install what it has downloaded.
    let runs_with_it = changed.is_some_and(|record| {
        let is_old = |since| record.changed_at.is_some_and(|changed| is_before(since, changed));
        observed.running_since.map_or(record.was_open, is_old)
    });
    match (is_off, runs_with_it) {
        (false, _) => OwnUpdater::Active,
        (true, true) => OwnUpdater::UntilRestart,
        (true, false) => OwnUpdater::Off,
    }
}

/// Whether a process that started at one time has not seen what happened at another. Both are known to the second.
pub(crate) fn is_before(started: Timestamp, changed: Timestamp) -> bool {
    started.as_second() <= changed.as_second()
}

fn shown(value: &RawValue) -> String {
    match value {
        RawValue::Bool(value) => format!("`{value}`"),
        RawValue::Int(number) => format!("{number}"),
        RawValue::Str(text) => format!("`{text}`"),
        RawValue::List(_) | RawValue::Table(_) | RawValue::Other(_) => value.kind_name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::Source;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;
    use crate::app::descriptor;

    fn rendered(app: &str, system: &str, policy: &str) -> Option<serde_json::Value> {
        let source = Source { rank: 1, name: "test".to_owned(), contents: drop_in::read(policy.as_bytes()) };
        let resolved = resolve(&[source], &LastGood::default());
        let descriptor = descriptor::find(app).unwrap();
        let bytes = render(&descriptor.systems[system], &resolved)?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn only_what_policy_sets_reaches_the_app() {
        assert_eq!(rendered("lab-notes", "linux", "# nothing"), None);
        assert_eq!(
            rendered("lab-notes", "linux", "Issuer = \"https://a.example\"\nSocialSignIn = \"blocked\""),
            Some(serde_json::json!({ "issuer": "https://a.example", "socialSignIn": false }))
        );
    }

    /// Whether it is off counts as the app finds it, not as policy wants it; and what was open before may act until it was started
    /// again.
    #[test]
    fn own_updater_is_off_only_where_the_app_finds_that_and_was_started_since() {
        use crate::app::ownership::OwnershipRecord;
        let quick = descriptor::find("amazon-quick").unwrap();
        let time = |seconds| Timestamp::from_second(seconds).ok();
        let patch = || RawValue::Str("patch".to_owned());
        for (value, changed_at, was_open, running_since, expected) in [
            (None, None, false, None, OwnUpdater::Active),
            (Some(RawValue::Str("minor".to_owned())), None, false, None, OwnUpdater::Active),
            (Some(patch()), None, false, time(5), OwnUpdater::Off),
            (Some(patch()), time(9), false, None, OwnUpdater::Off),
            (Some(patch()), time(9), false, time(5), OwnUpdater::UntilRestart),
            (Some(patch()), time(9), true, None, OwnUpdater::UntilRestart),
            (Some(patch()), time(9), true, time(10), OwnUpdater::Off),
        ] {
            let values = value.into_iter().map(|value| ("DisableAutoUpdates".to_owned(), value)).collect();
            let observed = Observed {
                found: Found::Registry(values),
                ownership: Some(OwnershipRecord { changed_at, was_open, ..OwnershipRecord::default() }),
                running_since,
                ..Observed::default()
            };
            let found = own_updater(&quick.systems["windows"], &observed);
            assert_eq!(found, expected, "{observed:?}");
        }
        let unreadable = Observed { found: Found::Unreadable("no".to_owned()), ..Observed::default() };
        assert_eq!(own_updater(&quick.systems["macos"], &unreadable), OwnUpdater::Active);
        let notes = descriptor::find("lab-notes").unwrap();
        assert_eq!(own_updater(&notes.systems["linux"], &unreadable), OwnUpdater::Off);
    }

    /// The app names the smallest update that is BLOCKED, the setting the largest that is allowed.
    #[test]
    fn the_polarity_of_amazon_quick_s_update_policy_is_turned_round() {
        let cases = [
            ("none", Some("patch")),
            ("patch-only", Some("minor")),
            ("minor-and-patch", Some("major")),
            ("all", None),
        ];
        for (allowed, blocked) in cases {
            for system in ["windows", "macos"] {
                let rendered = rendered("amazon-quick", system, &format!("AppSelfUpdate = \"{allowed}\""));
                let value = rendered.as_ref().and_then(|rendered| rendered["DisableAutoUpdates"].as_str());
                assert_eq!(value, blocked, "{allowed} on {system}");
            }
        }
    }

    #[test]
    fn a_misspelt_choice_blocks_rather_than_allows() {
        let rendered = rendered("amazon-quick", "macos", "SocialSignIn = \"bloked\"").unwrap();
        assert_eq!(rendered["DisableSocialLogin"], serde_json::json!(true));
    }

    #[test]
    fn a_process_that_started_before_the_change_has_not_seen_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_before(at(9), at(10)) && is_before(at(10), at(10)) && !is_before(at(11), at(10)));
    }
}
