//! `steward login`, `whoami`, `logout`, `broker callers`: questions to the broker.

use std::process::ExitCode;

use agent_platform::paths::Paths;
use agent_platform::program;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::hanging;
use super::status::{ago, duration};
use crate::api::{self, AskError};
use crate::broker::api::LogoutAnswer;
use crate::broker::callers::Asked;
use crate::broker::sign_in::OtherDevice;
use crate::clock;
use crate::health::model::{SignIn, SignInState};

#[derive(Deserialize)]
struct LoginAnswer {
    authorization_url: String,
    device: Option<OtherDevice>,
    session: SignIn,
}

#[derive(Args)]
pub(super) struct LoginArguments {
    /// Print the address instead of opening a browser.
    #[arg(long)]
    no_browser: bool,
    /// Paste the address that the browser ends at: needs no free port, and the browser may be anywhere.
    #[arg(long, conflicts_with_all = ["no_browser", "device"])]
    paste: bool,
    /// Sign in on another device with a code (RFC 8628), if policy allows it.
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
}

#[derive(Args)]
pub(super) struct LogoutArguments {
    /// The account, by address or subject; by default the one that signed in last.
    #[arg(long)]
    account: Option<String>,
    /// Everybody who is signed in on this device.
    #[arg(long, conflicts_with = "account")]
    all: bool,
    /// Open the browser to end the session at the identity provider as well.
    #[arg(long)]
    browser: bool,
}

pub(super) async fn login(paths: &Paths, arguments: LoginArguments) -> anyhow::Result<()> {
    let LoginArguments { no_browser, paste, device } = arguments;
    let method = match (paste, device) {
        (true, _) => "paste",
        (_, true) => "device",
        (false, false) => "browser",
    };
    let browser = !(no_browser || paste || device);
    if browser {
        complain!("The browser opens at the identity provider.");
    } else {
        let question = json!({ "method": method, "browser": false, "wait": false });
        let begun: LoginAnswer = ask(paths, "/v1/login", Some(question)).await?;
        match &begun.device {
            Some(device) => out!(
                "Open {} on any device and enter the code {}.\nIt holds for {} minutes.",
                device.verification_uri,
                device.user_code,
                device.expires_in / 60
            ),
            None if paste => out!(
                "Open this address in a browser:\n\n{}\n\nAfter the sign-in the browser shows a page that cannot be \
                 opened. Copy its whole address and paste it here:",
                begun.authorization_url
            ),
            None => out!("Open this address in a browser on this device:\n\n{}\n", begun.authorization_url),
        }
    }
    let ended: LoginAnswer = if paste {
        let mut url = String::new();
        std::io::stdin().read_line(&mut url)?;
        ask(paths, "/v1/login/return", Some(json!({ "url": url.trim() }))).await?
    } else {
        // Joins the one that has begun.
        ask(paths, "/v1/login", Some(json!({ "method": method, "browser": browser }))).await?
    };
    out!("Signed in as {}.", ended.session.account.as_deref().unwrap_or("somebody"));
    super::policy::print_problems(&ended.session.problems);
    Ok(())
}

pub(super) async fn whoami(paths: &Paths, json: bool) -> anyhow::Result<ExitCode> {
    let session: SignIn = look(paths, "/v1/session").await?;
    if json {
        out!("{}", serde_json::to_string_pretty(&session)?);
    } else {
        if let (Some(account), Some(expires)) = (&session.account, session.token_expires_at) {
            out!("{account}, token for {}", duration(clock::now(), expires));
        } else {
            out!("Nobody is signed in.");
        }
        for other in &session.other_accounts {
            out!("{other}, with `--account {other}`");
        }
        super::policy::print_problems(&session.problems);
    }
    Ok(if session.state == SignInState::SignedIn { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn logout(paths: &Paths, arguments: LogoutArguments) -> anyhow::Result<()> {
    let question = json!({ "account": arguments.account, "all": arguments.all });
    let answer: LogoutAnswer = ask(paths, "/v1/logout", Some(question)).await?;
    out!("Signed out on this device.");
    for remark in &answer.remarks {
        complain!("note: {remark}");
    }
    match answer.end_session_url {
        Some(url) if arguments.browser => webbrowser::open(&url)
            .map_err(|error| anyhow::anyhow!("no browser could be opened: {error}\nopen by hand: {url}"))?,
        None if arguments.browser => {
            complain!("note: the identity provider offers no sign-out in the browser");
        }
        Some(_) | None => {}
    }
    Ok(())
}

/// An application that asked, and what brought it onto this device.
#[derive(Serialize)]
struct Known {
    #[serde(flatten)]
    asked: Asked,
    /// Its package, or who signed it, as far as the system can tell.
    origin: Option<String>,
}

pub(super) async fn callers(paths: &Paths, json: bool) -> anyhow::Result<()> {
    let asked: Vec<Asked> = look(paths, "/v1/callers").await?;
    let known = |asked: Asked| Known { origin: program::origin(asked.application.as_ref()), asked };
    let asked: Vec<Known> = asked.into_iter().map(known).collect();
    if json {
        out!("{}", serde_json::to_string_pretty(&asked)?);
        return Ok(());
    }
    if asked.is_empty() {
        out!("Nobody has asked for anything since the broker started.");
    }
    let now = clock::now();
    for Known { asked, origin } in &asked {
        let process = asked.process.map_or_else(String::new, |process| format!(" by process {process}"));
        let verdict = if asked.allowed { "allowed" } else { "refused" };
        let origin = origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"));
        out!("{}", hanging("", &format!("{}{origin}", asked.application)));
        let times =
            if asked.questions == 1 { "once".to_owned() } else { format!("{} times", asked.questions) };
        let last = ago(now, asked.last_at);
        out!("{}", hanging("  ", &format!("{verdict}: {} {times}, last {last}{process}", asked.route)));
        if let Some(reason) = &asked.reason {
            out!("{}", hanging("  ", reason));
        }
    }
    Ok(())
}

pub(super) async fn ask<T: serde::de::DeserializeOwned>(
    paths: &Paths,
    path: &str,
    question: Option<serde_json::Value>,
) -> anyhow::Result<T> {
    answer(paths, api::request(&paths.broker_socket(), "POST", path, question.as_ref()).await)
}

async fn look<T: serde::de::DeserializeOwned>(paths: &Paths, path: &str) -> anyhow::Result<T> {
    answer(paths, api::request(&paths.broker_socket(), "GET", path, None).await)
}

fn answer<T>(paths: &Paths, result: Result<T, AskError>) -> anyhow::Result<T> {
    result.map_err(|error| match error {
        AskError::Absent { .. } => anyhow::anyhow!(
            "no broker answers at {}\n  hint: it starts with the desktop session; `steward broker` starts one by hand",
            paths.broker_socket().display()
        ),
        other @ (AskError::Silent { .. } | AskError::Broken { .. } | AskError::Refused(_)) => other.into(),
    })
}
