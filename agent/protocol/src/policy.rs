//! The resolved policy without secrets, for every local user: `GET /v1/policy` and `steward policy show --json`.

use jiff::Timestamp;
use policy_schema::resolve::{Level, Origin, Resolution};
use policy_schema::{LastGood, Open, Problem, Resolved, SETTINGS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every setting with its origin, and the problems of policy. A secret is shown as `(set)`, an address without its
/// query.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ResolvedPolicy {
    /// In the order of the reference.
    pub settings: Vec<ResolvedSetting>,
    /// What is wrong with policy.
    pub problems: Vec<Problem>,
}

/// One setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResolvedSetting {
    /// Its key.
    pub key: String,
    /// The effective value.
    pub value: Option<serde_json::Value>,
    /// Where it comes from.
    pub origin: Open<Origin, serde_json::Value>,
    /// Since when policy sets the value.
    pub since: Option<Timestamp>,
    /// The value of the last policy that was valid.
    pub last_good: Option<LastGoodValue>,
    /// The values of other sources, the strongest first.
    #[serde(alias = "losers")]
    pub overridden: Vec<OverriddenValue>,
}

/// A remembered value.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LastGoodValue {
    /// The value.
    pub value: serde_json::Value,
    /// The source that it came from.
    #[serde(rename = "place")]
    pub source: String,
    /// Since when it was in effect.
    pub since: Timestamp,
}

/// A value that another one overrides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OverriddenValue {
    /// The source that set it.
    #[serde(rename = "place")]
    pub source: String,
    /// The level of the value.
    pub level: Open<Level>,
    /// The value; `null` if it is not valid.
    pub value: Option<serde_json::Value>,
    /// Why it is not in effect, as a sentence.
    #[serde(rename = "why")]
    pub reason: String,
}

impl ResolvedPolicy {
    /// Makes the view of a resolved policy and its last good values.
    #[must_use]
    pub fn new(resolved: &Resolved, last_good: &LastGood, problems: Vec<Problem>) -> Self {
        let settings = resolved.settings.iter().map(|setting| ResolvedSetting::new(setting, last_good));
        Self { settings: settings.collect(), problems }
    }

    /// A setting by its key. Upper and lower case do not matter.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&ResolvedSetting> {
        self.settings.iter().find(|setting| setting.key.eq_ignore_ascii_case(key))
    }

    /// The settings that are set by policy ([`Origin::is_set_by_policy`]).
    pub fn set_by_policy(&self) -> impl Iterator<Item = &ResolvedSetting> {
        self.settings.iter().filter(|setting| setting.is_set_by_policy())
    }
}

impl ResolvedSetting {
    fn new(resolution: &Resolution, last_good: &LastGood) -> Self {
        let shown = |value: &Option<policy_schema::Value>| value.as_ref().map(policy_schema::Value::to_shown);
        let last_good = LastGoodValue::of(resolution.key, last_good);
        let since = match (&resolution.origin, &last_good) {
            (Origin::Policy { .. }, Some(known)) => Some(known.since),
            _ => None,
        };
        let overridden = resolution.overridden.iter().map(|other| OverriddenValue {
            source: other.source.clone(),
            level: other.level.into(),
            value: shown(&other.value),
            reason: other.reason.clone(),
        });
        Self {
            key: resolution.key.to_owned(),
            value: shown(&resolution.value),
            origin: resolution.origin.clone().into(),
            since,
            last_good,
            overridden: overridden.collect(),
        }
    }

    /// Whether policy sets it. An origin that only a newer version knows counts as policy.
    #[must_use]
    pub fn is_set_by_policy(&self) -> bool {
        match &self.origin {
            Open::Known(origin) => origin.is_set_by_policy(),
            Open::Unknown(_) => true,
        }
    }
}

impl LastGoodValue {
    /// The last good value of a setting, without secrets.
    #[must_use]
    pub fn of(key: &str, last_good: &LastGood) -> Option<Self> {
        let known = last_good.values.get(key)?;
        let setting = SETTINGS.iter().find(|setting| setting.key == key)?;
        let value = setting.kind.parse(&known.value).ok()?.to_shown();
        Some(Self { value, source: known.source.clone(), since: known.since })
    }
}
