//! What no text of a setting may hold: characters that cannot be seen, and templates that were not filled in
//! ([`placeholder`]).
//!
//! Policy, `steward setup` and `steward doctor` all ask here, so that a value that one of them accepts is not refused by
//! another. The classes of characters are those of the Unicode Character Database.

use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, Script};
use icu_properties::{CodePointMapData, CodePointSetData};

pub use placeholder::{is_placeholder, placeholder, placeholder_in_address, placeholder_in_sentence};

mod placeholder;

/// A character that does not belong, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OddCharacter {
    /// The character.
    pub character: char,
    /// Its place, counted in characters from 1.
    pub position: usize,
}

/// As in a message: `U+200B ZERO WIDTH SPACE at position 37`.
impl fmt::Display for OddCharacter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at position {}", name(self.character), self.position)
    }
}

/// The first character of a text that cannot be seen, looks like a space without being one, or stands for something
/// that got lost.
#[must_use]
pub fn invisible(text: &str) -> Option<OddCharacter> {
    first(text, is_invisible)
}

/// The first character of a text that is not a visible one of ASCII.
pub(crate) fn not_plain(text: &str) -> Option<OddCharacter> {
    first(text, |character| !character.is_ascii_graphic())
}

/// The first character of an address that looks like another one: a letter of another script than those before it in
/// the same label (Unicode Technical Standard #39, section 5.2), a compatibility form such as a full-width letter, or
/// punctuation that is not of ASCII. No registry allows such a name.
pub(crate) fn look_alike(address: &str) -> Option<OddCharacter> {
    let mixed = other_script(address);
    let odd = first(address, |character| {
        !character.is_ascii() && (!character.is_alphanumeric() || has_other_form(character))
    });
    [mixed, odd].into_iter().flatten().min_by_key(|odd| odd.position)
}

/// The same for a path, which may have such punctuation and symbols, if they do not look like what separates its parts.
pub(crate) fn look_alike_in_path(path: &str) -> Option<OddCharacter> {
    const SEPARATORS: &str = "\u{2044}\u{2215}\u{2216}\u{29f5}\u{29f8}\u{29f9}\u{a789}\u{2236}";
    let odd = first(path, |character| {
        matches!(character, '\u{ff01}'..='\u{ff5e}') || SEPARATORS.contains(character)
    });
    [other_script(path), odd].into_iter().flatten().min_by_key(|odd| odd.position)
}

/// Whether Unicode takes a character for a form of others (Unicode Standard Annex #15, NFKC).
fn has_other_form(character: char) -> bool {
    !ComposingNormalizerBorrowed::new_nfkc().is_normalized(character.encode_utf8(&mut [0; 4]))
}

fn other_script(text: &str) -> Option<OddCharacter> {
    let scripts = CodePointMapData::<Script>::new();
    let mut script = None;
    first(text, |character| {
        if matches!(character, '.' | '/' | '\\' | ':' | '?' | '=' | '&' | ' ' | '@') {
            script = None;
        }
        let own = match scripts.get(character) {
            Script::Common | Script::Inherited => return false,
            // These are written together.
            Script::Hiragana | Script::Katakana | Script::Hangul | Script::Bopomofo => Script::Han,
            own => own,
        };
        let with_latin = |one, other| one == Script::Latin && other == Script::Han;
        let before = *script.get_or_insert(own);
        before != own && !with_latin(before, own) && !with_latin(own, before)
    })
}

fn first(text: &str, mut is_odd: impl FnMut(char) -> bool) -> Option<OddCharacter> {
    let odd = text.chars().zip(1..).find(|(character, _)| is_odd(*character));
    odd.map(|(character, position)| OddCharacter { character, position })
}

/// Whether a character cannot be seen as what it is.
pub(crate) fn is_invisible(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::PrivateUse
            | GeneralCategory::SpaceSeparator
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        // An empty cell of Braille, what stands for something lost, and what Unicode calls no characters.
        || matches!(character, '\u{2800}' | '\u{fffc}' | '\u{fffd}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(character) & 0xfffe == 0xfffe
}

/// A character by its code point, and its name where that helps (Unicode Character Database).
pub(crate) fn name(character: char) -> String {
    let known = NAMES.iter().find(|(from, to, _)| (*from..=*to).contains(&character));
    let name = known.map(|(_, _, name)| *name).or_else(|| by_class(character));
    let code = format!("U+{:04X}", u32::from(character));
    name.map_or_else(|| code.clone(), |name| format!("{code} {name}"))
}

/// What kind of character it is, where that says more than its code point.
fn by_class(character: char) -> Option<&'static str> {
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    let script = CodePointMapData::<Script>::new().get(character);
    let classes = [
        (category == GeneralCategory::PrivateUse, "a private-use character"),
        (category == GeneralCategory::Control, "a control character"),
        (category == GeneralCategory::Format, "a format character"),
        (category == GeneralCategory::SpaceSeparator, "a space"),
        (script == Script::Cyrillic, "a Cyrillic letter"),
        (script == Script::Greek, "a Greek letter"),
        (script == Script::Armenian, "an Armenian letter"),
        (u32::from(character) & 0xfffe == 0xfffe, "not a character"),
    ];
    classes.into_iter().find(|(is_it, _)| *is_it).map(|(_, name)| name)
}

