//! Value types: what a setting may hold ([`Kind`]), and how a raw value becomes one that is known to be right.
//!
//! Parsing is the only way to a [`Value`], so the holder of one never checks again.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::message::{did_you_mean, excerpt, one_of, without_query};
use crate::raw::{Notation, RawValue};

pub(crate) use format::application;
pub use format::{Format, Reason, without_web_socket};
pub(crate) use typed::FromValue;

mod advice;
mod format;
mod reason;
mod typed;

/// A value that meets its setting's constraints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A number within its range.
    Integer(i64),
    /// A text of the setting's format, or the name of a choice.
    Text(String),
    /// A list of such texts.
    List(Vec<String>),
    /// A text that is never shown.
    Secret(Secret),
}

impl Value {
    /// The value as it may be shown to everybody: secrets as `(set)`, addresses without what may be a key.
    #[must_use]
    pub fn to_shown(&self) -> serde_json::Value {
        match self {
            Self::Boolean(value) => (*value).into(),
            Self::Integer(value) => (*value).into(),
            Self::Text(text) => without_query(text).into(),
            Self::List(items) => items.clone().into(),
            Self::Secret(_) => "(set)".into(),
        }
    }

    /// The value as it is remembered and compared. Exposes secrets: for private files only.
    #[must_use]
    pub fn to_raw(&self) -> RawValue {
        match self {
            Self::Boolean(value) => RawValue::Bool(*value),
            Self::Integer(value) => RawValue::Int(*value),
            Self::Text(value) => RawValue::Str(value.clone()),
            Self::List(items) => RawValue::List(items.clone()),
            Self::Secret(secret) => RawValue::Str(secret.expose().to_owned()),
        }
    }
}

/// As in a message: `notify`, `true`, 30, [`a`, `b`], (set).
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(formatter, "`{value}`"),
            Self::Integer(value) => write!(formatter, "{value}"),
            Self::Text(text) => write!(formatter, "`{}`", excerpt(&without_query(text))),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| format!("`{}`", excerpt(item))).collect();
                write!(formatter, "[{}]", items.join(", "))
            }
            Self::Secret(_) => formatter.write_str("(set)"),
        }
    }
}

/// A text that cannot print itself: `Debug`, `Display` and `Serialize` all say `(set)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the code that sends or stores it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(set)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(set)")
    }
}

/// A value that a setting's declaration names: its default, its strict choice, its example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A boolean.
    Boolean(bool),
    /// A number.
    Integer(i64),
    /// A text or the name of a choice.
    Text(&'static str),
    /// A list of texts.
    List(&'static [&'static str]),
}

impl Literal {
    /// The same as a value. A test parses every literal of the settings, so none is checked again.
    #[must_use]
    pub(crate) fn to_value(self) -> Value {
        match self {
            Self::Boolean(value) => Value::Boolean(value),
            Self::Integer(value) => Value::Integer(value),
            Self::Text(text) => Value::Text(text.to_owned()),
            Self::List(items) => Value::List(items.iter().map(|item| (*item).to_owned()).collect()),
        }
    }

    /// The same as a raw value.
    #[must_use]
    pub fn to_raw(self) -> RawValue {
        match self {
            Self::Boolean(value) => RawValue::Bool(value),
            Self::Integer(value) => RawValue::Int(value),
            Self::Text(text) => RawValue::Str(text.to_owned()),
            Self::List(items) => RawValue::List(items.iter().map(|item| (*item).to_owned()).collect()),
        }
    }
}

/// One name of a [`Kind::Choice`] with its explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// As written in policy.
    pub name: &'static str,
    /// What it means, in an administrator's words.
    pub text: &'static str,
}

/// What a setting may hold. Parsing and every exporter use the same description.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`; 1 and 0 mean the same, for sources without booleans.
    Boolean,
    /// A whole number.
    Integer {
        /// Smallest allowed value.
        minimum: i64,
        /// Largest allowed value.
        maximum: i64,
        /// What is counted, in the plural: `days`.
        unit: &'static str,
    },
    /// A text.
    Text {
        /// What it must look like.
        format: Format,
    },
    /// A text that is never shown.
    Secret {
        /// What it must look like.
        format: Format,
    },
    /// One of a few names.
    Choice(&'static [Choice]),
    /// A list of texts.
    List {
        /// What every item must look like.
        format: Format,
        /// The largest number of items.
        maximum_items: usize,
    },
}

/// The reason why a raw value is not a value of its setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The type is wrong (else: the content).
    pub wrong_type: bool,
    /// The whole sentence, for example: expected a whole number, got the text `x`.
    pub message: String,
    /// What to do, where that is known.
    pub hint: Option<String>,
}

