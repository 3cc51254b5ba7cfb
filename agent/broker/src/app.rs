//! The user's app while an update waits for it: telling the user, closing the app, starting it again.
//!
//! In: requests of the machine service ([`super::routes`]), which knows when; what the user answers. Out: whether the user has the app
//! open, and how it did after it was started again. One notification is on the screen at a time. An app that was closed here is started
//! again here, also if the machine service never asks for it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use net::chain;
use platform::app_processes::{AppProcesses, Environment};
use platform::desktop;
use platform::notification::Notification;
use platform::paths::Paths;
use platform::{clock, zone};
use protocol::app::{App, AppNotice, AppResumed, AppState};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::AbortHandle;

use super::{Broker, locked};

/// An app that is open so long after it was asked to close was not closed for the update.
const CLOSES: Duration = Duration::from_mins(1);
/// An installation takes no longer.
const INSTALLATION: Duration = Duration::from_mins(30);
/// A notice is urgent if the app is closed so soon. In seconds.
const URGENT: i64 = 30 * 60;
/// So much of how a program ended is told, in characters.
const LONGEST_END: usize = 200;

/// What is under way about apps.
#[derive(Default)]
pub(super) struct Apps {
    /// Held while one request is served: they come from one machine service, and in order.
    turn: AsyncMutex<()>,
    /// The notification on the screen.
    shown: Mutex<Option<Shown>>,
    /// What was closed here and not started again.
    closed: Mutex<Option<Closed>>,
}

/// A notification.
struct Shown {
    notice: AppNotice,
    waits: AbortHandle,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.waits.abort();
    }
}

/// An app that was closed for an update.
struct Closed {
    app: App,
    /// What it ran in.
    environment: Option<Arc<Environment>>,
    /// Starts it again in the end.
    reminder: AbortHandle,
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.reminder.abort();
    }
}

impl Broker {
    /// Tells the user of an update, if the user has the app open. A notice that is on the screen is replaced.
    pub(super) async fn tell_of_update(self: Arc<Self>, notice: AppNotice) -> AppState {
        let _turn = self.apps.turn.lock().await;
        let open = with_processes(&self.paths, &notice.app, AppProcesses::run_as_own_user).await;
        let same = |shown: &Shown| AppNotice { once: notice.once, ..shown.notice.clone() } == notice;
        let is_told = locked(&self.apps.shown).as_ref().is_some_and(same);
        if !open || (is_told && notice.once) {
            return AppState { open, told: is_told };
        }
        let told = self.show(notice, "").await;
        AppState { open, told }
    }

    /// Shows a notice. Gives whether that succeeded.
    async fn show(self: &Arc<Self>, notice: AppNotice, before: &str) -> bool {
        *locked(&self.apps.shown) = None;
        // Without a policy the notice names no organisation.
        let configuration = self.configuration().ok();
        let organization =
            configuration.as_ref().and_then(|configuration| configuration.organization.as_deref());
        let mut notification = notification(&notice, organization, clock::now(), &zone::local(&self.paths));
        notification.text.insert_str(0, before);
        tracing::info!("{}: {}", notification.title, notification.text);
        let shown = match desktop::show(&notification).await {
            Ok(shown) => shown,
            Err(error) => {
                tracing::warn!("the user could not be told of the update: {}", chain(&error));
                return false;
            }
        };
        let (broker, asked) = (Arc::clone(self), notice.clone());
        let waits = tokio::spawn(async move {
            match shown.answer().await {
                // In a task of its own: this one ends with the notification.
                Ok(true) => drop(tokio::spawn(broker.update_now(asked))),
                Ok(false) => {}
                Err(error) => tracing::warn!("the notice of the update is gone: {}", chain(&error)),
            }
        });
        *locked(&self.apps.shown) = Some(Shown { notice, waits: waits.abort_handle() });
        true
    }

