//! The command line: arguments in, text out. Called by the binary. The only module that prints.

/// Prints a line. It is no error if the reader has closed the pipe (`steward status | head -1`). Much of a text comes from
/// others (providers, files, users), and a terminal must not obey control characters in it.
macro_rules! out {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{}", $crate::cli::harmless(&format!($($text)*)));
    }};
}

/// Prints a line that begins with a word of ours in its colour.
macro_rules! out_painted {
    ($tone:expr, $word:expr, $($text:tt)*) => {{
        use std::io::Write as _;
        let word = $crate::cli::terminal::painted($tone, $word);
        let _ = writeln!(std::io::stdout(), "{word}{}", $crate::cli::harmless(&format!($($text)*)));
    }};
}

/// Prints a line to standard error.
macro_rules! err {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", $crate::cli::harmless(&format!($($text)*)));
    }};
}

mod agent;
mod cleanup;
mod doctor;
mod documents;
mod export;
mod plan;
mod policy;
mod repo;
mod report;
mod self_update;
mod setup;
mod sign_in;
mod status;
mod support;
mod terminal;
mod token;
mod update;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use net::chain;
use net::client::CallError;
use platform::paths::Paths;
use platform::quoted;
use platform::role::Role;
use platform::service::StopSignal;
use policy_schema::counted;
use serde_json::json;

use crate::health::encode::Encoding;
use crate::{logging, version};
use terminal::Color;

/// Prepares a managed desktop app, keeps it up to date, signs users in and reports health, as policy says.
///
/// Policy comes from the sources of the operating system: TOML files in /etc/steward/policy.d/ on Linux,
/// HKLM\SOFTWARE\Policies\Steward on Windows, the managed preferences of dev.steward.agent on macOS. Start with
/// `steward status`.
#[derive(Parser)]
#[command(name = "steward", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    /// Use the files below this folder instead of those of the system (for tests and demonstrations).
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print everything as JSON, errors as well.
    #[arg(long, global = true)]
    json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    color: Color,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the machine service in the foreground.
    Agent {
        #[command(subcommand)]
        verb: Option<AgentVerb>,
    },
    /// Run the machine service under the service control manager of Windows, which starts this.
    #[command(hide = true)]
    Service,
    /// Run the broker of the current user in the foreground, or show its callers or its API.
    Broker {
        #[command(subcommand)]
        verb: Option<BrokerVerb>,
    },
    /// Show the health of this device, and what to do if something is wrong.
    Status {
        /// Print the JSON Schema of the status and of reports.
        #[arg(long)]
        schema: bool,
        /// Show it again every few seconds, until Ctrl-C.
        #[arg(long, conflicts_with = "schema")]
        watch: bool,
    },
    /// Set up sign-in: write the policy, all profiles and step-by-step instructions.
    ///
    /// Asks for values that are not given, and compares them with the identity provider's discovery document. Then
    /// writes a folder with the policy, all profiles, and instructions for the identity provider, AWS, the Amazon Quick
    /// console and the MDM.
    Setup(setup::Arguments),
    /// Find out what is wrong with sign-in, app and network, and what to do about it.
    ///
    /// Examines the policy that is in effect on this device, or one that is not installed yet (`--policy`). The exit
    /// code is 0 if nothing is wrong, 1 if there are warnings, 2 if something does not work.
    Doctor(doctor::Arguments),
    /// Show, explain, check or reload policy.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Write the templates, profiles and scripts that administrators deploy, with the values of a policy file.
    Export(export::Arguments),
    /// Check for an update of the app now, and install it if policy allows it (administrators only).
    ///
    /// Shows how it goes. The other commands below it say what would happen, what has happened, and hold, release or roll back
    /// updates on this device.
    Update(update::Arguments),
    /// Make a signed repository of releases, for whoever decides what a fleet installs (`UpdateTrustedRoots`).
    #[command(subcommand)]
    Repo(repo::Verb),
    /// Replace this program by a newer version from a signed repository, where no package installed it.
    ///
    /// The agent of a fleet does that by itself (`AgentUpdateFeed`). This is for a program that somebody copied to a machine.
    SelfUpdate(self_update::Arguments),
    /// Print the health report for a collector, or show what is sent.
    ///
    /// The agent makes the report, so every format says the same as what is sent. Before the agent has run, and while it does not,
    /// this says what is known then, with the exit code 0.
    Report {
        /// The format that the collector reads.
        #[arg(long, value_enum, default_value = "text")]
        format: Encoding,
        /// Print one fact only, as `--format intune` names it: for an extension attribute of Jamf Pro.
        #[arg(long, value_name = "NAME", value_parser = report::FACT_NAMES, requires = "format")]
        key: Option<String>,
        /// Show exactly what would be sent now, to whom, when, and what policy leaves out.
        #[arg(long, conflicts_with = "format")]
        show: bool,
    },
    /// Write a file for support: status, policy, findings of the doctor and logs, without secrets.
    SupportBundle(support::Arguments),
    /// Sign in through the browser.
    Login(sign_in::LoginArguments),
    /// Print a token for a program. The broker renews it as needed.
    Token(token::Arguments),
    /// Show who is signed in.
    Whoami,
    /// Sign out on this device, and at the identity provider if it offers that.
    Logout(sign_in::LogoutArguments),
    /// Remove everything that Steward wrote on this device, before it is uninstalled (administrators only).
    ///
    /// Removes what Steward set for the managed app, and its own state: last good values, reports that wait, downloads. The
    /// agent must not run. Policy stays, and so do installed versions of the app.
    Cleanup(cleanup::Arguments),
    /// Print the version.
    Version,
    /// Print the completions of the command line for a shell: `steward completions bash`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command.
    Man {
        /// The folder to write into. It is created if it does not exist.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
}

