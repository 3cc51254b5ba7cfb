//! Checks this device: the port of the redirect URI, the browser, the secret store, the machine service and the app.
//!
//! In: the policy and the status of the machine service. Out: findings. Called by the doctor.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::SERVICE;
use net::chain;
use net::client::call;
use platform::role::{BackgroundItems, Role, Startup};
use platform::{clock, port, random, service, vault};
use policy_schema::settings::VaultFallback;
use policy_schema::{Code, Component, Open};
use protocol::broker::SESSION;
use protocol::endpoint::Nothing;
use protocol::session::SessionState;
use url::Url;

use super::{
    Cause, Confidence, Finding, Outcome, Subject, diagnosis, explain_text, match_causes, publishers,
};
use crate::support::{end_of, is_recent, newest};
use crate::version;

/// How long the secret store may take. A locked one may wait for the user.
const STORE_LIMIT: Duration = Duration::from_secs(5);
/// Only this many bytes at the end of a log of the app are read.
const LOG_BYTES: u64 = 256 * 1024;
/// Only this many logs of the app are read, the newest.
const LOGS: usize = 4;
/// Only this many lines at the end of a log count.
const LAST_LINES: usize = 100;
/// Only a log that was written to within this many seconds counts.
const RECENT: u64 = 24 * 3600;
/// How long the system may take to name the default browser.
const BROWSER_LIMIT: Duration = Duration::from_secs(4);
/// How long a program may use the port of the redirect URI for a sign-in of its own, or the like.
const SECOND_LOOK: Duration = Duration::from_secs(10);

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let blocking = tokio::task::spawn_blocking({
        let subject = Arc::clone(&subject);
        move || check_browser(&subject)
    });
    let (port, vault, browser) = tokio::join!(
        check_port(&subject),
        check_secret_store(&subject),
        tokio::time::timeout(BROWSER_LIMIT, blocking),
    );
    let no_result =
        || Finding::new("browser", Outcome::Warning, "the system does not name a browser in time");
    let mut findings = vec![port, browser.ok().and_then(Result::ok).unwrap_or_else(no_result), vault];
    findings.extend(check_agent(&subject));
    findings.extend(check_background_items(&subject));
    findings.extend(check_app(&subject));
    findings
}

async fn check_port(subject: &Subject) -> Finding {
    let uri = &subject.configuration.redirect_uri;
    let Some(number) = redirect_port(subject) else {
        return Finding::skipped("port", format!("{uri} has no port"));
    };
    let families = match uri.parse::<Url>().ok().as_ref().and_then(Url::host) {
        Some(url::Host::Ipv4(address)) => vec![IpAddr::V4(address)],
        Some(url::Host::Ipv6(address)) => vec![IpAddr::V6(address)],
        Some(url::Host::Domain(_)) | None => {
            vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        }
    };
    let refused = families.iter().find_map(|address| {
        let refused = port::listen(SocketAddr::new(*address, number)).err()?;
        // A device without IPv6 has only the other address.
        let matters = families.len() == 1 || address.is_ipv4() || !port::lacks_family(&refused);
        matters.then_some((*address, refused))
    });
    let Some((address, refused)) = refused else {
        return Finding::pass("port", format!("{number} is free"));
    };
    if refused.kind() != std::io::ErrorKind::AddrInUse {
        return reserved_port(subject, number).await.unwrap_or_else(|| {
            let summary = format!("no program can listen at {address} port {number}: {refused}");
            Finding::new("port", Outcome::Failure, summary)
        });
    }
    if signing_in(subject).await {
        let summary =
            format!("a sign-in that waits in the browser uses {number}; `steward login` continues it");
        return Finding::pass("port", summary);
    }
    taken_port(subject, holder(number).await, &format!("{address} port {number}"))
}

