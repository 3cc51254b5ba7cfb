//! What Markdown files promise: links lead to files and headings, commands exist, the README stays short.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{Files, has_extension, markdown, texts};

const MAXIMUM_README_LINES: usize = 200;

/// Everything in this folder is generated but its guide. Links in generated references are not checked.
const GENERATED: &str = "mdm-profiles";

/// Where the verbs of `steward` are declared, in `enum Verb`.
const VERBS_FILE: &str = "agent/src/cli/mod.rs";

/// Languages of fences whose lines are commands.
const SHELLS: [&str; 4] = ["bash", "console", "sh", "shell"];

pub(super) fn complaints(files: &Files, tasks: &[String]) -> Vec<String> {
    let verbs = verbs(files.get(Path::new(VERBS_FILE)).and_then(Option::as_deref).unwrap_or_default());
    let mut complaints = Vec::new();
    if verbs.is_empty() {
        complaints.push(format!("{VERBS_FILE}: has no `enum Verb`, so commands in Markdown are not checked"));
    }
    for (name, text) in texts(files, |name| has_extension(name, "md")) {
        let mut found = unknown_tasks(text, tasks);
        if !verbs.is_empty() {
            found.extend(unknown_verbs(text, &verbs));
        }
        if !name.starts_with(GENERATED) || name.ends_with("README.md") {
            found.extend(broken_links(name, text, files));
        }
        complaints.extend(found.into_iter().map(|what| format!("{}: {what}", name.display())));
        let lines = text.lines().count();
        if name == Path::new("README.md") && lines > MAXIMUM_README_LINES {
            complaints.push(format!("README.md: has {lines} lines; it has at most {MAXIMUM_README_LINES}"));
        }
    }
    complaints.extend(differing_limits(files));
    complaints
}

/// What Steward cannot prevent is said in both documents in the same words.
fn differing_limits(files: &Files) -> Option<String> {
    let list = |name: &str| {
        let text = files.get(Path::new(name))?.as_deref()?;
        let section = text.split("## What Steward cannot prevent\n").nth(1)?;
        Some(
            section
                .lines()
                .take_while(|line| !line.starts_with('#'))
                .filter(|line| line.starts_with(['-', ' ']))
                .collect::<Vec<_>>(),
        )
    };
    let (readme, security) = (list("README.md")?, list("SECURITY.md"));
    (Some(&readme) != security.as_ref())
        .then(|| "README.md and SECURITY.md: differ in what Steward cannot prevent".to_owned())
}

