//! Small pieces of wording that every message shares.

use std::fmt::Write as _;

use crate::text::is_invisible;

/// `a`, `b` or `c`, each in back quotes.
pub(crate) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// The candidate that the author most likely meant, if one is close enough. Case and `-`/`_` do not count.
#[must_use]
pub fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.chars().count() > 64 {
        return None;
    }
    let fold = |text: &str| text.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let written = fold(written);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&written, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Foreign text made safe to print: one line, at most 60 characters, and what cannot be seen as its code point.
pub(crate) fn excerpt(text: &str) -> String {
    const MAXIMUM: usize = 60;
    let shown: String = visible(&text.chars().take(MAXIMUM).collect::<String>());
    let total = text.chars().count();
    if total > MAXIMUM {
        return format!("{shown}… ({total} characters)");
    }
    shown
}

/// A number with its noun: `1 error`, `2 errors`.
#[must_use]
pub fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A text in which the characters that cannot be seen stand as their code points.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_invisible(character) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "[U+{:04X}]", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// An address without its query, which may hold a key that is secret. Other texts stay as they are.
#[must_use]
pub fn without_query(text: &str) -> std::borrow::Cow<'_, str> {
    match text.split_once('?') {
        Some((address, _)) if address.contains("://") => format!("{address}?…").into(),
        Some(_) | None => text.into(),
    }
}

/// A text in lines of at most so many characters. Words that are longer stay whole.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= width => {
                last.push(' ');
                last.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_of_several_names_is_joined_with_or() {
        assert_eq!(one_of(["off", "notify", "automatic"]), "`off`, `notify` or `automatic`");
        assert_eq!(one_of(["off"]), "`off`");
    }

    #[test]
    fn near_miss_is_suggested_and_far_one_is_not() {
        let modes = ["off", "notify", "automatic"];
        assert_eq!(did_you_mean("Automatik", modes), Some("automatic"));
        assert_eq!(did_you_mean("AUTOMATIC", modes), Some("automatic"));
        assert_eq!(did_you_mean("weekly", modes), None);
    }

    #[test]
    fn excerpt_is_one_short_line() {
        assert_eq!(excerpt("a\nb\u{1b}[31m\u{200b}"), "a[U+000A]b[U+001B][31m[U+200B]");
        assert!(excerpt(&"x".repeat(1_000_000)).chars().count() < 100);
    }
}
