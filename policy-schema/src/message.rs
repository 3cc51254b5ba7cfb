//! Small pieces of wording that every message shares.

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

/// Foreign text made safe to print: one line, no control characters, at most 60 characters.
pub(crate) fn excerpt(text: &str) -> String {
    const MAXIMUM: usize = 60;
    let shown: String = text
        .chars()
        .take(MAXIMUM)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    let total = text.chars().count();
    if total > MAXIMUM {
        return format!("{shown}… ({total} characters)");
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
        assert_eq!(excerpt("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert!(excerpt(&"x".repeat(1_000_000)).chars().count() < 100);
    }
}
