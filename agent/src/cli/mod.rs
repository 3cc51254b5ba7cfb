//! The command line: arguments in, text out. The only module that prints.

/// Prints a line. A reader that has gone (`steward status | head -1`) is no error.
macro_rules! out {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// The same for complaints.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod doctor;
mod export;
mod policy;
mod setup;
mod sign_in;
mod status;
mod support;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use agent_platform::paths::Paths;
use clap::{Parser, Subcommand};

use crate::api::AskError;
use crate::health::encode::Encoding;
use crate::http::chain;
use crate::{broker, logging, run};

/// How wide lines are for people.
const WIDTH: usize = 80;

/// Prepares a managed desktop app, keeps it up to date, signs people in and reports health, as policy says.
///
/// Policy comes from the place that the operating system keeps for it: TOML files in /etc/steward/policy.d/ on Linux,
/// HKLM\SOFTWARE\Policies\Steward on Windows, the managed preferences of dev.steward.agent on macOS. Start with
/// `steward status`.
#[derive(Parser)]
#[command(name = "steward", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    /// Put the whole layout of files below this folder (for tests and demonstrations).
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the machine service in the foreground.
    Agent,
    /// Run the broker of the person who calls it, in the foreground; or ask the one that runs.
    Broker {
        #[command(subcommand)]
        verb: Option<BrokerVerb>,
    },
    /// Show how everything is doing, and what to do if something is wrong.
    Status {
        /// Print all facts as JSON.
        #[arg(long)]
        json: bool,
        /// Print the JSON Schema of those facts, and of reports.
        #[arg(long, conflicts_with = "json")]
        schema: bool,
    },
    /// Set sign-in up: from a few answers to the policy, every profile, and what to do where.
    ///
    /// Asks for what is not given, compares it with what the identity provider says of itself, and writes a folder: the
    /// policy, every profile, and what to click, run and paste at the identity provider, in AWS, in the Amazon Quick
    /// console and in the MDM.
    Setup(setup::Arguments),
    /// Find out what is wrong with sign-in, app and network, and what to do about it.
    ///
    /// Examines the policy that is in effect here, or one that is not installed yet (`--policy`). Ends with 0 if nothing is
    /// wrong, with 1 if there are warnings, with 2 if something does not work.
    Doctor(doctor::Arguments),
    /// Show, explain, check or reload policy.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Write what administrators upload: templates, profiles, scripts, with the values of a policy file in them.
    Export(export::Arguments),
    /// Look for an update of the app now, and install it if policy wants that (administrators only).
    Update,
    /// Print the health report for whoever collects it.
    Report {
        /// Who collects it.
        #[arg(long, value_enum, default_value = "text")]
        format: Encoding,
    },
    /// Write a file for whoever helps: status, policy, findings of the doctor and logs, without anything secret.
    SupportBundle(support::Arguments),
    /// Sign in through the browser.
    Login(sign_in::LoginArguments),
    /// Print a token for a program; the session renews it as needed.
    Token(token::Arguments),
    /// Show who is signed in.
    Whoami {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a session on this device, and at the identity provider where it offers that.
    Logout(sign_in::LogoutArguments),
}

#[derive(Subcommand)]
enum BrokerVerb {
    /// Show which programs asked for tokens, and which were refused.
    Callers {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document of the broker's local API.
    Openapi,
}

/// The same for what programs run again and again: to describe every verb first would take longer than their question.
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
            // Another verb, a question for help, or a mistake, which the whole description explains best.
            Err(_) => Self::parse(),
        }
    }
}

/// Runs what the command line says. 0 is success, 1 a problem, 2 a command line that makes no sense.
pub(crate) fn main() -> ExitCode {
    let Arguments { root, verb } = Arguments::read();
    let root = match root.map(fs_err::canonicalize).transpose() {
        Ok(root) => root,
        Err(error) => return fail(&format!("--root: {error}")),
    };
    let paths = Paths::new(root);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the system gives no event loop: {error}")),
    };
    let result = runtime.block_on(dispatch(paths, verb));
    // A question to a secret store that hangs must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<AskError>() {
            Some(AskError::Refused(problem)) => fail(&format!("{problem}")),
            Some(_) | None => fail(&chain(error.as_ref())),
        },
    }
}

async fn dispatch(paths: Paths, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Agent => {
            logging::start();
            run::run(paths).await?;
        }
        Verb::Broker { verb: None } => {
            logging::start();
            broker::run(paths).await?;
        }
        Verb::Broker { verb: Some(BrokerVerb::Callers { json }) } => sign_in::callers(&paths, json).await?,
        Verb::Broker { verb: Some(BrokerVerb::Openapi) } => {
            out!("{}", serde_json::to_string_pretty(&broker::openapi::build())?);
        }
        Verb::Status { json, schema } => return status::status(&paths, json, schema).await,
        // Large ones lie elsewhere: what a service keeps on its stack must not be as large as what these need.
        Verb::Setup(arguments) => return Box::pin(setup::setup(&paths, arguments)).await,
        Verb::SupportBundle(arguments) => return Box::pin(support::support_bundle(&paths, arguments)).await,
        Verb::Doctor(arguments) => return Box::pin(doctor::doctor(&paths, arguments)).await,
        Verb::Export(arguments) => return export::export(&arguments),
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
    complain!("steward: {message}");
    ExitCode::FAILURE
}

/// A value as people write it: `notify`, 30, true, [`a`, `b`].
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

/// A text behind a start, in lines of at most 80 characters; what does not fit begins below the text.
fn hanging(start: &str, text: &str) -> String {
    let indent = start.chars().count();
    // Names of files come from elsewhere; a terminal must not obey them.
    let text: String =
        text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    let text = text.as_str();
    let lines = policy_schema::wrap(text, WIDTH.saturating_sub(indent).max(30));
    format!("{start}{}", lines.join(&format!("\n{}", " ".repeat(indent)))).trim_end().to_owned()
}
