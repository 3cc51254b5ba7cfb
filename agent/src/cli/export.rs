//! `steward export`: policy files in; files for Intune, Jamf, Group Policy, Ansible and Linux out. `steward setup`
//! writes the same files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use platform::file::{self, Access};
use platform::paths::{Paths, folder_of};
use policy_schema::export::{AppPreferences, EXAMPLE, Format, export as files, policy_of, remarks};
use policy_schema::raw::{RawPolicy, ReadErrorKind, Source};
use policy_schema::read::drop_in;
use policy_schema::settings::find;
use policy_schema::value::Kind;
use policy_schema::{Code, LastGood, Problem, SETTINGS, resolve};

use super::documents::Documents;
use super::policy::print_problems;
use crate::app::configuration::native_values;
use crate::app::descriptor::{self, Format as Store};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The formats to write, separated by commas; by default all of them.
    #[arg(long, value_delimiter = ',', value_parser = format_parser())]
    format: Vec<Format>,
    /// The policy whose values are exported; by default an example. May be given more than once; the last file is the
    /// strongest.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Export also a policy without any setting: what is written withdraws the policy of a device.
    #[arg(long)]
    allow_empty: bool,
    /// Who signed the package for macOS: the team identifier, ten letters and digits. With it, the profile of the services also lets
    /// Steward replace apps of other teams.
    #[arg(long, value_name = "TEAM", value_parser = team)]
    team_id: Option<String>,
    /// The folder to write into. It is created if it does not exist, and files of the same name are replaced.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// A team identifier (Apple, "Locate your Team ID").
fn team(text: &str) -> Result<String, &'static str> {
    let is_valid =
        text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err("it is ten capital letters and digits, such as A1B2C3D4E5")
    }
}

fn format_parser() -> impl clap::builder::TypedValueParser<Value = Format> {
    let values = Format::ALL.iter().map(|format| PossibleValue::new(format.name()).help(format.summary()));
    PossibleValuesParser::new(values)
        .try_map(|name| Format::ALL.into_iter().find(|format| format.name() == name).ok_or("no such format"))
}

pub(super) fn export(paths: &Paths, arguments: &Arguments, json: bool) -> anyhow::Result<ExitCode> {
    let mut documents = if arguments.policy.is_empty() {
        let contents = drop_in::read(EXAMPLE.as_bytes());
        let sources = vec![Source { rank: 1, name: "the example".to_owned(), contents }];
        Documents { sources, ..Documents::default() }
    } else {
        Documents::read(paths, &arguments.policy)
    };
    if arguments.allow_empty {
        documents.sources.retain(|source| !sets_nothing(source));
        documents.problems.retain(|problem| problem.code != Code::PolicyForeign);
    }
    // One that cannot be opened would be missing in the policy.
    let unreadable = |problem: &Problem| problem.severity.is_error() && problem.code != Code::PolicyForeign;
    if documents.problems.iter().any(unreadable) {
        return refuse(&documents.problems, "a policy with errors is not exported", json);
    }
    let sources = documents.sources;
    let (policy, mut problems) = match policy_of(&sources) {
        Ok(checked) => checked,
        Err(problems) => {
            return refuse(&problems, "a policy with errors is not exported", json);
        }
    };
    problems.extend(documents.problems);
    if policy.is_empty() && !arguments.allow_empty {
        let reason = "the policy has no settings; these files would remove the policy from devices. `--allow-empty` exports it all the same";
        return refuse(&problems, reason, json);
    }
    let all = arguments.format.is_empty();
    let wanted = |format: Format| all || arguments.format.contains(&format);
    let remarks = if wanted(Format::Intune) { remarks(&policy) } else { Vec::new() };
    let weakens = remarks.iter().any(|(weakens, _)| *weakens);
    let written = write_some(&policy, &sources, &arguments.output, arguments.team_id.as_deref(), wanted)?;
    // Of one format alone, the files of the others stay.
    let left = if all { left_over(&arguments.output, &written) } else { Vec::new() };
    let secret: Vec<&str> =
        written.iter().filter(|file| file.is_secret).map(|file| file.path.as_str()).collect();
    if json {
        let texts: Vec<&str> = remarks.iter().map(|(_, remark)| remark.as_str()).collect();
        let files: Vec<_> = written.iter().map(|file| arguments.output.join(&file.path)).collect();
        let document = serde_json::json!({ "files": files, "with_secrets": secret, "left_over": left, "remarks": texts, "problems": problems });
        out!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        for file in &written {
            out!("{}", arguments.output.join(&file.path).display());
        }
        for (weakens, remark) in &remarks {
            out!("\n{}", super::hanging(if *weakens { "error: " } else { "note: " }, remark));
        }
        warn_of_secrets(&secret);
        if !left.is_empty() {
            let text = format!(
                "these files were in the folder before and do not belong to this policy; remove them: {}",
                left.join(", ")
            );
            out!("\n{}", super::hanging("warning: ", &text));
        }
        print_problems(&problems);
    }
    Ok(if weakens { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Ends the command before anything is written.
fn refuse(problems: &[Problem], reason: &str, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let document = serde_json::json!({ "files": [], "problems": problems, "reason": reason });
        out!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(ExitCode::FAILURE);
    }
    print_problems(problems);
    anyhow::bail!("{reason}")
}

/// Whether a document was read, and no setting is in it.
fn sets_nothing(source: &Source) -> bool {
    match &source.contents {
        Ok(policy) => policy.is_empty(),
        Err(error) => error.kind == ReadErrorKind::Empty,
    }
}

/// Says which files hold secrets of the policy.
fn warn_of_secrets(files: &[&str]) {
    if files.is_empty() {
        return;
    }
    let text = format!(
        "these files hold secrets of the policy, so only you can read them. In the MDM, its administrators can read them: {}",
        files.join(", ")
    );
    out!("\n{}", super::hanging("warning: ", &text));
}

/// The files in a folder that this run did not write. An administrator would upload them with the others.
fn left_over(output: &Path, written: &[Written]) -> Vec<String> {
    const MOST: usize = 20;
    let mut folders = vec![String::new()];
    let mut left = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(output.join(&folder)).into_iter().flatten().flatten() {
            let path = format!("{folder}{}", entry.file_name().to_string_lossy());
            // Only where this command writes into.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let below = format!("{path}/");
                if written.iter().any(|file| file.path.starts_with(&below)) {
                    folders.push(below);
                }
            } else if !written.iter().any(|file| file.path == path) {
                left.push(path);
            }
        }
    }
    left.sort();
    left.truncate(MOST);
    left
}

