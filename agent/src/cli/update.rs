//! `steward update`: checks for an update at once and shows how it goes; holds, releases and rolls back; says what would happen.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use net::client::call;
use platform::clock;
use platform::paths::Paths;
use policy_schema::{Code, Component, Open, Problem};
use protocol::agent::{CHECK_FOR_UPDATE, STATUS, UPDATE_HISTORY};
use protocol::endpoint::Nothing;
use protocol::status::UpdateStatus;
use protocol::update::{Command, Happened, History, Progress, Stage, UpdateRequest};
use semver::Version;

use super::plan;
use super::policy::print_problems;
use super::{counted, hanging, moment};

/// The arguments of `steward update`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Say which release would be installed and when, on this device or in a whole fleet; changes nothing.
    ///
    /// Uses the policy and the feed of this device, or those that are given. With `--devices`, shows how a release reaches so many
    /// devices over time.
    Plan(plan::Arguments),
    /// Show what happened in updates of the app.
    History,
    /// Install no update on this device until it is released (administrators only).
    Hold {
        /// End the hold by itself after so many days.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=365))]
        days: Option<u16>,
    },
    /// End a hold, and let what failed too often be tried again (administrators only).
    Release {
        /// Let this quarantined version be installed again.
        version: Option<Version>,
    },
    /// Put the previous version of the app back, and quarantine the present one (administrators only).
    Rollback,
}

/// How often the progress of an update is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn update(paths: &Paths, arguments: Arguments, json: bool) -> anyhow::Result<ExitCode> {
    let command = match arguments.verb {
        None => None,
        Some(Verb::Plan(arguments)) => return plan::plan(paths, arguments, json).await,
        Some(Verb::History) => return history(paths, json).await,
        Some(Verb::Hold { days }) => {
            let until =
                |days: u16| clock::now().checked_add(SignedDuration::from_hours(24 * i64::from(days)));
            Some(Command::Hold { until: days.map(until).transpose()? })
        }
        Some(Verb::Release { version }) => Some(Command::Release { version }),
        Some(Verb::Rollback) => Some(Command::RollBack),
    };
    check(paths, command, json).await
}

async fn check(paths: &Paths, command: Option<Command>, json: bool) -> anyhow::Result<ExitCode> {
    let (commanded, rolls_back) = (command.is_some(), command == Some(Command::RollBack));
    let before = call(&paths.agent_socket(), &UPDATE_HISTORY, &Nothing {}).await.ok();
    let (socket, request) = (paths.agent_socket(), UpdateRequest { command });
    let mut checking = std::pin::pin!(call(&socket, &CHECK_FOR_UPDATE, &request));
    let mut shown = Shown::default();
    let status = loop {
        tokio::select! {
            status = &mut checking => break status,
            () = tokio::time::sleep(INTERVAL) => {
                if let Ok(status) = call(&paths.agent_socket(), &STATUS, &Nothing {}).await
                    && !json
                {
                    shown.show(&status.update, clock::monotonic());
                }
            }
        }
    };
    shown.end();
    let status = status?;
    let of_updates = |problem: &Problem| problem.code.known().map(Code::component) == Some(Component::Update);
    let problems: Vec<Problem> = status.problems.into_iter().filter(of_updates).collect();
    let failed = problems.iter().any(|problem| problem.severity.is_error());
    let code = if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if json {
        let document = serde_json::json!({ "update": status.update, "problems": problems });
        out!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(code);
    }
    if !status.update.managed && commanded && status.agent_update.is_some() {
        out!("Done for the agent itself: updates of the app are not managed on this device.");
        return Ok(code);
    }
    if !status.update.managed && commanded {
        out!("Nothing was done: updates are not managed on this device; see `UpdateMode` and `UpdateFeed`.");
        return Ok(ExitCode::FAILURE);
    }
    if !status.update.managed {
        out!("Updates are not managed on this device; see `UpdateMode` and `UpdateFeed`.");
        return Ok(ExitCode::SUCCESS);
    }
    if rolls_back {
        let after = call(&paths.agent_socket(), &UPDATE_HISTORY, &Nothing {}).await.ok();
        let news = |history: &History| {
            history.entries.iter().rev().find(|entry| entry.happened == Happened::RolledBack).cloned()
        };
        let (before, after) = (before.as_ref().and_then(news), after.as_ref().and_then(news));
        if let Some(entry) = after.filter(|after| Some(after) != before.as_ref()) {
            let version = entry.version.map_or_else(String::new, |version| version.to_string());
            out!("Version {version} was rolled back.");
            return Ok(ExitCode::SUCCESS);
        }
        out!("No version was put back: either none is kept, or the app is open; then close it first.");
        return Ok(ExitCode::FAILURE);
    }
    out!("{}", status.update.message.as_deref().unwrap_or("The feed has not been checked yet."));
    print_problems(&problems);
    Ok(code)
}

/// What was shown of an update last.
#[derive(Default)]
struct Shown {
    text: String,
    downloaded: Option<(u64, Duration)>,
    bar: bool,
}

