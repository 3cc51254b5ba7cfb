//! The memory of last good values: what [`super::resolve`] falls back on, and what the agent writes down for next time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::{Origin, Resolved};
use crate::open::Extra;
use crate::raw::RawValue;
use crate::settings::{SETTINGS, Setting, find};

/// The last good value of each setting. Holds secrets as they are: for a file that only the agent may read.
///
/// A version before or after this one may have written it: an old name becomes the setting's own, and what this version
/// does not know is written again as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Stored")]
pub struct LastGood {
    /// By key, of the settings that this version knows.
    pub values: BTreeMap<String, Remembered>,
    /// The names of the sources that were read, when they could be read last. Of these it is known what they do not set.
    pub sources: BTreeSet<String>,
    /// By key, what a newer version remembers of settings that only it knows.
    pub unknown_settings: Extra,
    /// What else only a newer version knows.
    pub extra: Extra,
}

/// One remembered value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The value; checked again when it is used.
    pub value: RawValue,
    /// The source it came from.
    #[serde(rename = "place")]
    pub source: String,
    /// When it first held.
    pub since: Timestamp,
    /// What only a newer version knows.
    #[serde(flatten)]
    pub extra: Extra,
}

impl LastGood {
    /// Whether a source was read before, or, for a folder of sources, one in it.
    #[must_use]
    pub fn has_read(&self, source: &str) -> bool {
        self.sources.iter().any(|read| read == source || is_inside(read, source))
    }

    /// Whether a value comes from this source.
    pub(super) fn has_values_of(&self, source: &str) -> bool {
        self.values.values().any(|remembered| source_of(&remembered.source) == source)
    }
}

/// The source in a location such as `50.toml, line 3`.
#[must_use]
pub fn source_of(location: &str) -> &str {
    match location.rsplit_once(", line ") {
        Some((source, line)) if line.bytes().all(|byte| byte.is_ascii_digit()) => source,
        Some(_) | None => location,
    }
}

fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(['/', '\\']))
}

impl Resolved {
    /// What to remember for next time. A value that was merely kept stays as it is; one that policy withdrew goes. What a
    /// newer version remembered of settings that this one does not know stays, for it may come back.
    #[must_use]
    pub fn remember(&self, before: &LastGood, now: Timestamp) -> LastGood {
        let mut values = BTreeMap::new();
        for resolution in &self.settings {
            let previous = before.values.get(resolution.key);
            let kept = match (&resolution.origin, &resolution.value) {
                (Origin::Policy { source, .. }, Some(value)) => {
                    let value = value.to_raw();
                    let same = previous.filter(|previous| previous.value == value);
                    let since = same.map_or(now, |previous| previous.since);
                    let extra = same.map(|previous| previous.extra.clone()).unwrap_or_default();
                    Some(Remembered { value, source: source.clone(), since, extra })
                }
                (Origin::LastGood { .. }, _) => previous.cloned(),
                (Origin::Policy { .. } | Origin::Strict | Origin::Default | Origin::Unset, _) => None,
            };
            if let Some(kept) = kept {
                values.insert(resolution.key.to_owned(), kept);
            }
        }
        let hidden =
            |name: &&String| self.unread.iter().any(|unread| *name == unread || is_inside(name, unread));
        let sources = self.read.iter().chain(before.sources.iter().filter(hidden)).cloned().collect();
        let (unknown_settings, extra) = (before.unknown_settings.clone(), before.extra.clone());
        LastGood { values, sources, unknown_settings, extra }
    }
}

/// As it is read. `values` holds a [`Remembered`] for each setting, whatever that is in the version that wrote it.
#[derive(Deserialize)]
struct Stored {
    values: BTreeMap<String, serde_json::Value>,
    /// Version 0.1 did not write it.
    sources: Option<BTreeSet<String>>,
    #[serde(flatten)]
    extra: Extra,
}

impl TryFrom<Stored> for LastGood {
    type Error = serde_json::Error;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        sort(SETTINGS, stored)
    }
}

/// Sorts what was read by whether one of these settings has the key, as its name or as an old one.
fn sort(settings: &'static [Setting], stored: Stored) -> Result<LastGood, serde_json::Error> {
    let mut last_good = LastGood { extra: stored.extra, ..LastGood::default() };
    for (key, value) in stored.values {
        match find(settings, &key) {
            Some((setting, is_alias)) => {
                let remembered = serde_json::from_value(value)?;
                let key = setting.key.to_owned();
                if is_alias {
                    last_good.values.entry(key).or_insert(remembered);
                } else {
                    last_good.values.insert(key, remembered);
                }
            }
            None => drop(last_good.unknown_settings.0.insert(key, value)),
        }
    }
    last_good.sources = stored.sources.unwrap_or_else(|| {
        last_good.values.values().map(|remembered| source_of(&remembered.source).to_owned()).collect()
    });
    Ok(last_good)
}

