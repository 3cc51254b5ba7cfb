//! Names from a closed list that stay open on the wire.
//!
//! A newer version may know names that this one does not. [`Open`] keeps such a name as it came, so that it survives a
//! round trip through an older version: an older agent after a rollback, a dashboard that was not updated yet.

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
}
