//! `steward doctor`: chooses what to examine, and prints the findings. `steward setup` and `steward support-bundle` use
//! the same functions.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use broker::configuration::Configuration;
use net::client::call;
use platform::paths::Paths;
use policy_schema::settings::UpdateMode;
use policy_schema::{Open, Policy, Problem};
use protocol::agent::STATUS;
use protocol::diagnosis::{Confidence, Diagnosis};
use protocol::endpoint::Nothing;
use serde_json::json;

use super::documents::Documents;
use super::policy::{effective_or_preview, preview};
use super::terminal::Tone;
use super::{counted, hanging};
use crate::app::descriptor;
use crate::doctor::{self, Finding, Outcome, Subject};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Examine a policy that is not installed yet: a drop-in, property list, profile or Registry.pol. May be given more
    /// than once; the last file is the strongest.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Sign in through the browser, renew the session, and compare the tokens.
    #[arg(long)]
    sign_in: bool,
    /// The email address of the account. It must be identical to the address in the ID token.
    #[arg(long, value_name = "ADDRESS")]
    expect_email: Option<String>,
    /// The text of an error that the browser or the app showed. Known errors are explained.
    #[arg(long, value_name = "TEXT")]
    error_text: Option<String>,
    /// Show what each check observed as well.
    #[arg(long)]
    details: bool,
    /// Print all known causes with their fixes.
    #[arg(long, exclusive = true)]
    causes: bool,
}

/// The exit code is 0 if nothing is wrong, 1 if there are warnings, 2 if something does not work.
pub(super) async fn doctor(paths: &Paths, arguments: Arguments, json: bool) -> anyhow::Result<ExitCode> {
    let Arguments { policy, sign_in, expect_email, error_text, details, causes } = arguments;
    if causes {
        if json {
            out!("{}", serde_json::to_string_pretty(&json!({ "causes": doctor::reference::document() }))?);
        } else {
            out!("{}", doctor::reference::reference()?.trim_end());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let subject = if policy.is_empty() { installed(paths).await } else { of_files(paths, &policy)? };
    let subject = Subject { expected_email: expect_email, error_text, sign_in, ..subject };
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

/// The policy that is in effect on this device.
pub(super) async fn installed(paths: &Paths) -> Subject {
    let status = call(&paths.agent_socket(), &STATUS, &Nothing {}).await.ok();
    let policy = effective_or_preview(paths).await;
    let configuration =
        Configuration::load(paths).unwrap_or_else(|_| configuration(&preview(paths).resolved.policy));
    let value = |key: &str| policy.get(key)?.value.as_ref()?.as_str().map(ToOwned::to_owned);
    let list = |key: &str| {
        let items = policy.get(key).and_then(|setting| setting.value.as_ref()?.as_array());
        let texts = items.into_iter().flatten().filter_map(serde_json::Value::as_str);
        texts.map(ToOwned::to_owned).collect()
    };
    Subject {
        paths: paths.clone(),
        configuration,
        settings: policy.set_by_policy().count(),
        addresses: ["ReportUrl", "UpdateFeed"].iter().filter_map(|key| value(key)).collect(),
        publishers: (value("UpdateMode").as_deref() == Some("automatic")).then(|| list("UpdatePublishers")),
        app: value("App").and_then(|name| descriptor::find(&name)),
        policy_problems: policy.problems,
        before_roll_out: false,
        status,
        expected_email: None,
        error_text: None,
        sign_in: false,
    }
}

/// The sign-in settings of a policy.
pub(super) fn configuration(policy: &Policy) -> Configuration {
    descriptor::sign_in_configuration(policy)
}

fn of_files(paths: &Paths, files: &[PathBuf]) -> anyhow::Result<Subject> {
    let resolved = Documents::read(paths, files).opened()?.resolve();
    let settings = resolved.set_by_policy().count();
    Ok(of_policy(paths, &resolved.policy, settings, resolved.problems))
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
        configuration: configuration(policy),
        policy_problems,
        settings,
        addresses: [&policy.report_url, &policy.update_feed].into_iter().flatten().cloned().collect(),
        publishers: (policy.update_mode == UpdateMode::Automatic).then(|| policy.update_publishers.clone()),
        app: descriptor::find(&policy.app),
        before_roll_out: true,
        status: None,
        expected_email: None,
        error_text: None,
        sign_in: false,
    }
}

/// Shows the user at a terminal which groups of checks still run.
pub(super) fn progress(quiet: bool, sign_in: bool) -> impl Fn(&str, usize) {
    let shown = !quiet && std::io::stderr().is_terminal();
    if shown {
        progress_line(if sign_in { "Sign in through the browser ..." } else { "Checking ..." });
    }
    move |name, left| {
        if shown {
            let rest = if left == 0 { String::new() } else { format!("{name} done, {left} to go ...") };
            progress_line(&rest);
        }
    }
}

/// Replaces the text of the line.
fn progress_line(text: &str) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr();
    // Progress that cannot be shown is no failure.
    let _ = write!(stderr, "{text:<50}\r");
}

pub(super) fn print(findings: &[Finding], details: bool) {
    for finding in findings {
        let (tone, mark) = match finding.outcome {
            Outcome::Pass => (Tone::Good, "ok"),
            Outcome::Skipped => (Tone::Plain, "-"),
            Outcome::Warning => (Tone::Doubtful, "WARN"),
            Outcome::Failure => (Tone::Bad, "FAIL"),
        };
        let line = hanging(&format!("{mark:<5} {:<18} ", finding.check), &finding.summary);
        out_painted!(tone, mark, "{}", line.strip_prefix(mark).unwrap_or(&line));
        if details {
            finding.evidence.iter().for_each(|line| out!("        {}", super::in_one_line(line)));
        }
        for diagnosis in &finding.diagnoses {
            print_diagnosis(diagnosis);
        }
    }
}

fn print_diagnosis(diagnosis: &Diagnosis) {
    let suffix = match diagnosis.confidence.known() {
        Some(Confidence::Certain) => "",
        Some(Confidence::Likely) => " (likely)",
        Some(Confidence::Heuristic) | None => " (not certain)",
    };
    let id = match &diagnosis.id {
        Open::Known(cause) => cause.as_str(),
        Open::Unknown(id) => id,
    };
    out!("{}", hanging("      cause  ", &format!("{}{suffix} [{id}]", diagnosis.cause)));
    // These lines are not wrapped, because texts in them are compared column by column.
    diagnosis.evidence.iter().for_each(|line| out!("      seen   {}", super::in_one_line(line)));
    out!("{}", hanging("      fix    ", &diagnosis.fix));
    if let Some(link) = &diagnosis.link {
        out!("      more   {link}");
    }
}

fn conclusion(findings: &[Finding]) -> String {
    let count = |wanted: Outcome| findings.iter().filter(|finding| finding.outcome == wanted).count();
    match (count(Outcome::Failure), count(Outcome::Warning)) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, warnings) => format!("It works, with {}.", counted(warnings, "warning")),
        (failures, 0) => format!("{} failed.", counted(failures, "check")),
        (failures, warnings) => {
            format!("{} failed, {}.", counted(failures, "check"), counted(warnings, "warning"))
        }
    }
}
