//! XML documents, put together in memory.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

/// What elements are written into.
pub type Xml = Writer<Vec<u8>>;

/// A document with two spaces of indentation and a line break at its end.
///
/// # Panics
/// `write` fails with an error of its own.
#[must_use]
pub fn document(write: impl FnOnce(&mut Xml) -> io::Result<()>) -> Vec<u8> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))
        .and_then(|()| write(&mut xml))
        .expect("writing to memory does not fail");
    let mut bytes = xml.into_inner();
    bytes.push(b'\n');
    bytes
}

/// One element without a declaration, on one line.
///
/// # Panics
/// `write` fails with an error of its own.
#[must_use]
pub fn fragment(write: impl FnOnce(&mut Xml) -> io::Result<()>) -> String {
    let mut xml = Writer::new(Vec::new());
    write(&mut xml).expect("writing to memory does not fail");
    String::from_utf8_lossy(&xml.into_inner()).into_owned()
}

/// An element with attributes and what is in it.
///
/// # Errors
/// Those of `inside`.
pub fn element(
    xml: &mut Xml,
    name: &str,
    attributes: &[(&str, &str)],
    inside: impl FnOnce(&mut Xml) -> io::Result<()>,
) -> io::Result<()> {
    let element = xml.create_element(name).with_attributes(attributes.iter().copied());
    element.write_inner_content(inside).map(drop)
}

/// An element with nothing in it.
///
/// # Errors
/// None: writing to memory does not fail.
pub fn empty(xml: &mut Xml, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    xml.create_element(name).with_attributes(attributes.iter().copied()).write_empty().map(drop)
}

/// An element with text.
///
/// # Errors
/// None: writing to memory does not fail.
pub fn text(xml: &mut Xml, name: &str, attributes: &[(&str, &str)], text: &str) -> io::Result<()> {
    let element = xml.create_element(name).with_attributes(attributes.iter().copied());
    element.write_text_content(BytesText::new(text)).map(drop)
}
