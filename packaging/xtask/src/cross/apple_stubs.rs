//! What a linker has to know of Apple's frameworks: their names, and which symbols they have (TAPI's text format). Zig brings that for
//! libSystem only. The symbols are those that the crates for these frameworks declare.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::tools::{cargo, files_of, output, repository};

/// Frameworks, with the crates that declare their symbols and how these begin.
const FRAMEWORKS: [(&str, &[&str], &[&str]); 6] = [
    ("AppKit", &["objc2-app-kit"], &["NS"]),
    ("CoreFoundation", &["core-foundation-sys", "objc2-core-foundation"], &["CF", "kCF", "__CF"]),
    ("CoreServices", &["objc2-core-services"], &["FSEvent", "kFSEvent", "LS", "kLS"]),
    ("Foundation", &["objc2-foundation"], &["NS"]),
    ("IOKit", &["objc2-io-kit"], &["IO", "kIO"]),
    ("Security", &["security-framework-sys"], &["Sec", "kSec", "SSL", "kSSL", "CMS", "Authorization"]),
];
/// The library of Objective-C.
const OBJECTIVE_C: (&[&str], &[&str]) = (
    &["objc2"],
    &["objc_", "sel_", "class_", "object_", "method_", "ivar_", "protocol_", "property_", "imp_"],
);

/// The functions of libiconv, which the crate `libc` has linked and nothing calls.
const CONVERSION: [&str; 3] = ["iconv", "iconv_close", "iconv_open"];

/// Writes the stubs into a folder: frameworks below `frameworks`, the library below `lib`.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    for (name, crates, prefixes) in FRAMEWORKS {
        let target = folder.join(format!("frameworks/{name}.framework/{name}.tbd"));
        let install_name = format!("/System/Library/Frameworks/{name}.framework/Versions/A/{name}");
        stub(&target, &install_name, &symbols(crates, prefixes)?)?;
    }
    let (crates, prefixes) = OBJECTIVE_C;
    stub(&folder.join("lib/libobjc.tbd"), "/usr/lib/libobjc.A.dylib", &symbols(crates, prefixes)?)?;
    let conversion = CONVERSION.map(str::to_owned).into_iter().collect();
    stub(&folder.join("lib/libiconv.tbd"), "/usr/lib/libiconv.2.dylib", &conversion)
}

fn stub(target: &Path, install_name: &str, symbols: &BTreeSet<String>) -> anyhow::Result<()> {
    ensure!(!symbols.is_empty(), "no crate declares symbols of {install_name}");
    let mut text = format!(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\ninstall-name: '{install_name}'\nexports:\n  - targets: [ arm64-macos ]\n    symbols: [ "
    );
    for (index, symbol) in symbols.iter().enumerate() {
        write!(text, "{}'_{symbol}'", if index == 0 { "" } else { ", " })?;
    }
    text.push_str(" ]\n...\n");
    fs_err::create_dir_all(target.parent().context("a stub lies in a folder")?)?;
    Ok(fs_err::write(target, text)?)
}

/// Functions and statics that crates declare, by how their names begin.
fn symbols(crates: &[&str], prefixes: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for folder in sources(crates)? {
        for file in files_of(&folder)? {
            let text = fs_err::read_to_string(file)?;
            for declaration in ["fn ", "static "] {
                let names = text.split(declaration).skip(1).map(|rest| {
                    rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next()
                });
                let wanted = |name: &&str| prefixes.iter().any(|prefix| name.starts_with(prefix));
                found.extend(names.flatten().filter(wanted).map(str::to_owned));
            }
        }
    }
    Ok(found)
}

/// The folders of the sources of crates.
fn sources(crates: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        manifest_path: PathBuf,
    }
    let metadata =
        output(cargo().args(["metadata", "--format-version", "1", "--locked"]).current_dir(repository()))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let wanted = |package: &Package| crates.contains(&package.name.as_str());
    let folders = metadata.packages.into_iter().filter(wanted);
    Ok(folders.filter_map(|package| Some(package.manifest_path.parent()?.join("src"))).collect())
}
