//! What stays open on the wire: names from a closed list, and fields of a known struct.
//!
//! A newer version may know names and fields that this one does not. [`Open`] keeps such a name as it came and [`Extra`]
//! such fields, so that they survive a round trip through an older version: an older agent after a rollback, a dashboard
//! that was not updated yet.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A name of `T`'s list, or one that only a newer version knows. `U` is what an unknown one is kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Open<T, U = String> {
    /// This version knows it.
    Known(T),
    /// Only a newer version knows it; it is kept as it came. Sorts last, so that the worst comes first where lists are
    /// sorted by severity.
    Unknown(U),
}

impl<T: Copy, U> Open<T, U> {
    /// The value, if this version knows it.
    #[must_use]
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Unknown(_) => None,
        }
    }
}

impl<T, U> From<T> for Open<T, U> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

/// An unknown name equals nothing that this version knows.
impl<T: PartialEq, U> PartialEq<T> for Open<T, U> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(value) if value == other)
    }
}

impl<T: Default, U> Default for Open<T, U> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}

#[cfg(feature = "export")]
impl<T: schemars::JsonSchema, U: schemars::JsonSchema> schemars::JsonSchema for Open<T, U> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (known, unknown) = (generator.subschema_for::<T>(), generator.subschema_for::<U>());
        schemars::json_schema!({ "anyOf": [known, unknown] })
    }
}

/// The fields of a JSON object that only a newer version knows, as they came. For a field with `#[serde(flatten)]`; an
/// empty one writes nothing. `Debug` shows only their names: it is not known what is a secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Extra(pub BTreeMap<String, serde_json::Value>);

impl fmt::Debug for Extra {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(feature = "export")]
impl schemars::JsonSchema for Extra {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Extra".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Severity};

    #[test]
    fn name_of_newer_version_survives_round_trip_and_equals_nothing_known() {
        let code: Open<Code> = serde_json::from_str("\"quantum.decohered\"").unwrap();
        assert_eq!(code, Open::Unknown("quantum.decohered".to_owned()));
        assert!(code != Code::PolicySyntax && code.known().is_none());
        assert_eq!(serde_json::to_string(&code).unwrap(), "\"quantum.decohered\"");
        let known: Open<Code> = serde_json::from_str("\"policy.syntax\"").unwrap();
        assert_eq!((known.known(), known == Code::PolicySyntax), (Some(Code::PolicySyntax), true));
        assert!(serde_json::from_str::<Open<Code>>("17").is_err(), "a code is a name in every version");
    }

    #[test]
    fn unknown_severity_sorts_as_worse_than_any_known() {
        let unknown: Open<Severity> = Open::Unknown("catastrophe".to_owned());
        assert!(unknown > Open::Known(Severity::Error));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
    struct Sample {
        known: u32,
        #[serde(flatten)]
        extra: Extra,
    }

    #[test]
    fn unknown_fields_survive_round_trip() {
        let text = r#"{"known":1,"later":{"list":[1,null,"a"]},"other":true}"#;
        let sample: Sample = serde_json::from_str(text).unwrap();
        assert_eq!(sample.known, 1);
        assert_eq!(sample.extra.0.keys().collect::<Vec<_>>(), ["later", "other"]);
        assert_eq!(serde_json::to_string(&sample).unwrap(), text);
        assert_eq!(format!("{:?}", sample.extra), r#"{"later", "other"}"#, "a value may be a secret");
    }

    #[test]
    fn no_unknown_fields_write_nothing() {
        let sample = Sample { known: 1, extra: Extra::default() };
        assert_eq!(serde_json::to_string(&sample).unwrap(), r#"{"known":1}"#);
        assert_eq!(serde_json::from_str::<Sample>(r#"{"known":1}"#).unwrap(), sample);
    }

    #[cfg(feature = "export")]
    #[test]
    fn schema_of_struct_with_extra_allows_unknown_fields() {
        let schema = serde_json::to_value(schemars::schema_for!(Sample)).unwrap();
        assert_eq!(schema["additionalProperties"], serde_json::json!(true), "{schema}");
        assert_eq!(schema["required"], serde_json::json!(["known"]), "{schema}");
    }
}
