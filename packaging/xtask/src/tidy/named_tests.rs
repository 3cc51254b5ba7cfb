//! Tables that promise a test: the test exists. `agent/README.md` has such a table of every invariant.

use std::collections::BTreeSet;
use std::path::Path;

use super::markdown::{self, cells};
use super::{Files, has_extension, is_rust, texts};

/// Where the invariants of the design are listed.
const INVARIANTS_FILE: &str = "agent/README.md";
/// The columns of that table.
const INVARIANTS_HEADER: [&str; 3] = ["#", "invariant", "test"];
/// How many the design has.
const INVARIANTS: usize = 14;

pub(super) fn complaints(files: &Files) -> Vec<String> {
    let tests: BTreeSet<&str> = texts(files, is_rust).flat_map(|(_, text)| tests(text)).collect();
    let in_rust = texts(files, is_rust).map(|(name, text)| {
        let documentation: Vec<_> =
            text.lines().map(|line| line.strip_prefix("//! ").unwrap_or_default()).collect();
        (name, documentation.join("\n"))
    });
    let in_markdown = texts(files, is_markdown).map(|(name, text)| (name, text.to_owned()));
    let missing = in_rust.chain(in_markdown).flat_map(|(name, text)| {
        let found = missing_tests(&text, &tests);
        found.into_iter().map(move |what| format!("{}: {what}", name.display()))
    });
    let guide = files.get(Path::new(INVARIANTS_FILE)).and_then(Option::as_deref).unwrap_or_default();
    let numbering = missing_invariants(guide).map(|what| format!("{INVARIANTS_FILE}: {what}"));
    missing.chain(numbering).collect()
}

fn is_markdown(name: &Path) -> bool {
    has_extension(name, "md")
}

/// The names of a file's tests.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    text.lines().map(str::trim).filter_map(move |line| {
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        let name = name.and_then(|rest| rest.split(['(', '<']).next());
        let found = name.filter(|_| marked);
        let attribute = line == "#[test]" || line.starts_with("#[tokio::test");
        // Other attributes and comments may stand between.
        marked = attribute || (marked && name.is_none());
        found
    })
}

/// The rows of every table that has such a header, as their cells.
fn rows(text: &str, is_header: fn(&[&str]) -> bool) -> Vec<Vec<&str>> {
    // Whether the table that the line is in is one of those; nothing outside tables.
    let mut table = None;
    let mut rows = Vec::new();
    for line in markdown::lines(text) {
        let Some(cells) = cells(line.text).filter(|_| line.fence.is_none()) else {
            table = None;
            continue;
        };
        let is_rule =
            cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|sign| "-:".contains(sign)));
        match table {
            None => table = Some(is_header(&cells)),
            Some(true) if !is_rule => rows.push(cells),
            Some(_) => {}
        }
    }
    rows
}

/// What is wrong in tables whose last column is headed `test`: it names tests that do not exist, or none.
fn missing_tests(text: &str, tests: &BTreeSet<&str>) -> Vec<String> {
    let mut complaints = Vec::new();
    for row in rows(text, |header| header.last() == Some(&"test")) {
        let cell = row.last().copied().unwrap_or_default();
        let named: Vec<&str> = markdown::code_spans(cell).collect();
        if named.is_empty() {
            complaints.push(format!("a row of a table of tests names none: `{}`", row.join(" | ")));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(name));
        complaints.extend(missing.map(|name| format!("names the test `{name}`, which does not exist")));
    }
    complaints
}

/// What is wrong with the numbers of the table of invariants.
fn missing_invariants(text: &str) -> Option<String> {
    let rows = rows(text, |header| header == INVARIANTS_HEADER);
    let numbers: Vec<&str> = rows.iter().filter_map(|row| row.first().copied()).collect();
    let expected: Vec<String> = (1..=INVARIANTS).map(|number| number.to_string()).collect();
    if numbers.is_empty() {
        let header = INVARIANTS_HEADER.join(" | ");
        return Some(format!("has no table of the invariants; its header is `| {header} |`"));
    }
    (numbers != expected)
        .then(|| format!("the invariants are numbered 1 to {INVARIANTS} without gaps, not {numbers:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::invented;
    use super::*;

    const RUST: &str = "#[test]\n#[ignore]\nfn one() {}\nfn two() {}\n#[tokio::test(start_paused = true)]\nasync fn three() {}";

    /// The table of invariants, whose rows have these numbers and name the test `one`.
    fn invariants(numbers: &[usize]) -> String {
        let rows: Vec<String> =
            numbers.iter().map(|number| format!("| {number} | it holds | `one` |")).collect();
        format!("| # | invariant | test |\n|--:|---|---|\n{}\n", rows.join("\n"))
    }

    fn all() -> Vec<usize> {
        (1..=INVARIANTS).collect()
    }

    #[test]
    fn only_marked_functions_are_tests() {
        assert_eq!(tests(RUST).collect::<Vec<_>>(), ["one", "three"]);
    }

    #[test]
    fn missing_test_in_a_rust_table_is_reported() {
        let table = "//! | it must | test |\n//! |---|---|\n//! | a | `one` |\n//! | b | `two` |\n//! text\n//! | c | `four` |";
        let files = invented(&[("a.rs", table), ("b.rs", RUST), (INVARIANTS_FILE, &invariants(&all()))]);
        assert_eq!(complaints(&files), ["a.rs: names the test `two`, which does not exist"]);
    }

    #[test]
    fn missing_test_in_a_markdown_table_is_reported() {
        let table = "| it must | test |\n|---|---|\n| a \\| b | `one`, `two` |\n| c | later |\n";
        let files = invented(&[("x/a.md", table), ("b.rs", RUST), (INVARIANTS_FILE, &invariants(&all()))]);
        assert_eq!(
            complaints(&files),
            [
                "x/a.md: names the test `two`, which does not exist",
                "x/a.md: a row of a table of tests names none: `c | later`",
            ]
        );
    }

    #[test]
    fn tables_with_existing_tests_or_other_columns_pass() {
        let text = "| a | test |\n|---|---|\n| b | `one` and `three` |\n\n| a | b |\n|---|---|\n| x | test |\n| `y` | `z` |\n\n\
                    ```\n| a | test |\n|---|---|\n| b | `zero` |\n```\n";
        let files = invented(&[("a.md", text), ("b.rs", RUST), (INVARIANTS_FILE, &invariants(&all()))]);
        assert_eq!(complaints(&files), Vec::<String>::new());
    }

    #[test]
    fn invariants_with_a_gap_or_without_a_table_are_reported() {
        let mut gap = all();
        gap.remove(3);
        for numbers in [gap, (1..INVARIANTS).collect(), (1..=INVARIANTS + 1).collect()] {
            let found = complaints(&invented(&[("b.rs", RUST), (INVARIANTS_FILE, &invariants(&numbers))]));
            assert!(found.len() == 1 && found[0].contains("without gaps"), "{found:?}");
        }
        for text in ["", "| invariant | test |\n|---|---|\n| a | `one` |\n"] {
            let found = complaints(&invented(&[("b.rs", RUST), (INVARIANTS_FILE, text)]));
            assert!(found.len() == 1 && found[0].contains("has no table"), "{found:?}");
        }
        assert_eq!(complaints(&invented(&[])).len(), 1);
    }
}
