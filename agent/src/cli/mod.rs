//! The command line: arguments in, text out. Called by the binary. The only module that prints.

/// Prints a line. It is no error if the reader has closed the pipe (`steward status | head -1`). Much of a text comes from
/// others (providers, files, users), and a terminal must not obey control characters in it.
macro_rules! out {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{}", $crate::cli::harmless(&format!($($text)*)));
    }};
}

/// Prints a line to standard error.
macro_rules! err {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", $crate::cli::harmless(&format!($($text)*)));
    }};
}

mod doctor;
mod documents;
mod export;
mod policy;
mod setup;
mod sign_in;
mod status;
mod support;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use net::chain;
use net::client::CallError;
use platform::paths::Paths;
use platform::service::StopSignal;

use crate::health::encode::Encoding;
use crate::{logging, service};

/// Text is wrapped at this width.
const WIDTH: usize = 80;

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
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the machine service in the foreground.
    Agent,
    /// Run the broker of the current user in the foreground, or show its callers or its API.
    Broker {
        #[command(subcommand)]
        verb: Option<BrokerVerb>,
    },
    /// Show the health of this device, and what to do if something is wrong.
    Status {
        /// Print the whole status as JSON.
        #[arg(long)]
        json: bool,
        /// Print the JSON Schema of the status and of reports.
        #[arg(long, conflicts_with = "json")]
        schema: bool,
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
    Update,
    /// Print the health report for a collector.
    Report {
        /// The format that the collector reads.
        #[arg(long, value_enum, default_value = "text")]
        format: Encoding,
    },
    /// Write a file for support: status, policy, findings of the doctor and logs, without secrets.
    SupportBundle(support::Arguments),
    /// Sign in through the browser.
    Login(sign_in::LoginArguments),
    /// Print a token for a program. The broker renews it as needed.
    Token(token::Arguments),
    /// Show who is signed in.
    Whoami {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sign out on this device, and at the identity provider if it offers that.
    Logout(sign_in::LogoutArguments),
}

#[derive(Subcommand)]
enum BrokerVerb {
    /// Show which programs requested tokens, and which of them were refused.
    Callers {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document of the broker's local API.
    Openapi,
}

/// The command line of the verbs that programs run often. To build the description of all verbs takes longer than such
/// a verb itself.
#[derive(Parser)]
struct Short {
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    verb: ShortVerb,
}

#[derive(Subcommand)]
enum ShortVerb {
    Token(token::Arguments),
}

impl Arguments {
    fn read() -> Self {
        match Short::try_parse() {
            Ok(Short { root, verb: ShortVerb::Token(arguments) }) => {
                Self { root, verb: Verb::Token(arguments) }
            }
            // Another verb, a request for help, or a mistake: the whole command line handles it.
            Err(_) => Self::parse(),
        }
    }
}

/// Runs the command line. Exit codes: 0 is success, 1 a problem, 2 a command line that is not valid.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { root, verb } = Arguments::read();
    let root = match root.map(fs_err::canonicalize).transpose() {
        Ok(root) => root,
        Err(error) => return fail(&format!("--root: {error}")),
    };
    let paths = Paths::new(root);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the event loop cannot be started: {error}")),
    };
    let result = runtime.block_on(dispatch(paths, verb));
    // A call of a secret store that hangs must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<CallError>() {
            Some(CallError::Refused(problem)) => fail(&format!("{problem}")),
            Some(_) | None => fail(&chain(error.as_ref())),
        },
    }
}

async fn dispatch(paths: Paths, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Agent => {
            logging::start();
            platform::service::set_umask();
            let mut stop = StopSignal::new().context("cannot listen for signals")?;
            service::run(paths, stop.wait()).await?;
        }
        Verb::Broker { verb: None } => {
            logging::start();
            let mut stop = StopSignal::new().context("cannot listen for signals")?;
            broker::run(paths, stop.wait(), logging::set_level).await?;
        }
        Verb::Broker { verb: Some(BrokerVerb::Callers { json }) } => sign_in::callers(&paths, json).await?,
        Verb::Broker { verb: Some(BrokerVerb::Openapi) } => {
            out!("{}", serde_json::to_string_pretty(&protocol::openapi::document())?);
        }
        Verb::Status { json, schema } => return status::status(&paths, json, schema).await,
        // The futures of these verbs are large. Boxed, they do not enlarge the stack of the services.
        Verb::Setup(arguments) => return Box::pin(setup::setup(&paths, arguments)).await,
        Verb::SupportBundle(arguments) => return Box::pin(support::support_bundle(&paths, arguments)).await,
        Verb::Doctor(arguments) => return Box::pin(doctor::doctor(&paths, arguments)).await,
        Verb::Export(arguments) => return export::export(&paths, &arguments),
        Verb::Policy(verb) => return policy::policy(&paths, verb).await,
        Verb::Update => return status::update(&paths).await,
        Verb::Report { format } => return status::report(&paths, format).await,
        Verb::Login(arguments) => sign_in::login(&paths, arguments).await?,
        Verb::Token(arguments) => token::token(&paths, arguments).await?,
        Verb::Whoami { json } => return sign_in::whoami(&paths, json).await,
        Verb::Logout(arguments) => sign_in::logout(&paths, arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn fail(message: &str) -> ExitCode {
    err!("steward: {message}");
    ExitCode::FAILURE
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

/// A text whose control characters, except those between lines and columns, are replaced.
fn harmless(text: &str) -> String {
    replace_controls(text, &['\n', '\t'])
}

/// A text of others that is only a part of a line: it does not begin another.
fn in_one_line(text: &str) -> String {
    replace_controls(text, &[])
}

fn replace_controls(text: &str, except: &[char]) -> String {
    let plain =
        |letter: char| if letter.is_control() && !except.contains(&letter) { '\u{fffd}' } else { letter };
    text.chars().map(plain).collect()
}

/// A start and a text, wrapped at [`WIDTH`]. Further lines begin below the text.
/// A number with its noun: `1 error`, `2 errors`.
fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn hanging(start: &str, text: &str) -> String {
    let indent = start.chars().count();
    let lines = policy_schema::wrap(&in_one_line(text), WIDTH.saturating_sub(indent).max(30));
    format!("{start}{}", lines.join(&format!("\n{}", " ".repeat(indent)))).trim_end().to_owned()
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
