//! `steward status`: what the agent and the broker report, as text or JSON.

use std::process::ExitCode;

use jiff::Timestamp;
use net::client::{CallError, call};
use platform::paths::Paths;
use platform::{clock, service as manager};
use policy_schema::Open;
use protocol::agent::STATUS;
use protocol::broker::SESSION;
use protocol::endpoint::Nothing;
use protocol::health::{Brokers, State, assess};
use protocol::overview::Overview;
use protocol::report::{Heartbeat, Preview, Receipt, Report};
use protocol::session::{Kept, SessionState, SessionStatus};
use protocol::status::{SignInStatus, Status, UpdateStatus};
use schemars::schema_for;

use super::policy::print_problems;
use super::terminal::{self, Tone};
use super::{counted, hanging};
use crate::service::status_file;

/// Prints the JSON Schema of the status and of reports.
pub(super) fn schema() -> anyhow::Result<()> {
    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is wanted")]
    struct Formats {
        /// What `steward status --json` prints.
        status: Overview,
        /// What a receiver of reports gets, and what `steward report --format json` prints.
        report: Report,
        /// What a receiver that takes heartbeats gets in place of a report that says the same as the one before.
        heartbeat: Heartbeat,
        /// What a receiver may say about a report or a heartbeat that it has.
        receipt: Receipt,
        /// What `steward report --show --json` prints.
        preview: Preview,
    }
    out!("{}", serde_json::to_string_pretty(&schema_for!(Formats))?);
    Ok(())
}

