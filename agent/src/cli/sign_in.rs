//! `steward login`, `token`, `whoami`, `logout`: questions to the broker.

use std::process::ExitCode;

use agent_platform::paths::Paths;
use serde::Deserialize;
use serde_json::json;

use super::status::duration;
use crate::api::{self, AskError};
use crate::broker::session::Grant;
use crate::clock;
use crate::health::model::{SignIn, SignInState};

#[derive(Deserialize)]
struct LoginAnswer {
    authorization_url: String,
    session: SignIn,
}

pub(super) async fn login(paths: &Paths, no_browser: bool) -> anyhow::Result<()> {
    if no_browser {
        let question = json!({ "browser": false, "wait": false });
        let begun: LoginAnswer = ask(paths, "/v1/login", Some(question)).await?;
        out!("Open this address in a browser on this device:\n\n{}\n", begun.authorization_url);
    } else {
        eprintln!("The browser opens at the identity provider.");
    }
    let question = json!({ "browser": !no_browser });
    let ended: LoginAnswer = ask(paths, "/v1/login", Some(question)).await?;
    out!("Signed in as {}.", ended.session.account.as_deref().unwrap_or("somebody"));
    super::policy::print_problems(&ended.session.problems);
    Ok(())
}

pub(super) async fn token(
    paths: &Paths,
    id_token: bool,
    json: bool,
    interactive: bool,
) -> anyhow::Result<()> {
    let grant: Grant = ask(paths, "/v1/token", Some(json!({ "interactive": interactive }))).await?;
    if json {
        out!("{}", serde_json::to_string_pretty(&grant)?);
    } else if id_token {
        out!("{}", grant.id_token);
    } else {
        out!("{}", grant.access_token);
    }
    Ok(())
}

pub(super) async fn whoami(paths: &Paths, json: bool) -> anyhow::Result<ExitCode> {
    let session: SignIn =
        answer(paths, api::request(&paths.broker_socket(), "GET", "/v1/session", None).await)?;
    if json {
        out!("{}", serde_json::to_string_pretty(&session)?);
    } else {
        if let (Some(account), Some(expires)) = (&session.account, session.token_expires_at) {
            out!("{account}, token for {}", duration(clock::now(), expires));
        } else {
            out!("Nobody is signed in.");
        }
        super::policy::print_problems(&session.problems);
    }
    Ok(if session.state == SignInState::SignedIn { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn logout(paths: &Paths) -> anyhow::Result<()> {
    let _: SignIn = ask(paths, "/v1/logout", None).await?;
    out!("Signed out on this device.");
    Ok(())
}

async fn ask<T: serde::de::DeserializeOwned>(
    paths: &Paths,
    path: &str,
    question: Option<serde_json::Value>,
) -> anyhow::Result<T> {
    answer(paths, api::request(&paths.broker_socket(), "POST", path, question.as_ref()).await)
}

fn answer<T>(paths: &Paths, result: Result<T, AskError>) -> anyhow::Result<T> {
    result.map_err(|error| match error {
        AskError::Absent { .. } => anyhow::anyhow!(
            "no broker answers at {}\n  hint: it starts with the desktop session; `steward broker` starts one by hand",
            paths.broker_socket().display()
        ),
        other @ (AskError::Broken { .. } | AskError::Refused(_)) => other.into(),
    })
}
