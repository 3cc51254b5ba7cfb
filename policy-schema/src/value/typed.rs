//! From a value that was checked to the Rust type of its setting.

use super::{Secret, Value};
use crate::roots::TrustedRoots;
use crate::version::{Downgrade, Pin};
use crate::window::Window;

/// How the typed [`crate::Policy`] takes a value out.
pub(crate) trait FromValue: Sized {
    /// Whether the type has room for a setting without a value. Any other needs a default.
    const OPTIONAL: bool = false;

    /// `None` only for a value of another kind, or none at all.
    fn from_value(value: Option<&Value>) -> Option<Self>;
}

impl FromValue for bool {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        if let Some(Value::Boolean(value)) = value { Some(*value) } else { None }
    }
}

impl FromValue for u32 {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        if let Some(Value::Integer(value)) = value { Self::try_from(*value).ok() } else { None }
    }
}

impl FromValue for String {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        if let Some(Value::Text(text)) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        if let Some(Value::List(items)) = value { Some(items.clone()) } else { None }
    }
}

impl FromValue for Secret {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        if let Some(Value::Secret(secret)) = value { Some(secret.clone()) } else { None }
    }
}

/// Types that are written as a text.
macro_rules! from_text {
    ($($name:ty),+) => {$(
        impl FromValue for $name {
            fn from_value(value: Option<&Value>) -> Option<Self> {
                if let Some(Value::Text(text)) = value { text.parse().ok() } else { None }
            }
        }
    )+};
}
from_text! { semver::Version, Pin, TrustedRoots, Window }

impl FromValue for Vec<Downgrade> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        if let Some(Value::List(items)) = value {
            items.iter().map(|item| item.parse().ok()).collect()
        } else {
            None
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const OPTIONAL: bool = true;

    fn from_value(value: Option<&Value>) -> Option<Self> {
        Some(T::from_value(value))
    }
}