    /// The user wants the update now. Not `async`, because it may lead to the next notice.
    fn update_now(self: Arc<Self>, notice: AppNotice) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            // It would be closed for nothing.
            if with_processes(&self.paths, &notice.app, AppProcesses::run_as_others).await {
                let _turn = self.apps.turn.lock().await;
                self.show(notice, "Another user of this device has it open as well. ").await;
                return;
            }
            self.close_app(notice.app).await;
        })
    }

    /// Asks the app to close, if the user has it open.
    pub(super) async fn close_app(self: Arc<Self>, app: App) -> AppState {
        let _turn = self.apps.turn.lock().await;
        let processes = AppProcesses::new(&self.paths, &app.processes);
        let environment = tokio::task::spawn_blocking(move || processes.environment_of_own()).await;
        let environment = environment.ok().flatten().map(Arc::new);
        // Recorded first: whatever becomes of this request, what it closes is started again.
        let (broker, asked) = (Arc::clone(&self), app.clone());
        let reminder = tokio::spawn(async move {
            tokio::time::sleep(CLOSES).await;
            if with_processes(&broker.paths, &asked, AppProcesses::run_as_own_user).await {
                // The user did not want that, and may close it later for another reason.
                *locked(&broker.apps.closed) = None;
                return;
            }
            tokio::time::sleep(INSTALLATION).await;
            // In a task of its own, for this one ends with what it does.
            tokio::spawn(broker.resume_app(asked));
        });
        let before = locked(&self.apps.closed).take();
        let reminder = reminder.abort_handle();
        *locked(&self.apps.closed) = Some(Closed { app: app.clone(), environment, reminder });
        let open = with_processes(&self.paths, &app, AppProcesses::ask_own_to_close).await;
        if open {
            tracing::info!("{} was asked to close for an update", app.title);
        } else {
            *locked(&self.apps.closed) = before;
        }
        AppState { open, told: false }
    }

    /// Takes a notice back, and starts the app again if it was closed here and is not open.
    pub(super) async fn resume_app(self: Arc<Self>, app: App) -> AppResumed {
        let _turn = self.apps.turn.lock().await;
        *locked(&self.apps.shown) = None;
        let environment = match &*locked(&self.apps.closed) {
            Some(closed) if closed.app.name == app.name => closed.environment.clone(),
            Some(_) | None => return AppResumed { started: false, ended: None },
        };
        if with_processes(&self.paths, &app, AppProcesses::run_as_own_user).await {
            *locked(&self.apps.closed) = None;
            return AppResumed { started: false, ended: None };
        }
        let processes = AppProcesses::new(&self.paths, &app.processes);
        let ended = match processes.start(&PathBuf::from(&app.program), environment.as_deref()).await {
            Ok(None) => {
                tracing::info!("{} was started again", app.title);
                *locked(&self.apps.closed) = None;
                return AppResumed { started: true, ended: None };
            }
            Ok(Some(ended)) => ended,
            Err(error) => format!("{} cannot be started: {}", app.program, chain(&error)),
        };
        // It stays closed, and is started again once something else is installed.
        tracing::warn!("{} was started again, but {ended}", app.title);
        AppResumed { started: true, ended: Some(ended.chars().take(LONGEST_END).collect()) }
    }
}

/// Looks at the processes of an app, which takes some milliseconds.
async fn with_processes(paths: &Paths, app: &App, look: fn(&AppProcesses) -> bool) -> bool {
    let processes = AppProcesses::new(paths, &app.processes);
    tokio::task::spawn_blocking(move || look(&processes)).await.unwrap_or(false)
}

/// What the user reads.
fn notification(
    notice: &AppNotice,
    organization: Option<&str>,
    now: Timestamp,
    zone: &TimeZone,
) -> Notification {
    let AppNotice { app, version, closes_at, once: _ } = notice;
    let title = &app.title;
    let subject = match organization {
        Some(organization) => format!("{organization}: an update of {title} is ready"),
        None => format!("An update of {title} is ready"),
    };
    let closing = closes_at.map(|at| {
        let local = zone.to_datetime(at);
        let same_day = local.date() == zone.to_datetime(now).date();
        let time = local.strftime(if same_day { "at %H:%M" } else { "on %A, %Y-%m-%d at %H:%M" });
        format!(" {title} is closed for it {time}: save your work before that.")
    });
    Notification {
        title: subject,
        text: format!(
            "Version {version} is installed as soon as {title} is closed.{}",
            closing.unwrap_or_default()
        ),
        about_button: format!(
            "\u{201c}Update now\u{201d} closes it, installs the update and starts it again{}.",
            if closes_at.is_some() { "" } else { ": save your work before that" }
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
        let notice =
            |closes_at| AppNotice { app: app.clone(), version: "1.4.2".to_owned(), closes_at, once: false };
        let now: Timestamp = "2026-11-27T13:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let said = notification(&notice(None), Some("Example Corp"), now, &zone);
        assert_eq!(said.title, "Example Corp: an update of R&D Notes is ready");
        assert_eq!(said.text, "Version 1.4.2 is installed as soon as R&D Notes is closed.");
        assert!(!said.urgent);
        for (at, time, urgent) in [
            ("2026-11-27T13:15:00Z", "is closed for it at 14:15: save", true),
            ("2026-11-27T18:00:00Z", "is closed for it at 19:00: save", false),
            ("2026-11-29T23:30:00Z", "is closed for it on Monday, 2026-11-30 at 00:30: save", false),
        ] {
            let said = notification(&notice(Some(at.parse().unwrap())), None, now, &zone);
            assert_eq!(said.title, "An update of R&D Notes is ready");
            assert!(said.text.contains(time) && said.urgent == urgent, "{said:?}");
        }
    }
}
