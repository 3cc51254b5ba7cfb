//! `steward login`, `whoami`, `logout`, `broker callers`: requests to the broker.

use std::process::ExitCode;
use std::time::Duration;

use broker::configuration::Configuration;
use clap::Args;
use net::client::{self, CallError};
use platform::paths::Paths;
use platform::{clock, process};
use policy_schema::{Code, Problem};
use protocol::broker::{
    CALLERS, CallerRecord, LOGIN, LOGIN_CANCEL, LOGIN_RETURN, LOGOUT, LoginRequest, LoginResponse,
    LoginReturnRequest, LogoutRequest, Method, SESSION,
};
use protocol::endpoint::{Endpoint, Nothing};
use protocol::session::SessionState;
use serde::Serialize;

use super::hanging;
use super::status::{ago, duration};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct LoginArguments {
    /// Print the address instead of opening a browser.
    #[arg(long)]
    no_browser: bool,
    /// Paste the address of the last page by hand. This needs no free port, and the browser may be on another device.
    #[arg(long, conflicts_with_all = ["no_browser", "device"])]
    paste: bool,
    /// Sign in on another device with a code (RFC 8628), if policy allows it.
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
    /// Only if policy, or the user's own preference, asks for a sign-in at logon and no user is signed in. The system runs this
    /// when a user logs on to the device.
    #[arg(long, conflicts_with_all = ["no_browser", "paste", "device"])]
    at_logon: bool,
}

#[derive(Args)]
pub(super) struct LogoutArguments {
    /// The account, by address or subject; by default the one that signed in last.
    #[arg(long)]
    account: Option<String>,
    /// All accounts on this device.
    #[arg(long, conflicts_with = "account")]
    all: bool,
    /// Open the browser to end the session at the identity provider as well.
    #[arg(long)]
    browser: bool,
}

/// How often, and how far apart, what starts at the same time as a logon is looked for.
const ATTEMPTS_AT_LOGON: u32 = 120;
const PAUSE_AT_LOGON: Duration = Duration::from_secs(1);

/// The broker waits for the user this long.
const LIMIT_IN_MINUTES: u64 = 5;

pub(super) async fn login(paths: &Paths, arguments: LoginArguments, json: bool) -> anyhow::Result<()> {
    let LoginArguments { no_browser, paste, device, at_logon } = arguments;
    if at_logon && !is_wanted_at_logon(paths).await {
        return Ok(());
    }
    let method = match (paste, device) {
        (true, _) => Method::Paste,
        (_, true) => Method::Device,
        (false, false) => Method::Browser,
    };
    let browser = !(no_browser || paste || device);
    // What a user needs to go on is the output; that a browser opens, is not.
    let say = |text: &str, is_output: bool| if json || !is_output { err!("{text}") } else { out!("{text}") };
    let finished = async {
        let mut browser = browser;
        loop {
            let request = LoginRequest { method, browser, wait: false, join: false };
            let started = begin(paths, &request, at_logon).await?;
            say(&announcement(&started, method, browser), !browser);
            if started.other_session && method == Method::Browser {
                let address = started.authorization_url.clone();
                // Some browsers return only when they are closed; without one, the address is printed.
                tokio::task::spawn_blocking(move || drop(webbrowser::open(&address)));
            }
            if method == Method::Browser {
                err!(
                    "Waiting up to {LIMIT_IN_MINUTES} minutes for you to finish there. Ctrl-C ends the sign-in."
                );
            }
            if paste {
                let line = tokio::task::spawn_blocking(|| {
                    let mut url = String::new();
                    std::io::stdin().read_line(&mut url).map(|_| url)
                });
                let url = line.await??.trim().to_owned();
                return call(paths, &LOGIN_RETURN, &LoginReturnRequest { url }).await;
            }
            let request = LoginRequest { method, browser: false, wait: true, join: true };
            match client::call(&paths.broker_socket(), &LOGIN, &request).await {
                // The user can open the address by hand.
                Err(CallError::Refused(problem)) if browser && problem.code == Code::SignInBrowserFailed => {
                    say(&format!("{}.", problem.message), false);
                    browser = false;
                }
                Ok(ended) => return Ok(ended),
                Err(error) => return Err(failed(paths, error)),
            }
        }
    };
    let ended = tokio::select! {
        ended = finished => ended?,
        _ = tokio::signal::ctrl_c() => {
            // The port is free for the next one. A broker that has gone has freed it as well.
            drop(call(paths, &LOGIN_CANCEL, &Nothing {}).await);
            anyhow::bail!("the sign-in was cancelled");
        }
    };
    if json {
        out!("{}", serde_json::to_string_pretty(&ended.session)?);
        return Ok(());
    }
    out!("Signed in as {}.", ended.session.account.as_deref().unwrap_or("an unknown account"));
    super::policy::print_problems(&ended.session.problems);
    Ok(())
}

