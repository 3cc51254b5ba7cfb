//! `steward policy`: which values are in effect, where they come from, and whether a file would be accepted. The other
//! verbs get the policy of this device from here too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use broker::configuration::Configuration;
use clap::Subcommand;
use net::client::{CallError, call};
use platform::clock;
use platform::paths::Paths;
use platform::preferences;
use policy_schema::resolve::{Level, Origin};
use policy_schema::{LastGood, Open, Problem, SETTINGS, Setting, Severity, resolve};
use protocol::agent::{POLICY, RELOAD_POLICY};
use protocol::endpoint::Nothing;
use protocol::policy::{LastGoodValue, ResolvedPolicy, ResolvedSetting};

use super::documents::Documents;
use super::terminal::Tone;
use super::{counted, hanging, shown};
use crate::policy::{Snapshot, Store};

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Show the settings that policy sets.
    Show {
        /// Show the defaults as well.
        #[arg(long)]
        all: bool,
        /// Show only values that the sources have now and the agent has not applied; the exit code is 1 if there are
        /// any.
        #[arg(long, conflicts_with = "all")]
        diff: bool,
    },
    /// Show where the effective value of a setting comes from, and which values it overrides.
    Explain {
        /// The key of the setting; upper and lower case do not matter.
        key: String,
    },
    /// List all settings with what they are for.
    List {
        /// Only the settings of which the key, the heading or the explanation has this word.
        word: Option<String>,
    },
    /// Check policy files without installing them; the exit code is 1 if one has an error.
    Check {
        /// TOML drop-ins, property lists, profiles, .reg and Registry.pol files, or folders of drop-ins; on Windows also a
        /// key, as `HKLM\SOFTWARE\Policies\Steward`; `-` reads standard input. What a file is shows in its content. Together
        /// they are one policy; the last one is the strongest.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Read policy now (administrators only).
    Reload,
}