/// Names of characters, by ranges.
const NAMES: &[(char, char, &str)] = &[
    ('\0', '\0', "NULL"),
    ('\t', '\t', "TAB"),
    ('\n', '\n', "LINE FEED"),
    ('\r', '\r', "CARRIAGE RETURN"),
    ('\u{1b}', '\u{1b}', "ESCAPE"),
    (' ', ' ', "SPACE"),
    ('"', '"', "QUOTATION MARK"),
    ('\'', '\'', "APOSTROPHE"),
    ('\\', '\\', "REVERSE SOLIDUS"),
    ('`', '`', "GRAVE ACCENT"),
    ('$', '$', "DOLLAR SIGN"),
    ('\u{7f}', '\u{7f}', "DELETE"),
    ('\u{85}', '\u{85}', "NEXT LINE"),
    ('\u{a0}', '\u{a0}', "NO-BREAK SPACE"),
    ('\u{ad}', '\u{ad}', "SOFT HYPHEN"),
    ('\u{b4}', '\u{b4}', "ACUTE ACCENT"),
    ('\u{34f}', '\u{34f}', "COMBINING GRAPHEME JOINER"),
    ('\u{61c}', '\u{61c}', "ARABIC LETTER MARK"),
    ('\u{115f}', '\u{115f}', "HANGUL CHOSEONG FILLER"),
    ('\u{1160}', '\u{1160}', "HANGUL JUNGSEONG FILLER"),
    ('\u{1680}', '\u{1680}', "OGHAM SPACE MARK"),
    ('\u{180e}', '\u{180e}', "MONGOLIAN VOWEL SEPARATOR"),
    ('\u{2000}', '\u{2000}', "EN QUAD"),
    ('\u{2001}', '\u{2001}', "EM QUAD"),
    ('\u{2002}', '\u{2002}', "EN SPACE"),
    ('\u{2003}', '\u{2003}', "EM SPACE"),
    ('\u{2004}', '\u{2004}', "THREE-PER-EM SPACE"),
    ('\u{2005}', '\u{2005}', "FOUR-PER-EM SPACE"),
    ('\u{2006}', '\u{2006}', "SIX-PER-EM SPACE"),
    ('\u{2007}', '\u{2007}', "FIGURE SPACE"),
    ('\u{2008}', '\u{2008}', "PUNCTUATION SPACE"),
    ('\u{2009}', '\u{2009}', "THIN SPACE"),
    ('\u{200a}', '\u{200a}', "HAIR SPACE"),
    ('\u{200b}', '\u{200b}', "ZERO WIDTH SPACE"),
    ('\u{200c}', '\u{200c}', "ZERO WIDTH NON-JOINER"),
    ('\u{200d}', '\u{200d}', "ZERO WIDTH JOINER"),
    ('\u{200e}', '\u{200e}', "LEFT-TO-RIGHT MARK"),
    ('\u{200f}', '\u{200f}', "RIGHT-TO-LEFT MARK"),
    ('\u{2010}', '\u{2010}', "HYPHEN"),
    ('\u{2011}', '\u{2011}', "NON-BREAKING HYPHEN"),
    ('\u{2012}', '\u{2012}', "FIGURE DASH"),
    ('\u{2013}', '\u{2013}', "EN DASH"),
    ('\u{2014}', '\u{2014}', "EM DASH"),
    ('\u{2018}', '\u{2018}', "LEFT SINGLE QUOTATION MARK"),
    ('\u{2019}', '\u{2019}', "RIGHT SINGLE QUOTATION MARK"),
    ('\u{201c}', '\u{201c}', "LEFT DOUBLE QUOTATION MARK"),
    ('\u{201d}', '\u{201d}', "RIGHT DOUBLE QUOTATION MARK"),
    ('\u{201e}', '\u{201e}', "DOUBLE LOW-9 QUOTATION MARK"),
    ('\u{2024}', '\u{2024}', "ONE DOT LEADER"),
    ('\u{2028}', '\u{2028}', "LINE SEPARATOR"),
    ('\u{2029}', '\u{2029}', "PARAGRAPH SEPARATOR"),
    ('\u{202a}', '\u{202a}', "LEFT-TO-RIGHT EMBEDDING"),
    ('\u{202b}', '\u{202b}', "RIGHT-TO-LEFT EMBEDDING"),
    ('\u{202c}', '\u{202c}', "POP DIRECTIONAL FORMATTING"),
    ('\u{202d}', '\u{202d}', "LEFT-TO-RIGHT OVERRIDE"),
    ('\u{202e}', '\u{202e}', "RIGHT-TO-LEFT OVERRIDE"),
    ('\u{202f}', '\u{202f}', "NARROW NO-BREAK SPACE"),
    ('\u{2032}', '\u{2032}', "PRIME"),
    ('\u{2044}', '\u{2044}', "FRACTION SLASH"),
    ('\u{205f}', '\u{205f}', "MEDIUM MATHEMATICAL SPACE"),
    ('\u{2060}', '\u{2060}', "WORD JOINER"),
    ('\u{2066}', '\u{2069}', "a character for the direction of writing"),
    ('\u{2212}', '\u{2212}', "MINUS SIGN"),
    ('\u{2215}', '\u{2215}', "DIVISION SLASH"),
    ('\u{2216}', '\u{2216}', "SET MINUS"),
    ('\u{2236}', '\u{2236}', "RATIO"),
    ('\u{2800}', '\u{2800}', "BRAILLE PATTERN BLANK"),
    ('\u{3000}', '\u{3000}', "IDEOGRAPHIC SPACE"),
    ('\u{3001}', '\u{3001}', "IDEOGRAPHIC COMMA"),
    ('\u{3002}', '\u{3002}', "IDEOGRAPHIC FULL STOP"),
    ('\u{3164}', '\u{3164}', "HANGUL FILLER"),
    ('\u{a789}', '\u{a789}', "MODIFIER LETTER COLON"),
    ('\u{f000}', '\u{f000}', "a private-use character, with which Intune separates the items of lists"),
    ('\u{fe00}', '\u{fe0f}', "a variation selector"),
    ('\u{feff}', '\u{feff}', "ZERO WIDTH NO-BREAK SPACE (byte order mark)"),
    ('\u{ff01}', '\u{ff5e}', "a full-width character"),
    ('\u{ffa0}', '\u{ffa0}', "HALFWIDTH HANGUL FILLER"),
    ('\u{fffc}', '\u{fffc}', "OBJECT REPLACEMENT CHARACTER"),
    ('\u{fffd}', '\u{fffd}', "REPLACEMENT CHARACTER"),
    ('\u{e0000}', '\u{e0fff}', "a tag or variation selector"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn character_that_cannot_be_seen_is_found_and_named() {
        let invisible_ones = "\0\t\n\r\u{7f}\u{85}\u{a0}\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{1680}\u{17b4}\u{180e}\
            \u{2000}\u{2007}\u{200a}\u{200b}\u{200c}\u{200d}\u{200e}\u{2028}\u{2029}\u{202e}\u{202f}\u{205f}\u{2060}\
            \u{2061}\u{2066}\u{206f}\u{2800}\u{3000}\u{3164}\u{e000}\u{f000}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{fffc}\
            \u{fffd}\u{ffff}\u{1d173}\u{e0001}\u{e0100}\u{f0000}\u{10fffd}";
        for character in invisible_ones.chars() {
            let found = invisible(&format!("ab{character}c")).unwrap();
            assert_eq!((found.character, found.position), (character, 3), "{:x}", u32::from(character));
        }
        assert_eq!(invisible("3c1f\u{200b}").unwrap().to_string(), "U+200B ZERO WIDTH SPACE at position 5");
        assert_eq!(
            invisible("\u{e001}").unwrap().to_string(),
            "U+E001 a private-use character at position 1"
        );
        for text in ["O’Reilly’s “R&D” – 100%", "Grüße, 東京, Ελλάδα, Москва", "😀", "a b", "~!@#$%^&*()"]
        {
            assert_eq!(invisible(text), None, "{text}");
        }
    }

    #[test]
    fn character_that_looks_like_another_is_found() {
        for (address, expected) in [
            ("exаmple.com", "U+0430 a Cyrillic letter at position 3"),
            ("example.cοm", "U+03BF a Greek letter at position 10"),
            ("ｅxample.com", "U+FF45 a full-width character at position 1"),
            ("example。com", "U+3002 IDEOGRAPHIC FULL STOP at position 8"),
            ("example\u{2024}com", "U+2024 ONE DOT LEADER at position 8"),
            ("my\u{2011}idp.example", "U+2011 NON-BREAKING HYPHEN at position 3"),
            ("https:\u{2215}\u{2215}a.example", "U+2215 DIVISION SLASH at position 7"),
            ("https://a.example/oаuth2", "U+0430 a Cyrillic letter at position 20"),
        ] {
            assert_eq!(look_alike(address).unwrap().to_string(), expected, "{address}");
        }
        for address in [
            "example.com",
            "münchen.de",
            "пример.com",
            "пример.рф",
            "日本のexample.jp",
            "παράδειγμα.gr",
            "https://a.example/größe/東京?a=б",
        ] {
            assert_eq!(look_alike(address), None, "{address}");
        }
        assert!(look_alike_in_path("/opt/аpp").is_some() && look_alike_in_path("C\u{a789}\\a.exe").is_some());
        for path in ["C:\\Program Files\\Größe – Büro™\\a.exe", "/opt/приложение/app"] {
            assert_eq!(look_alike_in_path(path), None, "{path}");
        }
    }
}