impl Shown {
    /// A line for each change; on a terminal the same line again and again.
    fn show(&mut self, update: &UpdateStatus, now: Duration) {
        let Some(progress) = update.progress.as_ref().filter(|_| update.running) else { return };
        let Some(text) = describe(progress, self.rate(progress, now)) else { return };
        if text == self.text {
            return;
        }
        if std::io::stdout().is_terminal() {
            // What cannot be shown is no failure.
            let _ = write!(std::io::stdout(), "\r\u{1b}[K{}{}", super::in_one_line(&text), bar(progress));
            let _ = std::io::stdout().flush();
            self.bar = true;
        } else {
            out!("{text}");
        }
        self.text = text;
    }

    /// In bytes a second, since the last look.
    fn rate(&mut self, progress: &Progress, now: Duration) -> Option<u64> {
        let before = self.downloaded.replace((progress.downloaded, now));
        let (downloaded, at) = before?;
        let bytes = progress.downloaded.checked_sub(downloaded)?;
        let milliseconds = u64::try_from(now.saturating_sub(at).as_millis()).ok().filter(|time| *time > 0)?;
        (bytes > 0).then(|| bytes.saturating_mul(1000) / milliseconds)
    }

    fn end(&self) {
        if self.bar {
            let _ = write!(std::io::stdout(), "\r\u{1b}[K");
        }
    }
}

/// What an update that is under way does; `None` if that is nothing worth a line.
pub(super) fn describe(progress: &Progress, rate: Option<u64>) -> Option<String> {
    let version = progress.version.as_ref()?;
    Some(match progress.stage {
        Open::Known(Stage::Downloading) => {
            let rate = rate.map_or_else(String::new, |rate| format!(", {} a second", bytes(rate)));
            format!("downloading {version}: {} of {}{rate}", bytes(progress.downloaded), bytes(progress.size))
        }
        Open::Known(Stage::Verified | Stage::Installing) => format!("installing {version}"),
        Open::Known(Stage::Confirming) => format!("checking whether {version} starts"),
        Open::Known(Stage::RollingBack) => "putting the previous version back".to_owned(),
        Open::Known(Stage::Idle | Stage::Offered | Stage::Waiting | Stage::Committed | Stage::RolledBack)
        | Open::Unknown(_) => return None,
    })
}

fn bar(progress: &Progress) -> String {
    const WIDTH: u64 = 24;
    if progress.size == 0 || progress.downloaded > progress.size {
        return String::new();
    }
    let full = usize::try_from(progress.downloaded.saturating_mul(WIDTH) / progress.size).unwrap_or(0);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(full);
    format!(" [{}{}]", "#".repeat(full), "-".repeat(rest))
}

/// 12.3 MB.
pub(super) fn bytes(number: u64) -> String {
    match number {
        ..10_000 => format!("{number} bytes"),
        10_000..10_000_000 => format!("{} kB", number / 1000),
        _ => format!("{}.{} MB", number / 1_000_000, number % 1_000_000 / 100_000),
    }
}

async fn history(paths: &Paths, json: bool) -> anyhow::Result<ExitCode> {
    let history = call(&paths.agent_socket(), &UPDATE_HISTORY, &Nothing {}).await?;
    if json {
        out!("{}", serde_json::to_string_pretty(&history)?);
        return Ok(ExitCode::SUCCESS);
    }
    if history.entries.is_empty() {
        out!("Nothing has happened in updates of {} yet.", history.app);
        return Ok(ExitCode::SUCCESS);
    }
    let zone = platform::zone::local(paths);
    for entry in &history.entries {
        let happened = match &entry.happened {
            Open::Known(happened) => name(*happened),
            Open::Unknown(name) => name,
        };
        let version = entry.version.as_ref().map_or_else(String::new, ToString::to_string);
        let at = moment(entry.at, &zone);
        out!("{}", hanging(&format!("{at}  {happened:<11}  {version:<10}  "), &entry.message));
    }
    out!("\n{} of {}", counted(history.entries.len(), "event"), history.app);
    Ok(ExitCode::SUCCESS)
}

fn name(happened: Happened) -> &'static str {
    match happened {
        Happened::Offered => "offered",
        Happened::Withdrawn => "withdrawn",
        Happened::Failed => "failed",
        Happened::Installed => "installed",
        Happened::RolledBack => "rolled back",
        Happened::Held => "held",
        Happened::Released => "released",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_with_its_rate() {
        let mut shown = Shown::default();
        let at = |downloaded| Progress {
            stage: Stage::Downloading.into(),
            version: Some(Version::new(2, 0, 0)),
            downloaded,
            size: 100_000_000,
            until: None,
            extra: policy_schema::Extra::default(),
        };
        assert_eq!(shown.rate(&at(0), Duration::from_secs(1)), None);
        let rate = shown.rate(&at(50_000_000), Duration::from_secs(3));
        assert_eq!(rate, Some(25_000_000));
        let text = describe(&at(50_000_000), rate).unwrap();
        assert_eq!(text, "downloading 2.0.0: 50.0 MB of 100.0 MB, 25.0 MB a second");
        assert_eq!(bar(&at(50_000_000)), " [############------------]");
        // A download that began again.
        assert_eq!(shown.rate(&at(0), Duration::from_secs(4)), None);
    }
}
