//! Property lists in the shape of macOS managed preferences, XML or binary.
//!
//! Keys at the top, recommended values in a dictionary of that name. `Payload*` and `_manualProfile` belong to the
//! profile, not to us. Read as a stream of events with a budget, so that a hostile file (deep nesting, a binary
//! object referenced a million times) ends in an error and never in a large or deep structure. A configuration profile
//! is read as well: what its payload for the agent's domain holds is what a Mac would find.

#![expect(clippy::wildcard_enum_match_arm, reason = "the events of the library are not exhaustive")]

use std::collections::BTreeMap;
use std::io::Cursor;

use plist::stream::{Event, Reader};

use super::{RECOMMENDED, syntax};
use crate::raw::{RawEntry, RawPolicy, RawValue, ReadError};

const MAXIMUM_EVENTS: usize = 100_000;
const MAXIMUM_DEPTH: usize = 16;
const END: &[u8] = b"</plist>";
/// The references that XML itself defines.
const REFERENCES: [&[u8]; 6] = [b"lt;", b"gt;", b"amp;", b"quot;", b"apos;", b"#"];

/// Reads one property list.
///
/// # Errors
/// The bytes are no property list, its root is no dictionary, or it is deeper or larger than any policy.
pub fn read(bytes: &[u8]) -> Result<RawPolicy, ReadError> {
    let mut events = Events::begin(bytes)?;
    Ok(events.preferences(false)?.policy)
}

/// Reads what a configuration profile holds for a preference domain.
///
/// # Errors
/// As [`read`]; and the profile has no payload for the domain, or is signed, which hides it from a reader of property
/// lists.
pub fn read_profile(bytes: &[u8], domain: &str) -> Result<RawPolicy, ReadError> {
    // A signed profile is CMS in DER: a sequence.
    if bytes.starts_with(&[0x30]) {
        let hint = "take the signature off: openssl cms -verify -noverify -inform der -in FILE -out PROFILE";
        return Err(syntax("is a signed profile", Some(hint)));
    }
    let mut events = Events::begin(bytes)?;
    let payloads = events.preferences(true)?.payloads;
    let ours = payloads.into_iter().find(|payload| payload.kind.as_deref() == Some(domain));
    ours.map(|payload| payload.policy)
        .ok_or_else(|| syntax(format!("has no payload of the type {domain}"), None))
}

/// The keys at the top, as they are spelt, without those of the profile.
///
/// # Errors
/// As [`read`].
pub fn keys(bytes: &[u8]) -> Result<Vec<String>, ReadError> {
    let mut events = Events::begin(bytes)?;
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

/// Refuses what the library would skip without an error: references that it does not know, CDATA, and whatever
/// follows the end. A policy would then mean something else than it shows.
fn check_xml(bytes: &[u8]) -> Result<(), ReadError> {
    let find = |what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    if find(b"<!ENTITY").is_some() {
        return Err(syntax("declares entities of its own, which no property list needs", None));
    }
    if find(b"<![CDATA[").is_some() {
        return Err(syntax(
            "has a CDATA section, which property lists do not need",
            Some("write &lt; and &amp;"),
        ));
    }
    let mut references = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'&');
    if let Some((at, _)) =
        references.find(|(at, _)| !REFERENCES.iter().any(|known| bytes[at + 1..].starts_with(known)))
    {
        return Err(syntax(format!("byte {at}: `&` begins no reference of XML"), Some("write &amp;")));
    }
    if find(END).is_some_and(|end| !bytes[end + END.len()..].trim_ascii().is_empty()) {
        return Err(syntax("goes on after its end", Some("it may be two files in one")));
    }
    Ok(())
}

/// A dictionary of preferences, or a payload of a profile.
#[derive(Default)]
struct Preferences {
    policy: RawPolicy,
    kind: Option<String>,
    payloads: Vec<Preferences>,
}

struct Events<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    count: usize,
}

impl<'a> Events<'a> {
    fn begin(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if !bytes.starts_with(b"bplist") {
            check_xml(bytes)?;
        }
        let mut events = Self { reader: Reader::new(Cursor::new(bytes)), count: 0 };
        if !matches!(events.next()?, Event::StartDictionary(_)) {
            return Err(syntax("the property list is not a dictionary", None));
        }
        Ok(events)
    }

