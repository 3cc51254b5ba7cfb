//! Generated files: written from the one list and the one model, committed, compared in CI.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::tools::{cargo, repository, run, target_folder};

/// Writes every generated file, or compares it.
pub(crate) fn generate(check: bool) -> anyhow::Result<()> {
    run(cargo().args(["build", "--quiet", "--package", "agent", "--locked"]))?;
    let schema =
        Command::new(target_folder()?.join("debug/steward")).args(["status", "--schema"]).output()?;
    ensure!(schema.status.success(), "steward status --schema failed");
    let files = [
        ("mdm-profiles/REFERENCE.md", policy_schema::export::reference::markdown().into_bytes()),
        ("mdm-profiles/status.schema.json", schema.stdout),
    ];
    for (name, content) in files {
        let path = repository().join(name);
        if check {
            let committed =
                fs_err::read(&path).with_context(|| format!("run `cargo xtask gen` for {name}"))?;
            if committed != content {
                bail!("{name} is not current; run `cargo xtask gen` and commit what it writes");
            }
        } else {
            fs_err::create_dir_all(path.parent().unwrap_or(&path))?;
            fs_err::write(&path, content)?;
            println!("{name}");
        }
    }
    Ok(())
}