/// A file that was written.
pub(super) struct Written {
    /// Its path in the folder.
    pub(super) path: String,
    /// It holds a secret of the policy.
    is_secret: bool,
}

/// Writes every format.
pub(super) fn write(policy: &RawPolicy, sources: &[Source], output: &Path) -> anyhow::Result<Vec<Written>> {
    write_some(policy, sources, output, None, |_| true)
}

/// The policy without its secrets.
fn without_secrets(policy: &RawPolicy) -> RawPolicy {
    let is_secret = |key: &str| {
        find(SETTINGS, key).is_some_and(|(setting, _)| matches!(setting.kind, Kind::Secret { .. }))
    };
    let mut policy = policy.clone();
    policy.enforced.retain(|key, _| !is_secret(key));
    policy.recommended.retain(|key, _| !is_secret(key));
    policy
}

fn write_some(
    policy: &RawPolicy,
    sources: &[Source],
    output: &Path,
    team: Option<&str>,
    wanted: impl Fn(Format) -> bool,
) -> anyhow::Result<Vec<Written>> {
    let apps = app_preferences(sources);
    let bare = without_secrets(policy);
    let mut bare_sources = sources.to_vec();
    for policy in bare_sources.iter_mut().filter_map(|source| source.contents.as_mut().ok()) {
        *policy = without_secrets(policy);
    }
    let bare_apps = app_preferences(&bare_sources);
    let mut written: Vec<Written> = Vec::new();
    for format in Format::ALL.into_iter().filter(|format| wanted(*format)) {
        // What comes out the same without the secrets has none in it, however a format writes them.
        let public = files(format, &bare, &bare_apps, team);
        for artefact in files(format, policy, &apps, team) {
            // The .reg file is part of two formats.
            if written.iter().any(|file| file.path == artefact.path) {
                continue;
            }
            let path = output.join(&artefact.path);
            let is_secret =
                !public.iter().any(|bare| bare.path == artefact.path && bare.bytes == artefact.bytes);
            fs_err::create_dir_all(folder_of(&path))?;
            let access = if is_secret { Access::Private } else { Access::Public };
            file::replace(&path, &artefact.bytes, access)?;
            written.push(Written { path: artefact.path, is_secret });
        }
    }
    Ok(written)
}

/// Whether there is a profile for the managed app itself.
pub(super) fn has_app_profile(sources: &[Source]) -> bool {
    !app_preferences(sources).is_empty()
}

/// The values that the managed app reads from its own preference domain on macOS.
fn app_preferences(sources: &[Source]) -> Vec<AppPreferences> {
    let resolved = resolve(sources, &LastGood::default());
    let Some(app) = descriptor::find(&resolved.policy.app) else { return Vec::new() };
    let Some(system) = app.systems.get("macos") else { return Vec::new() };
    let values = native_values(system, &resolved);
    let configuration = system.configuration.as_ref().filter(|one| one.format == Store::ManagedPreferences);
    configuration
        .filter(|_| !values.is_empty())
        .map(|one| AppPreferences { domain: one.path.clone(), title: app.title.clone(), values })
        .into_iter()
        .collect()
}