#[derive(Subcommand)]
enum AgentVerb {
    /// Check for an update and install it, as the machine service requested: its unit for updates runs this.
    #[command(hide = true)]
    PerformUpdate,
}

#[derive(Subcommand)]
enum BrokerVerb {
    /// Show which programs requested tokens, and which of them were refused.
    Callers,
    /// Print the OpenAPI document of the broker's local API.
    Openapi,
}

/// The command line of the verbs that programs run often. To build the description of all verbs takes longer than such
/// a verb itself.
#[derive(Parser)]
struct Short {
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: ShortVerb,
}

#[derive(Subcommand)]
enum ShortVerb {
    Token(token::Arguments),
}

impl Arguments {
    fn read() -> Result<Self, clap::Error> {
        match Short::try_parse() {
            Ok(Short { root, json, verb: ShortVerb::Token(arguments) }) => {
                Ok(Self { root, json, color: Color::Never, verb: Verb::Token(arguments) })
            }
            // Another verb, a request for help, or a mistake: the whole command line handles it.
            Err(_) => Self::try_parse(),
        }
    }
}

/// Prints what clap says about a command line: help, or a mistake. For scripts that asked for it, as JSON.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        print_error(&json!({ "message": error.to_string().trim() }));
    } else {
        // Help that cannot be printed is no failure.
        drop(error.print());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints an error as JSON, where scripts look for the result.
fn print_error(error: &serde_json::Value) {
    out!("{}", serde_json::to_string_pretty(&json!({ "error": error })).unwrap_or_default());
}

/// Runs the command line. Exit codes: 0 is success, 1 a problem, 2 a command line that is not valid.
#[must_use]
pub fn main() -> ExitCode {
    let read = Arguments::read();
    if let Some(ended) = agent::run_newer(&read) {
        return ended;
    }
    let Arguments { root, json, color, verb } = match read {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    terminal::set_color(color);
    let root = match root.map(fs_err::canonicalize).transpose() {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return fail("--root: there is no such folder", json);
        }
        Err(error) => return fail(&format!("--root: {error}"), json),
    };
    let paths = Paths::new(root);
    if matches!(verb, Verb::Service) {
        return match platform::service::dispatch(move |stop| run_service(&paths, stop)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("the service control manager did not start this: {error}"), json),
        };
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the event loop cannot be started: {error}"), json),
    };
    let result = runtime.block_on(dispatch(paths, verb, json));
    // A call of a secret store that hangs must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<CallError>() {
            Some(CallError::Refused(problem)) if json => {
                print_error(&serde_json::to_value(problem).unwrap_or_default());
                ExitCode::FAILURE
            }
            Some(CallError::Refused(problem)) => fail(&format!("{problem}"), json),
            Some(CallError::Absent { address, .. }) => {
                let start = platform::service::START;
                fail(&format!("no agent listens at {address}\n  hint: start it: {start}"), json)
            }
            Some(_) | None => fail(&chain(error.as_ref()), json),
        },
    }
}

