//! Property lists in the shape of macOS managed preferences, XML or binary.
//!
//! Keys at the top, recommended values in a dictionary of that name. `Payload*` and `_manualProfile` belong to the
//! profile, not to us. Read as a stream of events with a budget, so that a hostile file (deep nesting, a binary
//! object referenced a million times) ends in an error and never in a large or deep structure. Configuration profiles
//! are read as well ([`read_document`]): what their payloads for the agent's domain hold is what a Mac would find.

#![expect(clippy::wildcard_enum_match_arm, reason = "the events of the library are not exhaustive")]

use std::collections::BTreeMap;
use std::io::Cursor;

use plist::stream::{Event, Reader};

use super::{RECOMMENDED, syntax};
use crate::raw::{Notation, RawEntry, RawPolicy, RawValue, ReadError, Table};

mod profile;
mod xml;

const MAXIMUM_EVENTS: usize = 100_000;
const MAXIMUM_DEPTH: usize = 16;

/// Reads the preferences of one property list.
///
/// # Errors
/// The bytes are no property list, its root is no dictionary, or it is deeper or larger than any policy.
pub fn read(bytes: &[u8]) -> Result<RawPolicy, ReadError> {
    Ok(parse(bytes)?.policy)
}

/// Reads what a document holds for a preference domain: a profile with payloads, one payload, or the preferences.
///
/// # Errors
/// As [`read`]; or two payloads contradict each other.
pub fn read_document(bytes: &[u8], domain: &str) -> Result<RawPolicy, ReadError> {
    profile::policy_of(parse(bytes)?, domain)
}

fn parse(bytes: &[u8]) -> Result<Preferences, ReadError> {
    let bytes = prepared(bytes)?;
    Events::begin(&bytes)?.preferences(0)
}

