//! The desktop app's managed configuration: observe, compare, apply.
//!
//! In: the policy and what the app would find. Out: what has to be written, and what cannot be. What an app reads, and
//! where, is data ([`descriptor`]). Three kinds of places: a file, which is ours alone; values of the registry, which a
//! Group Policy of the app's own may hold as well, and then it wins; managed preferences, which belong to the MDM, so
//! they are only looked at. [`crate::plan`] decides, from values only.

pub(crate) mod descriptor;
mod process;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent_platform::native::{self, Values};
use agent_platform::paths::Paths;
use agent_platform::{file, policy::WHERE};
use jiff::Timestamp;
use policy_schema::raw::RawValue;
use policy_schema::resolve::Origin;
use policy_schema::{Code, Problem, Resolved, Value};
use serde::{Deserialize, Serialize};

use descriptor::{Configuration, Descriptor, Format, System};

/// What an app finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Where: a path, a registry key, a preference domain. `None` if the app has no configuration here.
    pub(crate) place: Option<String>,
    /// What lies there.
    pub(crate) found: Found,
    /// What the agent noted about the place that it last wrote to or looked at.
    pub(crate) noted: Option<Noted>,
    /// What lies at the noted place, if that is another one of values.
    pub(crate) left: Values,
    /// Since when the app has been running, where that matters.
    pub(crate) running_since: Option<Timestamp>,
}

/// What lies at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The content of a file, if there is one.
    File(Option<Vec<u8>>),
    /// Values that the agent may write.
    Registry(Values),
    /// Values that only the MDM writes.
    ManagedPreferences(Values),
    /// The system refused.
    Unreadable(String),
}

/// What the agent remembers of its last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    /// Where; empty if nothing of ours lies anywhere.
    pub(crate) place: String,
    /// The values that the agent wrote, or saw where it may not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Values>,
    /// The values that were the agent's before a change that may not have been finished: they still are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Values>,
    /// The values were only seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) seen: bool,
    /// When the app's configuration changed, until the app has been started since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changed_at: Option<Timestamp>,
}

/// Looks at what the app finds.
pub(crate) fn observe(paths: &Paths, descriptor: Option<&Descriptor>) -> Observed {
    let system = descriptor.and_then(Descriptor::system);
    let configuration = system.and_then(|system| system.configuration.as_ref());
    let noted = noted(paths);
    let (place, found) = match configuration {
        None => (None, Found::File(None)),
        Some(Configuration { format: Format::Json, path, .. }) => {
            let path = paths.under_root(path.as_ref());
            let bytes = fs_err::read(&path).ok();
            (Some(path.display().to_string()), Found::File(bytes))
        }
        Some(Configuration { format, path, values }) => {
            (Some(path.clone()), look(paths, *format, path, values.keys()))
        }
    };
    let left = noted
        .as_ref()
        .filter(|noted| noted.values.is_some() && !noted.seen && Some(&noted.place) != place.as_ref())
        .and_then(|noted| native::read(paths, &noted.place).ok())
        .unwrap_or_default();
    let waits = noted.as_ref().is_some_and(|noted| noted.changed_at.is_some());
    let running_since = system.filter(|_| waits).and_then(|system| {
        let programs = system.processes.iter().map(|program| process::Program::new(paths, program));
        process::oldest(&programs.collect::<Vec<_>>())
    });
    Observed { place, found, noted, left, running_since }
}

fn look<'a>(paths: &Paths, format: Format, place: &str, names: impl Iterator<Item = &'a String>) -> Found {
    let mut all = match native::read(paths, place) {
        Ok(all) => all,
        Err(error) => return Found::Unreadable(error.to_string()),
    };
    let ours = names.filter_map(|name| {
        let key = all.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone();
        Some((name.clone(), all.remove(&key)?))
    });
    let ours: Values = ours.collect();
    if format == Format::ManagedPreferences { Found::ManagedPreferences(ours) } else { Found::Registry(ours) }
}

