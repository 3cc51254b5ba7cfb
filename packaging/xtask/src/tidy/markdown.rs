//! As much of Markdown as the rules need: lines inside and outside fences, headings, links, code spans, table rows.

use std::collections::BTreeMap;

/// A line of a document.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'t> {
    /// From 1.
    pub(super) number: usize,
    pub(super) text: &'t str,
    /// The language of the fence that the line is in; empty if the fence names none.
    pub(super) fence: Option<&'t str>,
}

/// The lines of a document without those that open and close fences.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    // The marks that close the fence, and its language.
    let mut open: Option<(&str, &str)> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let trimmed = line.trim();
        let length = trimmed.len() - trimmed.trim_start_matches(['`', '~']).len();
        let (marks, rest) = trimmed.split_at(length);
        match open {
            Some((opened, _)) if rest.is_empty() && !marks.is_empty() && marks.starts_with(opened) => {
                open = None;
                None
            }
            None if length >= 3 && !rest.contains('`') => {
                open = Some((marks, rest.split_whitespace().next().unwrap_or_default()));
                None
            }
            state => Some(Line { number: index + 1, text: line, fence: state.map(|(_, language)| language) }),
        }
    })
}

/// The anchors of a document's headings, as GitHub makes them.
pub(super) fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = lines(text).filter(|line| line.fence.is_none()).filter_map(|line| {
        let title = line.text.trim_start_matches('#');
        let level = line.text.len() - title.len();
        title.strip_prefix(' ').filter(|_| (1..=6).contains(&level))
    });
    headings
        .map(|title| {
            let anchor = slug(title);
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            // A title that comes again gets a number.
            if *count > 1 { format!("{anchor}-{}", *count - 1) } else { anchor }
        })
        .collect()
}

/// GitHub's rule in short: the title in lower case, without punctuation, with hyphens for spaces.
fn slug(title: &str) -> String {
    // Of a link, only its text is in the title.
    let mut shown = String::new();
    let mut rest = title.trim();
    while let Some((before, link)) = rest.split_once("](") {
        shown.push_str(before);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    shown.push_str(rest);
    let kept = shown.chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign));
    kept.flat_map(char::to_lowercase).map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}

/// A target may stand between them.
const ANGLES: [char; 2] = ['<', '>'];

/// The targets of a document's links and images, with their lines. Not those inside code.
pub(super) fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for line in lines(text).filter(|line| line.fence.is_none()) {
        let prose = without_code_spans(line.text);
        let mut rest = prose.as_str();
        if let Some((_, target)) =
            rest.split_once("]: ").filter(|(label, _)| label.starts_with('[') && !label.contains(']'))
        {
            found.push((
                line.number,
                target.split_whitespace().next().unwrap_or_default().trim_matches(ANGLES).to_owned(),
            ));
        }
        while let Some((_, after)) = rest.split_once("](") {
            let target = after.split([')', ' ']).next().unwrap_or_default();
            found.push((line.number, target.trim_matches(ANGLES).to_owned()));
            rest = after;
        }
    }
    found
}

/// What stands in single back quotes in a line.
pub(super) fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    let parts: Vec<&str> = line.split('`').collect();
    // After an opening quote without a closing one, the line goes on as prose.
    let spans = (parts.len() - 1) / 2;
    parts.into_iter().skip(1).step_by(2).take(spans)
}

fn without_code_spans(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let last = parts.len() - 1;
    let outside = |index: &usize| index.is_multiple_of(2) || *index == last;
    (0..parts.len()).filter(outside).map(|index| parts[index]).collect()
}

/// The cells of a table's row, or nothing if the line is none.
pub(super) fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let mut cells = Vec::new();
    let mut start = 0;
    for (index, _) in inner.match_indices('|') {
        if !inner[..index].ends_with('\\') {
            cells.push(inner[start..index].trim());
            start = index + 1;
        }
    }
    cells.push(inner[start..].trim());
    Some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_the_fence_that_they_are_in() {
        let text = "a\n```sh\nb\n~~~\n```\nc\n````\n```\nd\n````\n";
        let found: Vec<_> = lines(text).map(|line| (line.number, line.text, line.fence)).collect();
        assert_eq!(
            found,
            [
                (1, "a", None),
                (3, "b", Some("sh")),
                (4, "~~~", Some("sh")),
                (6, "c", None),
                (8, "```", Some("")),
                (9, "d", Some("")),
            ]
        );
    }

    #[test]
    fn anchors_follow_the_rule_of_github() {
        let text = "# What's `new`, and why?\n## A - b_c\n## Twice\n```\n# no heading\n```\n### Twice\n#tag\n## See [this](x.md)\n";
        assert_eq!(anchors(text), ["whats-new-and-why", "a---b_c", "twice", "twice-1", "see-this"]);
    }

    #[test]
    fn links_are_found_outside_code_only() {
        let text = "[a](b.md) and `[c](d.md)`, ![e](f.png \"title\")\n```\n[g](h.md)\n```\n[i]: <j.md>\n[k](l.md#m)\n";
        let found = links(text);
        let targets: Vec<_> = found.iter().map(|(line, target)| (*line, target.as_str())).collect();
        assert_eq!(targets, [(1, "b.md"), (1, "f.png"), (5, "j.md"), (6, "l.md#m")]);
    }

    #[test]
    fn code_span_without_an_end_is_prose() {
        assert_eq!(code_spans("a `b` c `d").collect::<Vec<_>>(), ["b"]);
        assert_eq!(without_code_spans("a `b` c `d"), "a  c d");
    }

    #[test]
    fn escaped_bar_does_not_split_a_cell() {
        assert_eq!(cells("| a \\| b | c |"), Some(vec!["a \\| b", "c"]));
        assert_eq!(cells("no row"), None);
    }
}
