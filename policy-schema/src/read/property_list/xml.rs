//! XML as a conforming parser takes it (XML 1.0, fifth edition), made simple for the reader of property lists, which would
//! pass over without an error what it does not know: references, CDATA, whatever follows the end.
//!
//! Out: the same document in UTF-8 without comments, attributes and CDATA.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::errors::IllFormedError;
use quick_xml::events::{BytesRef, Event};

use super::super::not_toml::position;
use super::super::{syntax, utf16};
use crate::message::{did_you_mean, excerpt};
use crate::raw::{Position, ReadError};
use crate::text;

/// The document in a simple form.
///
/// # Errors
/// It is not well-formed, or in an encoding that is not known here.
pub(super) fn simple(bytes: &[u8]) -> Result<String, ReadError> {
    let document = decode(bytes)?;
    let mut reader = Reader::from_str(&document);
    let mut simple = String::with_capacity(document.len());
    let mut depth = 0_usize;
    let mut ended = false;
    let behind = || syntax("the property list goes on after its end", Some("it may be two files in one"));
    loop {
        let event = reader.read_event().map_err(|error| {
            let offset = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
            explain(&error, position(document.as_bytes(), offset))
        })?;
        let outside = depth == 0;
        match event {
            Event::Eof if depth > 0 => {
                return Err(syntax(
                    "the property list is cut off: it ends before its last element is closed",
                    Some("write it again"),
                ));
            }
            Event::Eof => return Ok(simple),
            Event::Start(_) | Event::Empty(_) if ended => return Err(behind()),
            Event::Start(start) | Event::Empty(start)
                if outside && !matches!(start.name().as_ref(), "plist" | "dict") =>
            {
                return Err(syntax("this is XML, but not a property list", None));
            }
            Event::Start(start) | Event::Empty(start) if !ELEMENTS.contains(&start.name().as_ref()) => {
                let name = start.name();
                let offset = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
                let meant = did_you_mean(name.as_ref(), ELEMENTS);
                let error =
                    syntax(format!("<{}> is not an element of property lists", excerpt(name.as_ref())), None)
                        .hint(meant.map_or_else(
                            || {
                                "values are <string>, <integer>, <true/>, <false/>, <array> or <dict>"
                                    .to_owned()
                            },
                            |meant| format!("write <{meant}>"),
                        ));
                return Err(ReadError { at: Some(position(document.as_bytes(), offset)), ..error });
            }
            Event::Start(start) => {
                depth += 1;
                tag(&mut simple, "<", start.name().as_ref(), ">");
            }
            Event::Empty(start) => {
                ended |= depth == 0;
                tag(&mut simple, "<", start.name().as_ref(), "/>");
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                ended |= depth == 0;
                tag(&mut simple, "</", end.name().as_ref(), ">");
            }
            Event::Text(content) => {
                let content: &str = &content;
                if outside && !content.trim_start_matches('\u{feff}').trim_ascii().is_empty() {
                    return Err(if ended { behind() } else { syntax("this is not a property list", None) });
                }
                check_characters(content)?;
                if !outside {
                    simple.push_str(content);
                }
            }
            Event::CData(content) => {
                let content: &str = &content;
                check_characters(content)?;
                simple.push_str(&quick_xml::escape::escape(content));
            }
            Event::GeneralRef(reference) => simple.push_str(&resolve(&reference)?),
            Event::DocType(declaration) => {
                if declaration.contains("<!ENTITY") {
                    return Err(syntax(
                        "the property list declares entities of its own, which no property list needs",
                        None,
                    ));
                }
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
        }
    }
}

/// The elements of property lists (Apple, `PropertyList-1.0.dtd`).
const ELEMENTS: [&str; 11] =
    ["plist", "dict", "array", "key", "string", "integer", "real", "true", "false", "date", "data"];

/// What is wrong with a document that is no XML.
fn explain(error: &quick_xml::Error, at: Position) -> ReadError {
    let (message, hint) = match error {
        quick_xml::Error::IllFormed(IllFormedError::UnclosedReference) => {
            ("an `&` that begins no XML entity".to_owned(), "write `&` itself as &amp;")
        }
        quick_xml::Error::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => (
            format!("</{}> where <{}> is to be closed", excerpt(found), excerpt(expected)),
            "close the elements in order",
        ),
        quick_xml::Error::IllFormed(IllFormedError::UnmatchedEndTag(name)) => {
            (format!("</{}> closes nothing", excerpt(name)), "remove it, or write what it closes")
        }
        quick_xml::Error::IllFormed(IllFormedError::MissingEndTag(name)) => {
            (format!("<{}> is not closed: the property list may be cut off", excerpt(name)), "write it again")
        }
        quick_xml::Error::IllFormed(IllFormedError::DoubleHyphenInComment) => {
            ("`--` within a comment, which XML does not allow".to_owned(), "remove one of the hyphens")
        }
        _ => (
            "the property list is cut off or malformed".to_owned(),
            "write it again; `<` itself is written as &lt;",
        ),
    };
    ReadError { at: Some(at), ..syntax(message, Some(hint)) }
}

fn tag(simple: &mut String, open: &str, name: &str, close: &str) {
    simple.push_str(open);
    simple.push_str(name);
    simple.push_str(close);
}

/// A reference, written so that any parser knows it.
fn resolve(reference: &BytesRef<'_>) -> Result<Cow<'static, str>, ReadError> {
    let name: &str = reference;
    let character = match name {
        "lt" => return Ok("&lt;".into()),
        "gt" => return Ok("&gt;".into()),
        "amp" => return Ok("&amp;".into()),
        "quot" => return Ok("&quot;".into()),
        "apos" => return Ok("&apos;".into()),
        _ => reference.resolve_char_ref().ok().flatten().filter(|one| is_allowed(*one)),
    };
    character
        .map(|character| quick_xml::escape::escape(character.to_string()).into_owned().into())
        .ok_or_else(|| {
            let hint =
                "XML knows &amp; &lt; &gt; &quot; &apos; and characters by number; write `&` itself as &amp;";
            syntax(format!("`&{};` is not an XML entity", excerpt(name)), Some(hint))
        })
}

fn check_characters(content: &str) -> Result<(), ReadError> {
    match content.chars().find(|character| !is_allowed(*character)) {
        None => Ok(()),
        Some(odd) => Err(syntax(format!("it contains {}, which XML does not allow", text::name(odd)), None)),
    }
}

/// XML 1.0, section 2.2.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ReadError> {
    if let Some(text) = utf16(bytes) {
        return Ok(text.into());
    }
    if bytes.starts_with(b"<\0") || bytes.starts_with(b"\0<") {
        let hint = "save the file as UTF-8";
        return Err(syntax("this is UTF-16 without a byte order mark, which XML does not allow", Some(hint)));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).to_ascii_lowercase();
    let declared = head
        .split_once("encoding=")
        .filter(|(before, _)| before.trim_start().starts_with("<?xml") && !before.contains("?>"))
        .and_then(|(_, rest)| rest.get(1..)?.split(['"', '\'']).next().map(ToOwned::to_owned));
    match declared.as_deref() {
        Some("iso-8859-1" | "latin1" | "latin-1") => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => {
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let message = format!("byte {}: not UTF-8", error.valid_up_to());
                syntax(message, Some("save the file as UTF-8, or name its encoding in its first line"))
            })?;
            Ok(text.into())
        }
        Some(other) => {
            let message = format!("its first line names the encoding `{}`", excerpt(other));
            Err(syntax(message, Some("save the file as UTF-8, and say so in its first line")))
        }
    }
}