/// What the app is to find: the values that policy sets, by the app's own names.
pub(crate) fn wanted(system: &System, resolved: &Resolved) -> BTreeMap<String, serde_json::Value> {
    let values = system.configuration.iter().flat_map(|configuration| &configuration.values);
    values
        .filter_map(|(name, source)| {
            let resolution = resolved.get(&source.setting)?;
            if matches!(resolution.origin, Origin::Default | Origin::Unset) {
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

/// Whether the agent may write a value: nothing lies there, or what it wrote itself.
pub(crate) fn is_ours(name: &str, found: Option<&RawValue>, noted: Option<&Noted>) -> bool {
    let wrote = noted.into_iter().flat_map(|noted| [&noted.values, &noted.before]).flatten();
    found.is_none_or(|found| {
        wrote.filter_map(|values| values.get(name)).any(|wrote| means_the_same(wrote, found))
    })
}

/// Values in a form that can be noted: of a type that no setting has, only its name.
pub(crate) fn notable(values: &Values) -> Values {
    let noted = |value: &RawValue| match value {
        RawValue::Other(kind) => RawValue::Str(format!("({kind})")),
        RawValue::Bool(_) | RawValue::Int(_) | RawValue::Str(_) | RawValue::List(_) => value.clone(),
    };
    values.iter().map(|(name, value)| (name.clone(), noted(value))).collect()
}

/// Whether two values mean the same to an app: where there are no booleans, they are 0 and 1.
pub(crate) fn means_the_same(left: &RawValue, right: &RawValue) -> bool {
    let number = |value: &RawValue| match value {
        RawValue::Bool(value) => Some(i64::from(*value)),
        RawValue::Int(number) => Some(*number),
        RawValue::Str(_) | RawValue::List(_) | RawValue::Other(_) => None,
    };
    left == right || number(left).is_some_and(|value| number(right) == Some(value))
}

/// What is not as policy says and not the agent's to change, and whether the app has to be started anew.
pub(crate) fn problems(descriptor: &Descriptor, resolved: &Resolved, observed: &Observed) -> Vec<Problem> {
    let Some(system) = descriptor.system() else { return Vec::new() };
    let mut problems = Vec::new();
    if let (Some(since), Some(changed)) =
        (observed.running_since, observed.noted.as_ref().and_then(|noted| noted.changed_at))
        && is_before(since, changed)
    {
        let message = format!(
            "{} has been running since {}, its configuration changed at {}",
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
            let place = observed.place.clone().unwrap_or_default();
            problems.push(Problem::new(Code::AppConfigurationUnwritable, error.clone()).at(place));
            return problems;
        }
        Found::File(_) => return problems,
    };
    let place = observed.place.as_deref().unwrap_or_default();
    for (name, value) in native_values(system, resolved) {
        let there = found.get(&name);
        if there.is_some_and(|there| means_the_same(there, &value))
            || (!managed && is_ours(&name, there, observed.noted.as_ref()))
        {
            continue;
        }
        let setting = system.configuration.as_ref().and_then(|configuration| configuration.values.get(&name));
        let there = there.map_or_else(|| "nothing".to_owned(), shown);
        let hint = if managed {
            "deploy the app's profile: `steward export --format mobileconfig` writes it".to_owned()
        } else {
            format!("set it in one place only: in that Group Policy, or in {WHERE}")
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
            .at(place)
            .using(if managed { "what the MDM manages" } else { "what is there: it is not the agent's" })
            .hint(hint),
        );
    }
    problems
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
        RawValue::List(_) | RawValue::Other(_) => value.kind_name().to_owned(),
    }
}

/// Writes a managed configuration, after noting where, so that it is found again even if this is the last step. When it
/// changed is noted afterwards: the app does not wait for that.
///
/// # Errors
/// The system refused; the old configuration is then still there.
pub(crate) fn write(paths: &Paths, path: &Path, bytes: &[u8], now: Timestamp) -> io::Result<()> {
    let place = path.display().to_string();
    if noted(paths).is_none_or(|noted| noted.place != place) {
        note(paths, &Noted { place: place.clone(), ..Noted::default() })?;
    }
    if let Some(folder) = path.parent() {
        file::create_folder(folder, file::Access::Public)?;
    }
    file::replace(path, bytes, file::Access::Public)?;
    note(paths, &Noted { place, changed_at: Some(now), ..Noted::default() })
}

/// Removes a managed configuration that the agent wrote.
///
/// # Errors
/// The system refused.
pub(crate) fn remove(paths: &Paths, path: &Path, now: Timestamp) -> io::Result<()> {
    file::remove(path)?;
    note(paths, &Noted { changed_at: Some(now), ..Noted::default() })
}

/// Sets and removes values. Before that, both what was and what will be the agent's is noted: whatever is left by a
/// crash, or by a system that refuses, is then known to be the agent's own and put right with the next look.
///
/// # Errors
/// The system refused.
pub(crate) fn write_values(paths: &Paths, place: &str, change: &Change, now: Timestamp) -> io::Result<()> {
    let mut before = Values::new();
    if let Some(noted) = noted(paths).filter(|noted| noted.place == place && !noted.seen) {
        before.extend(noted.before.unwrap_or_default());
        before.extend(noted.values.unwrap_or_default());
    }
    let after = Noted {
        place: place.to_owned(),
        values: Some(change.ours.clone()),
        changed_at: Some(now),
        ..Noted::default()
    };
    note(paths, &Noted { before: Some(before), ..after.clone() })?;
    native::write(paths, place, &change.set, &change.gone)?;
    note(paths, &after)
}

/// What to do with values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// To set.
    pub(crate) set: Values,
    /// To remove.
    pub(crate) gone: Vec<String>,
    /// What is the agent's afterwards.
    pub(crate) ours: Values,
}

/// Remembers something about a place.
///
/// # Errors
/// The system refused.
pub(crate) fn note(paths: &Paths, noted: &Noted) -> io::Result<()> {
    file::create_folder(&paths.state(), file::Access::Public)?;
    file::replace(&marker(paths), &serde_json::to_vec_pretty(noted)?, file::Access::Public)
}

fn noted(paths: &Paths) -> Option<Noted> {
    let text = fs_err::read_to_string(marker(paths)).ok()?;
    let noted: Noted = serde_json::from_str(&text).ok()?;
    // What is noted is removed one day: nothing but the places of apps.
    let known = noted.place.is_empty() || descriptor::places(paths).any(|place| place == noted.place);
    known.then_some(noted)
}

fn marker(paths: &Paths) -> PathBuf {
    paths.state().join("managed-configuration.json")
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::Place;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;

    fn rendered(app: &str, system: &str, policy: &str) -> Option<serde_json::Value> {
        let place = Place { rank: 1, name: "test".to_owned(), contents: drop_in::read(policy.as_bytes()) };
        let resolved = resolve(&[place], &LastGood::default());
        let descriptor = descriptor::find(app).unwrap();
        let bytes = render(&descriptor.systems[system], &resolved)?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn only_what_policy_sets_reaches_the_app() {
        assert_eq!(rendered("lab-notes", "linux", ""), None);
        assert_eq!(
            rendered("lab-notes", "linux", "Issuer = \"https://a.example\"\nSocialSignIn = \"blocked\""),
            Some(serde_json::json!({ "issuer": "https://a.example", "socialSignIn": false }))
        );
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
    fn a_value_is_ours_only_if_we_wrote_it_as_it_is() {
        let one = RawValue::Int(1);
        let noted = Noted { values: Some(Values::from([("A".to_owned(), one.clone())])), ..Noted::default() };
        assert!(is_ours("A", None, None));
        assert!(is_ours("A", Some(&one), Some(&noted)));
        assert!(!is_ours("A", Some(&RawValue::Int(0)), Some(&noted)));
        assert!(!is_ours("A", Some(&one), None));
        assert!(!is_ours("B", Some(&one), Some(&noted)));
        // A change from 1 to 2 that a crash may have cut off: either is the agent's.
        let cut_off = Noted {
            values: Some(Values::from([("A".to_owned(), RawValue::Int(2))])),
            before: noted.values.clone(),
            ..Noted::default()
        };
        assert!(
            is_ours("A", Some(&one), Some(&cut_off)) && is_ours("A", Some(&RawValue::Int(2)), Some(&cut_off))
        );
        assert!(!is_ours("A", Some(&RawValue::Int(3)), Some(&cut_off)));
    }

    #[test]
    fn a_process_that_started_before_the_change_has_not_seen_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_before(at(9), at(10)) && is_before(at(10), at(10)) && !is_before(at(11), at(10)));
    }
}