impl Kind {
    /// What is expected, to stand after the word `expected`.
    #[must_use]
    pub fn expectation(&self) -> String {
        match self {
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Integer { minimum, maximum, unit } => {
                format!("a whole number from {minimum} to {maximum} ({unit})")
            }
            Self::Text { format } | Self::Secret { format } => format.expectation().to_owned(),
            Self::Choice(choices) => one_of(choices.iter().map(|choice| choice.name)),
            Self::List { format, maximum_items } => {
                format!("a list of at most {maximum_items} items, each {}", format.expectation())
            }
        }
    }

    /// Makes a value of a raw one.
    ///
    /// # Errors
    /// As [`Self::parse_in`], which also knows how the document is written.
    pub fn parse(&self, raw: &RawValue) -> Result<Value, Invalid> {
        self.parse_in(raw, Notation::default())
    }

    /// Makes a value of a raw one that stands in a document of this notation.
    ///
    /// # Errors
    /// Says what was expected, what came, and what to do. The content of a secret is never repeated.
    pub fn parse_in(&self, raw: &RawValue, notation: Notation) -> Result<Value, Invalid> {
        match (self, raw) {
            (Self::Boolean, RawValue::Bool(value)) => Ok(Value::Boolean(*value)),
            (Self::Boolean, RawValue::Int(number @ (0 | 1))) => Ok(Value::Boolean(*number == 1)),
            (Self::Integer { minimum, maximum, .. }, RawValue::Int(number)) => {
                if (minimum..=maximum).contains(&number) {
                    Ok(Value::Integer(*number))
                } else {
                    Err(self.invalid(&format!("{number}"), None))
                }
            }
            (Self::Text { format }, RawValue::Str(text)) => match format.check(text) {
                Ok(()) => Ok(Value::Text(text.clone())),
                Err(Reason::Form | Reason::Character(_))
                    if advice::split(text, *format).is_some_and(|several| several.len() > 1) =>
                {
                    let got = format!("several values: `{}`", excerpt(&without_query(text)));
                    Err(self.invalid(&got, Some("this setting has one value: remove the rest".to_owned())))
                }
                Err(reason) => {
                    Err(self.invalid(&reason.shown(text, *format), reason.hint(text, *format, notation)))
                }
            },
            (Self::Secret { format }, RawValue::Str(text)) => match format.check(text) {
                Ok(()) => Ok(Value::Secret(Secret::new(text.clone()))),
                Err(reason) => {
                    Err(self.invalid(&reason.without_text(), reason.hint_without_text(text, notation)))
                }
            },
            (Self::Choice(choices), RawValue::Str(text)) => {
                if choices.iter().any(|choice| choice.name == text) {
                    Ok(Value::Text(text.clone()))
                } else {
                    let hint = match did_you_mean(text.trim(), choices.iter().map(|choice| choice.name)) {
                        Some(name) if name == text.trim() => {
                            Some(format!("write `{name}`, without spaces and line breaks around it"))
                        }
                        Some(name) => Some(format!("did you mean `{name}`?")),
                        None if text.is_empty() => Some(advice::for_empty(notation)),
                        None => None,
                    };
                    Err(self.invalid(&format!("`{}`", excerpt(text)), hint))
                }
            }
            (Self::List { format, maximum_items }, RawValue::List(items)) => {
                if items.len() > *maximum_items {
                    return Err(self.invalid(&format!("{} items", items.len()), None));
                }
                for item in items {
                    self.check_item(*format, item, items, notation)?;
                }
                Ok(Value::List(items.clone()))
            }
            (
                Self::Boolean
                | Self::Integer { .. }
                | Self::Text { .. }
                | Self::Secret { .. }
                | Self::Choice(_)
                | Self::List { .. },
                _,
            ) => Err(self.wrong_type(raw, notation)),
        }
    }

    /// Refuses an item of a list that is not of its format, or that is several in one.
    fn check_item(
        &self,
        format: Format,
        item: &str,
        items: &[String],
        notation: Notation,
    ) -> Result<(), Invalid> {
        if let Some(several) = advice::split(item, format) {
            let before = items.iter().filter(|other| *other != item).cloned();
            let hint = advice::list(&before.chain(several).collect::<Vec<_>>(), notation);
            let got = format!("several values in one item: `{}`", excerpt(&without_query(item)));
            return Err(self.invalid(&got, Some(hint)));
        }
        format.check(item).map_err(|reason| {
            if reason == Reason::Empty {
                return self.invalid("an empty item", Some("remove the empty item".to_owned()));
            }
            self.invalid(&reason.shown(item, format), reason.hint(item, format, notation))
        })
    }

    fn invalid(&self, got: &str, hint: Option<String>) -> Invalid {
        Invalid { wrong_type: false, message: format!("expected {}, got {got}", self.expectation()), hint }
    }