/// Looks from outside whether another program keeps the port: the port stays free for sign-ins meanwhile. Steward itself and
/// the managed apps use it rightly, and whoever has left it at a second look did no harm.
pub(super) async fn watch_port(subject: &Subject) -> Finding {
    let Some(number) = redirect_port(subject) else {
        return Finding::skipped("port", "the redirect URI has no port");
    };
    let own = std::env::current_exe().ok();
    let own = own.as_ref().map(|path| {
        let path = path.to_string_lossy();
        PathBuf::from(path.strip_suffix(" (deleted)").unwrap_or(&path))
    });
    let stranger = async || {
        holder(number).await.filter(|holder| {
            let program = holder.program.as_deref();
            let is_app = |folder: &String| program.is_some_and(|program| program.starts_with(folder));
            (program.is_none() || program != own.as_deref())
                && !subject.configuration.app_folders.iter().any(is_app)
        })
    };
    if let Some(reserved) = reserved_port(subject, number).await {
        return reserved;
    }
    let Some(first) = stranger().await else { return Finding::pass("port", "no other program uses it") };
    tokio::time::sleep(SECOND_LOOK).await;
    match stranger().await {
        Some(second) if second == first => taken_port(subject, Some(second), &format!("port {number}")),
        Some(_) | None => Finding::pass("port", "another program used it for a moment"),
    }
}

fn redirect_port(subject: &Subject) -> Option<u16> {
    subject.configuration.redirect_uri.parse::<Url>().ok()?.port_or_known_default()
}

async fn holder(number: u16) -> Option<port::Holder> {
    tokio::task::spawn_blocking(move || port::holder(number)).await.ok().flatten()
}

/// What to say of a port that the system keeps for itself.
async fn reserved_port(subject: &Subject, number: u16) -> Option<Finding> {
    let range = tokio::task::spawn_blocking(move || port::reserved_range(number)).await.ok().flatten()?;
    let (first, last) = range.into_inner();
    let evidence = format!("the system keeps the ports {first} to {last} for itself, {number} among them");
    let diagnosis = subject.diagnose(Cause::PortReserved, Confidence::Certain, evidence.clone());
    Some(Finding::new("port", Outcome::Failure, evidence).because(diagnosis))
}

fn taken_port(subject: &Subject, holder: Option<port::Holder>, what: &str) -> Finding {
    let evidence = match holder {
        Some(port::Holder { process, name, program }) => {
            let path = program.map_or_else(String::new, |path| format!(", {}", path.display()));
            format!("`{name}` (process {process}{path}) uses {what}")
        }
        None => format!("another user's program uses {what}"),
    };
    let diagnosis = subject.diagnose(Cause::PortTaken, Confidence::Certain, evidence.clone());
    Finding::new("port", Outcome::Failure, evidence).because(diagnosis)
}

/// Whether the user's own broker waits for a sign-in.
async fn signing_in(subject: &Subject) -> bool {
    let session = call(&subject.paths.broker_socket(), &SESSION, &Nothing {}).await;
    session.is_ok_and(|session| session.state == SessionState::SigningIn)
}

fn check_browser(subject: &Subject) -> Finding {
    if webbrowser::Browser::is_available() {
        return Finding::pass("browser", "a browser can be opened");
    }
    Finding::new("browser", Outcome::Warning, "no browser can be opened in this session").because(
        subject.diagnose(Cause::NoBrowser, Confidence::Likely, "the system names no browser".to_owned()),
    )
}

