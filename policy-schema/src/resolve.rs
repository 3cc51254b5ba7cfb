//! What the places mean together: one value for each setting, how it came about, and everything that is wrong.
//!
//! Enforced values go before recommended ones, and within a level the strongest place goes first. The first place
//! that speaks decides. If it cannot be understood, nothing weaker fills in for it: the last good value holds, else
//! the setting's strict choice, else its default. A place that cannot be read counts as one that may have said
//! anything. No IO and no clock: the same input gives the same output, in whatever order the places come.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::contradiction::contradictions;
use crate::message::did_you_mean;
use crate::problem::{Code, Problem};
use crate::raw::{Place, RawEntry, RawValue, ReadErrorKind};
use crate::settings::{Policy, SETTINGS, Setting, find};
use crate::value::{Invalid, Kind, Value};

/// So many names of one place that mean nothing are named; the others are counted.
const MAXIMUM_UNKNOWN: usize = 50;

/// How strongly a place speaks.
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
    /// A place said so.
    Policy {
        /// The place, with its line if it is a text file.
        place: String,
        /// Its level.
        level: Level,
    },
    /// The place that decides cannot be understood; this held before.
    LastGood {
        /// The place it came from.
        place: String,
        /// Since when it has held.
        since: Timestamp,
    },
    /// The place that decides cannot be understood, and nothing better is known.
    Strict,
    /// No place says anything.
    Default,
    /// No place says anything, and there is no default.
    Unset,
}

impl Origin {
    /// Whether policy says it, now or before it could not be understood.
    #[must_use]
    pub fn is_of_policy(&self) -> bool {
        !matches!(self, Self::Default | Self::Unset)
    }
}

/// A value that did not win.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loser {
    /// The place it stands in.
    pub place: String,
    /// Its level.
    pub level: Level,
    /// The value, unless it could not be understood.
    pub value: Option<Value>,
    /// Why it lost, as a sentence.
    pub why: String,
}

/// One setting's value and its story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// The setting's key.
    pub key: &'static str,
    /// The value that holds.
    pub value: Option<Value>,
    /// Where it comes from.
    pub origin: Origin,
    /// What was said elsewhere, strongest first.
    pub losers: Vec<Loser>,
}

/// What policy means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Typed, for the parts of the agent.
    pub policy: Policy,
    /// Every setting with its story, in the order of [`SETTINGS`].
    pub settings: Vec<Resolution>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// The last good value of each setting. Holds secrets as they are: for a file that only the agent may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// By key.
    pub values: BTreeMap<String, Remembered>,
}

/// One remembered value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The value; checked again when it is used.
    pub value: RawValue,
    /// The place it came from.
    pub place: String,
    /// When it first held.
    pub since: Timestamp,
}

/// Makes one policy of all places.
#[must_use]
pub fn resolve(places: &[Place], last_good: &LastGood) -> Resolved {
    let (settings, mut problems) = resolve_settings(SETTINGS, places, last_good);
    let values: BTreeMap<&'static str, Value> = settings
        .iter()
        .filter_map(|resolution| resolution.value.clone().map(|value| (resolution.key, value)))
        .collect();
    let policy = Policy::from_values(&values);
    problems.extend(contradictions(&policy));
    Resolved { policy, settings, problems }
}

impl Resolved {
    /// The story of one setting; the key in any capitals.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Resolution> {
        self.settings.iter().find(|resolution| resolution.key.eq_ignore_ascii_case(key))
    }

    /// What to remember for next time. A value that was merely kept stays as it is; one that policy withdrew goes.
    #[must_use]
    pub fn remember(&self, before: &LastGood, now: Timestamp) -> LastGood {
        let mut values = BTreeMap::new();
        for resolution in &self.settings {
            let previous = before.values.get(resolution.key);
            let kept = match (&resolution.origin, &resolution.value) {
                (Origin::Policy { place, .. }, Some(value)) => {
                    let value = value.to_raw();
                    let since = previous
                        .filter(|previous| previous.value == value)
                        .map_or(now, |previous| previous.since);
                    Some(Remembered { value, place: place.clone(), since })
                }
                (Origin::LastGood { .. }, _) => previous.cloned(),
                (Origin::Policy { .. } | Origin::Strict | Origin::Default | Origin::Unset, _) => None,
            };
            if let Some(kept) = kept {
                values.insert(resolution.key.to_owned(), kept);
            }
        }
        LastGood { values }
    }
}

/// What one place says about one setting.
struct Said<'a> {
    place: &'a str,
    level: Level,
    entries: Vec<(&'a str, &'a RawEntry)>,
}

impl Said<'_> {
    fn location(&self) -> String {
        match self.entries.iter().find_map(|(_, entry)| entry.line) {
            Some(line) => format!("{}, line {line}", self.place),
            None => self.place.to_owned(),
        }
    }
}