/// Whether a sign-in begins because the user logged on to the device. Where that is not wanted, nothing is started and nothing
/// is said. The machine service, the broker and the secret store may start at the same time as this.
async fn is_wanted_at_logon(paths: &Paths) -> bool {
    let mut signed_out = false;
    for _ in 0..ATTEMPTS_AT_LOGON {
        match Configuration::load(paths) {
            Ok(configuration) if !configuration.sign_in_at_logon || configuration.client().is_err() => {
                return false;
            }
            Ok(_) => {
                if let Ok(session) = client::call(&paths.broker_socket(), &SESSION, &Nothing {}).await {
                    signed_out = session.state == SessionState::SignedOut;
                    // A store that is still locked may hold a session.
                    let is_locked = |problem: &Problem| problem.code == Code::VaultUnavailable;
                    if !signed_out || !session.problems.iter().any(is_locked) {
                        return signed_out;
                    }
                }
            }
            // The machine service has not come to it yet.
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE_AT_LOGON).await;
    }
    signed_out
}

/// Begins a sign-in. At logon the network may take a while.
async fn begin(paths: &Paths, request: &LoginRequest, at_logon: bool) -> anyhow::Result<LoginResponse> {
    let mut attempts = if at_logon { ATTEMPTS_AT_LOGON } else { 0 };
    loop {
        let refused = match client::call(&paths.broker_socket(), &LOGIN, request).await {
            Ok(started) => return Ok(started),
            Err(error) => error,
        };
        let unreachable = |problem: &Problem| problem.code == Code::SignInProviderUnreachable;
        let temporary = matches!(&refused, CallError::Refused(problem) if unreachable(problem));
        if !temporary || attempts == 0 {
            return Err(failed(paths, refused));
        }
        attempts -= 1;
        tokio::time::sleep(PAUSE_AT_LOGON).await;
    }
}

/// What the user has to do, and how long the broker waits for it.
fn announcement(started: &LoginResponse, method: Method, browser: bool) -> String {
    let url = &started.authorization_url;
    match (&started.device, method) {
        (Some(device), _) => format!(
            "Open {} on any device and enter the code {}.\nIt is valid for {} minutes. Ctrl-C ends the sign-in.",
            device.verification_uri,
            device.user_code,
            device.expires_in / 60
        ),
        (None, Method::Paste) => format!(
            "Open this address in a browser:\n\n{url}\n\nAfter the sign-in the browser shows a page that cannot be \
             opened. Copy its whole address and paste it here:"
        ),
        (None, _) if browser => {
            format!(
                "Signing in through the browser. If none opens, open this address on this device:\n\n{url}\n"
            )
        }
        (None, _) => format!("Open this address in a browser on this device:\n\n{url}\n"),
    }
}

