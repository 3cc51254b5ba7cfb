//! Versions as policy names them: a pin to one or to a series, and a downgrade.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

/// The versions that a pin allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pin {
    /// One version: `2.1.0`.
    Exact(Version),
    /// All that begin with these numbers: `2` or `2.1`. Pre-releases are not among them.
    Series {
        /// The first number.
        major: u64,
        /// The second number.
        minor: Option<u64>,
    },
}

/// The channel that a version belongs to by its pre-release: `beta` for 2.1.0-beta.3. `None` for one that is none, or whose
/// pre-release has no name.
#[must_use]
pub fn channel_of(version: &Version) -> Option<&str> {
    let name = version.pre.split('.').next().unwrap_or_default();
    name.starts_with(|letter: char| letter.is_ascii_alphabetic()).then_some(name)
}

/// A text is not of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVersion {
    /// Of a pin.
    #[error("not a version, as `2.1.0`, or the beginning of one, as `2.1`")]
    Pin,
    /// Of a downgrade.
    #[error("not a downgrade, as `2.1.0 to 2.0.4`")]
    Downgrade,
}

impl Pin {
    /// Whether it allows a version. The build (`+...`) does not matter.
    #[must_use]
    pub fn allows(&self, version: &Version) -> bool {
        match self {
            Self::Exact(exact) => exact.cmp_precedence(version).is_eq(),
            Self::Series { major, minor } => {
                version.pre.is_empty()
                    && version.major == *major
                    && minor.is_none_or(|minor| version.minor == minor)
            }
        }
    }

    /// Whether no version that it allows is as new as this one.
    #[must_use]
    pub fn is_below(&self, version: &Version) -> bool {
        match self {
            Self::Exact(exact) => exact < version,
            Self::Series { major, minor } => {
                (*major, minor.unwrap_or(u64::MAX)) < (version.major, version.minor)
            }
        }
    }
}

impl FromStr for Pin {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        if let Ok(version) = text.parse() {
            return Ok(Self::Exact(version));
        }
        let number = |text: &str| {
            // As semver.org: no zeros before a number.
            let plain = text == "0" || !text.starts_with('0');
            (plain && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
        };
        let (major, minor) = text.split_once('.').map_or((text, None), |(major, minor)| (major, Some(minor)));
        let minor = minor.map(|minor| number(minor).ok_or(NoVersion::Pin)).transpose()?;
        Ok(Self::Series { major: number(major).ok_or(NoVersion::Pin)?, minor })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(version) => version.fmt(formatter),
            Self::Series { major, minor: None } => write!(formatter, "{major}"),
            Self::Series { major, minor: Some(minor) } => write!(formatter, "{major}.{minor}"),
        }
    }
}

/// A downgrade that policy asks for: which versions go, and which one comes instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Downgrade {
    /// What is installed.
    pub from: Pin,
    /// What is to be installed.
    pub to: Version,
}

impl Downgrade {
    /// Why it never happens, among others of the same list, and with what policy asks for.
    #[must_use]
    pub fn fault(&self, all: &[Self], minimum: Option<&Version>, pin: Option<&Pin>) -> Option<String> {
        let Self { from, to } = self;
        if from.is_below(to) || from.allows(to) {
            Some("the second version is not older than the first".to_owned())
        } else if let Some(minimum) = minimum.filter(|minimum| to < *minimum) {
            Some(format!("{to} is below `UpdateMinimumVersion` {minimum}"))
        } else if let Some(pin) = pin.filter(|pin| !pin.allows(to)) {
            Some(format!("`UpdatePinnedVersion` {pin} does not allow {to}"))
        } else if all.iter().any(|other| other.from.allows(to)) {
            Some(format!("another item leads away from {to}"))
        } else {
            None
        }
    }
}

impl FromStr for Downgrade {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let (from, to) = text.split_once(" to ").ok_or(NoVersion::Downgrade)?;
        let to = to.parse().map_err(|_| NoVersion::Downgrade)?;
        Ok(Self { from: from.parse().map_err(|_| NoVersion::Downgrade)?, to })
    }
}

impl fmt::Display for Downgrade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} to {}", self.from, self.to)
    }
}

macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = NoVersion;

            fn try_from(text: String) -> Result<Self, NoVersion> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}
as_text! { Pin, Downgrade }

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn pin_allows_one_version_or_a_series() {
        for (pin, allowed, others) in [
            ("2.1.0", &["2.1.0", "2.1.0+build.7"][..], &["2.1.1", "2.1.0-beta.1"][..]),
            ("2.1.0-beta.1", &["2.1.0-beta.1"], &["2.1.0"]),
            ("2.1", &["2.1.0", "2.1.99"], &["2.2.0", "2.10.0", "2.1.0-beta.1"]),
            ("2", &["2.0.0", "2.10.3"], &["20.0.0", "3.0.0"]),
        ] {
            let parsed: Pin = pin.parse().unwrap();
            assert_eq!(parsed.to_string(), pin);
            assert!(allowed.iter().all(|text| parsed.allows(&version(text))), "{pin}");
            assert!(!others.iter().any(|text| parsed.allows(&version(text))), "{pin}");
        }
        for text in ["", "v2", "2.", "2.1.", "02", "2.x", "2.1.0.0", "latest", "+2", "2.01"] {
            assert_eq!(text.parse::<Pin>(), Err(NoVersion::Pin), "{text}");
        }
    }

    #[test]
    fn pin_is_below_what_it_cannot_reach() {
        for (pin, minimum, below) in [
            ("2.1.0", "2.1.1", true),
            ("2.1.0", "2.1.0", false),
            ("2.1", "2.1.7", false),
            ("2.1", "2.2.0", true),
            ("2", "2.9.9", false),
            ("2", "3.0.0", true),
        ] {
            assert_eq!(pin.parse::<Pin>().unwrap().is_below(&version(minimum)), below, "{pin} {minimum}");
        }
    }

    #[test]
    fn downgrade_names_both_versions() {
        let downgrade: Downgrade = "2.1 to 2.0.4".parse().unwrap();
        assert!(downgrade.from.allows(&version("2.1.3")) && downgrade.to == version("2.0.4"));
        assert_eq!(downgrade.to_string(), "2.1 to 2.0.4");
        for text in ["2.0.4", "2.1 to 2.0", "to 2.0.4", "2.1.0 -> 2.0.4", "2.1.0 to 2.0.4 to 2.0.3"] {
            assert_eq!(text.parse::<Downgrade>(), Err(NoVersion::Downgrade), "{text}");
        }
    }
}