async fn check_secret_store(subject: &Subject) -> Finding {
    let name = format!("doctor {}", subject.paths.session_folder().display());
    let test = tokio::task::spawn_blocking(move || {
        let secret: [u8; 16] = random::bytes();
        vault::set(SERVICE, &name, &secret)?;
        let back = vault::get(SERVICE, &name);
        vault::remove(SERVICE, &name)?;
        Ok::<bool, vault::VaultError>(back?.as_deref() == Some(&secret[..]))
    });
    let evidence = match tokio::time::timeout(STORE_LIMIT, test).await {
        Ok(Ok(Ok(true))) => {
            return Finding::pass("vault", format!("the {} stores and returns secrets", vault::NAME));
        }
        Ok(Ok(Ok(false))) => "it does not return the secret that it stored".to_owned(),
        Ok(Ok(Err(error))) => chain(&error),
        Ok(Err(_)) => "the test ended unexpectedly".to_owned(),
        Err(_) => format!("it did not respond within {} seconds; is it locked?", STORE_LIMIT.as_secs()),
    };
    let refuses = subject.configuration.vault_fallback == VaultFallback::Refuse;
    if !refuses {
        // Policy accepts the weaker choice; status and reports say so too.
        let summary = format!(
            "the {} cannot be used; sessions are kept in an encrypted file, as policy says",
            vault::NAME
        );
        return Finding::pass("vault", summary).observed([evidence]);
    }
    let summary = format!("the {} cannot be used, so sessions end with the broker", vault::NAME);
    Finding::new("vault", Outcome::Failure, summary).because(subject.diagnose(
        Cause::VaultUnusable,
        Confidence::Certain,
        evidence,
    ))
}

fn check_agent(subject: &Subject) -> Option<Finding> {
    if subject.before_roll_out {
        return None;
    }
    let startup = match subject.paths.root() {
        None => service::startup(Role::Agent),
        Some(_) => Startup::Unknown("the device is a folder".to_owned()),
    };
    let running = subject.status.as_ref().map(|status| status.agent_version.as_str());
    Some(agent_finding(subject, &startup, running))
}

/// What the machine service's start and the version that runs mean, if one runs.
fn agent_finding(subject: &Subject, startup: &Startup, running: Option<&str>) -> Finding {
    let on_disk = version::own().to_string();
    let obstacle = match startup {
        Startup::Automatic | Startup::Unknown(_) => None,
        Startup::Disabled => Some((Cause::AgentDisabled, "is disabled")),
        Startup::Masked => Some((Cause::AgentMasked, "is masked")),
        Startup::NotInstalled => Some((Cause::AgentNotInstalled, "is not installed")),
    };
    let because = |outcome, summary: String, cause, evidence: String| {
        let diagnosis = subject.diagnose(cause, Confidence::Certain, evidence);
        Finding::new("agent", outcome, summary).because(diagnosis)
    };
    match (running, obstacle) {
        (Some(version), None) if version != on_disk => because(
            Outcome::Warning,
            format!("version {version} runs, and {on_disk} is on the disk"),
            Cause::AgentOutdated,
            format!("this program is version {on_disk}"),
        ),
        (Some(version), None) => Finding::pass("agent", format!("runs, version {version}")),
        (Some(version), Some((cause, state))) => because(
            Outcome::Warning,
            format!("runs, version {version}, and does not start with the device"),
            cause,
            format!("the service {state}"),
        ),
        (None, Some((cause, state))) => {
            let summary = "the machine service does not run".to_owned();
            because(Outcome::Failure, summary, cause, format!("the service {state}"))
        }
        (None, None) => because(
            Outcome::Failure,
            "the machine service does not run".to_owned(),
            Cause::AgentNotRunning,
            format!("start it: {}", service::START),
        ),
    }
}

fn check_background_items(subject: &Subject) -> Option<Finding> {
    if subject.before_roll_out || subject.paths.root().is_some() {
        return None;
    }
    background_items_finding(subject, service::background_items())
}

/// What it means whether users can turn off what the system starts.
fn background_items_finding(subject: &Subject, items: BackgroundItems) -> Option<Finding> {
    const NAME: &str = "background-items";
    match items {
        BackgroundItems::NotApplicable => None,
        BackgroundItems::Managed => {
            Some(Finding::pass(NAME, "a profile manages them, so users cannot turn Steward off"))
        }
        BackgroundItems::Unknown(reason) => Some(Finding::skipped(NAME, reason)),
        BackgroundItems::Unmanaged => {
            let evidence =
                "no profile has a rule about dev.steward.* (com.apple.servicemanagement)".to_owned();
            let diagnosis = subject.diagnose(Cause::BackgroundItemsUnmanaged, Confidence::Certain, evidence);
            Some(Finding::new(NAME, Outcome::Warning, "users can turn Steward off").because(diagnosis))
        }
    }
}

