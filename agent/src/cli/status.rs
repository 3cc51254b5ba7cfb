//! `steward status`, `steward report`, `steward update`.

use std::process::ExitCode;

use agent_platform::paths::Paths;
use agent_platform::service;
use jiff::Timestamp;
use policy_schema::Problem;
use policy_schema::settings::ReportIdentity;
use schemars::schema_for;

use super::hanging;
use super::policy::print_problems;
use crate::api::{self, AskError};
use crate::health::encode::{Encoding, encode};
use crate::health::model::{Kept, Overview, Report, SignIn, SignInState, State, Status, assess};
use crate::health::queue::Identity;
use crate::{clock, report, run};

pub(super) async fn status(paths: &Paths, json: bool, schema: bool) -> anyhow::Result<ExitCode> {
    if schema {
        #[derive(schemars::JsonSchema)]
        #[expect(dead_code, reason = "only its schema is wanted")]
        struct Formats {
            /// What `steward status --json` prints.
            status: Overview,
            /// What a receiver of reports gets, and `steward report --format json` prints.
            report: Report,
        }
        out!("{}", serde_json::to_string_pretty(&schema_for!(Formats))?);
        return Ok(ExitCode::SUCCESS);
    }
    let overview = overview(paths).await?;
    if json {
        out!("{}", serde_json::to_string_pretty(&overview)?);
    } else {
        print(&overview);
    }
    Ok(if overview.health.state == State::Pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn report(paths: &Paths, encoding: Encoding) -> anyhow::Result<ExitCode> {
    let overview = overview(paths).await?;
    let Some(status) = overview.status else {
        anyhow::bail!(
            "the agent has left no facts in {}; is it installed and running?",
            paths.state().display()
        );
    };
    // What is printed here goes to the device's own collectors, so it names nobody and counts nothing.
    let identity = Identity { device_id: "not-sent".to_owned(), epoch: "not-sent".to_owned(), sequence: 0 };
    let material = report::Material {
        paths: paths.clone(),
        status,
        news: true,
        identity: ReportIdentity::None,
        posture: true,
        interval: 3600,
    };
    let mut report = report::make(&material, &identity).await;
    report.health = assess(Some(&report.status), overview.agent_running, &report.sign_in, clock::now());
    out!("{}", encode(&report, encoding).trim_end());
    // A collector takes a failing exit for a failing collection, so a failing device is no failure here.
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn update(paths: &Paths) -> anyhow::Result<ExitCode> {
    let status: Status = api::request(&paths.agent_socket(), "POST", "/v1/update/check", None).await?;
    if !status.update.managed {
        out!("No versions are managed here; see `UpdateMode` and `UpdateFeed`.");
        return Ok(ExitCode::SUCCESS);
    }
    out!("{}", status.update.message.as_deref().unwrap_or("nothing is known yet"));
    let mine: Vec<Problem> =
        status.problems.into_iter().filter(|problem| problem.code.as_str().starts_with("update.")).collect();
    print_problems(&mine);
    let failed = mine.iter().any(|problem| problem.severity.is_error());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) async fn overview(paths: &Paths) -> anyhow::Result<Overview> {
    let asked = api::request(&paths.agent_socket(), "GET", "/v1/status", None).await;
    let (agent_running, status) = match asked {
        Ok(status) => (true, Some(status)),
        Err(AskError::Absent { .. } | AskError::Silent { .. }) => (false, left_behind(paths)?),
        Err(error) => return Err(error.into()),
    };
    let sign_in = api::request(&paths.broker_socket(), "GET", "/v1/session", None).await.ok();
    let health = assess(status.as_ref(), agent_running, sign_in.as_slice(), clock::now());
    Ok(Overview { agent_running, status, sign_in, health })
}

/// The facts that an agent wrote before it ended.
fn left_behind(paths: &Paths) -> anyhow::Result<Option<Status>> {
    match fs_err::read(run::status_path(paths)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn print(overview: &Overview) {
    let now = clock::now();
    line("Device", &format!("{}: {}", overview.health.state.as_str(), overview.health.reason));
    let mut problems = Vec::new();
    if let Some(status) = &overview.status {
        print_machine(overview, status, now);
        problems.extend(status.problems.iter().cloned());
    }
    if let Some(sign_in) = &overview.sign_in {
        print_sign_in(sign_in, now);
        problems.extend(sign_in.problems.iter().cloned());
    } else {
        line("Sign-in", "no broker runs for you; `steward broker` starts one");
    }
    if !overview.agent_running {
        out!("\nThe agent does not run. Start it: {}", service::START);
    }
    print_problems(&problems);
    let contact = overview.status.as_ref().and_then(|status| status.policy.support_contact.as_ref());
    if let Some(contact) = contact.filter(|_| overview.health.state == State::Fail) {
        out!("\nHelp: {contact}");
    }
}

fn print_machine(overview: &Overview, status: &Status, now: Timestamp) {
    let line = |label: &str, text: String| line(label, &text);
    let running = if overview.agent_running { "running" } else { "not running" };
    line(
        "Agent",
        format!("{running}, version {}, since {}", status.agent_version, ago(now, status.started_at)),
    );
    let policy = &status.policy;
    line(
        "Policy",
        format!("{} settings, {}, read {}", policy.settings, policy.hash, ago(now, policy.read_at)),
    );
    for place in &policy.places {
        let values =
            place.values.map_or_else(|| "cannot be read".to_owned(), |count| format!("{count} values"));
        line("", format!("{} ({values})", place.name));
    }
    let app = &status.app;
    let version = app.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
    match (&app.not_applicable, &app.configuration) {
        (Some(reason), _) => line("App", format!("{}: {reason}", app.title)),
        (None, Some(path)) => line("App", format!("{}{version}, configured in {path}", app.title)),
        (None, None) => {
            line("App", format!("{}{version}, not configured: policy says nothing for it", app.title));
        }
    }
    let update = &status.update;
    if update.managed {
        let message =
            if update.running { "looking at the feed" } else { update.message.as_deref().unwrap_or("-") };
        line("Updates", format!("{}: {message}", update.mode));
    } else {
        line("Updates", "no versions are managed here".to_owned());
    }
    let report = &status.report;
    match (&report.url, report.delivered_at) {
        (None, _) => line("Reports", "none are sent".to_owned()),
        (Some(url), Some(at)) => {
            line("Reports", format!("delivered {}, {} waiting, to {url}", ago(now, at), report.queued));
        }
        (Some(url), None) => {
            line("Reports", format!("none delivered yet, {} waiting, to {url}", report.queued));
        }
    }
}

fn print_sign_in(sign_in: &SignIn, now: Timestamp) {
    let text = match sign_in.state {
        SignInState::SignedIn => {
            let kept = match sign_in.kept {
                Some(Kept::SecretStore) => ", kept in the secret store",
                Some(Kept::File) => ", kept in a file",
                Some(Kept::Memory) | None => ", kept in memory only",
            };
            let expires = sign_in
                .token_expires_at
                .map_or_else(String::new, |at| format!(", token for {}", duration(now, at)));
            format!("{}{expires}{kept}", sign_in.account.as_deref().unwrap_or("somebody"))
        }
        SignInState::SigningIn => "waiting for the browser".to_owned(),
        SignInState::SignedOut => "nobody is signed in; `steward login` opens the browser".to_owned(),
        SignInState::NotConfigured => "not configured".to_owned(),
    };
    line("Sign-in", &text);
}

fn line(label: &str, text: &str) {
    out!("{}", hanging(&format!("{label:<10}"), text));
}

/// A time in the past: `just now`, `5 min ago`, a date.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> String {
    match then.duration_until(now).as_secs() {
        ..10 => "just now".to_owned(),
        seconds @ 10..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => then.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    }
}

/// How long until a time.
pub(super) fn duration(now: Timestamp, then: Timestamp) -> String {
    match now.duration_until(then).as_secs() {
        ..0 => "0 s".to_owned(),
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let cases = [(0, "just now"), (60, "60 s ago"), (600, "10 min ago"), (7200, "2 h ago")];
        for (seconds, expected) in cases {
            assert_eq!(ago(at(seconds), at(0)), expected);
        }
        assert_eq!(ago(at(1_000_000), at(0)), "1970-01-01 00:00 UTC");
        assert_eq!(duration(at(0), at(3540)), "59 min");
        assert_eq!(duration(at(5), at(0)), "0 s");
    }
}