    fn wrong_type(&self, raw: &RawValue, notation: Notation) -> Invalid {
        let shown = match raw {
            _ if matches!(self, Self::Secret { .. }) => raw.kind_name().to_owned(),
            RawValue::Int(number) => format!("the number {number}"),
            RawValue::Bool(value) => format!("the boolean {value}"),
            RawValue::Str(text) => format!("the text `{}`", excerpt(&without_query(text))),
            RawValue::List(_) | RawValue::Table(_) | RawValue::Other(_) => raw.kind_name().to_owned(),
        };
        let hint = advice::for_wrong_type(self, raw, notation);
        Invalid { wrong_type: true, message: format!("expected {}, got {shown}", self.expectation()), hint }
    }
}

/// Declares the Rust type of a [`Kind::Choice`] and its list of names in one. It has no `Default`: the setting
/// alone declares which choice holds without policy.
macro_rules! choice {
    ($(#[doc = $type_doc:literal])+ $name:ident { $(#[doc = $doc:literal] $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $type_doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
        pub enum $name {
            $(#[doc = $doc] #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// The names as policy writes them.
            pub const CHOICES: &'static [$crate::value::Choice] =
                &[$($crate::value::Choice { name: $text, text: $doc }),+];

            /// The name as policy writes it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl $crate::value::FromValue for $name {
            fn from_value(value: Option<&$crate::value::Value>) -> Option<Self> {
                match value {
                    Some($crate::value::Value::Text(text)) => match text.as_str() {
                        $($text => Some(Self::$variant),)+
                        _ => None,
                    },
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> RawValue {
        RawValue::Str(text.to_owned())
    }

    const HOURS: Kind = Kind::Integer { minimum: 1, maximum: 24, unit: "hours" };

    #[test]
    fn number_0_or_1_is_boolean_and_other_number_is_not() {
        assert_eq!(Kind::Boolean.parse(&RawValue::Bool(true)), Ok(Value::Boolean(true)));
        assert_eq!(Kind::Boolean.parse(&RawValue::Int(0)), Ok(Value::Boolean(false)));
        assert!(Kind::Boolean.parse(&RawValue::Int(2)).is_err());
    }

    #[test]
    fn quoted_number_is_wrong_type_with_hint_to_drop_quotes() {
        let invalid = HOURS.parse(&text("8")).unwrap_err();
        assert!(invalid.wrong_type);
        assert_eq!(invalid.message, "expected a whole number from 1 to 24 (hours), got the text `8`");
        assert_eq!(invalid.hint.as_deref(), Some("write 8, without quotes"));
    }

    #[test]
    fn number_out_of_range_is_invalid_but_right_type() {
        for number in [0, 25, i64::MIN, i64::MAX] {
            assert!(!HOURS.parse(&RawValue::Int(number)).unwrap_err().wrong_type);
        }
    }

    #[test]
    fn wrong_secret_is_not_in_message() {
        let canary = "canary-7f3a";
        for raw in [
            text(&format!("{canary}\nsecond line")),
            RawValue::List(vec![canary.to_owned()]),
            RawValue::Int(4711),
        ] {
            let invalid = Kind::Secret { format: Format::BearerToken }.parse(&raw).unwrap_err();
            assert!(!format!("{invalid:?}").contains(canary) && !format!("{invalid:?}").contains("4711"));
        }
        let secret = Kind::Secret { format: Format::ClientSecret }.parse(&text(canary)).unwrap();
        let everything =
            format!("{secret} {secret:?} {:?} {}", secret.to_raw(), serde_json::to_string(&secret).unwrap());
        assert!(!everything.contains(canary), "{everything}");
    }

    #[test]
    fn password_in_wrong_url_is_not_in_message() {
        for format in [Format::ProxyUrl, Format::Url, Format::Issuer, Format::Version] {
            let invalid = Kind::Text { format }.parse(&text("http://u:canary@proxy.example:1 ")).unwrap_err();
            assert!(!format!("{invalid:?}").contains("canary"), "{invalid:?}");
        }
        for (format, wrong) in [
            (Format::ProxyUrl, "svc:canary@proxy.example:3128"),
            (Format::Issuer, "//u:canary@x"),
            (Format::Url, "https://a.example/?sig=canary#fragment"),
        ] {
            let invalid = Kind::Text { format }.parse(&text(wrong)).unwrap_err();
            assert!(!format!("{invalid:?}").contains("canary"), "{invalid:?}");
        }
        let address =
            Kind::Text { format: Format::Url }.parse(&text("https://a.example/?sig=canary")).unwrap();
        assert!(!format!("{address} {}", address.to_shown()).contains("canary"));
    }

    #[test]
    fn type_that_no_setting_has_is_named() {
        let invalid = Kind::Boolean.parse(&RawValue::Other("a date".to_owned())).unwrap_err();
        assert_eq!(invalid.message, "expected `true` or `false`, got a date");
    }
}