fn resolve_settings(
    settings: &'static [Setting],
    places: &[Place],
    last_good: &LastGood,
) -> (Vec<Resolution>, Vec<Problem>) {
    let mut places: Vec<&Place> = places.iter().collect();
    places.sort_by(|left, right| (right.rank, &right.name).cmp(&(left.rank, &left.name)));

    let mut problems: Vec<Problem> = places.iter().filter_map(|place| unreadable(place)).collect();
    let said = collect(settings, &places, &mut problems);
    // Nothing below the strongest place that could not be read is certain; it counts within each level.
    let silent = places.iter().position(|place| place.contents.is_err());
    let rank_of = |name: &str| places.iter().position(|place| place.name == name);

    let resolutions = settings
        .iter()
        .map(|setting| {
            let said = said.get(setting.key).map_or(&[][..], Vec::as_slice);
            let doubtful = silent.is_some_and(|silent| {
                said.first().is_none_or(|first| {
                    first.level == Level::Recommended
                        || rank_of(first.place).is_some_and(|position| silent < position)
                })
            });
            resolve_one(setting, said, doubtful, last_good, &mut problems)
        })
        .collect();
    (resolutions, problems)
}

fn unreadable(place: &Place) -> Option<Problem> {
    let error = place.contents.as_ref().err()?;
    let code = match error.kind {
        ReadErrorKind::Unreadable => Code::PolicyUnreadable,
        ReadErrorKind::Insecure => Code::PolicyInsecurePlace,
        ReadErrorKind::TooLarge => Code::PolicyTooLarge,
        ReadErrorKind::Syntax => Code::PolicySyntax,
    };
    Some(
        Problem::new(code, error.message.clone())
            .at(&place.name)
            .using("the last good value of every setting that it could hold")
            .hint(error.hint.clone()),
    )
}

