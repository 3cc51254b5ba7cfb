//! Short, safe pieces of texts and documents of others. Used by the checks.

use serde_json::Value;

/// The beginning of a page, on one line and without its markup.
pub(super) fn excerpt(text: &str) -> String {
    let mut inside = false;
    let plain: String = text
        .chars()
        .filter_map(|letter| match letter {
            '<' => {
                inside = true;
                Some(' ')
            }
            '>' if inside => {
                inside = false;
                None
            }
            _ if inside => None,
            letter if letter.is_control() => Some(' '),
            letter => Some(letter),
        })
        .collect();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(200).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}

/// A text field of a document.
pub(super) fn text<'d>(document: &'d Value, name: &str) -> Option<&'d str> {
    document.get(name)?.as_str()
}
