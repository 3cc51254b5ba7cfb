//! `steward policy`: what holds, why, and whether a file would be accepted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use agent_platform::paths::Paths;
use clap::Subcommand;
use policy_schema::export::DOMAIN;
use policy_schema::raw::{Place, ReadError, ReadErrorKind};
use policy_schema::read::{MAXIMUM_BYTES, drop_in, property_list, registry_pol};
use policy_schema::resolve::{Level, Origin};
use policy_schema::{LastGood, Open, Problem, SETTINGS, Severity, resolve};

use super::{hanging, shown};
use crate::api::{self, AskError, Explained, LastGoodValue, Story};
use crate::clock;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Show the settings that policy sets.
    Show {
        /// Show the defaults as well.
        #[arg(long)]
        all: bool,
        /// Show only what the places say now and the agent has not applied; ends with 1 if there is something.
        #[arg(long, conflicts_with_all = ["all", "json"])]
        diff: bool,
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
        /// TOML drop-ins, property lists (.plist), profiles (.mobileconfig) or Registry.pol files (.pol). Together they are
        /// one policy; the last is strongest.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print what they mean as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read policy now (administrators only).
    Reload,
}

pub(super) async fn policy(paths: &Paths, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Show { diff: true, .. } => return diff(paths).await,
        Verb::Show { all, json, diff: false } => show(&ask(paths).await?, all, json),
        Verb::Explain { key } => return explain(&ask(paths).await?, &key),
        Verb::Check { files, json } => return Ok(check(&files, json)),
        Verb::Reload => {
            let socket = paths.agent_socket();
            let explained: Explained = api::request(&socket, "POST", "/v1/policy/reload", None).await?;
            let set = explained.settings.iter().filter(|story| story.origin.is_of_policy()).count();
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
            complain!("steward: no agent answers at {place}; this is what it would read now\n");
            let snapshot = crate::policy::Store::look(paths.clone()).preview(clock::now());
            let problems = snapshot.problems.clone();
            Ok(Explained::new(&snapshot, problems))
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
    for (setting, story) in stories().filter(|(_, story)| all || story.origin.is_of_policy()) {
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
        out!("{}", hanging(&format!("  {:<30}", story.key), &format!("{value}{note}")));
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
    let line = |label: &str, text: &str| out!("{}", hanging(&format!("  {label:<10}"), text));
    match &story.origin {
        Origin::Policy { place, level: how } => {
            line("level", level(*how));
            line("place", place);
        }
        Origin::LastGood { .. } => {
            line("from", "the last good value, as the place that decides cannot be understood");
        }
        Origin::Strict => line("from", "the strict choice, as what policy says cannot be understood"),
        Origin::Default => line("from", "the default, as no place says anything"),
        Origin::Unset => line("from", "no place says anything, and there is no default"),
    }
    if let Some(since) = story.since {
        line("since", &since.strftime("%Y-%m-%d %H:%M UTC").to_string());
    }
    match &story.last_good {
        Some(known) => line(
            "last good",
            &format!(
                "{}, since {}, from {}",
                shown(&known.value),
                known.since.strftime("%Y-%m-%d %H:%M UTC"),
                known.place
            ),
        ),
        None => line("last good", "none is known"),
    }
    for loser in &story.losers {
        let value = loser.value.as_ref().map_or_else(|| "a value that is not valid".to_owned(), shown);
        line("lost", &format!("{value} in {} ({})", loser.place, level(loser.level)));
        line("", &format!("because {}", loser.why));
    }
    if let Some(setting) = setting {
        out!("\n{}", setting.title());
        let documentation = setting.documentation.get(1..).unwrap_or_default().join(" ");
        out!("{}", hanging("  ", &documentation));
        out!("{}", hanging("  ", &format!("Expected: {}.", setting.kind.expectation())));
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

/// What the places say now against what the agent applied last: what it holds if it runs, else what it remembers.
async fn diff(paths: &Paths) -> anyhow::Result<ExitCode> {
    let store = crate::policy::Store::look(paths.clone());
    let now = store.preview(clock::now());
    let applied: BTreeMap<String, serde_json::Value> =
        match api::request::<Explained>(&paths.agent_socket(), "GET", "/v1/policy", None).await {
            Ok(explained) => {
                let set = explained.settings.into_iter().filter(|story| story.origin.is_of_policy());
                set.filter_map(|story| Some((story.key, story.value?))).collect()
            }
            Err(AskError::Absent { place, .. }) => {
                complain!("steward: no agent answers at {place}; compared with what it remembers\n");
                let last_good = store.last_good().map_err(|problem| anyhow::anyhow!("{problem}"))?;
                let known = SETTINGS.iter().filter_map(|setting| {
                    Some((setting.key.to_owned(), LastGoodValue::of(setting.key, last_good)?.value))
                });
                known.collect()
            }
            Err(error) => return Err(error.into()),
        };
    let says = Explained::new(&now, Vec::new());
    let mut differences = 0;
    for setting in SETTINGS {
        let before = applied.get(setting.key);
        let after = find(&says, setting.key)
            .filter(|story| story.origin.is_of_policy())
            .and_then(|story| story.value.as_ref());
        if before == after {
            continue;
        }
        differences += 1;
        for (sign, value) in [('-', before), ('+', after)] {
            if let Some(value) = value {
                out!("{}", hanging(&format!("{sign} {:<30}", setting.key), &shown(value)));
            }
        }
    }
    if differences == 0 {
        out!(
            "What the places say is what the agent applied last. (Whether a secret is another one is not shown.)"
        );
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn check(files: &[PathBuf], json: bool) -> ExitCode {
    let resolved = resolve(&places(files), &LastGood::default());
    let errors = resolved.problems.iter().filter(|problem| problem.severity.is_error()).count();
    let set = resolved.settings.iter().filter(|one| matches!(one.origin, Origin::Policy { .. })).count();
    if json {
        let explained = Explained::of(&resolved, &LastGood::default(), resolved.problems.clone());
        out!("{}", serde_json::to_string_pretty(&explained).unwrap_or_default());
    } else {
        match (errors, resolved.problems.len()) {
            (0, 0) => out!("{set} settings, no problems."),
            (errors, all) => out!("{set} settings, {errors} errors, {} other remarks.", all - errors),
        }
        print_problems(&resolved.problems);
    }
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Policy files as places, the last the strongest.
pub(super) fn places(files: &[PathBuf]) -> Vec<Place> {
    let numbered = files.iter().zip(1..);
    numbered
        .map(|(path, rank)| Place { rank, name: path.display().to_string(), contents: read(path) })
        .collect()
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
    let kind = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match kind.as_deref() {
        Some("plist") => property_list::read(&bytes),
        Some("mobileconfig") => property_list::read_profile(&bytes, DOMAIN),
        Some("pol") => registry_pol::read(&bytes),
        Some("reg") => {
            let message = "is a .reg file, which only Windows reads".to_owned();
            let hint = "check the policy that it was exported from, or the Registry.pol beside it".to_owned();
            Err(ReadError { kind: ReadErrorKind::Syntax, message, hint: Some(hint) })
        }
        _ => drop_in::read(&bytes),
    }
}

fn find<'a>(explained: &'a Explained, key: &str) -> Option<&'a Story> {
    explained.settings.iter().find(|story| story.key.eq_ignore_ascii_case(key))
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Enforced => "enforced",
        Level::Recommended => "recommended",
    }
}

pub(super) fn print_problems(problems: &[Problem]) {
    for problem in problems {
        let severity = match &problem.severity {
            Open::Known(Severity::Error) => "error",
            Open::Known(Severity::Warning) => "warning",
            Open::Known(Severity::Note) => "note",
            Open::Unknown(name) => name,
        };
        out!("\n{severity} [{}]", problem.code.as_str());
        for line in problem.to_string().lines() {
            let text = line.trim_start();
            let start = " ".repeat(2 + line.len() - text.len());
            out!("{}", hanging(&start, text));
        }
    }
}
