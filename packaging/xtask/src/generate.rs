//! Generated files. The agent writes them from its settings, problem codes, diagnoses and types, and the guide beside them
//! comes from a template; they are committed, and CI compares them with what would be written now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure};

use crate::tools::{cargo, files_of, repository, run, target_folder};

const FOLDER: &str = "mdm-profiles";

/// The guide of that folder, for administrators. Its links begin at the root of the repository, so they are right in both.
const GUIDE: &str = include_str!("../templates/mdm-profiles.md");

/// The part of it that `steward setup` writes too. There, exported files lie in a folder of their own.
const PACKAGES: &str = include_str!("../../../agent/templates/setup/packages.md");

/// Writes every generated file; with `check`, compares them with those that are committed.
///
/// # Errors
/// With `check`, a committed file is missing, differs, or is not generated any more. The agent cannot be built or run.
pub(crate) fn generate(check: bool) -> anyhow::Result<()> {
    run(cargo().args(["build", "--quiet", "--package", "agent", "--locked"]))?;
    let steward = target_folder()?.join("debug/steward");
    let fresh = target_folder()?.join("generated");
    if fresh.exists() {
        fs_err::remove_dir_all(&fresh)?;
    }
    let exported = Command::new(&steward).args(["export", "--output"]).arg(&fresh).output()?;
    ensure!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let causes = Command::new(&steward).args(["doctor", "--causes"]).output()?;
    ensure!(causes.status.success(), "steward doctor --causes failed");
    fs_err::write(fresh.join("DIAGNOSES.md"), causes.stdout)?;
    let schema = Command::new(steward).args(["status", "--schema"]).output()?;
    ensure!(schema.status.success(), "steward status --schema failed");
    fs_err::write(fresh.join("status.schema.json"), schema.stdout)?;
    fs_err::write(fresh.join("example.toml"), policy_schema::export::EXAMPLE)?;
    fs_err::write(fresh.join("README.md"), GUIDE.replace("@PACKAGES@", &PACKAGES.replace("profiles/", "")))?;

    let wanted = files(&fresh)?;
    let folder = repository().join(FOLDER);
    if check {
        let committed = files(&folder)?;
        for name in wanted.keys().chain(committed.keys()) {
            if wanted.get(name) != committed.get(name) {
                bail!(
                    "{FOLDER}/{} is not current; run `cargo xtask gen` and commit the result",
                    name.display()
                );
            }
        }
        return Ok(());
    }
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    for (name, content) in wanted {
        let path = folder.join(&name);
        fs_err::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs_err::write(path, content)?;
        println!("{FOLDER}/{}", name.display());
    }
    Ok(())
}

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let content = |path: PathBuf| Ok((path.strip_prefix(folder)?.to_owned(), fs_err::read(&path)?));
    files_of(folder)?.into_iter().map(content).collect()
}