/// Runs the machine service on the thread of the service control manager. Gives whether it ended well.
fn run_service(paths: &Paths, mut stop: StopSignal) -> bool {
    logging::start(paths, Role::Agent);
    platform::service::protect_memory();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("the event loop cannot be started: {error}");
            return false;
        }
    };
    let ended = runtime.block_on(agent::keep(paths, stop.wait()));
    runtime.shutdown_background();
    if let Err(error) = &ended {
        tracing::error!("{}", chain(error));
    }
    ended.is_ok()
}

async fn dispatch(paths: Paths, verb: Verb, json: bool) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Agent { verb: Some(AgentVerb::PerformUpdate) } => {
            platform::service::set_umask();
            logging::start(&paths, Role::Agent);
            crate::update::perform(&paths).await?;
        }
        Verb::Agent { verb: None } => {
            platform::service::set_umask();
            logging::start(&paths, Role::Agent);
            platform::service::protect_memory();
            let mut stop = StopSignal::new().context("cannot listen for signals")?;
            Box::pin(agent::keep(&paths, stop.wait())).await?;
        }
        // It has no event loop yet ([`main`]).
        Verb::Service => {}
        Verb::Broker { verb: None } => {
            logging::start(&paths, Role::Broker);
            platform::service::protect_memory();
            let mut stop = StopSignal::new().context("cannot listen for signals")?;
            broker::run(paths, stop.wait(), logging::set_level).await?;
        }
        Verb::Broker { verb: Some(BrokerVerb::Callers) } => sign_in::callers(&paths, json).await?,
        Verb::Broker { verb: Some(BrokerVerb::Openapi) } => {
            out!("{}", serde_json::to_string_pretty(&protocol::openapi::document())?);
        }
        Verb::Status { schema: true, .. } => status::schema()?,
        Verb::Status { watch: true, .. } => status::watch(&paths, json).await?,
        Verb::Status { .. } => return status::status(&paths, json).await,
        // The futures of these verbs are large. Boxed, they do not enlarge the stack of the services.
        Verb::Setup(arguments) => return Box::pin(setup::setup(&paths, arguments, json)).await,
        Verb::Repo(verb) => return Box::pin(repo::repo(&paths, verb, json)).await,
        Verb::SelfUpdate(arguments) => {
            return Box::pin(self_update::self_update(&paths, arguments, json)).await;
        }
        Verb::SupportBundle(arguments) => {
            return Box::pin(support::support_bundle(&paths, arguments, json)).await;
        }
        Verb::Doctor(arguments) => return Box::pin(doctor::doctor(&paths, arguments, json)).await,
        Verb::Export(arguments) => return export::export(&paths, &arguments, json),
        Verb::Policy(verb) => return policy::policy(&paths, verb, json).await,
        Verb::Update(arguments) => return Box::pin(update::update(&paths, arguments, json)).await,
        Verb::Report { show: true, .. } => return Box::pin(report::show(&paths, json)).await,
        Verb::Report { format, key, .. } => {
            if key.is_some() && format != Encoding::Jamf {
                anyhow::bail!("`--key` prints a fact for Jamf Pro: add `--format jamf`");
            }
            let format = if json { Encoding::Json } else { format };
            return Box::pin(report::report(&paths, format, key.as_deref())).await;
        }
        Verb::Login(arguments) => sign_in::login(&paths, arguments, json).await?,
        Verb::Token(arguments) => token::token(&paths, arguments, json).await?,
        Verb::Whoami => return sign_in::whoami(&paths, json).await,
        Verb::Logout(arguments) => sign_in::logout(&paths, arguments, json).await?,
        Verb::Cleanup(arguments) => cleanup::cleanup(&paths, &arguments, json).await?,
        Verb::Version if json => out!("{}", json!({ "version": version::own() })),
        Verb::Version => out!("steward {}", version::own()),
        Verb::Completions { shell } => completions(shell, json)?,
        Verb::Man { output } => manual_pages(&output, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn fail(message: &str, json: bool) -> ExitCode {
    if json {
        print_error(&json!({ "message": message }));
    } else {
        err!("steward: {message}");
    }
    ExitCode::FAILURE
}

fn completions(shell: clap_complete::Shell, json: bool) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "steward", &mut script);
    let script = String::from_utf8(script)?;
    if json {
        let document = json!({ "shell": shell.to_string(), "script": script });
        out!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        out!("{}", script.trim_end());
    }
    Ok(())
}