/// Sorts what every place says by setting, strongest first, and names the keys that mean nothing.
fn collect<'a>(
    settings: &'static [Setting],
    places: &[&'a Place],
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'static str, Vec<Said<'a>>> {
    let mut all: BTreeMap<&'static str, Vec<Said<'a>>> = BTreeMap::new();
    for level in [Level::Enforced, Level::Recommended] {
        for place in places {
            let Ok(contents) = &place.contents else { continue };
            let entries = match level {
                Level::Enforced => &contents.enforced,
                Level::Recommended => &contents.recommended,
            };
            let mut here: BTreeMap<&'static str, Said<'a>> = BTreeMap::new();
            let mut unknown = 0;
            for (written, entry) in entries {
                if let Some((setting, _)) = find(settings, written) {
                    here.entry(setting.key)
                        .or_insert_with(|| Said { place: &place.name, level, entries: Vec::new() })
                        .entries
                        .push((written, entry));
                    continue;
                }
                unknown += 1;
                if unknown <= MAXIMUM_UNKNOWN {
                    problems.push(unknown_key(settings, place, written, entry));
                }
            }
            if unknown > MAXIMUM_UNKNOWN {
                let message = format!("{} more names that no setting has", unknown - MAXIMUM_UNKNOWN);
                problems.push(Problem::new(Code::PolicyUnknownKey, message).at(&place.name));
            }
            for (key, said) in here {
                all.entry(key).or_default().push(said);
            }
        }
    }
    all
}

fn unknown_key(settings: &'static [Setting], place: &Place, written: &str, entry: &RawEntry) -> Problem {
    let name = crate::message::excerpt(written);
    let suggestion = did_you_mean(written, settings.iter().map(|setting| setting.key));
    let location = entry.line.map_or(place.name.clone(), |line| format!("{}, line {line}", place.name));
    Problem::new(Code::PolicyUnknownKey, "no setting has this name, so it has no effect")
        .key(name)
        .at(location)
        .hint(suggestion.map(|key| format!("did you mean `{key}`?")))
}

fn resolve_one(
    setting: &'static Setting,
    said: &[Said<'_>],
    doubtful: bool,
    last_good: &LastGood,
    problems: &mut Vec<Problem>,
) -> Resolution {
    let mut others = said;
    let (value, origin) = if doubtful {
        fall_back(setting, last_good, !said.is_empty())
    } else if let Some((first, rest)) = said.split_first() {
        others = rest;
        match parse(setting, first) {
            Ok(value) => {
                if !setting.effective {
                    problems.push(not_yet_effective(setting, first));
                }
                (Some(value), Origin::Policy { place: first.location(), level: first.level })
            }
            Err(invalid) => {
                let (value, origin) = fall_back(setting, last_good, true);
                problems.push(
                    invalid_value(setting, first, &invalid).using(used_instead(value.as_ref(), &origin)),
                );
                (value, origin)
            }
        }
    } else {
        fall_back(setting, &LastGood::default(), false)
    };
    problems.extend(said.iter().filter_map(|said| deprecated(setting, said)));

    let mut losers = Vec::new();
    for other in others {
        let parsed = parse(setting, other);
        let why = match (&origin, &parsed) {
            (_, Err(invalid)) => {
                problems.push(
                    invalid_value(setting, other, invalid).using(used_instead(value.as_ref(), &origin)),
                );
                invalid.message.clone()
            }
            (Origin::Policy { place, level }, Ok(loser)) => {
                if *level == other.level && value.as_ref() != Some(loser) {
                    problems.push(conflict(setting, other, loser, value.as_ref(), place));
                }
                format!("{place} is stronger")
            }
            (Origin::LastGood { .. } | Origin::Strict | Origin::Default | Origin::Unset, Ok(_)) => {
                "a stronger place cannot be understood, and a weaker one never fills in for it".to_owned()
            }
        };
        losers.push(Loser { place: other.location(), level: other.level, value: parsed.ok(), why });
    }
    Resolution { key: setting.key, value, origin, losers }
}

fn parse(setting: &Setting, said: &Said<'_>) -> Result<Value, Invalid> {
    match said.entries.as_slice() {
        [(_, entry)] => setting.kind.parse(&entry.value),
        several => Err(Invalid {
            wrong_type: false,
            message: format!(
                "stands there {} times, in different spellings: {}",
                several.len(),
                several.iter().map(|(written, _)| format!("`{written}`")).collect::<Vec<_>>().join(", ")
            ),
            hint: Some(format!("keep only `{}`", setting.key)),
        }),
    }
}

/// What holds when no place decides. `wanted`: somebody asked for something, so the default may be too weak.
fn fall_back(setting: &Setting, last_good: &LastGood, wanted: bool) -> (Option<Value>, Origin) {
    let remembered = last_good.values.get(setting.key).and_then(|remembered| {
        let value = setting.kind.parse(&remembered.value).ok()?;
        Some((value, Origin::LastGood { place: remembered.place.clone(), since: remembered.since }))
    });
    if let Some((value, origin)) = remembered {
        return (Some(value), origin);
    }
    if let (true, Some(strict)) = (wanted, setting.strict) {
        return (setting.kind.parse(&strict.to_raw()).ok(), Origin::Strict);
    }
    match setting.default {
        Some(default) => (setting.kind.parse(&default.to_raw()).ok(), Origin::Default),
        None => (None, Origin::Unset),
    }
}

fn used_instead(value: Option<&Value>, origin: &Origin) -> String {
    let Some(value) = value else {
        return "nothing: the setting counts as not set".to_owned();
    };
    match origin {
        Origin::Policy { place, .. } => format!("{value} from {place}"),
        Origin::LastGood { since, .. } => {
            format!("{value}, the last good value (since {})", since.strftime("%Y-%m-%d"))
        }
        Origin::Strict => format!("{value}, the strict choice"),
        Origin::Default | Origin::Unset => format!("{value}, the default"),
    }
}

fn invalid_value(setting: &Setting, said: &Said<'_>, invalid: &Invalid) -> Problem {
    let code = match (said.entries.len() > 1, invalid.wrong_type) {
        (true, _) => Code::PolicyDuplicateKey,
        (false, true) => Code::PolicyWrongType,
        (false, false) => Code::PolicyInvalidValue,
    };
    Problem::new(code, invalid.message.clone())
        .key(setting.key)
        .at(said.location())
        .hint(invalid.hint.clone())
}

fn not_yet_effective(setting: &Setting, said: &Said<'_>) -> Problem {
    Problem::new(
        Code::PolicyNotYetEffective,
        "valid and kept, but this version of the agent does not act on it yet",
    )
    .key(setting.key)
    .at(said.location())
}

fn conflict(
    setting: &Setting,
    other: &Said<'_>,
    loser: &Value,
    winner: Option<&Value>,
    place: &str,
) -> Problem {
    let message = if matches!(setting.kind, Kind::Secret) {
        "set to another value in a stronger place".to_owned()
    } else {
        format!("{loser} here, but a stronger place says otherwise")
    };
    let winner = winner.map_or_else(String::new, ToString::to_string);
    Problem::new(Code::PolicyConflict, message)
        .key(setting.key)
        .at(other.location())
        .using(format!("{winner} from {place}"))
        .hint(format!("`steward policy explain {}` shows all of them", setting.key))
}

fn deprecated(setting: &Setting, said: &Said<'_>) -> Option<Problem> {
    let (written, _) = said.entries.iter().find(|(written, _)| !setting.key.eq_ignore_ascii_case(written))?;
    Some(
        Problem::new(Code::PolicyDeprecatedKey, format!("`{written}` is its old name and still works"))
            .key(setting.key)
            .at(said.location())
            .hint(format!("write `{}`", setting.key)),
    )
}

#[cfg(test)]
mod tests;
