//! The user's app while an update waits for it: telling the user, closing the app, starting it again.
//!
//! In: requests of the machine service ([`super::routes`]), which knows when; what the user answers. Out: whether the user has the app
//! open, and how it did after it was started again. One notification is on the screen at a time. An app that was closed here is started
//! again here, also if the machine service never asks for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use net::chain;
use platform::app_processes::AppProcesses;
use platform::desktop;
use platform::notification::Notification;
use platform::paths::Paths;
use platform::{clock, zone};
use protocol::app::{App, AppNotice, AppResumed, AppState};
use tokio::task::{AbortHandle, JoinError};

use super::{Broker, locked};

/// An installation takes no longer. In seconds.
const INSTALLATION: Duration = Duration::from_mins(30);
/// A notice is urgent if the app is closed so soon. In seconds.
const URGENT: i64 = 30 * 60;

/// What is under way about apps.
#[derive(Default)]
pub(super) struct Apps {
    /// The notification on the screen.
    shown: Mutex<Option<AbortHandle>>,
    /// What was closed here and not started again.
    closed: Mutex<Option<Closed>>,
}

/// An app that was closed for an update.
struct Closed {
    app: App,
    /// Starts it again in the end.
    reminder: AbortHandle,
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.reminder.abort();
    }
}

impl Apps {
    fn take_notice_back(&self) {
        if let Some(task) = locked(&self.shown).take() {
            task.abort();
        }
    }
}

impl Broker {
    /// Tells the user of an update, if the user has the app open. A notice that is on the screen is replaced.
    pub(super) async fn tell_of_update(self: &Arc<Self>, notice: AppNotice) -> AppState {
        let open = with_processes(&self.paths, &notice.app, AppProcesses::run_as_own_user).await;
        self.apps.take_notice_back();
        if !open {
            return AppState { open };
        }
        let configuration = self.configuration().ok();
        let organization =
            configuration.as_ref().and_then(|configuration| configuration.organization.as_deref());
        let notification = notification(&notice, organization, clock::now(), &zone::local(&self.paths));
        tracing::info!("{}: {}", notification.title, notification.text);
        let broker = Arc::clone(self);
        let task = tokio::spawn(async move {
            match desktop::ask(&notification).await {
                Ok(true) => {
                    broker.close_app(notice.app).await;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!("the user could not be told of the update: {}", chain(&error)),
            }
        });
        *locked(&self.apps.shown) = Some(task.abort_handle());
        AppState { open }
    }

    /// Asks the app to close, if the user has it open.
    pub(super) async fn close_app(self: &Arc<Self>, app: App) -> AppState {
        let open = with_processes(&self.paths, &app, AppProcesses::ask_own_to_close).await;
        if open {
            tracing::info!("{} was asked to close for an update", app.title);
            let broker = Arc::clone(self);
            let waiting = app.clone();
            let reminder = tokio::spawn(async move {
                tokio::time::sleep(INSTALLATION).await;
                // In a task of its own, for this one ends with what it does.
                tokio::spawn(async move { broker.resume_app(waiting).await });
            });
            *locked(&self.apps.closed) = Some(Closed { app, reminder: reminder.abort_handle() });
        }
        AppState { open }
    }

    /// Takes a notice back, and starts the app again if it was closed here and is not open.
    pub(super) async fn resume_app(self: &Arc<Self>, app: App) -> AppResumed {
        self.apps.take_notice_back();
        let is_it = locked(&self.apps.closed).as_ref().is_some_and(|closed| closed.app.name == app.name);
        if !is_it {
            return AppResumed { started: false, ended: None };
        }
        if with_processes(&self.paths, &app, AppProcesses::run_as_own_user).await {
            *locked(&self.apps.closed) = None;
            return AppResumed { started: false, ended: None };
        }
        let program = PathBuf::from(&app.program);
        let processes = AppProcesses::new(&self.paths, &app.processes);
        match processes.start(&program).await {
            Ok(None) => {
                tracing::info!("{} was started again", app.title);
                *locked(&self.apps.closed) = None;
                AppResumed { started: true, ended: None }
            }
            // It stays closed, and is started again once something else is installed.
            Ok(Some(ended)) => {
                tracing::warn!("{} was started again, and {ended}", app.title);
                AppResumed { started: true, ended: Some(ended) }
            }
            Err(error) => {
                let ended = format!("{} cannot be started: {}", program.display(), chain(&error));
                tracing::warn!("{ended}");
                AppResumed { started: true, ended: Some(ended) }
            }
        }
    }
}

/// Looks at the processes of an app, which takes some milliseconds.
async fn with_processes(paths: &Paths, app: &App, look: fn(&AppProcesses) -> bool) -> bool {
    let processes = AppProcesses::new(paths, &app.processes);
    let looked: Result<bool, JoinError> = tokio::task::spawn_blocking(move || look(&processes)).await;
    looked.unwrap_or(false)
}

/// What the user reads.
fn notification(
    notice: &AppNotice,
    organization: Option<&str>,
    now: Timestamp,
    zone: &TimeZone,
) -> Notification {
    let AppNotice { app, version, closes_at } = notice;
    let title = &app.title;
    let subject = match organization {
        Some(organization) => format!("{organization}: an update of {title} is ready"),
        None => format!("An update of {title} is ready"),
    };
    let closing = closes_at.map(|at| {
        let local = zone.to_datetime(at);
        let same_day = local.date() == zone.to_datetime(now).date();
        let time = local.strftime(if same_day { "at %H:%M" } else { "on %A, %Y-%m-%d at %H:%M" });
        format!(" Save your work: {title} is closed for it {time}.")
    });
    Notification {
        title: subject,
        text: format!(
            "Version {version} is installed as soon as {title} is closed.{} \u{201c}Update now\u{201d} closes it, installs the update \
             and starts it again.",
            closing.unwrap_or_default()
        ),
        urgent: closes_at.is_some_and(|at| now.duration_until(at).as_secs() <= URGENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notice_names_organisation_app_version_and_time() {
        let app = App {
            name: "notes".to_owned(),
            title: "R&D Notes".to_owned(),
            processes: Vec::new(),
            program: "/opt/notes".to_owned(),
        };
        let notice = |closes_at| AppNotice { app: app.clone(), version: "1.4.2".to_owned(), closes_at };
        let now: Timestamp = "2026-11-27T13:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let said = notification(&notice(None), Some("Example Corp"), now, &zone);
        assert_eq!(said.title, "Example Corp: an update of R&D Notes is ready");
        assert_eq!(
            said.text,
            "Version 1.4.2 is installed as soon as R&D Notes is closed. \u{201c}Update now\u{201d} closes it, installs the update and \
             starts it again."
        );
        assert!(!said.urgent);
        for (at, time, urgent) in [
            ("2026-11-27T13:15:00Z", "is closed for it at 14:15.", true),
            ("2026-11-27T18:00:00Z", "is closed for it at 19:00.", false),
            ("2026-11-29T23:30:00Z", "is closed for it on Monday, 2026-11-30 at 00:30.", false),
        ] {
            let said = notification(&notice(Some(at.parse().unwrap())), None, now, &zone);
            assert_eq!(said.title, "An update of R&D Notes is ready");
            assert!(said.text.contains(time) && said.urgent == urgent, "{said:?}");
        }
    }
}
