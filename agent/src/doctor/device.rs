//! This device: the port of the redirect URI, a browser, the secret store, the machine service and the app.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_platform::{port, service, vault};
use policy_schema::settings::VaultFallback;
use policy_schema::{Code, Open};
use url::Url;

use super::{Confidence, Finding, Outcome, Subject, told};
use crate::broker::vault::SERVICE;
use crate::clock;
use crate::http::chain;
use crate::support::{end_of, is_recent, newest};

/// How long the secret store may take; a locked one may wait for a person.
const STORE_LIMIT: Duration = Duration::from_secs(5);
/// How much of the end of each of the app's logs is read, in bytes, and of how many of them, the newest.
const LOG_BYTES: u64 = 256 * 1024;
const LOGS: usize = 4;
/// How many of the last lines of a log count, and how old a log may be, in seconds.
const LAST_LINES: usize = 100;
const RECENT: u64 = 24 * 3600;
/// How long the system may take to say which browser there is.
const BROWSER_LIMIT: Duration = Duration::from_secs(4);

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let blocking = tokio::task::spawn_blocking({
        let subject = Arc::clone(&subject);
        move || browser(&subject)
    });
    let (port, vault, browser) = tokio::join!(
        redirect_port(&subject),
        secret_store(&subject),
        tokio::time::timeout(BROWSER_LIMIT, blocking),
    );
    let silent =
        || Finding::new("browser", Outcome::Warning, "the system does not say which browser there is");
    let mut findings = vec![port, browser.ok().and_then(Result::ok).unwrap_or_else(silent), vault];
    findings.extend(agent(&subject));
    findings.extend(app(&subject));
    findings
}

async fn redirect_port(subject: &Subject) -> Finding {
    let uri = &subject.configuration.redirect_uri;
    let Some(number) = uri.parse::<Url>().ok().and_then(|url| url.port_or_known_default()) else {
        return Finding::skipped("port", format!("{uri} has no port"));
    };
    let families = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let taken = families.iter().find_map(|address| {
        let refused = port::listen(SocketAddr::new(*address, number)).err()?;
        (refused.kind() == std::io::ErrorKind::AddrInUse).then_some(*address)
    });
    let Some(address) = taken else {
        return Finding::pass("port", format!("{number} is free on both families"));
    };
    let holder = tokio::task::spawn_blocking(move || port::holder(number)).await.ok().flatten();
    let who = match holder {
        Some(port::Holder { process, name, program }) => {
            let place = program.map_or_else(String::new, |path| format!(", {}", path.display()));
            format!("`{name}` (process {process}{place}) holds {address} port {number}")
        }
        None => format!("another user's program holds {address} port {number}"),
    };
    let diagnosis = subject.diagnose("port-taken", Confidence::Certain, who.clone());
    Finding::new("port", Outcome::Failure, who).because(diagnosis)
}

fn browser(subject: &Subject) -> Finding {
    if webbrowser::Browser::is_available() {
        return Finding::pass("browser", "one can be opened");
    }
    Finding::new("browser", Outcome::Warning, "none can be opened in this session").because(subject.diagnose(
        "no-browser",
        Confidence::Likely,
        "the system names no browser".to_owned(),
    ))
}

async fn secret_store(subject: &Subject) -> Finding {
    let name = format!("doctor {}", subject.paths.session_folder().display());
    let asked = tokio::task::spawn_blocking(move || {
        let secret: [u8; 16] = clock::random();
        vault::set(SERVICE, &name, &secret)?;
        let back = vault::get(SERVICE, &name);
        vault::remove(SERVICE, &name)?;
        Ok::<bool, vault::VaultError>(back?.as_deref() == Some(&secret[..]))
    });
    let trouble = match tokio::time::timeout(STORE_LIMIT, asked).await {
        Ok(Ok(Ok(true))) => {
            return Finding::pass(
                "vault",
                format!("the {} keeps and gives back what it is given", vault::NAME),
            );
        }
        Ok(Ok(Ok(false))) => "it does not give back what it was given".to_owned(),
        Ok(Ok(Err(error))) => chain(&error),
        Ok(Err(_)) => "asking it failed".to_owned(),
        Err(_) => format!(
            "it did not answer within {} seconds; is it waiting to be unlocked?",
            STORE_LIMIT.as_secs()
        ),
    };
    let refuses = subject.configuration.vault_fallback == VaultFallback::Refuse;
    if !refuses {
        // Policy has chosen it, knowing that it is less; status and reports say so too.
        let summary =
            format!("the {} cannot be used; sessions lie in an encrypted file, as policy says", vault::NAME);
        return Finding::pass("vault", summary).seen([trouble]);
    }
    let summary = format!("the {} cannot be used, so sessions end with the broker", vault::NAME);
    Finding::new("vault", Outcome::Failure, summary).because(subject.diagnose(
        "vault-unusable",
        Confidence::Certain,
        trouble,
    ))
}

fn agent(subject: &Subject) -> Option<Finding> {
    if subject.before_roll_out {
        return None;
    }
    Some(match &subject.status {
        Some(status) => Finding::pass("agent", format!("runs, version {}", status.agent_version)),
        None => Finding::new("agent", Outcome::Failure, "the machine service does not run").because(
            subject.diagnose(
                "agent-not-running",
                Confidence::Certain,
                format!("start it: {}", service::START),
            ),
        ),
    })
}