pub(super) async fn whoami(paths: &Paths, json: bool) -> anyhow::Result<ExitCode> {
    let session = call(paths, &SESSION, &Nothing {}).await?;
    if json {
        out!("{}", serde_json::to_string_pretty(&session)?);
    } else {
        if let (Some(account), Some(expires)) = (&session.account, session.token_expires_at) {
            out!("{account}, token for {}", duration(clock::now(), expires));
        } else {
            out!("No user is signed in.");
        }
        for other in &session.other_accounts {
            out!("{other}, with `--account {other}`");
        }
        super::policy::print_problems(&session.problems);
    }
    Ok(if session.is_signed_in() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn logout(paths: &Paths, arguments: LogoutArguments, json: bool) -> anyhow::Result<()> {
    let before = call(paths, &SESSION, &Nothing {}).await?;
    let request = LogoutRequest { account: arguments.account, all: arguments.all };
    let response = call(paths, &LOGOUT, &request).await?;
    if json {
        out!("{}", serde_json::to_string_pretty(&response)?);
    } else if before.is_signed_in() || !before.other_accounts.is_empty() {
        out!("Signed out on this device.");
    } else {
        out!("No user was signed in.");
    }
    for remark in &response.remarks {
        err!("note: {remark}");
    }
    match response.end_session_url {
        Some(url) if arguments.browser => webbrowser::open(&url).map_err(|error| {
            anyhow::anyhow!("no browser could be opened: {error}\n  hint: open {url} by hand")
        })?,
        None if arguments.browser => {
            err!("note: the identity provider offers no sign-out in the browser");
        }
        Some(url) if !json => {
            err!(
                "note: the browser may still be signed in at the identity provider; to end that as well: {}",
                url
            );
        }
        Some(_) | None => {}
    }
    Ok(())
}

/// An application that sent a request, and where it comes from.
#[derive(Serialize)]
struct Caller {
    #[serde(flatten)]
    record: CallerRecord,
    /// The package that it belongs to or its signer, if the system knows.
    origin: Option<String>,
}

pub(super) async fn callers(paths: &Paths, json: bool) -> anyhow::Result<()> {
    let records = call(paths, &CALLERS, &Nothing {}).await?;
    let caller =
        |record: CallerRecord| Caller { origin: process::origin(record.application.as_ref()), record };
    let callers: Vec<Caller> = records.into_iter().map(caller).collect();
    if json {
        out!("{}", serde_json::to_string_pretty(&callers)?);
        return Ok(());
    }
    if callers.is_empty() {
        out!("No program has sent a request since the broker started.");
    }
    let now = clock::now();
    for Caller { record, origin } in &callers {
        let process = record.process.map_or_else(String::new, |process| format!(" by process {process}"));
        let verdict = if record.allowed { "allowed" } else { "refused" };
        let origin = origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"));
        out!("{}", hanging("", &format!("{}{origin}", record.application)));
        let times =
            if record.requests == 1 { "once".to_owned() } else { format!("{} times", record.requests) };
        let last = ago(now, record.last_at);
        out!("{}", hanging("  ", &format!("{verdict}: {} {times}, last {last}{process}", record.route)));
        if let Some(reason) = &record.reason {
            out!("{}", hanging("  ", reason));
        }
    }
    Ok(())
}

/// Calls the broker of the current user.
pub(super) async fn call<Request: Serialize, Response: serde::de::DeserializeOwned>(
    paths: &Paths,
    endpoint: &Endpoint<Request, Response>,
    request: &Request,
) -> anyhow::Result<Response> {
    client::call(&paths.broker_socket(), endpoint, request).await.map_err(|error| failed(paths, error))
}

fn failed(paths: &Paths, error: CallError) -> anyhow::Error {
    match error {
        CallError::Absent { .. } => anyhow::anyhow!(
            "no broker listens at {}\n  hint: `steward broker` starts one by hand",
            paths.broker_socket().display()
        ),
        other @ (CallError::Silent { .. }
        | CallError::Broken { .. }
        | CallError::Unexpected { .. }
        | CallError::Refused(_)) => other.into(),
    }
}
