//! `steward doctor`: what is examined, and how the findings look.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use agent_platform::paths::Paths;
use policy_schema::{LastGood, Policy, Problem, resolve};
use serde_json::json;

use super::hanging;
use super::policy::places;
use crate::api::{self, Explained};
use crate::app::descriptor;
use crate::broker::configuration::Configuration;
use crate::clock;
use crate::doctor::{self, Confidence, Diagnosis, Finding, Outcome, Subject};
use crate::health::model::Status;

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Arguments {
    /// Examine a policy that is not installed yet: a drop-in, property list, profile or Registry.pol. Given more than once,
    /// the last is strongest.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Sign in through the browser, renew the session, and compare what comes back.
    #[arg(long)]
    sign_in: bool,
    /// The address that the account is known by; compared to the letter with the one in the ID token.
    #[arg(long, value_name = "ADDRESS")]
    expect_email: Option<String>,
    /// What a browser or the app said; known errors are explained.
    #[arg(long, value_name = "TEXT")]
    said: Option<String>,
    /// Show what was looked at as well.
    #[arg(long)]
    details: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
    /// Print everything that can be named, with its cause and fix.
    #[arg(long, exclusive = true)]
    causes: bool,
}

/// Ends with 0 if nothing is wrong, with 1 if there are warnings, with 2 if something does not work.
pub(super) async fn doctor(paths: &Paths, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { policy, sign_in, expect_email, said, details, json, causes } = arguments;
    if causes {
        out!("{}", doctor::catalogue::reference()?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let subject = if policy.is_empty() { installed(paths).await } else { of_files(paths, &policy) };
    let subject = Subject { expected_email: expect_email, said, sign_in, ..subject };
    let findings = doctor::examine(subject, progress(json, sign_in)).await;
    let worst = doctor::worst(&findings);
    if json {
        out!("{}", serde_json::to_string_pretty(&json!({ "outcome": worst, "findings": findings }))?);
    } else {
        print(&findings, details);
        out!("\n{}", conclusion(&findings));
    }
    Ok(ExitCode::from(match worst {
        Outcome::Pass | Outcome::Skipped => 0,
        Outcome::Warning => 1,
        Outcome::Failure => 2,
    }))
}

/// What policy has put into effect on this device.
pub(super) async fn installed(paths: &Paths) -> Subject {
    let status = api::request::<Status>(&paths.agent_socket(), "GET", "/v1/status", None).await.ok();
    let explained = api::request::<Explained>(&paths.agent_socket(), "GET", "/v1/policy", None).await.ok();
    // Without a machine service: what it would read.
    let preview = || crate::policy::Store::look(paths.clone()).preview(clock::now());
    let (explained, configuration) = match (explained, Configuration::load(paths)) {
        (Some(explained), Ok(configuration)) => (explained, configuration),
        (explained, left) => {
            let snapshot = preview();
            let configuration = left.unwrap_or_else(|_| Configuration::from(&snapshot.resolved.policy));
            let problems = snapshot.problems.clone();
            (explained.unwrap_or_else(|| Explained::new(&snapshot, problems)), configuration)
        }
    };
    let value = |key: &str| {
        let story = explained.settings.iter().find(|story| story.key == key)?;
        story.value.as_ref()?.as_str().map(ToOwned::to_owned)
    };
    Subject {
        paths: paths.clone(),
        configuration,
        settings: explained.settings.iter().filter(|story| story.origin.is_of_policy()).count(),
        addresses: ["ReportUrl", "UpdateFeed"].iter().filter_map(|key| value(key)).collect(),
        app: value("App").and_then(|name| descriptor::find(&name)),
        policy_problems: explained.problems,
        before_roll_out: false,
        status,
        expected_email: None,
        said: None,
        sign_in: false,
    }
}

fn of_files(paths: &Paths, files: &[PathBuf]) -> Subject {
    let resolved = resolve(&places(files), &LastGood::default());
    let settings = resolved.settings.iter().filter(|setting| setting.origin.is_of_policy()).count();
    of_policy(paths, &resolved.policy, settings, resolved.problems)
}

/// A policy that is not in effect here.
pub(super) fn of_policy(
    paths: &Paths,
    policy: &Policy,
    settings: usize,
    policy_problems: Vec<Problem>,
) -> Subject {
    Subject {
        paths: paths.clone(),
        configuration: Configuration::from(policy),
        policy_problems,
        settings,
        addresses: [&policy.report_url, &policy.update_feed].into_iter().flatten().cloned().collect(),
        app: descriptor::find(&policy.app),
        before_roll_out: true,
        status: None,
        expected_email: None,
        said: None,
        sign_in: false,
    }
}

/// Tells a person who waits what is still going on.
pub(super) fn progress(quiet: bool, sign_in: bool) -> impl Fn(&str, usize) {
    let shown = !quiet && std::io::stderr().is_terminal();
    if shown {
        progress_line(if sign_in { "Sign in in the browser ..." } else { "Looking ..." });
    }
    move |name, left| {
        if shown {
            let rest = if left == 0 { String::new() } else { format!("{name} done, {left} to go ...") };
            progress_line(&rest);
        }
    }
}

/// Writes over what stood there before.
fn progress_line(text: &str) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr();
    // Nobody may be there to see it.
    let _ = write!(stderr, "{text:<50}\r");
}

pub(super) fn print(findings: &[Finding], details: bool) {
    for finding in findings {
        let mark = match finding.outcome {
            Outcome::Pass => "ok",
            Outcome::Skipped => "-",
            Outcome::Warning => "WARN",
            Outcome::Failure => "FAIL",
        };
        out!("{}", hanging(&format!("{mark:<5} {:<18} ", finding.check), &finding.summary));
        if details {
            finding.evidence.iter().for_each(|line| out!("        {}", plain(line)));
        }
        for diagnosis in &finding.diagnoses {
            print_diagnosis(diagnosis);
        }
    }
}

fn print_diagnosis(diagnosis: &Diagnosis) {
    let sure = match diagnosis.confidence {
        Confidence::Certain => "",
        Confidence::Likely => " (likely)",
        Confidence::Heuristic => " (a guess)",
    };
    out!("{}", hanging("      cause  ", &format!("{}{sure} [{}]", diagnosis.cause, diagnosis.id)));
    // Lines that stand below each other have to stay so.
    diagnosis.evidence.iter().for_each(|line| out!("      seen   {}", plain(line)));
    out!("{}", hanging("      fix    ", &diagnosis.fix));
    if let Some(link) = &diagnosis.link {
        out!("      more   {link}");
    }
}

fn conclusion(findings: &[Finding]) -> String {
    let count = |wanted: Outcome| findings.iter().filter(|finding| finding.outcome == wanted).count();
    let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match (count(Outcome::Failure), count(Outcome::Warning)) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, warnings) => format!("It works, with {}.", of(warnings, "warning")),
        (failures, 0) => format!("{} failed.", of(failures, "check")),
        (failures, warnings) => format!("{} failed, {}.", of(failures, "check"), of(warnings, "warning")),
    }
}

/// Foreign text that a terminal must not obey.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