/// What the library reads without passing anything over.
fn prepared(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, ReadError> {
    if bytes.starts_with(b"bplist") { Ok(bytes.into()) } else { Ok(xml::simple(bytes)?.into_bytes().into()) }
}

/// The keys at the top, as they are spelt, without those of the profile.
///
/// # Errors
/// As [`read`].
pub fn keys(bytes: &[u8]) -> Result<Vec<String>, ReadError> {
    let bytes = prepared(bytes)?;
    let mut events = Events::begin(&bytes)?;
    let mut keys = Vec::new();
    while let Some(key) = events.key()? {
        let start = events.next()?;
        events.value(start)?;
        if !key.starts_with("Payload") && key != "_manualProfile" {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// A dictionary of preferences, a payload, or a profile.
#[derive(Default)]
struct Preferences {
    /// The keys that do not belong to the profile.
    policy: RawPolicy,
    /// `PayloadType`.
    kind: Option<String>,
    /// `PayloadScope`.
    scope: Option<String>,
    /// `PayloadContent` is there, in whatever form.
    has_content: bool,
    /// `PayloadContent`, where that is a list.
    payloads: Option<Vec<Preferences>>,
    /// The keys of `PayloadContent`, where that is a dictionary: preference domains in the form of MCX.
    domains: Vec<String>,
    /// What MCX forces in these domains. There is one domain in such a payload that is ours, at most.
    forced: RawPolicy,
    /// MCX sets something else than forced preferences.
    not_forced: bool,
}

/// What is wrong with a property list, without the library's words. Its kinds of errors show in `Debug` alone.
fn explain(error: &plist::Error) -> ReadError {
    const KINDS: [(&str, &str, &str); 4] = [
        (
            "InvalidIntegerString",
            "an <integer> that is not a whole number",
            "write digits only, or use a <string>",
        ),
        ("InvalidRealString", "a <real> that is not a number", "write a number, or use a <string>"),
        ("InvalidDateString", "a <date> that is not a date", "no setting is a date: use a <string>"),
        ("InvalidDataString", "a <data> that is not Base64", "no setting is data: use a <string>"),
    ];
    let debug = format!("{error:?}");
    let known = KINDS.iter().find(|(kind, ..)| debug.contains(kind));
    known.map_or_else(
        || {
            syntax(
                "the property list is cut off or malformed",
                Some("write it again; `plutil -lint FILE` checks it on a Mac"),
            )
        },
        |(_, message, hint)| syntax(*message, Some(hint)),
    )
}

struct Events<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    count: usize,
}

impl<'a> Events<'a> {
    fn begin(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut events = Self { reader: Reader::new(Cursor::new(bytes)), count: 0 };
        if !matches!(events.next()?, Event::StartDictionary(_)) {
            return Err(syntax("the property list is not a dictionary", None));
        }
        Ok(events)
    }

    /// The rest of a dictionary that has just started, with the payloads in it.
    fn preferences(&mut self, level: usize) -> Result<Preferences, ReadError> {
        let mut found = Preferences::default();
        found.policy.notation = Notation::PropertyList;
        while let Some(key) = self.key()? {
            if key == "PayloadContent" {
                found.has_content = true;
                self.content(&mut found, level)?;
            } else if key.starts_with("Payload") || key == "_manualProfile" {
                let start = self.next()?;
                let value = self.value(start)?;
                match (key.as_str(), value) {
                    ("PayloadType", RawValue::Str(kind)) => found.kind = Some(kind),
                    ("PayloadScope", RawValue::Str(scope)) => found.scope = Some(scope),
                    _ => {}
                }
            } else if key.eq_ignore_ascii_case(RECOMMENDED) {
                if !found.policy.recommended.is_empty() {
                    return Err(syntax("a second dictionary of recommended values", Some("keep one")));
                }
                match self.next()? {
                    Event::StartDictionary(_) => {
                        while let Some(key) = self.key()? {
                            self.entry(&mut found.policy.recommended, &key)?;
                        }
                    }
                    start => {
                        let value = self.value(start)?;
                        found.policy.enforced.insert(key, value.into());
                    }
                }
            } else {
                self.entry(&mut found.policy.enforced, &key)?;
            }
        }
        Ok(found)
    }

    /// The value of `PayloadContent`: of a profile a list of payloads, of MCX a dictionary of domains.
    fn content(&mut self, found: &mut Preferences, level: usize) -> Result<(), ReadError> {
        match self.next()? {
            // A payload has no payloads.
            Event::StartArray(_) if level < 2 => {
                let payloads = found.payloads.get_or_insert_default();
                loop {
                    match self.next()? {
                        Event::EndCollection => return Ok(()),
                        Event::StartDictionary(_) => payloads.push(self.preferences(level + 1)?),
                        start => drop(self.value(start)?),
                    }
                }
            }
            Event::StartDictionary(_) => {
                while let Some(domain) = self.key()? {
                    match self.next()? {
                        Event::StartDictionary(_) => self.managed(found)?,
                        start => drop(self.value(start)?),
                    }
                    found.domains.push(domain);
                }
                Ok(())
            }
            start => self.value(start).map(drop),
        }
    }

    /// What MCX says about one preference domain.
    fn managed(&mut self, found: &mut Preferences) -> Result<(), ReadError> {
        while let Some(frequency) = self.key()? {
            let start = self.next()?;
            if frequency != "Forced" || !matches!(start, Event::StartArray(_)) {
                found.not_forced |= matches!(frequency.as_str(), "Set-Once" | "Often");
                self.value(start)?;
                continue;
            }
            loop {
                match self.next()? {
                    Event::EndCollection => break,
                    Event::StartDictionary(_) => {
                        while let Some(key) = self.key()? {
                            match self.next()? {
                                Event::StartDictionary(_) if key == "mcx_preference_settings" => {
                                    let settings = self.preferences(2)?.policy;
                                    found.forced.enforced.extend(settings.enforced);
                                    found.forced.recommended.extend(settings.recommended);
                                }
                                start => drop(self.value(start)?),
                            }
                        }
                    }
                    start => drop(self.value(start)?),
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Event<'static>, ReadError> {
        self.count += 1;
        if self.count > MAXIMUM_EVENTS {
            return Err(syntax(format!("more than {MAXIMUM_EVENTS} elements"), None));
        }
        match self.reader.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(explain(&error)),
            None => Err(syntax("the property list ends too early", Some("it is only half written"))),
        }
    }

    /// The next key of a dictionary, or `None` at its end.
    fn key(&mut self) -> Result<Option<String>, ReadError> {
        match self.next()? {
            Event::EndCollection => Ok(None),
            Event::String(key) => Ok(Some(key.into_owned())),
            _ => Err(syntax("a dictionary has an element that is not a key", None)),
        }
    }

    fn entry(&mut self, entries: &mut BTreeMap<String, RawEntry>, key: &str) -> Result<(), ReadError> {
        let start = self.next()?;
        let value = self.value(start)?;
        if entries.insert(key.to_owned(), value.into()).is_some() {
            let key = crate::message::excerpt(key);
            return Err(syntax(format!("the key `{key}` is set twice"), Some("keep one")));
        }
        Ok(())
    }

    /// The value that starts with an event; collections are read to their end.
    fn value(&mut self, start: Event<'_>) -> Result<RawValue, ReadError> {
        let other = |name: &str| Ok(RawValue::Other(name.to_owned()));
        match start {
            Event::Boolean(value) => Ok(RawValue::Bool(value)),
            Event::Integer(number) => number
                .as_signed()
                .map_or_else(|| other("a number that is too large"), |number| Ok(RawValue::Int(number))),
            Event::String(text) => Ok(RawValue::Str(text.into_owned())),
            Event::Real(_) => other("a number with a fraction"),
            Event::Date(_) => other("a date"),
            Event::Data(_) => other("data"),
            Event::Uid(_) => other("a UID"),
            Event::StartArray(_) => self.list(),
            Event::StartDictionary(_) => self.table(),
            Event::EndCollection => Err(syntax("a key has no value", None)),
            _ => other("an unknown type"),
        }
    }

    fn list(&mut self) -> Result<RawValue, ReadError> {
        let mut items = Some(Vec::new());
        loop {
            match self.next()? {
                Event::EndCollection => break,
                Event::String(text) => {
                    if let Some(items) = &mut items {
                        items.push(text.into_owned());
                    }
                }
                Event::StartArray(_) | Event::StartDictionary(_) => {
                    items = None;
                    self.skip()?;
                }
                _ => items = None,
            }
        }
        Ok(items
            .map_or_else(|| RawValue::Other("a list of other things than texts".to_owned()), RawValue::List))
    }

    /// The keys of a dictionary that is no policy, for messages.
    fn table(&mut self) -> Result<RawValue, ReadError> {
        let mut keys = Vec::new();
        while let Some(key) = self.key()? {
            match self.next()? {
                Event::StartArray(_) | Event::StartDictionary(_) => self.skip()?,
                _ => {}
            }
            keys.push(key);
        }
        Ok(RawValue::Table(Table { kind: "a dictionary", keys }))
    }

    /// Reads to the end of a collection that has just started.
    fn skip(&mut self) -> Result<(), ReadError> {
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Event::StartArray(_) | Event::StartDictionary(_) => depth += 1,
                Event::EndCollection => depth -= 1,
                _ => {}
            }
            if depth > MAXIMUM_DEPTH {
                return Err(syntax(format!("nested deeper than {MAXIMUM_DEPTH} levels"), None));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
