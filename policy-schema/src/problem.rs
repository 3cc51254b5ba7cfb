//! What can be wrong, as data: stable codes that dashboards and scripts may rely on, and messages for administrators.
//!
//! Every part of the agent reports through [`Problem`]; the list of codes is also the source of the reference.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use codes::{CODES, Code, CodeInfo};

use crate::message::without_query;
use crate::open::{Extra, Open};

mod codes;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Note,
    /// Works, but not as it should.
    Warning,
    /// Something that was asked for does not happen.
    Error,
}

/// The part of Steward that a problem belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The machine service itself: its state files and local API.
    Agent,
    /// Policy: its sources, and what they say.
    Policy,
    /// The managed app and its configuration.
    App,
    /// Updates of the app.
    Update,
    /// Sign-in, sessions, and who may have tokens.
    SignIn,
    /// Where sessions are stored.
    Vault,
    /// Delivery of health reports.
    Report,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Agent, Self::Policy, Self::App, Self::Update, Self::SignIn, Self::Vault, Self::Report];

    /// The name on the wire, for example `sign-in`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Policy => "policy",
            Self::App => "app",
            Self::Update => "update",
            Self::SignIn => "sign-in",
            Self::Vault => "vault",
            Self::Report => "report",
        }
    }
}

/// Something that is wrong: what, where, what is used instead, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
pub struct Problem {
    /// Stable code, see the reference.
    pub code: Open<Code>,
    /// How much it matters.
    pub severity: Open<Severity>,
    /// The setting it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where: a path, a registry key, a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What is used instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub using: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Problem {
    /// A problem with its code's usual severity.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            severity: code.severity().into(),
            key: None,
            message: shortened(message.into()),
            place: None,
            using: None,
            hint: None,
            extra: Extra::default(),
        }
    }

    /// Only what is wrong, without its texts: messages, keys and locations may name users or servers.
    #[must_use]
    pub fn without_text(&self) -> Self {
        let (code, severity) = (self.code.clone(), self.severity.clone());
        let message = code.as_str().to_owned();
        Self {
            code,
            severity,
            key: None,
            message,
            place: None,
            using: None,
            hint: None,
            extra: Extra::default(),
        }
    }

    /// Names the setting.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(shortened(key.into()));
        self
    }

    /// Says where. An address is shown without its query, which may hold a secret.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(shortened(without_query(&place.into()).into_owned()));
        self
    }

    /// Says what is used instead.
    #[must_use]
    pub fn using(mut self, using: impl Into<String>) -> Self {
        self.using = Some(shortened(using.into()));
        self
    }

    /// Says what to do, if known.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().map(shortened);
        self
    }
}

/// The most characters of a text of a problem. It may come from a server, an archive or another user, and goes into status
/// and reports.
const LONGEST_TEXT: usize = 2000;

fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl Open<Code> {
    /// The code as printed, for example `policy.invalid-value`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(code) => code.as_str(),
            Self::Unknown(code) => code,
        }
    }
}

impl Open<Severity> {
    /// Whether it is an error. A severity that only a newer version knows counts as one: unknown is never healthy.
    #[must_use]
    pub fn is_error(&self) -> bool {
        *self >= Self::Known(Severity::Error)
    }

    /// Whether something should be done.
    #[must_use]
    pub fn is_at_least_warning(&self) -> bool {
        *self >= Self::Known(Severity::Warning)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(formatter, "`{key}`: ")?;
        }
        formatter.write_str(&self.message)?;
        for (label, part) in [("in ", &self.place), ("using ", &self.using), ("hint: ", &self.hint)] {
            if let Some(part) = part {
                write!(formatter, "\n  {label}{part}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_says_what_where_what_instead_and_what_to_do() {
        let problem = Problem::new(
            Code::PolicyInvalidValue,
            "expected `off`, `notify` or `automatic`, got `Automatik`",
        )
        .key("UpdateMode")
        .at(r"HKLM\SOFTWARE\Policies\Steward")
        .using("`notify`, the last good value (since 2026-11-20)")
        .hint("did you mean `automatic`?".to_owned());
        assert_eq!(
            problem.to_string(),
            "`UpdateMode`: expected `off`, `notify` or `automatic`, got `Automatik`\n  \
             in HKLM\\SOFTWARE\\Policies\\Steward\n  \
             using `notify`, the last good value (since 2026-11-20)\n  \
             hint: did you mean `automatic`?"
        );
    }

    #[test]
    fn every_code_is_unique_and_documents_cause_and_fix() {
        let mut names: Vec<_> = CODES.iter().map(|info| info.code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CODES.len());
        for info in CODES {
            let text = info.documentation.join("\n");
            assert!(text.contains("Cause:") && text.contains("Fix:"), "{}", info.code.as_str());
        }
    }

    /// The prefixes that have another name than their component are listed; no other code may differ.
    #[test]
    fn component_of_code_follows_its_prefix() {
        for info in CODES {
            let (prefix, _) = info.code.as_str().split_once('.').unwrap();
            let expected = match prefix {
                "api" => "agent",
                "broker" => "sign-in",
                same => same,
            };
            assert_eq!(info.code.component().as_str(), expected, "{}", info.code.as_str());
        }
    }

    #[test]
    fn component_has_one_name_in_text_and_on_the_wire() {
        for component in Component::ALL {
            let written = serde_json::to_string(&component).unwrap();
            assert_eq!(written, format!("\"{}\"", component.as_str()));
            assert_eq!(serde_json::from_str::<Component>(&written).unwrap(), component);
            assert!(CODES.iter().any(|info| info.code.component() == component), "{written} has no code");
        }
    }
}