fn manual_pages(output: &Path, json: bool) -> anyhow::Result<()> {
    fs_err::create_dir_all(output)?;
    // Without an entry for the verb `help`, which repeats all of them.
    clap_mangen::generate_to(Arguments::command().disable_help_subcommand(true), output)?;
    if json {
        let pages = fs_err::read_dir(output)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut pages: Vec<String> = pages.filter(|name| name.starts_with("steward")).collect();
        pages.sort();
        out!("{}", serde_json::to_string_pretty(&json!({ "folder": output, "files": pages }))?);
    } else {
        let first = quoted(&output.join("steward.1"));
        out!("The manual pages are in {}; `man -l {first}` shows the first.", output.display());
    }
    Ok(())
}

/// A value as the reference writes it: `notify`, 30, true, [`a`, `b`].
fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) if text == "(set)" => text.clone(),
        serde_json::Value::String(text) => format!("`{text}`"),
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Object(_) => value.to_string(),
    }
}

/// A text whose control characters, except those between lines and columns, are replaced, and those that change the
/// direction of writing: with them a foreign address could look like another one.
fn harmless(text: &str) -> String {
    replace_controls(text, &['\n', '\t'])
}

/// A text of others that is only a part of a line: it does not begin another.
fn in_one_line(text: &str) -> String {
    replace_controls(text, &[])
}

fn replace_controls(text: &str, except: &[char]) -> String {
    let turns = |letter: char| matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_odd = |letter: char| (letter.is_control() || turns(letter)) && !except.contains(&letter);
    let plain = |letter: char| if is_odd(letter) { '\u{fffd}' } else { letter };
    text.chars().map(plain).collect()
}

/// A start and a text, wrapped at the width of the terminal. Further lines begin below the text.
fn hanging(start: &str, text: &str) -> String {
    let indent = start.chars().count();
    let lines = policy_schema::wrap(&in_one_line(text), terminal::width().saturating_sub(indent).max(30));
    format!("{start}{}", lines.join(&format!("\n{}", " ".repeat(indent)))).trim_end().to_owned()
}

/// A time as the device's clock shows it.
fn moment(time: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> String {
    zone.to_datetime(time).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by trial: the address in an ID token reached the terminal with its escape sequences.
    #[test]
    fn control_characters_of_others_are_replaced() {
        assert_eq!(harmless("\u{1b}[31mada\r\u{9b}2J\ta\nb"), "\u{fffd}[31mada\u{fffd}\u{fffd}2J\ta\nb");
        assert_eq!(in_one_line("a\nok  all is well"), "a\u{fffd}ok  all is well");
    }
}