    /// The rest of a dictionary that has just started. Of a profile, the payloads as well.
    fn preferences(&mut self, profile: bool) -> Result<Preferences, ReadError> {
        let mut found = Preferences::default();
        while let Some(key) = self.key()? {
            if profile && key == "PayloadContent" {
                found.payloads = self.payloads()?;
            } else if key.starts_with("Payload") || key == "_manualProfile" {
                let start = self.next()?;
                let value = self.value(start)?;
                if let ("PayloadType", RawValue::Str(kind)) = (key.as_str(), value) {
                    found.kind = Some(kind);
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

    fn payloads(&mut self) -> Result<Vec<Preferences>, ReadError> {
        let mut payloads = Vec::new();
        let start = self.next()?;
        if !matches!(start, Event::StartArray(_)) {
            self.value(start)?;
            return Ok(payloads);
        }
        loop {
            match self.next()? {
                Event::EndCollection => return Ok(payloads),
                Event::StartDictionary(_) => payloads.push(self.preferences(false)?),
                start => drop(self.value(start)?),
            }
        }
    }

    fn next(&mut self) -> Result<Event<'static>, ReadError> {
        self.count += 1;
        if self.count > MAXIMUM_EVENTS {
            return Err(syntax(format!("more than {MAXIMUM_EVENTS} elements"), None));
        }
        match self.reader.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(syntax(error.to_string(), None)),
            None => Err(syntax("the property list ends too early", Some("it is only half written"))),
        }
    }

    /// The next key of a dictionary, or `None` at its end.
    fn key(&mut self) -> Result<Option<String>, ReadError> {
        match self.next()? {
            Event::EndCollection => Ok(None),
            Event::String(key) => Ok(Some(key.into_owned())),
            _ => Err(syntax("a dictionary has something else than a key", None)),
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
            Event::StartDictionary(_) => {
                self.skip()?;
                other("a dictionary")
            }
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
mod tests {
    use super::*;

    fn xml(body: &str) -> Vec<u8> {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>{body}</dict></plist>"
        )
        .into_bytes()
    }

    #[test]
    fn managed_preferences_are_read_and_keys_of_profile_ignored() {
        let policy = read(&xml(
            "<key>UpdateMode</key><string>notify</string><key>ReportPosture</key><true/>\
             <key>UpdateDeferDays</key><integer>7</integer>\
             <key>Scopes</key><array><string>openid</string></array>\
             <key>PayloadUUID</key><string>x</string><key>_manualProfile</key><dict><key>a</key><array/></dict>\
             <key>Recommended</key><dict><key>LogLevel</key><string>debug</string></dict>",
        ))
        .unwrap();
        let keys: Vec<_> = policy.enforced.keys().map(String::as_str).collect();
        assert_eq!(keys, ["ReportPosture", "Scopes", "UpdateDeferDays", "UpdateMode"]);
        assert_eq!(policy.enforced["Scopes"].value, RawValue::List(vec!["openid".into()]));
        assert_eq!(policy.recommended["LogLevel"].value, RawValue::Str("debug".into()));
    }

    #[test]
    fn binary_and_xml_are_read_the_same() {
        let document = xml(
            "<key>UpdateMode</key><string>off</string><key>Scopes</key><array><string>a</string></array>",
        );
        let value = plist::Value::from_reader(Cursor::new(&document)).unwrap();
        let mut binary = Vec::new();
        value.to_writer_binary(&mut binary).unwrap();
        assert_eq!(read(&binary).unwrap(), read(&document).unwrap());
    }

    #[test]
    fn type_that_no_setting_has_keeps_its_name() {
        let policy = read(&xml(
            "<key>a</key><real>1.5</real><key>b</key><date>2020-01-01T00:00:00Z</date><key>c</key><data>AAAA</data>\
             <key>d</key><dict><key>x</key><dict/></dict><key>e</key><array><array/></array>",
        ))
        .unwrap();
        let kinds: Vec<_> =
            policy.enforced.values().map(|entry| entry.value.kind_name().to_owned()).collect();
        assert_eq!(
            kinds,
            [
                "a number with a fraction",
                "a date",
                "data",
                "a dictionary",
                "a list of other things than texts"
            ]
        );
    }

    #[test]
    fn hostile_document_is_error() {
        let deep = xml(&format!("<key>a</key>{}", "<array>".repeat(200_000)));
        let wide = xml(&(0..60_000).map(|n| format!("<key>{n}</key><true/>")).collect::<Vec<_>>().concat());
        let truncated = &xml("<key>UpdateMode</key><string>off</string>")[..80];
        for bytes in [deep.as_slice(), &wide, truncated, b"", b"bplist00", b"<plist><array/></plist>"] {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]);
            assert!(read(bytes).is_err(), "{start}");
        }
    }

    #[test]
    fn key_set_twice_is_error() {
        let twice =
            xml("<key>UpdateMode</key><string>off</string><key>UpdateMode</key><string>notify</string>");
        assert_eq!(read(&twice).unwrap_err().message, "the key `UpdateMode` is set twice");
    }

    #[test]
    fn document_with_own_entities_is_error() {
        let bytes =
            b"<?xml version=\"1.0\"?><!DOCTYPE plist [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]>\
            <plist><dict><key>x</key><string>&b;</string></dict></plist>";
        assert!(read(bytes).unwrap_err().message.contains("entities"));
    }

    #[test]
    fn content_that_library_would_skip_is_error() {
        for (body, reason) in [
            ("<key>OrganizationName</key><string><![CDATA[a]]>x</string>", "CDATA"),
            ("<key>ProxyUrl</key><string>evil&foo;.example</string>", "reference"),
            (
                "<key>Recommended</key><dict><key>a</key><true/></dict><key>recommended</key><dict></dict>",
                "second dictionary",
            ),
        ] {
            let error = read(&xml(body)).unwrap_err();
            assert!(error.message.contains(reason), "{}", error.message);
        }
        let two = [xml("<key>a</key><true/>"), xml("<key>b</key><true/>")].concat();
        assert!(read(&two).unwrap_err().message.contains("after its end"));
        let text = read(&xml("<key>a</key><string>&lt;&amp;&#228;&gt;</string>")).unwrap();
        assert_eq!(text.enforced["a"].value, RawValue::Str("<&ä>".into()));
    }

    /// Thirty arrays, each holding the one below it twice: a billion leaves in half a kilobyte.
    #[test]
    fn binary_bomb_is_error() {
        let mut bytes = b"bplist00".to_vec();
        let mut offsets = Vec::new();
        let mut object = |bytes: &mut Vec<u8>, data: &[u8]| {
            offsets.push(u8::try_from(bytes.len()).unwrap());
            bytes.extend_from_slice(data);
        };
        object(&mut bytes, &[0xd1, 1, 2]);
        object(&mut bytes, &[0x51, b'a']);
        for next in 3..33_u8 {
            object(&mut bytes, &[0xa2, next, next]);
        }
        object(&mut bytes, &[0x51, b'x']);
        let table = bytes.len() as u64;
        bytes.extend_from_slice(&offsets);
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 1]);
        for number in [offsets.len() as u64, 0, table] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        assert!(read(&bytes).is_err());
    }
}