pub(super) async fn policy(paths: &Paths, verb: Verb, json: bool) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Show { diff: true, .. } => return diff(paths, json).await,
        Verb::Show { all, diff: false } => show(&load(paths).await?, all, json),
        Verb::Explain { key } => return explain(paths, &load(paths).await?, &key, json),
        Verb::List { word } => list(word.as_deref(), json),
        Verb::Check { files } => return Ok(check(paths, &files, json)),
        Verb::Reload => {
            let socket = paths.agent_socket();
            let policy = call(&socket, &RELOAD_POLICY, &Nothing {}).await?;
            if json {
                out!("{}", serde_json::to_string_pretty(&policy)?);
                return Ok(ExitCode::SUCCESS);
            }
            let set = counted(policy.set_by_policy().count(), "setting");
            out!("Policy was read: {set}, {}.", counted(policy.problems.len(), "problem"));
            print_problems(&policy.problems);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The policy that the agent has in effect. If the agent does not respond, the policy that it would read now.
pub(super) async fn effective_or_preview(paths: &Paths) -> ResolvedPolicy {
    let effective = call(&paths.agent_socket(), &POLICY, &Nothing {}).await;
    effective.unwrap_or_else(|_| view(preview(paths)))
}

/// The policy that the agent would read now.
pub(super) fn preview(paths: &Paths) -> Snapshot {
    Store::read_only(paths.clone()).preview(clock::now())
}

pub(super) fn print_problems(problems: &[Problem]) {
    print_problems_in(problems, &Documents::default());
}

/// Prints problems, with the lines of the documents that they are about.
fn print_problems_in(problems: &[Problem], documents: &Documents) {
    for problem in problems {
        let severity = match &problem.severity {
            Open::Known(Severity::Error) => "error",
            Open::Known(Severity::Warning) => "warning",
            Open::Known(Severity::Note) => "note",
            Open::Unknown(name) => name,
        };
        let tone = if problem.severity.is_error() {
            Tone::Bad
        } else if problem.severity.is_at_least_warning() {
            Tone::Doubtful
        } else {
            Tone::Plain
        };
        out!("");
        out_painted!(tone, severity, " [{}]", problem.code.as_str());
        for line in problem.to_string().lines() {
            let text = line.trim_start();
            let start = " ".repeat(2 + line.len() - text.len());
            out!("{}", hanging(&start, text));
        }
        for line in documents.excerpt(problem).into_iter().flatten() {
            out!("    {line}");
        }
    }
}

/// The policy that the agent has in effect. If no agent runs, the policy that it would read now, with a remark.
async fn load(paths: &Paths) -> anyhow::Result<ResolvedPolicy> {
    match call(&paths.agent_socket(), &POLICY, &Nothing {}).await {
        Err(CallError::Absent { address, .. }) => {
            err!("steward: no agent listens at {address}; this is the policy that it would read now\n");
            Ok(view(preview(paths)))
        }
        result => Ok(result?),
    }
}

fn view(snapshot: Snapshot) -> ResolvedPolicy {
    ResolvedPolicy::new(&snapshot.resolved, &snapshot.last_good, snapshot.problems)
}

fn show(policy: &ResolvedPolicy, all: bool, json: bool) {
    if json {
        out!("{}", serde_json::to_string_pretty(policy).unwrap_or_default());
        return;
    }
    let settings = SETTINGS.iter().filter_map(|setting| Some((setting, policy.get(setting.key)?)));
    let mut category = "";
    for (setting, resolved) in settings.filter(|(_, resolved)| all || resolved.is_set_by_policy()) {
        if category != setting.category {
            out!("{}{}", if category.is_empty() { "" } else { "\n" }, setting.category);
            category = setting.category;
        }
        let value = resolved.value.as_ref().map_or_else(|| "not set".to_owned(), shown);
        let note = match &resolved.origin {
            Open::Known(Origin::Policy { level: Level::Recommended, .. }) => "  (recommended)",
            Open::Known(Origin::LastGood { .. }) => "  (last good value)",
            Open::Known(Origin::Strict) => "  (strict choice)",
            Open::Known(Origin::Default) => "  (default)",
            Open::Known(Origin::Policy { .. } | Origin::Unset) | Open::Unknown(_) => "",
        };
        out!("{}", hanging(&format!("  {:<30}", resolved.key), &format!("{value}{note}")));
    }
    if category.is_empty() {
        out!("Policy sets nothing. `--all` shows the defaults.");
    }
    print_problems(&policy.problems);
}

/// All settings with what they are for, or those that a word is about.
fn list(word: Option<&str>, json: bool) {
    let word = word.map(str::to_lowercase);
    let is_about = |setting: &Setting| {
        let texts = [setting.key, setting.category].into_iter().chain(setting.documentation.iter().copied());
        word.as_ref().is_none_or(|word| texts.into_iter().any(|text| text.to_lowercase().contains(word)))
    };
    let settings: Vec<&Setting> = SETTINGS.iter().filter(|setting| is_about(setting)).collect();
    if json {
        let listed: Vec<_> = settings
            .iter()
            .map(|setting| {
                serde_json::json!({
                    "key": setting.key,
                    "category": setting.category,
                    "title": setting.title(),
                    "explanation": explanation(setting),
                    "expected": setting.kind.expectation(),
                    "default": setting.default.map(policy_schema::value::Literal::to_raw),
                    "example": setting.example.to_raw(),
                })
            })
            .collect();
        out!("{}", serde_json::to_string_pretty(&listed).unwrap_or_default());
        return;
    }
    let mut category = "";
    for setting in &settings {
        if category != setting.category {
            out!("{}{}", if category.is_empty() { "" } else { "\n" }, setting.category);
            category = setting.category;
        }
        out!("{}", hanging(&format!("  {:<30}", setting.key), &explanation(setting)));
    }
    if settings.is_empty() {
        out!("No setting matches that word.");
    }
}

fn explanation(setting: &Setting) -> String {
    let lines = setting.documentation.get(1..).unwrap_or_default();
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// What the user who asks has chosen for a setting that a user may override, and whether it counts.
fn preference(paths: &Paths, setting: &Setting) -> Option<String> {
    if !setting.user_may_override {
        return None;
    }
    let Some(source) = preferences::read(paths) else {
        return Some(format!("no choice; it would be in {}", preferences::WHERE));
    };
    let place = source.name.clone();
    let own = resolve(&[source], &LastGood::default());
    let problem = own
        .problems
        .iter()
        .find(|problem| problem.key.as_deref() == Some(setting.key) || problem.key.is_none());
    let chosen = own.settings.iter().find(|own| own.key == setting.key && own.origin.is_set_by_policy());
    // As the broker sees it.
    let left = Configuration::load(paths).map(|configuration| configuration.left_to_user);
    let counts = match left {
        Ok(left) if left.iter().any(|left| left == setting.key) => "used instead of the value above",
        Ok(_) => "not used, because policy enforces a value, or cannot be read",
        Err(_) => "not used yet, because the agent has not run",
    };
    Some(match (problem, chosen.and_then(|own| own.value.as_ref())) {
        (Some(problem), _) => format!("not used: {} (in {place})", problem.message),
        (None, Some(value)) => format!("{} in {place}, {counts}", shown(&value.to_shown())),
        (None, None) => format!("no choice in {place}"),
    })
}

/// Why releases are trusted, for the settings that say so.
fn trust(policy: &ResolvedPolicy, key: &str) -> Option<&'static str> {
    let is_set = |key| policy.get(key).is_some_and(|setting| setting.value.is_some());
    if matches!(key, "AgentUpdateFeed" | "AgentUpdateTrustedRoots") {
        let (own, shared) = (is_set("AgentUpdateTrustedRoots"), is_set("UpdateTrustedRoots"));
        return Some(match (own, shared) {
            (true, _) => {
                "a signed repository: only what is signed from `AgentUpdateTrustedRoots` is installed"
            }
            (false, true) => {
                "a signed repository: only what is signed from `UpdateTrustedRoots` is installed"
            }
            (false, false) => "none: without roots to trust, no version of the agent is installed",
        });
    }
    if !matches!(key, "UpdateFeed" | "UpdateTrustedRoots") {
        return None;
    }
    Some(if is_set("UpdateTrustedRoots") {
        "a signed repository (The Update Framework): only what is signed from `UpdateTrustedRoots` is installed"
    } else {
        "a feed that is not signed: it is trusted for its address, and installers for their publisher"
    })
}

fn explain(paths: &Paths, policy: &ResolvedPolicy, key: &str, json: bool) -> anyhow::Result<ExitCode> {
    let Some(resolved) = policy.get(key) else {
        let names = SETTINGS.iter().map(|setting| setting.key);
        let close = policy_schema::nearest(key, names);
        let hint = close.map_or_else(String::new, |close| format!("\n  hint: did you mean `{close}`?"));
        anyhow::bail!("`{key}` is not the name of a setting{hint}");
    };
    let setting = SETTINGS.iter().find(|setting| setting.key == resolved.key);
    let preference = setting.and_then(|setting| preference(paths, setting));
    let trust = trust(policy, &resolved.key);
    if json {
        let mut document = serde_json::to_value(resolved)?;
        for (name, text) in [("preference", preference.as_deref()), ("trust", trust)] {
            if let (Some(members), Some(text)) = (document.as_object_mut(), text) {
                members.insert(name.to_owned(), text.into());
            }
        }
        out!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(ExitCode::SUCCESS);
    }
    let value = resolved.value.as_ref().map_or_else(|| "not set".to_owned(), shown);
    out!("{} = {value}", resolved.key);
    let line = |label: &str, text: &str| out!("{}", hanging(&format!("  {label:<11}"), text));
    match &resolved.origin {
        Open::Known(Origin::Policy { source, level }) => {
            line("level", level_name(*level));
            line("source", source);
        }
        Open::Known(Origin::LastGood { .. }) => {
            line("from", "the last good value, because the value of the strongest source is not valid");
        }
        Open::Known(Origin::Strict) => {
            line("from", "the strict choice, because the value of policy is not valid");
        }
        Open::Known(Origin::Default) => line("from", "the default, because no source sets it"),
        Open::Known(Origin::Unset) => line("from", "no source sets it, and there is no default"),
        Open::Unknown(_) => line("from", "an origin that only a newer version knows"),
    }
    if let Some(since) = resolved.since {
        line("since", &since.strftime("%Y-%m-%d %H:%M UTC").to_string());
    }
    match &resolved.last_good {
        Some(known) => line(
            "last good",
            &format!(
                "{}, since {}, from {}",
                shown(&known.value),
                known.since.strftime("%Y-%m-%d %H:%M UTC"),
                known.source
            ),
        ),
        None => line("last good", "none"),
    }
    for other in &resolved.overridden {
        let value = other.value.as_ref().map_or_else(|| "a value that is not valid".to_owned(), shown);
        let level = other.level.known().map_or("unknown", level_name);
        line("overridden", &format!("{value} in {} ({level})", other.source));
        line("", &format!("because {}", other.reason));
    }
    if let Some(trust) = trust {
        line("trust", trust);
    }
    if let Some(preference) = preference {
        line("your own", &preference);
    }
    if let Some(setting) = setting {
        out!("\n{}", setting.title());
        out!("{}", hanging("  ", &explanation(setting)));
        out!("{}", hanging("  ", &format!("Expected: {}.", setting.kind.expectation())));
    }
    let problems: Vec<Problem> = policy
        .problems
        .iter()
        .filter(|problem| problem.key.as_deref() == Some(&resolved.key))
        .cloned()
        .collect();
    print_problems(&problems);
    Ok(ExitCode::SUCCESS)
}

/// Compares what the sources say now with what the agent applied last: its policy if it runs, else the last good
/// values.
async fn diff(paths: &Paths, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::read_only(paths.clone());
    let sources = view(store.preview(clock::now()));
    let applied: BTreeMap<String, serde_json::Value> =
        match call(&paths.agent_socket(), &POLICY, &Nothing {}).await {
            Ok(policy) => {
                let set = policy.settings.into_iter().filter(ResolvedSetting::is_set_by_policy);
                set.filter_map(|setting| Some((setting.key, setting.value?))).collect()
            }
            Err(CallError::Absent { address, .. }) => {
                err!("steward: no agent listens at {address}; compared with the last good values\n");
                let last_good = store.last_good().map_err(|problem| anyhow::anyhow!("{problem}"))?;
                let known = SETTINGS.iter().filter_map(|setting| {
                    Some((setting.key.to_owned(), LastGoodValue::of(setting.key, last_good)?.value))
                });
                known.collect()
            }
            Err(error) => return Err(error.into()),
        };
    let mut differences = Vec::new();
    for setting in SETTINGS {
        let before = applied.get(setting.key);
        let after = sources
            .get(setting.key)
            .filter(|setting| setting.is_set_by_policy())
            .and_then(|setting| setting.value.as_ref());
        if before == after {
            continue;
        }
        differences.push(serde_json::json!({ "key": setting.key, "applied": before, "sources": after }));
        for (tone, sign, value) in [(Tone::Bad, "-", before), (Tone::Good, "+", after)] {
            if let Some(value) = value.filter(|_| !json) {
                let line = hanging(&format!("{sign} {:<30}", setting.key), &shown(value));
                out_painted!(tone, sign, "{}", line.get(1..).unwrap_or_default());
            }
        }
    }
    if json {
        out!("{}", serde_json::to_string_pretty(&differences)?);
    } else if differences.is_empty() {
        out!("The applied policy matches all sources. (A change of a secret is not shown.)");
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(paths: &Paths, files: &[PathBuf], json: bool) -> ExitCode {
    let documents = Documents::read(paths, files);
    let resolved = documents.resolve();
    let errors = resolved.problems.iter().filter(|problem| problem.severity.is_error()).count();
    if json {
        let policy = ResolvedPolicy::new(&resolved, &LastGood::default(), resolved.problems.clone());
        out!("{}", serde_json::to_string_pretty(&policy).unwrap_or_default());
    } else {
        let set = resolved.settings.iter().filter(|setting| matches!(setting.origin, Origin::Policy { .. }));
        let settings = counted(set.count(), "setting");
        let warnings = resolved
            .problems
            .iter()
            .filter(|problem| problem.severity == Open::Known(Severity::Warning))
            .count();
        let notes = resolved.problems.len() - errors - warnings;
        let notes = if notes == 0 { String::new() } else { format!(", {}", counted(notes, "note")) };
        if resolved.problems.is_empty() {
            out!("{settings}, no problems.");
        } else {
            out!("{settings}: {}, {}{notes}.", counted(errors, "error"), counted(warnings, "warning"));
        }
        print_problems_in(&resolved.problems, &documents);
    }
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Enforced => "enforced",
        Level::Recommended => "recommended",
    }
}