fn broken_links(name: &Path, text: &str, files: &Files) -> Vec<String> {
    let mut complaints = Vec::new();
    for (line, link) in markdown::links(text) {
        // Links to elsewhere, and those that a template fills in.
        if link.contains("://") || link.starts_with("mailto:") || link.contains("{{") {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if path.is_empty() { Some(name.to_owned()) } else { resolve(name, path) };
        let exists = |target: &PathBuf| {
            target.as_os_str().is_empty() || files.keys().any(|file| file.starts_with(target))
        };
        let Some(target) = target.filter(exists) else {
            complaints.push(format!("line {line}: the link `{link}` leads to no file"));
            continue;
        };
        let headings =
            files.get(&target).and_then(Option::as_deref).map(markdown::anchors).unwrap_or_default();
        if !anchor.is_empty() && !headings.iter().any(|heading| heading == anchor) {
            complaints.push(format!("line {line}: the link `{link}` leads to no heading"));
        }
    }
    complaints
}

/// A relative link as a path in the repository; nothing if it leaves that. The repository itself is the empty path.
fn resolve(document: &Path, link: &str) -> Option<PathBuf> {
    let base = if link.starts_with('/') { Path::new("") } else { document.parent()? };
    let mut path = PathBuf::new();
    for component in base.components().chain(Path::new(link).components()) {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

fn unknown_tasks(text: &str, tasks: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in markdown::lines(text) {
        let code: Vec<&str> =
            if line.fence.is_some() { vec![line.text] } else { markdown::code_spans(line.text).collect() };
        for after in code.iter().flat_map(|code| code.split("cargo xtask ").skip(1)) {
            let task = first_word(after);
            if is_name(task) && !tasks.iter().any(|known| known == task) {
                complaints.push(format!("line {}: there is no `cargo xtask {task}`", line.number));
            }
        }
    }
    complaints
}

fn unknown_verbs(text: &str, verbs: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in markdown::lines(text) {
        if !line.fence.is_some_and(|language| SHELLS.contains(&language)) {
            continue;
        }
        // `a && b`, `a | b`: each is a command.
        for command in line.text.split(['&', '|', ';']) {
            let command = command.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            let Some(arguments) = command.strip_prefix("steward ") else { continue };
            let verb = first_word(arguments);
            if is_name(verb) && !verbs.iter().any(|known| known == verb) {
                complaints.push(format!("line {}: there is no `steward {verb}`", line.number));
            }
        }
    }
    complaints
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// Not an option, a placeholder or three dots.
fn is_name(word: &str) -> bool {
    word.starts_with(|sign: char| sign.is_ascii_lowercase())
        && word.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-')
}

/// The variants of `enum Verb` in a source text, spelt as clap does on the command line.
fn verbs(text: &str) -> Vec<String> {
    let tokens: Vec<TokenTree> = TokenStream::from_str(text).into_iter().flatten().collect();
    let declaration = tokens.windows(3).find_map(|three| match three {
        [TokenTree::Ident(kind), TokenTree::Ident(name), TokenTree::Group(variants)]
            if kind == "enum" && name == "Verb" && variants.delimiter() == Delimiter::Brace =>
        {
            Some(variants.stream())
        }
        _ => None,
    });
    let mut verbs = Vec::new();
    // A variant's name follows the beginning, a comma, or an attribute (a group in brackets).
    let mut expected = true;
    for token in declaration.into_iter().flatten() {
        match token {
            TokenTree::Ident(name) if expected => {
                verbs.push(kebab_case(&name.to_string()));
                expected = false;
            }
            TokenTree::Punct(sign) if sign.as_char() == ',' => expected = true,
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Group(_) | TokenTree::Literal(_) => {}
        }
    }
    if !verbs.is_empty() {
        verbs.push("help".to_owned());
    }
    verbs
}

fn kebab_case(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::tests::invented;
    use super::*;

    const VERBS: &str = "enum Other { Never }\n/// Words.\n#[derive(Subcommand)]\nenum Verb {\n    /// Runs, it does.\n    Agent,\n    \
                         #[command(subcommand)]\n    Policy(policy::Verb),\n    Token { #[arg(long)] format: Vec<u8>, },\n    SupportBundle,\n}\n";

    fn found(name: &str, text: &str) -> Vec<String> {
        let files = invented(&[
            (VERBS_FILE, VERBS),
            ("SECURITY.md", "# Who gets tokens?\n"),
            ("docs/guide.md", "## First\n"),
            (name, text),
        ]);
        complaints(&files, &["ci".to_owned(), "sign-profile".to_owned()])
    }

    #[test]
    fn verbs_are_read_from_the_source_as_clap_spells_them() {
        assert_eq!(verbs(VERBS), ["agent", "policy", "token", "support-bundle", "help"]);
        assert_eq!(verbs("struct Verb;"), Vec::<String>::new());
    }

    #[test]
    fn source_without_verbs_is_reported() {
        let found = complaints(&invented(&[("README.md", "```sh\nsteward x\n```")]), &[]);
        assert!(found.len() == 1 && found[0].contains("has no `enum Verb`"), "{found:?}");
    }

    #[test]
    fn link_to_a_missing_file_or_heading_is_reported() {
        for link in ["guide.md", "docs/guide", "../README.md", "SECURITY.md#first", "#nothing", "docs#first"]
        {
            let found = found("README.md", &format!("# Here\n[text]({link})"));
            assert!(
                found.len() == 1 && found[0].starts_with("README.md: line 2: the link"),
                "{link}: {found:?}"
            );
        }
        assert_eq!(found("mdm-profiles/README.md", "[a](b.md)").len(), 1);
    }

    #[test]
    fn links_to_files_folders_headings_and_elsewhere_pass() {
        let text = "# Here\n[a](../SECURITY.md#who-gets-tokens) [b](guide.md) [c](.#) [d](#here) [e](..)\n\
                    [f](https://example.com/x) [g](mailto:a@example.com) [h]({{ url }}) [i](/docs/guide.md#first)\n";
        assert_eq!(found("docs/other.md", text), Vec::<String>::new());
        assert_eq!(found("mdm-profiles/REFERENCE.md", "[a](nowhere.md)"), Vec::<String>::new());
    }

    #[test]
    fn unknown_task_is_reported() {
        assert_eq!(found("a.md", "Run `cargo xtask cj`."), ["a.md: line 1: there is no `cargo xtask cj`"]);
        assert_eq!(found("a.md", "```sh\ncargo xtask ci && cargo xtask gen\n```").len(), 1);
    }

    #[test]
    fn known_tasks_and_placeholders_pass() {
        let text = "`cargo xtask --help`, `cargo xtask ...`, `cargo xtask NAME`, `cargo xtask sign-profile x`, cargo xtask is fine";
        assert_eq!(found("a.md", text), Vec::<String>::new());
    }

    #[test]
    fn unknown_verb_is_reported() {
        for command in [
            "steward person",
            "$ sudo steward person &",
            "true && steward person",
            "steward support_bundle x | steward person",
        ] {
            let found = found("a.md", &format!("```sh\n{command}\n```"));
            assert_eq!(found, ["a.md: line 2: there is no `steward person`"], "{command}");
        }
    }

    #[test]
    fn known_verbs_and_other_text_pass() {
        let text = "`steward person`\n```sh\nsteward token --format x | curl -H @-\nsudo steward agent &\nsteward --root x y\n\
                    steward <verb>\nsteward support-bundle\ninstall target/release/steward /bin\n```\n```text\nsteward person\n```\n";
        assert_eq!(found("a.md", text), Vec::<String>::new());
    }

    #[test]
    fn limits_that_differ_are_found() {
        let security = "## What Steward cannot prevent\n\nWords:\n\n- One\n  and more.\n- Two.\n";
        let readme = |text: &str| invented(&[("SECURITY.md", security), ("README.md", text)]);
        assert_eq!(differing_limits(&readme(security)), None);
        assert!(differing_limits(&readme(&security.replace("Two", "Three"))).is_some());
        assert!(differing_limits(&readme(&security.replace("- Two.\n", ""))).is_some());
    }

    #[test]
    fn long_readme_is_reported() {
        let long = "\n".repeat(201);
        assert_eq!(found("README.md", &long), ["README.md: has 201 lines; it has at most 200"]);
        assert_eq!(found("README.md", &long[1..]), Vec::<String>::new());
        assert_eq!(found("agent/README.md", &long), Vec::<String>::new());
    }
}
