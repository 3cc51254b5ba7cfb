//! The rules of the house that no compiler checks.
//!
//! In: the files that git lists, and what cargo says about the workspace. Out: one complaint for each breach of a rule.
//! The rules are functions of values, so their tests need neither a repository nor cargo.

mod crates;
mod documents;
mod files;
mod graph;
mod markdown;
mod modules;
mod named_tests;
mod pure;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use crate::tools::{cargo, repository};

/// What the rules read: every file that git lists, by its path in the repository. A file that is not text has no text.
type Files = BTreeMap<PathBuf, Option<String>>;

/// Applies every rule to the repository. `tasks` are the names that follow `cargo xtask`.
///
/// # Errors
/// The complaints, one a line, if there are any; or git or cargo cannot be run.
pub(crate) fn check(tasks: &[String]) -> anyhow::Result<()> {
    let complaints = complaints(tasks)?;
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn complaints(tasks: &[String]) -> anyhow::Result<Vec<String>> {
    let files = list_files()?;
    let crates = list_crates()?;
    Ok([
        files::complaints(&files),
        crates::complaints(&crates, &files),
        pure::complaints(&crates, &files),
        graph::complaints(&crates, &files),
        named_tests::complaints(&files),
        documents::complaints(&files, tasks),
    ]
    .concat())
}

fn list_files() -> anyhow::Result<Files> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(repository())
        .output()?;
    ensure!(listed.status.success(), "git does not list the files");
    let names = String::from_utf8(listed.stdout)?;
    let present = names.split_terminator('\0').filter(|name| repository().join(name).exists());
    Ok(present
        .map(|name| (PathBuf::from(name), fs_err::read_to_string(repository().join(name)).ok()))
        .collect())
}

fn list_crates() -> anyhow::Result<Vec<crates::Crate>> {
    let metadata = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(repository())
        .output()?;
    ensure!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    crates::read_metadata(&metadata.stdout)
}

fn is_rust(name: &Path) -> bool {
    has_extension(name, "rs")
}

fn has_extension(name: &Path, wanted: &str) -> bool {
    name.extension().is_some_and(|extension| extension == wanted)
}

/// The files that are text, with those whose name fits.
fn texts(files: &Files, fits: fn(&Path) -> bool) -> impl Iterator<Item = (&Path, &str)> {
    files
        .iter()
        .filter_map(move |(name, text)| Some((name.as_path(), text.as_deref()?)).filter(|_| fits(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        assert_eq!(complaints(&crate::task_names()).unwrap(), Vec::<String>::new());
    }

    /// Files for a test: names and texts.
    pub(super) fn invented(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(name, text)| (PathBuf::from(name), Some((*text).to_owned()))).collect()
    }
}
