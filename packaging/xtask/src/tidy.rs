//! The rules of the house that no compiler checks. Each rule is a function from a file to its complaints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use crate::tools::repository;

const MAXIMUM_LINES: usize = 500;
const REASONS: [&str; 3] = ["Another program shares it", "Free of IO", "May hold unsafe code"];

/// Looks at every file that git knows.
pub(crate) fn check() -> anyhow::Result<()> {
    let complaints = complaints()?;
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn complaints() -> anyhow::Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()?;
    ensure!(listed.status.success(), "git does not list the files");
    let mut complaints = Vec::new();
    let names = String::from_utf8(listed.stdout)?;
    let read =
        |name: &str| Some((PathBuf::from(name), fs_err::read_to_string(repository().join(name)).ok()?));
    let files: Vec<(PathBuf, String)> = names.lines().filter_map(read).collect();
    let tests: BTreeSet<&str> =
        files.iter().filter(|(name, _)| is_rust(name)).flat_map(|(_, text)| tests(text)).collect();
    for (name, text) in &files {
        complaints.extend(missing_tests(text, &tests).map(|what| format!("{}: {what}", name.display())));
        for rule in [manifest, crate_root, source, lock] {
            complaints.extend(rule(name, text).into_iter().map(|what| format!("{}: {what}", name.display())));
        }
    }
    Ok(complaints)
}

/// The names of a file's tests.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    text.lines().map(str::trim).filter_map(move |line| {
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        let name = name.and_then(|rest| rest.split(['(', '<']).next());
        let found = name.filter(|_| marked);
        // Other attributes and comments may stand between.
        marked = line == "#[test]" || line == "#[tokio::test]" || (marked && name.is_none());
        found
    })
}

/// A table in a module's documentation whose last column is headed `test` names tests: those that do not exist.
fn missing_tests<'t>(text: &'t str, tests: &BTreeSet<&str>) -> impl Iterator<Item = String> + use<'t> {
    let rows = text.lines().scan(false, |inside, line| {
        let cells = line.strip_prefix("//! |");
        *inside = cells.is_some_and(|cells| *inside || cells.ends_with("| test |"));
        Some(cells.filter(|_| *inside).and_then(|cells| cells.trim_end_matches(" |").rsplit(" | ").next()))
    });
    let named = rows.flatten().filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
    let missing: Vec<&str> = named.filter(|name| !tests.contains(name)).collect();
    missing.into_iter().map(|name| format!("names the test `{name}`, which does not exist"))
}

fn manifest(name: &Path, text: &str) -> Option<String> {
    if !name.ends_with("Cargo.toml") || !text.contains("[package]") {
        return None;
    }
    // cargo-fuzz builds its crate apart from the workspace.
    if !text.contains("[lints]\nworkspace = true") && !text.contains("cargo-fuzz = true") {
        return Some("does not inherit the workspace's lints".to_owned());
    }
    let agent = name == Path::new("agent/Cargo.toml");
    let reason = REASONS.iter().any(|reason| text.contains(&format!("description = \"{reason}")));
    (!reason && !agent).then(|| format!("its description names none of the reasons for a crate: {REASONS:?}"))
}

fn crate_root(name: &Path, text: &str) -> Option<String> {
    let platform = name.starts_with("agent/platform");
    let root = name.ends_with("src/lib.rs")
        || name.ends_with("src/main.rs")
        || name.ends_with("scenarios/main.rs")
        || (name.parent().is_some_and(|folder| folder.ends_with("src/bin")) && is_rust(name));
    (root && !platform && !text.contains("#![forbid(unsafe_code)]"))
        .then(|| "a crate root outside the platform crate forbids unsafe code".to_owned())
}

fn source(name: &Path, text: &str) -> Option<String> {
    if !is_rust(name) || name == Path::new("packaging/xtask/src/tidy.rs") {
        return None;
    }
    let lines = text.lines().count();
    if lines > MAXIMUM_LINES {
        return Some(format!("has {lines} lines; a file has at most {MAXIMUM_LINES}"));
    }
    let platform = name.starts_with("agent/platform");
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let complaint = if ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
            .iter()
            .any(|unsafe_code| code.contains(unsafe_code))
            && !(platform && name.ends_with("ffi.rs"))
        {
            "unsafe code outside the platform crate's ffi.rs"
        } else if !platform && ["target_os", "cfg(unix)", "cfg(windows)"].iter().any(|cfg| code.contains(cfg))
        {
            "only the platform crate knows the operating system"
        } else if ["todo!(", "unimplemented!(", "dbg!("].iter().any(|mark| code.contains(mark)) {
            "unfinished work"
        } else {
            continue;
        };
        return Some(format!("line {}: {complaint}", number + 1));
    }
    None
}

fn lock(name: &Path, text: &str) -> Option<String> {
    (name.ends_with("package-lock.json") && text.contains("\"resolved\"")).then(|| {
        "names the hosts that packages came from; npm's omit-lockfile-registry-resolved leaves them out"
            .to_owned()
    })
}

fn is_rust(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        assert_eq!(complaints().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_test_that_a_table_names_has_to_exist() {
        let file = "#[test]\n#[ignore]\nfn one() {}\nfn two() {}\n#[tokio::test]\nasync fn three() {}";
        let tests: BTreeSet<&str> = tests(file).collect();
        assert_eq!(tests, ["one", "three"].into());
        let table = "//! | it must | test |\n//! |---|---|\n//! | a | `one` |\n//! | b | `two` |\n//! text\n//! | c | `four` |";
        let missing: Vec<String> = missing_tests(table, &tests).collect();
        assert_eq!(missing, ["names the test `two`, which does not exist"]);
    }

    type Rule = fn(&Path, &str) -> Option<String>;

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let long = "\n".repeat(501);
        let cases: [(Rule, &str, &str); 8] = [
            (manifest, "x/Cargo.toml", "[package]\ndescription = \"Free of IO\""),
            (manifest, "x/Cargo.toml", "[package]\ndescription = \"handy\"\n[lints]\nworkspace = true"),
            (crate_root, "x/src/lib.rs", ""),
            (source, "x/src/a.rs", &long),
            (source, "x/src/a.rs", "unsafe { x() }"),
            (source, "agent/platform/src/linux/ipc.rs", "unsafe { x() }"),
            (source, "x/src/a.rs", "#[cfg(target_os = \"linux\")]"),
            (lock, "x/package-lock.json", "\"resolved\": \"\""),
        ];
        for (rule, name, text) in cases {
            assert!(rule(Path::new(name), text).is_some(), "{name}");
        }
        assert_eq!(source(Path::new("agent/platform/src/linux/ffi.rs"), "unsafe { x() }"), None);
        assert_eq!(source(Path::new("x/src/a.rs"), "// unsafe in a comment\n#![forbid(unsafe_code)]"), None);
    }
}