fn app(subject: &Subject) -> Vec<Finding> {
    let Some(app) = subject.app else {
        return vec![Finding::skipped("app", "policy names no app that is known")];
    };
    let Some(system) = app.system() else {
        let reason = app.not_applicable().unwrap_or_default();
        return vec![Finding::skipped("app", reason)];
    };
    let mut findings = Vec::new();
    let folders: Vec<PathBuf> =
        system.programs.iter().map(|folder| subject.paths.under_root(folder.as_ref())).collect();
    let there = folders.iter().find(|folder| folder.exists());
    findings.push(match there {
        Some(folder) => {
            Finding::pass("app", format!("{} is installed", app.title)).seen([folder.display().to_string()])
        }
        None if subject.before_roll_out => {
            Finding::skipped("app", format!("{} is not installed yet", app.title))
        }
        None => {
            let looked = folders.iter().map(|folder| format!("{} is not there", folder.display()));
            Finding::new(
                "app",
                Outcome::Warning,
                format!("{} is not installed for the whole device", app.title),
            )
            .because(subject.diagnose(
                "app-not-installed",
                Confidence::Likely,
                looked.collect::<Vec<_>>(),
            ))
        }
    });
    if let Some(status) = subject.status.as_ref().filter(|_| !subject.before_roll_out) {
        let mine = |code: &Open<Code>| code.as_str().starts_with("app.");
        let troubles: Vec<_> = status
            .problems
            .iter()
            .filter(|problem| mine(&problem.code))
            .filter_map(|problem| super::catalogue::of_problem(problem, &subject.configuration))
            .collect();
        findings.push(if troubles.is_empty() {
            let place = status.app.configuration.clone();
            let seen =
                place.as_ref().map_or("policy says nothing that it reads", |_| "it finds what policy says");
            Finding::pass("app-policy", seen).seen(place)
        } else {
            let failure = troubles.iter().any(|found| found.id != "restart-pending");
            let outcome = if failure { Outcome::Failure } else { Outcome::Warning };
            Finding::new("app-policy", outcome, format!("{} is not as policy says", app.title))
                .because_of(troubles)
        });
    }
    findings.extend(logs(subject, system.logs.iter().map(|folder| subject.paths.of_person(folder))));
    findings
}

/// Whether the app has noted something of late that has a known meaning. It may be over by now, so it is a warning.
fn logs(subject: &Subject, folders: impl Iterator<Item = PathBuf>) -> Option<Finding> {
    let mut files: Vec<PathBuf> = folders.flat_map(|folder| newest(&folder, LOGS)).collect();
    files.retain(|file| is_recent(file, RECENT));
    files.truncate(LOGS);
    let found = files.iter().find_map(|file| {
        let text = end_of(file, LOG_BYTES)?;
        let last = text.lines().rev().take(LAST_LINES);
        let line = last.into_iter().find(|line| !super::catalogue::spoken_of(line).is_empty())?;
        Some(told(subject, "app-log", Outcome::Warning, line, ""))
    });
    found.or_else(|| {
        (!files.is_empty()).then(|| Finding::pass("app-log", "nothing of late has a known meaning"))
    })
}

#[cfg(test)]
mod tests {
    use agent_platform::paths::Paths;
    use policy_schema::Problem;

    use super::*;
    use crate::app::descriptor;
    use crate::broker::session::tests::configuration;
    use crate::health::model;

    fn subject(problems: Vec<Problem>) -> Subject {
        Subject {
            paths: Paths::new(Some("/nowhere".into())),
            configuration: configuration(""),
            policy_problems: Vec::new(),
            settings: 0,
            addresses: Vec::new(),
            app: descriptor::find("lab-notes"),
            before_roll_out: false,
            status: Some(model::Status { problems, ..model::sample() }),
            expected_email: None,
            said: None,
            sign_in: false,
        }
    }

    #[test]
    fn an_app_that_runs_on_with_old_policies_or_finds_others_is_named() {
        let of = |problems: Vec<Problem>| {
            let found = app(&subject(problems)).into_iter().find(|finding| finding.check == "app-policy");
            found.map(|found| {
                (found.outcome, found.diagnoses.into_iter().map(|one| one.id).collect::<Vec<_>>())
            })
        };
        // Where the app does not exist, there is nothing to say.
        if descriptor::find("lab-notes").and_then(|app| app.system()).is_none() {
            return;
        }
        assert_eq!(of(Vec::new()), Some((Outcome::Pass, Vec::new())));
        let pending = Problem::new(Code::AppRestartPending, "it has been running since before");
        assert_eq!(of(vec![pending.clone()]), Some((Outcome::Warning, vec!["restart-pending".to_owned()])));
        let conflict = Problem::new(Code::AppConfigurationConflict, "it finds something else");
        let both = vec!["app-not-configured".to_owned(), "restart-pending".to_owned()];
        assert_eq!(of(vec![conflict, pending]), Some((Outcome::Failure, both)));
    }
}
