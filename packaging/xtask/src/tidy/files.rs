//! Rules for one file at a time: its length, unsafe code, the operating system, unfinished work, lints, lock files.

use std::path::Path;

use super::{Files, is_rust, texts};

const MAXIMUM_LINES: usize = 500;

/// The rules themselves name what they search for.
const RULES: &str = "packaging/xtask/src/tidy";

pub(super) fn complaints(files: &Files) -> Vec<String> {
    let rules = [manifest, crate_root, length, source, lock];
    texts(files, |_| true)
        .flat_map(|(name, text)| rules.into_iter().filter_map(move |rule| Some((name, rule(name, text)?))))
        .map(|(name, complaint)| format!("{}: {complaint}", name.display()))
        .collect()
}

fn manifest(name: &Path, text: &str) -> Option<String> {
    let is_package = name.ends_with("Cargo.toml") && text.contains("[package]");
    // A crate that is built apart has a workspace of its own.
    let inherits =
        text.contains("[lints]\nworkspace = true") || text.lines().any(|line| line == "[workspace]");
    (is_package && !inherits).then(|| "does not inherit the workspace's lints".to_owned())
}

fn crate_root(name: &Path, text: &str) -> Option<String> {
    let platform = name.starts_with("agent/platform");
    let within = |folder: Option<&Path>| folder.is_some_and(|folder| folder.ends_with("src/bin"));
    let folder = name.parent();
    let root = ["src/lib.rs", "src/main.rs", "scenarios/main.rs"].iter().any(|root| name.ends_with(root))
        || (within(folder) && is_rust(name))
        || (within(folder.and_then(Path::parent)) && name.ends_with("main.rs"));
    (root && !platform && !text.contains("#![forbid(unsafe_code)]"))
        .then(|| "a crate root outside the platform crate forbids unsafe code".to_owned())
}

fn length(name: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (is_rust(name) && lines > MAXIMUM_LINES)
        .then(|| format!("has {lines} lines; a file has at most {MAXIMUM_LINES}"))
}

fn source(name: &Path, text: &str) -> Option<String> {
    if !is_rust(name) || name.starts_with(RULES) {
        return None;
    }
    let platform = name.starts_with("agent/platform");
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
        let complaint = if has(&["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"])
            && !(platform && name.ends_with("ffi.rs"))
        {
            "unsafe code outside the platform crate's ffi.rs"
        } else if !platform && has(&["target_os", "cfg(unix)", "cfg(windows)"]) {
            "only the platform crate knows the operating system"
        } else if has(&["todo!(", "unimplemented!(", "dbg!("]) {
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

#[cfg(test)]
mod tests {
    use super::super::tests::invented;
    use super::*;

    #[test]
    fn each_breach_of_a_file_rule_is_reported() {
        let long = "\n".repeat(501);
        let cases = [
            ("x/Cargo.toml", "[package]\n", "lints"),
            ("x/src/lib.rs", "", "forbids unsafe code"),
            ("x/src/bin/a.rs", "", "forbids unsafe code"),
            ("x/src/bin/a/main.rs", "", "forbids unsafe code"),
            ("x/src/a.rs", &long, "has 501 lines"),
            ("packaging/xtask/src/tidy/a.rs", &long, "has 501 lines"),
            ("x/src/a.rs", "\nunsafe { x() }", "line 2: unsafe code"),
            ("agent/platform/src/linux/ipc.rs", "unsafe { x() }", "line 1: unsafe code"),
            ("x/src/a.rs", "#[cfg(target_os = \"linux\")]", "operating system"),
            ("x/src/a.rs", "todo!()", "unfinished"),
            ("x/package-lock.json", "\"resolved\": \"\"", "hosts"),
        ];
        for (name, text, expected) in cases {
            let found = complaints(&invented(&[(name, text)]));
            assert!(found.len() == 1 && found[0].contains(expected), "{name}: {found:?}");
        }
    }

    #[test]
    fn files_within_the_rules_pass() {
        let long = "\n".repeat(500);
        let files = invented(&[
            ("x/Cargo.toml", "[package]\n[lints]\nworkspace = true"),
            ("x/src/lib.rs", "// unsafe { in a comment }\n#![forbid(unsafe_code)]"),
            ("x/src/a.rs", &long),
            ("x/src/bin/a/b.rs", ""),
            ("agent/platform/src/linux/ffi.rs", "unsafe { x() }"),
            ("agent/platform/src/lib.rs", "#[cfg(target_os = \"linux\")]"),
            ("x/package-lock.json", "{}"),
        ]);
        assert_eq!(complaints(&files), Vec::<String>::new());
    }
}
