//! What the sources mean together: one value for each setting, where it comes from, and everything that is wrong.
//!
//! Enforced values go before recommended ones, and within a level the strongest source goes first. The first source
//! that sets a key decides. If its value cannot be understood, nothing weaker fills in for it: the last good value holds,
//! else the setting's strict choice, else its default. A source that cannot be read counts as one that may have set
//! anything. No IO and no clock: the same input gives the same output, in whatever order the sources come.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::contradiction::contradictions;
use crate::problem::{Code, Problem};
use crate::raw::{Notation, RawValue, Source};
use crate::settings::{Policy, SETTINGS, Setting};
use crate::value::{Invalid, Kind, Value};

use candidates::{Candidate, collect, failure, unreadable};
pub use last_good::{LastGood, Remembered, source_of};

mod candidates;
mod last_good;

/// Whether a value binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Binds.
    Enforced,
    /// Fills in where nothing binds.
    Recommended,
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Origin {
    /// A source sets it.
    Policy {
        /// The source, with its line if it is a text file.
        #[serde(rename = "place")]
        source: String,
        /// Its level.
        level: Level,
    },
    /// The deciding source cannot be read or understood; this held before.
    LastGood {
        /// The source it came from.
        #[serde(rename = "place")]
        source: String,
        /// Since when it has held.
        since: Timestamp,
    },
    /// The deciding source cannot be read or understood, and no last good value is known.
    Strict,
    /// No source sets it.
    Default,
    /// No source sets it, and there is no default.
    Unset,
}

impl Origin {
    /// Whether the setting is set by policy: a source sets it now ([`Self::Policy`]), set it before it could not be
    /// understood any more ([`Self::LastGood`]), or sets it in a way that was never understood ([`Self::Strict`]). Every
    /// count and list of settings "set by policy" means this.
    #[must_use]
    pub fn is_set_by_policy(&self) -> bool {
        match self {
            Self::Policy { .. } | Self::LastGood { .. } | Self::Strict => true,
            Self::Default | Self::Unset => false,
        }
    }
}

/// A value that a stronger source overrides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverriddenValue {
    /// The source, with its line if it is a text file.
    #[serde(rename = "place")]
    pub source: String,
    /// Its level.
    pub level: Level,
    /// The value, unless it could not be understood.
    pub value: Option<Value>,
    /// The reason why it does not hold, as a sentence.
    #[serde(rename = "why")]
    pub reason: String,
}

/// One setting's effective value, where it comes from, and what it overrides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// The setting's key.
    pub key: &'static str,
    /// The effective value.
    pub value: Option<Value>,
    /// Where it comes from.
    pub origin: Origin,
    /// The values of other sources, strongest first.
    pub overridden: Vec<OverriddenValue>,
}

/// What policy means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Typed, for the parts of the agent.
    pub policy: Policy,
    /// Every setting, in the order of [`SETTINGS`].
    pub settings: Vec<Resolution>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// The names of the sources that could be read.
    pub read: BTreeSet<String>,
    /// The names of those that could not.
    pub unread: BTreeSet<String>,
}

impl Resolved {
    /// Whether a user's own choice counts for a setting: it may be overridden, and policy at most recommends a value. A value or
    /// a source that cannot be understood may have enforced one.
    #[must_use]
    pub fn leaves_to_user(&self, key: &str) -> bool {
        let may = SETTINGS.iter().any(|setting| setting.key == key && setting.user_may_override);
        let origin = self.settings.iter().find(|setting| setting.key == key).map(|setting| &setting.origin);
        let is_wrong = |problem: &Problem| {
            problem.key.as_deref() == Some(key) && problem.severity == crate::problem::Severity::Error
        };
        may && self.unread.is_empty()
            && !self.problems.iter().any(is_wrong)
            && match origin {
                // Whether it was recommended before it could not be understood any more, nobody knows.
                Some(
                    Origin::Policy { level: Level::Enforced, .. } | Origin::LastGood { .. } | Origin::Strict,
                ) => false,
                Some(Origin::Policy { level: Level::Recommended, .. } | Origin::Default | Origin::Unset)
                | None => true,
            }
    }

