//! What any operating system can hand us: values with the type that their source gave them, before any meaning.
//!
//! Readers ([`crate::read`] and the registry reader of the platform crate) make these; only
//! [`mod@crate::resolve`] interprets them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// One value as its source stores it.
///
/// `Debug` shows the type and the size but never the content: at this stage it is not known yet what is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawValue {
    /// TOML and plist booleans. The registry has none: there it arrives as 0 or 1.
    Bool(bool),
    /// TOML and plist integers, `REG_DWORD`, `REG_QWORD`.
    Int(i64),
    /// TOML and plist strings, `REG_SZ`, `REG_EXPAND_SZ`.
    Str(String),
    /// TOML and plist arrays of strings, `REG_MULTI_SZ`, the values of a registry subkey.
    List(Vec<String>),
    /// A TOML table or a plist dictionary. No setting has one, but settings may have got into it.
    #[serde(skip)]
    Table(Table),
    /// A type that no setting has; the field names it as an administrator would (`a date`, `REG_BINARY`).
    #[serde(skip)]
    Other(String),
}

/// What lies in a document where a value was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What its notation calls it, for example `a table`.
    pub kind: &'static str,
    /// The keys in it.
    pub keys: Vec<String>,
}

impl RawValue {
    /// The type in an administrator's words, for example `a whole number`.
    #[must_use]
    pub fn kind_name(&self) -> &str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Str(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(table) => table.kind,
            Self::Other(kind) => kind,
        }
    }
}

impl fmt::Debug for RawValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => write!(formatter, "a text of {} bytes", text.len()),
            Self::List(items) => write!(formatter, "a list of {} items", items.len()),
            Self::Bool(_) | Self::Int(_) | Self::Table(_) | Self::Other(_) => {
                formatter.write_str(self.kind_name())
            }
        }
    }
}

/// A value, and its line in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// The value as stored.
    pub value: RawValue,
    /// Line in a text file, counted from 1.
    pub line: Option<usize>,
}

impl From<RawValue> for RawEntry {
    fn from(value: RawValue) -> Self {
        Self { value, line: None }
    }
}

/// How a source writes its values: what a message tells an administrator to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notation {
    /// A TOML file.
    #[default]
    Toml,
    /// A property list or a profile.
    PropertyList,
    /// The Windows registry, or a file for it.
    Registry,
}

/// Everything that one source holds, by key as written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawPolicy {
    /// How it is written.
    pub notation: Notation,
    /// Values that bind.
    pub enforced: BTreeMap<String, RawEntry>,
    /// Values that only fill in where nothing binds (`recommended` table, dictionary or subkey).
    pub recommended: BTreeMap<String, RawEntry>,
    /// What the reader passed over although an administrator may have meant it. A location is one inside the document.
    pub remarks: Vec<Problem>,
}

impl RawPolicy {
    /// Whether it sets nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.enforced.is_empty() && self.recommended.is_empty()
    }
}

/// Why a source that exists cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// What kind of failure: decides the problem code.
    pub kind: ReadErrorKind,
    /// What went wrong, without the source's name.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// Where in a text file.
    pub at: Option<Position>,
}

impl ReadError {
    /// An error that is not about one place in the source.
    #[must_use]
    pub fn new(kind: ReadErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, at: None }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// For example `line 3, column 5: a text needs quotes`.
impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(formatter, "{at}: ")?;
        }
        formatter.write_str(&self.message)
    }
}

/// A place in a text, counted from 1 in lines and characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

/// As in a message: `line 3, column 5`, or the line alone if all of it is meant.
impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}", self.line)?;
        if self.column > 1 {
            write!(formatter, ", column {}", self.column)?;
        }
        Ok(())
    }
}

/// The kinds of [`ReadError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// The system refused the read, or failed in it.
    Unreadable,
    /// A user without administrator rights could have written it.
    Insecure,
    /// More bytes than a policy can reasonably have.
    TooLarge,
    /// Read, but not a document of its format.
    Syntax,
    /// Nothing is in it.
    Empty,
}

/// One source of policy (a file, a registry key, a preference domain) and the result of reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Strength: a higher rank wins. Equal ranks are ordered by name, the later name wins.
    pub rank: u32,
    /// How an administrator finds it: a path or a registry key.
    pub name: String,
    /// Its content. A source that does not exist is not in the list; one that cannot be read is an error.
    pub contents: Result<RawPolicy, ReadError>,
}
