//! `steward policy`: what holds, why, and whether a file would be accepted.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_platform::paths::Paths;
use clap::Subcommand;
use policy_schema::raw::{Place, ReadError, ReadErrorKind};
use policy_schema::read::{MAXIMUM_BYTES, drop_in, property_list};
use policy_schema::resolve::{Level, Origin};
use policy_schema::{LastGood, Problem, SETTINGS, Severity, resolve};

use super::{indented, shown};
use crate::api::{self, AskError, Explained, Story};
use crate::clock;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Show the settings that policy sets.
    Show {
        /// Show the defaults as well.
        #[arg(long)]
        all: bool,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell where the value of a setting comes from, and what lost against it.
    Explain {
        /// The setting's key, in any capitals.
        key: String,
    },
    /// Try policy files without installing them; ends with 1 if one has an error.
    Check {
        /// TOML drop-ins, or property lists that end in .plist. Together they are one policy; the last is strongest.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Read policy now (administrators only).
    Reload,
}

pub(super) async fn policy(paths: &Paths, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Show { all, json } => show(&ask(paths).await?, all, json),
        Verb::Explain { key } => return explain(&ask(paths).await?, &key),
        Verb::Check { files } => return Ok(check(&files)),
        Verb::Reload => {
            let socket = paths.agent_socket();
            let explained: Explained = api::request(&socket, "POST", "/v1/policy/reload", None).await?;
            let set = explained.settings.iter().filter(|story| is_set(story)).count();
            out!("Policy was read: {set} settings, {} problems.", explained.problems.len());
            print_problems(&explained.problems);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the machine service says; without one, what its places say now.
async fn ask(paths: &Paths) -> anyhow::Result<Explained> {
    match api::request(&paths.agent_socket(), "GET", "/v1/policy", None).await {
        Err(AskError::Absent { place, .. }) => {
            eprintln!("steward: no agent answers at {place}; this is what it would read now\n");
            let snapshot = crate::policy::Store::open(paths.clone()).preview(clock::now());
            Ok(Explained::new(&snapshot.resolved, snapshot.problems))
        }
        result => Ok(result?),
    }
}

fn show(explained: &Explained, all: bool, json: bool) {
    if json {
        out!("{}", serde_json::to_string_pretty(explained).unwrap_or_default());
        return;
    }
    let stories = || SETTINGS.iter().filter_map(|setting| Some((setting, find(explained, setting.key)?)));
    let mut category = "";
    for (setting, story) in stories().filter(|(_, story)| all || is_set(story)) {
        if category != setting.category {
            out!("{}{}", if category.is_empty() { "" } else { "\n" }, setting.category);
            category = setting.category;
        }
        let value = story.value.as_ref().map_or_else(|| "not set".to_owned(), shown);
        let note = match &story.origin {
            Origin::Policy { level: Level::Recommended, .. } => "  (recommended)",
            Origin::LastGood { .. } => "  (last good value)",
            Origin::Strict => "  (strict choice)",
            Origin::Default => "  (default)",
            Origin::Policy { .. } | Origin::Unset => "",
        };
        out!("  {:<30}{value}{note}", story.key);
    }
    if category.is_empty() {
        out!("Policy sets nothing. `--all` shows the defaults.");
    }
    print_problems(&explained.problems);
}

fn explain(explained: &Explained, key: &str) -> anyhow::Result<ExitCode> {
    let Some(story) = find(explained, key) else {
        let names = SETTINGS.iter().map(|setting| setting.key);
        let close = policy_schema::nearest(key, names);
        let hint = close.map_or_else(String::new, |close| format!("\n  hint: did you mean `{close}`?"));
        anyhow::bail!("`{key}` is not the name of a setting{hint}");
    };
    let setting = SETTINGS.iter().find(|setting| setting.key == story.key);
    let value = story.value.as_ref().map_or_else(|| "not set".to_owned(), shown);
    out!("{} = {value}", story.key);
    out!("  {}", origin(&story.origin));
    for loser in &story.losers {
        let value = loser.value.as_ref().map_or_else(|| "a value that is not valid".to_owned(), shown);
        out!("  lost: {value} in {} ({})\n        {}", loser.place, level(loser.level), loser.why);
    }
    if let Some(setting) = setting {
        out!("\n{}", setting.title());
        for line in setting.documentation.iter().skip(1).map(|line| line.trim()) {
            out!("{}", format!("  {line}").trim_end());
        }
        out!("\n  Expected: {}", setting.kind.expectation());
    }
    let mine: Vec<Problem> = explained
        .problems
        .iter()
        .filter(|problem| problem.key.as_deref() == Some(&story.key))
        .cloned()
        .collect();
    print_problems(&mine);
    Ok(ExitCode::SUCCESS)
}

fn check(files: &[PathBuf]) -> ExitCode {
    let places: Vec<Place> = files
        .iter()
        .zip(1..)
        .map(|(path, rank)| Place { rank, name: path.display().to_string(), contents: read(path) })
        .collect();
    let resolved = resolve(&places, &LastGood::default());
    let errors = resolved.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let set = resolved.settings.iter().filter(|one| matches!(one.origin, Origin::Policy { .. })).count();
    match (errors, resolved.problems.len()) {
        (0, 0) => out!("{set} settings, no problems."),
        (errors, all) => out!("{set} settings, {errors} errors, {} other remarks.", all - errors),
    }
    print_problems(&resolved.problems);
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(path: &PathBuf) -> Result<policy_schema::raw::RawPolicy, ReadError> {
    let error = |kind, message: String| ReadError { kind, message, hint: None };
    let unreadable = |failure: std::io::Error| error(ReadErrorKind::Unreadable, failure.to_string());
    let metadata = fs_err::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(error(ReadErrorKind::Unreadable, "is not a file".to_owned()));
    }
    if metadata.len() > MAXIMUM_BYTES {
        let message = format!("has {} bytes; a policy file has at most {MAXIMUM_BYTES}", metadata.len());
        return Err(error(ReadErrorKind::TooLarge, message));
    }
    let bytes = fs_err::read(path).map_err(unreadable)?;
    if path.extension().is_some_and(|extension| extension == "plist") {
        property_list::read(&bytes)
    } else {
        drop_in::read(&bytes)
    }
}

fn find<'a>(explained: &'a Explained, key: &str) -> Option<&'a Story> {
    explained.settings.iter().find(|story| story.key.eq_ignore_ascii_case(key))
}

fn is_set(story: &Story) -> bool {
    !matches!(story.origin, Origin::Default | Origin::Unset)
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Policy { place, level: how } => format!("{} in {place}", level(*how)),
        Origin::LastGood { place, since } => format!(
            "the last good value, which held since {} and came from {place}",
            since.strftime("%Y-%m-%d %H:%M")
        ),
        Origin::Strict => "the strict choice, because what policy says cannot be understood".to_owned(),
        Origin::Default => "the default".to_owned(),
        Origin::Unset => "no place says anything, and there is no default".to_owned(),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Enforced => "enforced",
        Level::Recommended => "recommended",
    }
}

pub(super) fn print_problems(problems: &[Problem]) {
    for problem in problems {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        out!("\n{severity} [{}]\n{}", problem.code.as_str(), indented(&problem.to_string(), 2));
    }
}