fn check_app(subject: &Subject) -> Vec<Finding> {
    let Some(app) = subject.app else {
        return vec![Finding::skipped("app", "Steward does not know the app in `App`")];
    };
    let Some(system) = app.system() else {
        let reason = app.not_applicable().unwrap_or_default();
        return vec![Finding::skipped("app", reason)];
    };
    let mut findings = Vec::new();
    let folders: Vec<PathBuf> =
        system.programs.iter().map(|folder| subject.paths.under_root(folder.as_ref())).collect();
    let installed = folders.iter().find(|folder| folder.exists());
    findings.push(match installed {
        Some(folder) => Finding::pass("app", format!("{} is installed", app.title))
            .observed([folder.display().to_string()]),
        None if subject.before_roll_out => {
            Finding::skipped("app", format!("{} is not installed yet", app.title))
        }
        None => {
            let missing = folders.iter().map(|folder| format!("{} does not exist", folder.display()));
            Finding::new(
                "app",
                Outcome::Warning,
                format!("{} is not installed for the whole device", app.title),
            )
            .because(subject.diagnose(
                Cause::AppNotInstalled,
                Confidence::Likely,
                missing.collect::<Vec<_>>(),
            ))
        }
    });
    if let Some(status) = subject.status.as_ref().filter(|_| !subject.before_roll_out) {
        let is_of_app = |code: &Open<Code>| code.known().map(Code::component) == Some(Component::App);
        let diagnoses: Vec<_> = status
            .problems
            .iter()
            .filter(|problem| is_of_app(&problem.code))
            .filter_map(|problem| diagnosis::of_problem(problem, &subject.configuration.context()))
            .collect();
        findings.push(if diagnoses.is_empty() {
            let configuration = status.app.configuration.clone();
            let summary = match &configuration {
                Some(_) => "its configuration is as policy says",
                None => "policy has no settings for it",
            };
            Finding::pass("app-policy", summary).observed(configuration)
        } else {
            let failure = diagnoses.iter().any(|found| found.id != Cause::RestartPending);
            let outcome = if failure { Outcome::Failure } else { Outcome::Warning };
            Finding::new("app-policy", outcome, format!("{} is not configured as policy says", app.title))
                .because_of(diagnoses)
        });
    }
    if let Some(named) = &subject.publishers {
        findings.extend(publishers::check(system, named, clock::now()));
    }
    findings.extend(check_logs(subject, system.logs.iter().map(|folder| subject.paths.of_user(folder))));
    findings
}

/// Whether a recent log of the app has a known error. It may be over by now, so it is a warning.
fn check_logs(subject: &Subject, folders: impl Iterator<Item = PathBuf>) -> Option<Finding> {
    let mut files: Vec<PathBuf> = folders.flat_map(|folder| newest(&folder, LOGS)).collect();
    files.retain(|file| is_recent(file, RECENT));
    files.truncate(LOGS);
    let found = files.iter().find_map(|file| {
        let text = end_of(file, LOG_BYTES)?;
        let last = text.lines().rev().take(LAST_LINES);
        let line = last.into_iter().find(|line| !match_causes(line).is_empty())?;
        Some(explain_text(subject, "app-log", Outcome::Warning, line, ""))
    });
    found.or_else(|| (!files.is_empty()).then(|| Finding::pass("app-log", "recent logs have no known error")))
}

#[cfg(test)]
mod tests {
    use broker::configuration::Configuration;
    use platform::paths::Paths;
    use policy_schema::{LastGood, Problem, resolve};
    use protocol::status::{Status, sample_status};

    use super::*;
    use crate::app::descriptor;

