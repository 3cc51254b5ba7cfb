//! What goes with packages so that others can check them: which libraries are in them under which licences, what the bytes are, and
//! what they were built from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fresh;
use crate::tools::{self, cargo, output, repository, run};

/// The crate whose program is packaged.
const ROOT: &str = "agent";

/// Writes, beside packages: their checksums, the statement of what they were built from, and the list of their libraries. Gives the
/// paths. `name` is which packages they are, so that those of different machines can lie in one folder.
pub(super) fn write(
    packages: &[PathBuf],
    name: &str,
    version: &str,
    folder: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let bom = folder.join(format!("steward-{version}-{name}.cdx.json"));
    fs_err::write(&bom, serde_json::to_string_pretty(&bill_of_materials(folder)?)? + "\n")?;
    let mut subjects: Vec<PathBuf> = packages.to_vec();
    subjects.push(bom.clone());
    let sums = checksums(&subjects)?;
    let list = folder.join(format!("steward-{version}-{name}.sha256"));
    fs_err::write(
        &list,
        sums.iter().fold(String::new(), |text, (name, sum)| format!("{text}{sum}  {name}\n")),
    )?;
    let statement = folder.join(format!("steward-{version}-{name}.intoto.json"));
    fs_err::write(&statement, serde_json::to_string_pretty(&provenance(&sums, version)?)? + "\n")?;
    Ok(vec![bom, list, statement])
}

fn checksums(files: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let checksum = |file: &PathBuf| {
        let line = output(Command::new("sha256sum").arg(file))?;
        let sum = line.split_ascii_whitespace().next().context("sha256sum prints a sum")?;
        let name = file.file_name().context("it is a file")?.to_string_lossy();
        Ok((name.into_owned(), sum.to_owned()))
    };
    files.iter().map(checksum).collect()
}

/// What the packages were built from and with: an in-toto statement with SLSA's provenance (version 1). Whoever publishes
/// the packages signs it.
fn provenance(sums: &[(String, String)], version: &str) -> anyhow::Result<Value> {
    let git = |arguments: &[&str]| output(Command::new("git").args(arguments).current_dir(repository()));
    let changes = git(&["status", "--porcelain"])?;
    let subject = |(name, sum): &(String, String)| json!({ "name": name, "digest": { "sha256": sum } });
    let lock = checksums(&[repository().join("Cargo.lock")])?;
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": sums.iter().map(subject).collect::<Vec<_>>(),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://steward.dev/build/xtask-dist/v1",
                "externalParameters": { "version": version, "uncommittedChanges": !changes.is_empty() },
                "internalParameters": { "rustc": output(Command::new("rustc").arg("--version"))? },
                "resolvedDependencies": [
                    { "name": "source", "digest": { "gitCommit": git(&["rev-parse", "HEAD"])? } },
                    { "name": "Cargo.lock", "digest": { "sha256": lock.first().map(|(_, sum)| sum) } },
                ],
            },
            "runDetails": { "builder": { "id": "https://steward.dev/builders/xtask" } },
        },
    }))
}

/// Every library in the program (`CycloneDX`), by the project's own tool, which writes beside the manifests that it reads: those of a
/// copy of the sources.
fn bill_of_materials(folder: &Path) -> anyhow::Result<Value> {
    let tool = tools::cargo_tool("cargo-cyclonedx")?;
    let sources = folder.join("sources");
    fresh(&sources)?;
    let archive = folder.join("sources.tar");
    run(Command::new("git").args(["archive", "--output"]).arg(&archive).arg("HEAD"))?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&sources))?;
    let mut command = Command::new(tool);
    command.args([
        "cyclonedx",
        "--format",
        "json",
        "--override-filename",
        "bom",
        "--spec-version",
        "1.5",
        "--quiet",
    ]);
    run(command.arg("--manifest-path").arg(sources.join("agent/Cargo.toml")).current_dir(&sources))?;
    // Where the copy was matters to nobody.
    let text = fs_err::read_to_string(sources.join("agent/bom.json"))?;
    let mut bom: Value = serde_json::from_str(&text.replace(&sources.display().to_string(), "/steward"))?;
    fs_err::remove_dir_all(&sources)?;
    fs_err::remove_file(archive)?;
    // The same commit gives the same bytes.
    let members = bom.as_object_mut().context("a bill of materials is an object")?;
    members.remove("serialNumber");
    if let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("timestamp");
    }
    ensure!(
        members.get("components").and_then(Value::as_array).is_some_and(|all| all.len() > 50),
        "it has few libraries"
    );
    Ok(bom)
}

/// The licences of all libraries in the program, each text once, with the libraries that it is for.
pub(super) fn licences() -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
        resolve: Resolve,
    }
    #[derive(Deserialize)]
    struct Package {
        id: String,
        name: String,
        version: String,
        license: Option<String>,
        manifest_path: PathBuf,
        source: Option<String>,
    }
    #[derive(Deserialize)]
    struct Resolve {
        nodes: Vec<Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        id: String,
        deps: Vec<Dependency>,
    }
    #[derive(Deserialize)]
    struct Dependency {
        pkg: String,
        dep_kinds: Vec<Kind>,
    }
    #[derive(Deserialize)]
    struct Kind {
        kind: Option<String>,
    }
    let metadata =
        output(cargo().args(["metadata", "--format-version", "1", "--locked"]).current_dir(repository()))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let root =
        metadata.packages.iter().find(|package| package.name == ROOT).context("the program has a crate")?;
    let mut reached = BTreeSet::new();
    let mut waiting = vec![root.id.as_str()];
    while let Some(id) = waiting.pop() {
        if reached.insert(id) {
            let linked =
                |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            waiting.extend(dependencies.filter(linked).map(|dependency| dependency.pkg.as_str()));
        }
    }
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let foreign = |package: &&Package| package.source.is_some() && reached.contains(package.id.as_str());
    for package in metadata.packages.iter().filter(foreign) {
        let name = format!("{} {}", package.name, package.version);
        let folder = package.manifest_path.parent().context("a manifest has a folder")?;
        let mut found = false;
        let mut files: Vec<PathBuf> =
            fs_err::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files {
            let upper =
                file.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
            let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"]
                .iter()
                .any(|start| upper.starts_with(start));
            if is_licence && file.is_file() {
                let text = String::from_utf8_lossy(&fs_err::read(&file)?).replace('\r', "").trim().to_owned();
                texts.entry(text).or_default().push(name.clone());
                found = true;
            }
        }
        if !found {
            let licence = package.license.as_deref().unwrap_or("no licence is named");
            let text = format!("The sources have no text of their licence, which is: {licence}");
            texts.entry(text).or_default().push(name);
        }
    }
    let mut blocks: Vec<(Vec<String>, String)> =
        texts.into_iter().map(|(text, names)| (names, text)).collect();
    blocks.sort();
    let mut bundle = "Steward contains these libraries, under these licences.\n".to_owned();
    for (mut names, text) in blocks {
        names.dedup();
        write!(bundle, "\n{}\n\n{}\n\n{text}\n", "=".repeat(78), names.join(", "))?;
    }
    Ok(bundle)
}