impl Serialize for LastGood {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Values<'a> {
            #[serde(flatten)]
            known: &'a BTreeMap<String, Remembered>,
            #[serde(flatten)]
            unknown: &'a Extra,
        }
        #[derive(Serialize)]
        struct Written<'a> {
            values: Values<'a>,
            sources: &'a BTreeSet<String>,
            #[serde(flatten)]
            extra: &'a Extra,
        }
        let values = Values { known: &self.values, unknown: &self.unknown_settings };
        Written { values, sources: &self.sources, extra: &self.extra }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{RENAMED, instant, resolve_texts};
    use super::*;

    #[test]
    fn last_good_of_newer_version_survives_read_and_write() {
        let newer = r#"{
            "values": {
                "QuantumMode": {"value": {"spin": [0.5]}, "from": "a.toml"},
                "UpdateMode": {"value": "off", "place": "a.toml, line 2", "since": "2026-11-02T08:00:00Z", "proof": [2]},
                "LogLevel": {"value": "debug", "place": "a.toml, line 1", "since": "2026-11-03T08:00:00Z", "proof": [3]}
            },
            "epoch": {"number": 7}
        }"#;
        let before: LastGood = serde_json::from_str(newer).unwrap();
        let after =
            resolve_texts(&["UpdateMode = \"off\""]).remember(&before, instant("2026-11-20T08:00:00Z"));
        let written = serde_json::to_value(&after).unwrap();
        let newer: serde_json::Value = serde_json::from_str(newer).unwrap();
        assert_eq!(written["values"]["QuantumMode"], newer["values"]["QuantumMode"], "unknown setting stays");
        assert_eq!(written["values"]["UpdateMode"]["proof"], serde_json::json!([2]), "unknown field stays");
        assert_eq!(written["values"]["UpdateMode"]["since"], "2026-11-02T08:00:00Z");
        assert!(written["values"].get("LogLevel").is_none(), "withdrawn setting goes");
        assert_eq!(written["epoch"], newer["epoch"]);

        let changed =
            resolve_texts(&["UpdateMode = \"notify\""]).remember(&after, instant("2026-11-21T08:00:00Z"));
        assert_eq!(
            changed.values["UpdateMode"].extra,
            Extra::default(),
            "the field described the value before"
        );
        let withdrawn = resolve_texts(&[]).remember(&after, instant("2026-11-21T08:00:00Z"));
        assert!(withdrawn.values.is_empty(), "what this version can never withdraw does not count");
        let written = serde_json::to_value(&withdrawn).unwrap();
        assert_eq!(written["values"]["QuantumMode"], newer["values"]["QuantumMode"]);
    }

    #[test]
    fn damaged_last_good_value_of_known_setting_is_error() {
        let damaged = r#"{"values":{"UpdateMode":{"value":"off","place":"a.toml"}}}"#;
        let error = serde_json::from_str::<LastGood>(damaged).unwrap_err().to_string();
        assert!(error.contains("since"), "{error}");
    }

    #[test]
    fn last_good_of_version_0_1_is_written_with_its_sources() {
        let values = r#"{"values":{"UpdateMode":{"value":"off","place":"a.toml, line 3","since":"2026-11-02T08:00:00Z"}}"#;
        let last_good: LastGood = serde_json::from_str(&format!("{values}}}")).unwrap();
        assert_eq!(
            serde_json::to_string(&last_good).unwrap(),
            format!("{values},\"sources\":[\"a.toml\"]}}")
        );
    }

    #[test]
    fn last_good_value_under_old_name_becomes_that_of_its_setting() {
        let remembered =
            |place: &str| serde_json::json!({"value": true, "place": place, "since": "2026-11-02T08:00:00Z"});
        for (stored, expected) in [
            (serde_json::json!({"IssuerUrl": remembered("old")}), "old"),
            (serde_json::json!({"Issuer": remembered("new"), "IssuerUrl": remembered("old")}), "new"),
        ] {
            let stored = serde_json::from_value(serde_json::json!({ "values": stored })).unwrap();
            let last_good = sort(RENAMED, stored).unwrap();
            assert_eq!(last_good.values.keys().collect::<Vec<_>>(), ["Issuer"]);
            assert_eq!(last_good.values["Issuer"].source, expected);
            assert_eq!(last_good.unknown_settings, Extra::default());
        }
    }
}