    /// Whether a source sets a setting, rightly.
    #[must_use]
    pub fn sets(&self, key: &str) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|setting| setting.key == key && matches!(setting.origin, Origin::Policy { .. }))
    }
}

/// Makes one policy of all sources.
#[must_use]
pub fn resolve(sources: &[Source], last_good: &LastGood) -> Resolved {
    let (settings, mut problems) = resolve_settings(SETTINGS, sources, last_good);
    let (unread, read): (Vec<_>, Vec<_>) =
        sources.iter().partition(|source| failure(source, last_good).is_some());
    let names = |sources: Vec<&Source>| sources.into_iter().map(|source| source.name.clone()).collect();
    let values: BTreeMap<&'static str, Value> = settings
        .iter()
        .filter_map(|resolution| resolution.value.clone().map(|value| (resolution.key, value)))
        .collect();
    let policy = Policy::from_values(&values);
    // What is not understood, and the strict choice in its place, contradict nothing that anybody wrote.
    let is_wrong: BTreeSet<Option<String>> = problems.iter().map(|problem| problem.key.clone()).collect();
    let is_strict = |key: Option<&str>| {
        settings.iter().any(|setting| Some(setting.key) == key && setting.origin == Origin::Strict)
    };
    // That a setting is not set follows from its own problem.
    let errors: Vec<String> = problems
        .iter()
        .filter(|problem| problem.severity.is_error())
        .filter_map(|problem| Some(format!("`{}`", problem.key.as_ref()?)))
        .collect();
    let follows = |problem: &Problem| errors.iter().any(|key| problem.message.contains(key));
    problems.extend(contradictions(&policy).into_iter().filter(|problem| {
        !is_strict(problem.key.as_deref()) && !is_wrong.contains(&problem.key) && !follows(problem)
    }));
    Resolved { policy, settings, problems, read: names(read), unread: names(unread) }
}

impl Resolved {
    /// One setting; the key in any capitals.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Resolution> {
        self.settings.iter().find(|resolution| resolution.key.eq_ignore_ascii_case(key))
    }

    /// The settings that are set by policy ([`Origin::is_set_by_policy`]), in the order of [`SETTINGS`].
    pub fn set_by_policy(&self) -> impl Iterator<Item = &Resolution> {
        self.settings.iter().filter(|resolution| resolution.origin.is_set_by_policy())
    }
}

fn resolve_settings(
    settings: &'static [Setting],
    sources: &[Source],
    last_good: &LastGood,
) -> (Vec<Resolution>, Vec<Problem>) {
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort_by(|left, right| (right.rank, &right.name).cmp(&(left.rank, &left.name)));

    let mut problems: Vec<Problem> =
        sources.iter().filter_map(|source| unreadable(source, last_good)).collect();
    let candidates = collect(settings, &sources, &mut problems);
    let rank_of = |name: &str| sources.iter().position(|source| source.name == name);
    // Nothing below the strongest source that could not be read is certain; it counts within each level.
    let unread: Vec<usize> = (0..sources.len())
        .filter(|position| sources.get(*position).is_some_and(|source| failure(source, last_good).is_some()))
        .collect();
    let is_new =
        |position: &usize| sources.get(*position).is_some_and(|source| !last_good.has_read(&source.name));

    let resolutions = settings
        .iter()
        .map(|setting| {
            let candidates = candidates.get(setting.key).map_or(&[][..], Vec::as_slice);
            let decided = candidates
                .first()
                .filter(|first| first.level == Level::Enforced)
                .and_then(|first| rank_of(first.source))
                .unwrap_or(usize::MAX);
            let may_have_set: Vec<&usize> = unread.iter().filter(|position| **position < decided).collect();
            let doubt = if may_have_set.is_empty() {
                Doubt::None
            } else if candidates.is_empty() && !may_have_set.into_iter().any(is_new) {
                // Of a source that was read before it is known that it did not set it.
                Doubt::AsBefore
            } else {
                Doubt::Strict
            };
            resolve_one(setting, candidates, doubt, last_good, &mut problems)
        })
        .collect();
    (resolutions, problems)
}