    fn subject(problems: Vec<Problem>) -> Subject {
        Subject {
            paths: Paths::new(Some("/nowhere".into())),
            configuration: Configuration::new(
                &resolve(&[], &LastGood::default()).policy,
                Vec::new(),
                Vec::new(),
            ),
            policy_problems: Vec::new(),
            settings: 0,
            addresses: Vec::new(),
            publishers: None,
            app: descriptor::find("lab-notes"),
            before_roll_out: false,
            status: Some(Status { problems, ..sample_status() }),
            expected_email: None,
            error_text: None,
            sign_in: false,
        }
    }

    #[test]
    fn service_that_will_not_start_again_or_is_outdated_is_diagnosed() {
        let own = env!("CARGO_PKG_VERSION");
        let unknown = || Startup::Unknown(String::new());
        let cases = [
            (Startup::Automatic, Some(own), Outcome::Pass, None),
            (unknown(), Some(own), Outcome::Pass, None),
            (Startup::Automatic, Some("0.0.1"), Outcome::Warning, Some(Cause::AgentOutdated)),
            (Startup::Disabled, Some(own), Outcome::Warning, Some(Cause::AgentDisabled)),
            (Startup::Automatic, None, Outcome::Failure, Some(Cause::AgentNotRunning)),
            (unknown(), None, Outcome::Failure, Some(Cause::AgentNotRunning)),
            (Startup::Disabled, None, Outcome::Failure, Some(Cause::AgentDisabled)),
            (Startup::Masked, None, Outcome::Failure, Some(Cause::AgentMasked)),
            (Startup::NotInstalled, None, Outcome::Failure, Some(Cause::AgentNotInstalled)),
        ];
        let subject = subject(Vec::new());
        for (startup, running, outcome, cause) in cases {
            let finding = agent_finding(&subject, &startup, running);
            let found = finding.diagnoses.first().and_then(|diagnosis| diagnosis.id.known());
            assert_eq!((finding.outcome, found), (outcome, cause), "{startup:?} {running:?}");
        }
    }

    #[test]
    fn background_items_are_a_warning_only_if_users_can_turn_them_off() {
        let cases = [
            (BackgroundItems::NotApplicable, None, None),
            (BackgroundItems::Managed, Some(Outcome::Pass), None),
            (BackgroundItems::Unknown("not root".to_owned()), Some(Outcome::Skipped), None),
            (BackgroundItems::Unmanaged, Some(Outcome::Warning), Some(Cause::BackgroundItemsUnmanaged)),
        ];
        let subject = subject(Vec::new());
        for (items, outcome, cause) in cases {
            let finding = background_items_finding(&subject, items.clone());
            let found = finding.as_ref().and_then(|finding| finding.diagnoses.first()?.id.known());
            assert_eq!(
                (finding.as_ref().map(|finding| finding.outcome), found),
                (outcome, cause),
                "{items:?}"
            );
        }
    }

    #[test]
    fn app_with_old_or_conflicting_configuration_is_diagnosed() {
        let of = |problems: Vec<Problem>| {
            let found =
                check_app(&subject(problems)).into_iter().find(|finding| finding.check == "app-policy");
            found.map(|found| {
                (found.outcome, found.diagnoses.into_iter().map(|one| one.id).collect::<Vec<_>>())
            })
        };
        // On a system that the app does not exist for, there is nothing to check.
        if descriptor::find("lab-notes").and_then(|app| app.system()).is_none() {
            return;
        }
        assert_eq!(of(Vec::new()), Some((Outcome::Pass, Vec::new())));
        let pending = Problem::new(Code::AppRestartPending, "it was started before the change");
        assert_eq!(of(vec![pending.clone()]), Some((Outcome::Warning, vec![Cause::RestartPending.into()])));
        let conflict = Problem::new(Code::AppConfigurationConflict, "another configuration is in effect");
        let both = vec![Cause::AppNotConfigured.into(), Cause::RestartPending.into()];
        assert_eq!(of(vec![conflict, pending]), Some((Outcome::Failure, both)));
    }
}
