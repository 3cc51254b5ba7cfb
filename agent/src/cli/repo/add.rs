//! `steward repo add`: a version, with patches that lead to it from the ones before.

use std::fmt;
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use jiff::Timestamp;
use platform::clock;
use semver::Version;
use serde_json::{Map, Value, json};
use updates::signed::compose::MAXIMUM_PATCHES;
use updates::signed::publish;

use super::{Conditions, passphrase};
use crate::app::descriptor;
use crate::repo::{self, Part, Placed, Repository, VERSIONS};
use crate::update::{self, AGENT};

#[derive(Args)]
pub(in crate::cli) struct AddArguments {
    /// The folder of the repository.
    pub(super) folder: PathBuf,
    /// The file that devices install.
    pub(super) file: PathBuf,
    /// The name of the app, as in the setting `App`.
    #[arg(long)]
    pub(super) app: String,
    /// Its version.
    #[arg(long, value_name = "VERSION")]
    pub(super) version: Version,
    /// The operating system that it is for. By default every one where the app can be installed from such a file.
    #[arg(long, value_name = "SYSTEM", value_parser = ["linux", "macos", "windows"])]
    pub(super) system: Option<String>,
    /// The processor that it is for. By default every one.
    #[arg(long, value_name = "NAME", value_parser = ["x86_64", "aarch64"])]
    pub(super) architecture: Option<String>,
    /// The oldest system that it runs on, by the version of its kernel.
    #[arg(long, value_name = "VERSION")]
    pub(super) minimum_system: Option<String>,
    /// Make patches from so many versions before it, which devices that have one of them download in place of the file. For files that are
    /// installed as they are, the agent itself or an `AppImage`, and that are not compressed.
    #[arg(long, value_name = "N", default_value_t = VERSIONS, value_parser = clap::value_parser!(u8).range(..=i64::from(MAXIMUM_PATCHES)))]
    pub(super) patches: u8,
    #[command(flatten)]
    pub(super) conditions: Conditions,
}

/// What was added.
pub(super) struct Added {
    path: String,
    patches: Vec<Placed>,
    /// Why there are not more of them.
    notes: Vec<String>,
}

impl Added {
    pub(super) fn document(&self) -> Value {
        let patches: Vec<Value> =
            self.patches.iter().map(|patch| json!({ "from": patch.from, "size": patch.size })).collect();
        json!({ "added": self.path, "patches": patches, "notes": self.notes })
    }
}

impl fmt::Display for Added {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Added {}.", self.path)?;
        for patch in &self.patches {
            write!(formatter, "\nA patch from {} has {} bytes.", patch.from, patch.size)?;
        }
        self.notes.iter().try_for_each(|note| write!(formatter, "\n{note}"))
    }
}

/// Adds a version.
pub(super) fn add(repository: &Repository, arguments: &AddArguments) -> anyhow::Result<Added> {
    let AddArguments {
        file, app, version, system, architecture, minimum_system, patches, conditions, ..
    } = arguments;
    ensure!(
        !app.is_empty() && app.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
        "`{app}` is not the name of an app: letters, digits and hyphens"
    );
    if descriptor::find(app).is_none() && app != AGENT {
        err!("steward: this version knows no app `{app}`; devices with another version may");
    }
    let text = version.to_string();
    let path = repo::path_of(file, app, &text)?;
    let known = |part| -> anyhow::Result<_> { Ok(repository.list(part)?.targets.remove(&path)) };
    let (authentic, directed) = (known(Part::Image)?, known(Part::Director)?);
    let again =
        || format!("{path} is there already; what was published keeps its content: publish another version");
    ensure!(authentic.is_none() || directed.is_none(), again());
    let mut identity = Map::new();
    for (name, value) in [
        ("app", Some(app)),
        ("version", Some(&text)),
        ("system", system.as_ref()),
        ("architecture", architecture.as_ref()),
        ("minimumSystemVersion", minimum_system.as_ref()),
    ] {
        identity.extend(value.map(|value| (name.to_owned(), value.as_str().into())));
    }
    let mut said = Map::new();
    let published = Timestamp::from_second(clock::now().as_second())?;
    said.insert("published".to_owned(), published.to_string().into());
    conditions.apply(&mut said)?;
    let passphrase = passphrase()?;
    // What is placed is served: not before it is sure that it can be named.
    repository.check_keys(&["image", "director", "online"], &passphrase)?;
    let (length, hashes) = repository.place(file, &path)?;
    let target = |custom: &Map<String, Value>| {
        publish::target(length, &hashes.sha256, &hashes.sha512, &custom.clone().into())
    };
    let mut added = Added { path: path.clone(), patches: Vec::new(), notes: Vec::new() };
    let mut files = Vec::new();
    if authentic.is_none() && (app == AGENT || update::is_one_program(&path)) {
        let (image, new) = (repository.list(Part::Image)?, target(&identity));
        (added.patches, added.notes) = repository.make_patches(&image, (&path, &new), &identity, *patches)?;
        files.extend(added.patches.iter().map(|patch| patch.target.clone()));
        if !files.is_empty() {
            identity.insert(
                "patches".to_owned(),
                added.patches.iter().map(|patch| patch.named.clone()).collect(),
            );
        }
    }
    files.push((path.clone(), target(&identity)));
    let directed_files = vec![(path.clone(), target(&said))];
    let new = [(Part::Image, authentic, files), (Part::Director, directed, directed_files)];
    // What nobody vouches for is never named by the director, not even for a moment.
    for (part, known, files) in new {
        // A run before this one was interrupted.
        if let Some(known) = known {
            let same = files.iter().any(|(_, target)| known.get("hashes") == target.get("hashes"));
            ensure!(same, again());
            continue;
        }
        repository.change(part, &passphrase, |list| {
            list.targets.extend(files);
            if part == Part::Image {
                repo::drop_old(list, &path, &identity);
            }
            Ok(())
        })?;
    }
    Ok(added)
}
