//! What administrators upload, write or read, generated from the one list of settings and from one policy.
//!
//! In: what a policy file holds, already checked ([`policy_of`]). Out: files. Templates (ADMX, manifest, schemas,
//! reference) know only the list; everything else holds the values of the policy as well. Whatever an operating system
//! reads back means the same policy again.

use std::collections::BTreeMap;

use crate::problem::Problem;
use crate::raw::{RawEntry, RawPolicy, RawValue, Source};
use crate::settings::find;
use crate::{LastGood, SETTINGS, resolve};

pub mod admx;
pub mod compliance;
mod documentation;
pub mod intune;
pub mod jamf;
pub mod json_schema;
pub mod manifest;
pub mod mobileconfig;
pub mod reference;
pub mod registry;
pub mod scripts;
pub mod toml;
pub mod xml;

/// The policy that the committed examples hold.
pub const EXAMPLE: &str = include_str!("export/example.toml");
/// The agent's preference domain, and the start of all its identifiers.
pub const DOMAIN: &str = "dev.steward.agent";

/// Where the .reg file lies, which is for Intune and for others.
const REG: &str = "registry/Steward.reg";

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefact {
    /// Its path in the folder of the export.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Artefact {
    fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into() }
    }
}

/// The managed preferences of an app, as its profile is to hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPreferences {
    /// The preference domain.
    pub domain: String,
    /// The app's name for users, and for file names in lower case.
    pub title: String,
    /// By the app's own names.
    pub values: BTreeMap<String, RawValue>,
}

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ADMX and ADML templates for Group Policy and Intune.
    Admx,
    /// Profiles for macOS: the agent's domain, the app's, and what the system lets the agent do.
    Mobileconfig,
    /// What Intune imports: OMA-URI settings, preference file, scripts, custom compliance.
    Intune,
    /// A .reg file and a Registry.pol.
    Registry,
    /// Jamf Pro's custom schema.
    Jamf,
    /// A profile manifest, for editors of profiles.
    Manifest,
    /// JSON Schema of the policy file.
    JsonSchema,
    /// A drop-in for Linux with every setting explained.
    Toml,
    /// An Ansible playbook.
    Ansible,
    /// The reference.
    Reference,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Admx,
        Self::Mobileconfig,
        Self::Intune,
        Self::Registry,
        Self::Jamf,
        Self::Manifest,
        Self::JsonSchema,
        Self::Toml,
        Self::Ansible,
        Self::Reference,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admx => "admx",
            Self::Mobileconfig => "mobileconfig",
            Self::Intune => "intune",
            Self::Registry => "registry",
            Self::Jamf => "jamf",
            Self::Manifest => "manifest",
            Self::JsonSchema => "json-schema",
            Self::Toml => "toml",
            Self::Ansible => "ansible",
            Self::Reference => "reference",
        }
    }

    /// What it is for, in a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Self::Admx => "ADMX and ADML templates for Group Policy and Intune",
            Self::Mobileconfig => {
                "profiles for macOS: the agent's settings, the app's own, and what the system lets the agent do"
            }
            Self::Intune => {
                "OMA-URI settings (CSV, JSON), macOS preference file, scripts, .reg, custom compliance"
            }
            Self::Registry => "a .reg file, and a Registry.pol for Group Policy",
            Self::Jamf => "a custom schema and the scripts of extension attributes for Jamf Pro",
            Self::Manifest => "a ProfileManifest for editors of profiles",
            Self::JsonSchema => "JSON Schema of the policy file",
            Self::Toml => "a drop-in for Linux with every setting explained",
            Self::Ansible => "a playbook that installs the policy on Linux",
            Self::Reference => "every setting and every problem code, in Markdown",
        }
    }
}

/// Makes the files of one kind. `team` is the team identifier of whoever signed the program for macOS.
#[must_use]
pub fn export(
    format: Format,
    policy: &RawPolicy,
    apps: &[AppPreferences],
    team: Option<&str>,
) -> Vec<Artefact> {
    match format {
        Format::Admx => vec![
            Artefact::new("admx/Steward.admx", admx::admx()),
            Artefact::new("admx/en-US/Steward.adml", admx::adml()),
        ],
        Format::Mobileconfig => mobileconfig::profiles(policy, apps, team),
        Format::Intune => [intune::files(policy), compliance::files(env!("CARGO_PKG_VERSION"))].concat(),
        Format::Registry => vec![
            Artefact::new(REG, registry::reg(policy)),
            Artefact::new("registry/Registry.pol", registry::pol(policy)),
        ],
        Format::Jamf => {
            let schema = Artefact::new(format!("jamf/{DOMAIN}.json"), jamf::schema());
            std::iter::once(schema).chain(compliance::extension_attributes()).collect()
        }
        Format::Manifest => vec![Artefact::new(format!("manifest/{DOMAIN}.plist"), manifest::manifest())],
        Format::JsonSchema => vec![Artefact::new("policy.schema.json", json_schema::schema())],
        Format::Toml => vec![Artefact::new("linux/50-steward.toml", toml::drop_in(policy))],
        Format::Ansible => vec![Artefact::new("ansible/steward.yml", scripts::playbook(policy))],
        Format::Reference => vec![Artefact::new("REFERENCE.md", reference::markdown())],
    }
}

/// What these sources say, each value checked and under its own spelling, with its level.
///
/// # Errors
/// Everything that is wrong, if anything is an error: a policy with errors is not exported.
pub fn policy_of(sources: &[Source]) -> Result<(RawPolicy, Vec<Problem>), Vec<Problem>> {
    let problems = resolve(sources, &LastGood::default()).problems;
    if problems.iter().any(|problem| problem.severity.is_error()) {
        return Err(problems);
    }
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort_by_key(|source| (source.rank, &source.name));
    let mut policy = RawPolicy::default();
    for contents in sources.into_iter().filter_map(|source| source.contents.as_ref().ok()) {
        for (into, from) in
            [(&mut policy.enforced, &contents.enforced), (&mut policy.recommended, &contents.recommended)]
        {
            into.extend(from.iter().filter_map(|(key, entry)| normal(key, entry)));
        }
    }
    Ok((policy, problems))
}

/// A value as its setting has it: a boolean as a boolean, under the key as it is spelt.
fn normal(key: &str, entry: &RawEntry) -> Option<(String, RawEntry)> {
    let (setting, _) = find(SETTINGS, key)?;
    let value = setting.kind.parse(&entry.value).ok()?;
    Some((setting.key.to_owned(), value.to_raw().into()))
}

/// What cannot be said in ADMX, and so in nothing that follows it. Whether it would allow more to leave it out, and
/// the sentence.
#[must_use]
pub fn remarks(policy: &RawPolicy) -> Vec<(bool, String)> {
    let empty = |entries: &BTreeMap<String, RawEntry>| {
        entries
            .iter()
            .filter(|(_, entry)| entry.value == RawValue::List(Vec::new()))
            .map(|(key, _)| {
                let weakens = find(SETTINGS, key).is_some_and(|(setting, _)| setting.strict.is_some());
                (weakens, format!(
                    "`{key}` is an empty list, which ADMX and OMA-URI settings cannot say. Use the .reg file or the script."
                ))
            })
            .collect::<Vec<_>>()
    };
    [empty(&policy.enforced), empty(&policy.recommended)].concat()
}

#[cfg(test)]
mod lints;
#[cfg(test)]
mod tests;