/// Whether a source that could not be read may have set a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// None may.
    None,
    /// It may, and it was read before: what held then holds.
    AsBefore,
    /// It may. Without a last good value, the strict choice holds.
    Strict,
}

fn resolve_one(
    setting: &'static Setting,
    candidates: &[Candidate<'_>],
    doubt: Doubt,
    last_good: &LastGood,
    problems: &mut Vec<Problem>,
) -> Resolution {
    let mut others = candidates;
    let (value, origin) = if doubt != Doubt::None {
        fall_back(setting, last_good, doubt == Doubt::Strict)
    } else if let Some((first, rest)) = candidates.split_first() {
        others = rest;
        match parse(setting, first) {
            Ok(value) => {
                problems.extend(only_recommended(setting, first));
                (Some(value), Origin::Policy { source: first.location(), level: first.level })
            }
            Err(invalid) => {
                if let Some((value, left_out)) = without_invalid_items(setting, first) {
                    for invalid in left_out {
                        let problem = invalid_value(setting, first, &invalid);
                        problems.extend(problem.map(|problem| problem.using("the other items")));
                    }
                    (Some(value), Origin::Policy { source: first.location(), level: first.level })
                } else {
                    let (value, origin) = fall_back(setting, last_good, true);
                    let used = used_instead(value.as_ref(), &origin);
                    problems
                        .extend(invalid_value(setting, first, &invalid).map(|problem| problem.using(used)));
                    (value, origin)
                }
            }
        }
    } else {
        fall_back(setting, &LastGood::default(), false)
    };
    problems.extend(candidates.iter().filter_map(|candidate| deprecated(setting, candidate)));

    let mut overridden_values = Vec::new();
    for other in others {
        let parsed = parse(setting, other);
        let reason = match (&origin, &parsed) {
            (_, Err(invalid)) => {
                let used = used_instead(value.as_ref(), &origin);
                problems.extend(invalid_value(setting, other, invalid).map(|problem| problem.using(used)));
                invalid.message.clone()
            }
            (Origin::Policy { source, level }, Ok(overridden)) => {
                if *level == other.level && value.as_ref() != Some(overridden) {
                    problems.push(conflict(setting, other, overridden, value.as_ref(), source));
                }
                if *level == other.level {
                    format!("{source} is stronger")
                } else {
                    format!("it is only recommended, and {source} enforces a value")
                }
            }
            (Origin::LastGood { .. } | Origin::Strict | Origin::Default | Origin::Unset, Ok(_)) => {
                "a stronger source has a value that is not valid; a weaker source never replaces it"
                    .to_owned()
            }
        };
        overridden_values.push(OverriddenValue {
            source: other.location(),
            level: other.level,
            value: parsed.ok(),
            reason,
        });
    }
    Resolution { key: setting.key, value, origin, overridden: overridden_values }
}

fn parse(setting: &Setting, candidate: &Candidate<'_>) -> Result<Value, Invalid> {
    if let Some(mistake) = &candidate.mistake {
        return Err(Invalid { wrong_type: false, message: mistake.message.clone(), hint: None });
    }
    match candidate.entries.as_slice() {
        [(_, entry)] => setting.kind.parse_in(&entry.value, candidate.notation),
        several => Err(Invalid {
            wrong_type: false,
            message: format!(
                "set {} times, in different spellings: {}",
                several.len(),
                several.iter().map(|(written, _)| format!("`{written}`")).collect::<Vec<_>>().join(", ")
            ),
            hint: Some(format!("keep only `{}`", setting.key)),
        }),
    }
}

/// The valid items of a list that can do without the others, and what is wrong with those; `None` if there is no valid one,
/// or the list stands or falls together.
fn without_invalid_items(setting: &Setting, candidate: &Candidate<'_>) -> Option<(Value, Vec<Invalid>)> {
    let [(_, entry)] = candidate.entries.as_slice() else { return None };
    let RawValue::List(items) = &entry.value else { return None };
    if !setting.items_stand_alone || candidate.mistake.is_some() {
        return None;
    }
    let parse = |items: Vec<String>| setting.kind.parse_in(&RawValue::List(items), candidate.notation);
    let (mut valid, mut left_out) = (Vec::new(), Vec::new());
    for item in items {
        match parse(vec![item.clone()]) {
            Ok(_) => valid.push(item.clone()),
            Err(invalid) => left_out.push(invalid),
        }
    }
    if valid.is_empty() {
        return None;
    }
    Some((parse(valid).ok()?, left_out))
}

/// The value when no source decides. `wanted`: a source sets something, so the default may be too weak.
fn fall_back(setting: &Setting, last_good: &LastGood, wanted: bool) -> (Option<Value>, Origin) {
    let remembered = last_good.values.get(setting.key).and_then(|remembered| {
        let value = setting.kind.parse(&remembered.value).ok()?;
        Some((value, Origin::LastGood { source: remembered.source.clone(), since: remembered.since }))
    });
    if let Some((value, origin)) = remembered {
        return (Some(value), origin);
    }
    if let (true, Some(strict)) = (wanted, setting.strict) {
        return (Some(strict.to_value()), Origin::Strict);
    }
    match setting.default {
        Some(default) => (Some(default.to_value()), Origin::Default),
        None => (None, Origin::Unset),
    }
}

fn used_instead(value: Option<&Value>, origin: &Origin) -> String {
    let Some(value) = value else {
        return "nothing: the setting counts as not set".to_owned();
    };
    match origin {
        Origin::Policy { source, .. } => format!("{value} from {source}"),
        Origin::LastGood { since, .. } => {
            format!("{value}, the last good value (since {})", since.strftime("%Y-%m-%d"))
        }
        Origin::Strict => format!("{value}, the strict choice"),
        Origin::Default | Origin::Unset => format!("{value}, the default"),
    }
}

/// The problem to report. There is none if another one is about the same mistake.
fn invalid_value(setting: &Setting, candidate: &Candidate<'_>, invalid: &Invalid) -> Option<Problem> {
    if let Some(mistake) = &candidate.mistake {
        return mistake.problem.clone();
    }
    let code = match (candidate.entries.len() > 1, invalid.wrong_type) {
        (true, _) => Code::PolicyDuplicateKey,
        (false, true) => Code::PolicyWrongType,
        (false, false) => Code::PolicyInvalidValue,
    };
    Some(
        Problem::new(code, invalid.message.clone())
            .key(setting.key)
            .at(candidate.location())
            .hint(invalid.hint.clone()),
    )
}

/// In TOML, a key that a tool appends to a file belongs to the table that is last in it.
fn only_recommended(setting: &Setting, candidate: &Candidate<'_>) -> Option<Problem> {
    let usually_binds =
        setting.strict.is_some() || setting.category == "Sign-in" && !setting.user_may_override;
    let slid = candidate.level == Level::Recommended && candidate.notation == Notation::Toml && usually_binds;
    slid.then(|| {
        Problem::new(Code::PolicyOnlyRecommended, "is in the section [Recommended], so it is not enforced")
            .key(setting.key)
            .at(candidate.location())
            .hint("to enforce it, move it above that line".to_owned())
    })
}

fn conflict(
    setting: &Setting,
    other: &Candidate<'_>,
    overridden: &Value,
    effective: Option<&Value>,
    source: &str,
) -> Problem {
    let message = if matches!(setting.kind, Kind::Secret { .. }) {
        "set to another value in a stronger source".to_owned()
    } else {
        format!("{overridden} here, but a stronger source sets another value")
    };
    let effective = effective.map_or_else(String::new, ToString::to_string);
    Problem::new(Code::PolicyConflict, message)
        .key(setting.key)
        .at(other.location())
        .using(format!("{effective} from {source}"))
        .hint(format!("`steward policy explain {}` shows all of them", setting.key))
}

fn deprecated(setting: &Setting, candidate: &Candidate<'_>) -> Option<Problem> {
    if candidate.mistake.is_some() {
        return None;
    }
    let (written, _) =
        candidate.entries.iter().find(|(written, _)| !setting.key.eq_ignore_ascii_case(written))?;
    Some(
        Problem::new(Code::PolicyDeprecatedKey, format!("`{written}` is its old name and still works"))
            .key(setting.key)
            .at(candidate.location())
            .hint(format!("write `{}`", setting.key)),
    )
}

#[cfg(test)]
mod tests;