pub(super) async fn status(paths: &Paths, json: bool) -> anyhow::Result<ExitCode> {
    let overview = overview(paths).await?;
    if json {
        out!("{}", serde_json::to_string_pretty(&overview)?);
    } else {
        print(&overview);
    }
    Ok(if overview.health.known_state() == State::Pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How often the status is shown again.
const WATCH: std::time::Duration = std::time::Duration::from_secs(2);

/// Shows the status again and again, until Ctrl-C. With `--json`, one line each time.
pub(super) async fn watch(paths: &Paths, json: bool) -> anyhow::Result<()> {
    loop {
        let overview = overview(paths).await?;
        if json {
            out!("{}", serde_json::to_string(&overview)?);
        } else {
            terminal::clear();
            print(&overview);
            out!("\nEvery 2 seconds; Ctrl-C ends it.");
        }
        tokio::time::sleep(WATCH).await;
    }
}

pub(super) async fn overview(paths: &Paths) -> anyhow::Result<Overview> {
    let (agent_running, status) = match call(&paths.agent_socket(), &STATUS, &Nothing {}).await {
        Ok(status) => (true, Some(status)),
        Err(CallError::Absent { .. } | CallError::Silent { .. } | CallError::Broken { .. }) => {
            (false, status_file(paths).peek()?)
        }
        Err(error) => return Err(error.into()),
    };
    let (sign_in, silent) = match call(&paths.broker_socket(), &SESSION, &Nothing {}).await {
        Ok(session) => (Some(session), 0),
        Err(CallError::Absent { .. }) => (None, 0),
        Err(_) => (None, 1),
    };
    let brokers = Brokers { sessions: sign_in.as_slice(), silent };
    let health = assess(status.as_ref(), agent_running, brokers, clock::now());
    Ok(Overview { agent_running, status, sign_in, health })
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

fn print(overview: &Overview) {
    let now = clock::now();
    let state = overview.health.state();
    let tone = match overview.health.known_state() {
        State::Pass | State::Pending | State::NotApplicable => Tone::Good,
        State::Unknown | State::Stale => Tone::Doubtful,
        State::Fail | State::Error => Tone::Bad,
    };
    let text = hanging("Device    ", &format!("{state}: {}", overview.health.reason));
    let rest = text.strip_prefix("Device    ").and_then(|rest| rest.strip_prefix(state));
    out_painted!(tone, &format!("Device    {state}"), "{}", rest.unwrap_or_default());
    let mut problems = Vec::new();
    if let Some(status) = &overview.status {
        print_machine(overview, status, now);
        problems.extend(status.problems.iter().cloned());
    }
    if let Some(sign_in) = &overview.sign_in {
        print_sign_in(sign_in, now);
        problems.extend(sign_in.problems.iter().cloned());
    } else {
        line("Sign-in", "your broker does not run; `steward broker` starts it");
    }
    if let Some(sign_in) = overview.status.as_ref().and_then(|status| status.sign_in.as_ref()) {
        print_provider(sign_in, now);
    }
    if !overview.agent_running {
        out!("\nThe agent does not run. Start it: {}", manager::START);
    }
    print_problems(&problems);
    let contact = overview.status.as_ref().and_then(|status| status.policy.support_contact.as_ref());
    if let Some(contact) = contact.filter(|_| overview.health.known_state() == State::Fail) {
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
    if let Some(update) = &status.agent_update {
        line("", format!("updates of the agent: {}", update_line(update)));
    }
    let policy = &status.policy;
    line(
        "Policy",
        format!(
            "{}, {}, read {}",
            counted(policy.settings, "setting"),
            policy.hash,
            ago(now, policy.read_at)
        ),
    );
    for source in &policy.sources {
        let values =
            source.values.map_or_else(|| "cannot be read".to_owned(), |count| counted(count, "value"));
        line("", format!("{} ({values})", source.name));
    }
    let app = &status.app;
    let installed =
        app.installed.as_ref().map_or_else(|| ", not installed".to_owned(), |version| format!(" {version}"));
    match (&app.not_applicable, &app.configuration) {
        (Some(reason), _) => line("App", format!("{}: {reason}", app.title)),
        (None, Some(path)) => line("App", format!("{}{installed}, configured in {path}", app.title)),
        (None, None) => {
            line("App", format!("{}{installed}, not configured: policy sets nothing for it", app.title));
        }
    }
    let update = &status.update;
    if update.managed {
        line("Updates", update_line(update));
    } else {
        line("Updates", "not managed on this device".to_owned());
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

/// The mode of updates, and how far the present one is.
fn update_line(update: &UpdateStatus) -> String {
    let under_way = update.progress.as_ref().filter(|_| update.running);
    let message = match under_way.and_then(|progress| super::update::describe(progress, None)) {
        Some(text) => text,
        None if update.running => "checking the feed".to_owned(),
        None => update.message.clone().unwrap_or_else(|| "-".to_owned()),
    };
    let mode = match &update.mode {
        Some(Open::Known(mode)) => mode.as_str(),
        Some(Open::Unknown(mode)) => mode,
        None => "-",
    };
    format!("{mode}: {message}")
}

fn print_provider(sign_in: &SignInStatus, now: Timestamp) {
    if !sign_in.configured {
        return;
    }
    let checked = match sign_in.checked_at {
        Some(at) if sign_in.diagnoses.is_empty() => format!("identity provider checked {}", ago(now, at)),
        Some(at) => format!("identity provider checked {}, with problems", ago(now, at)),
        None => "identity provider not checked yet".to_owned(),
    };
    let proven = match sign_in.proven_at {
        Some(at) => format!("a user was signed in {}", ago(now, at)),
        None => "no user has signed in on this device yet".to_owned(),
    };
    line("", &format!("{checked}; {proven}"));
}

fn print_sign_in(sign_in: &SessionStatus, now: Timestamp) {
    let text = match sign_in.state.known() {
        Some(SessionState::SignedIn) => {
            let kept = match sign_in.kept.as_ref().and_then(Open::known) {
                Some(Kept::SecretStore) => ", kept in the secret store",
                Some(Kept::File) => ", kept in a file",
                Some(Kept::Memory) | None => ", kept in memory only",
            };
            let expires = sign_in
                .token_expires_at
                .map_or_else(String::new, |at| format!(", token for {}", duration(now, at)));
            format!("{}{expires}{kept}", sign_in.account.as_deref().unwrap_or("an unknown account"))
        }
        Some(SessionState::SigningIn) => "waiting for the browser".to_owned(),
        Some(SessionState::SignedOut) => "no user is signed in; `steward login` opens the browser".to_owned(),
        Some(SessionState::NotConfigured) => "not configured".to_owned(),
        None => "a state that only a newer version knows".to_owned(),
    };
    line("Sign-in", &text);
}

fn line(label: &str, text: &str) {
    out!("{}", hanging(&format!("{label:<10}"), text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shown_in_the_unit_that_fits() {
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
