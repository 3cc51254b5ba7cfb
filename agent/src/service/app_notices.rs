//! The users who have the app open while an update waits for it: when they are told, when the app is closed, and when it is started
//! again. When is decided by [`updates::notices`]; what is said goes through the users' brokers ([`update::users`]).

use jiff::Timestamp;
use protocol::app::AppNotice;
use updates::journal::State;
use updates::notices::{Notices, Step, Waiting};

use super::event::Event;
use super::observe::Observed;
use super::{Service, recurring};
use crate::update::{self, FailedStart, users};

/// What is under way between the agent and the users of the app.
#[derive(Debug, Default)]
pub(super) struct AppNotices {
    notices: Notices,
    /// A check has ended since the last round.
    checked: bool,
    /// The next check closes the app.
    close_now: bool,
    /// What the next check has to hear.
    failed_start: Option<FailedStart>,
    /// When the next notice is due.
    due: Option<Timestamp>,
}

impl AppNotices {
    /// An update was installed, or not.
    pub(super) fn update_finished(&mut self) {
        self.checked = true;
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Whether the app is closed next.
    fn is_last_notice(&self) -> bool {
        matches!(self.notices, Notices::Told { closes: Some(_), .. })
    }

    /// What a check has to know. It is said once.
    pub(super) fn brief(&mut self, job: &mut update::Job) {
        job.close_now = std::mem::take(&mut self.close_now);
        job.failed_start = self.failed_start.take();
    }
}

impl Service {
    /// Tells users of an update that waits for their app, or does what comes after that.
    pub(super) fn tell_users(&mut self, observed: &Observed) {
        self.app_notices.due = None;
        // A check changes the journal in many steps, and may put a version back that failed.
        let Some(next_check) = self.update_check.due() else { return };
        if self.app_notices.failed_start.is_some() {
            return;
        }
        let policy = &self.snapshot.resolved.policy;
        let waiting = Waiting::of(&observed.journal, policy.update_app_close, policy.update_deadline_hours);
        // Nothing is closed for an update that cannot be installed now, for want of a network for example.
        let can_be_installed = self.update_outcome.as_ref().is_some_and(|outcome| outcome.waits_for_app);
        let waiting = waiting.map(|waiting| Waiting { force: waiting.force && can_be_installed, ..waiting });
        let checked = std::mem::take(&mut self.app_notices.checked);
        let waiting = match observed.app.running_since {
            Some(_) => waiting,
            // Closed for the update, which was not installed all the same: nobody has to do without the app until it is.
            None if checked && observed.now < next_check => None,
            // It is installed in a moment.
            None if waiting.is_some() => return,
            None => None,
        };
        let notices = std::mem::take(&mut self.app_notices.notices);
        let (notices, step) = notices.step(waiting.as_ref(), observed.now);
        self.app_notices.due = notices.due(waiting.as_ref());
        self.app_notices.notices = notices;
        let Some(step) = step else { return };
        let app = self.descriptor().and_then(|descriptor| update::app(&self.paths, descriptor));
        let (Some(app), paths) = (app, self.paths.clone()) else { return };
        match step {
            Step::Tell { closes } => {
                let Some(waiting) = waiting else { return };
                if self.app_notices.is_last_notice() {
                    // Whether it can be installed is known then.
                    self.update_check =
                        self.update_check.step(recurring::Event::Requested { now: observed.now });
                }
                let notice = AppNotice { app, version: waiting.version.to_string(), closes_at: closes };
                tokio::spawn(async move {
                    let told = users::tell(&paths, &notice).await;
                    tracing::info!("{told} users were told that {} is ready", notice.version);
                });
            }
            Step::Close => {
                tracing::info!("{} is asked to close: the deadline of its update has passed", app.title);
                tokio::spawn(async move { users::close(&paths, &app).await });
            }
            Step::Force => {
                self.app_notices.close_now = true;
                self.update_check = self.update_check.step(recurring::Event::Requested { now: observed.now });
            }
            Step::Resume => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    let ended = users::resume(&paths, &app).await;
                    drop(events.send(Event::AppResumed(ended)).await);
                });
            }
        }
    }

    /// A version that was installed just now and fails for its user is rolled back.
    pub(super) fn app_resumed(&mut self, ended: Option<String>) {
        let Some(reason) = ended else { return };
        let Some(descriptor) = self.descriptor() else { return };
        let Ok(journal) = update::journal(&self.paths, &descriptor.name) else { return };
        let State::Committed { version, previous: Some(_) } = journal.state else { return };
        tracing::warn!("version {version} of {} fails for its user: {reason}", descriptor.title);
        self.app_notices.failed_start = Some(FailedStart { version: version.clone(), reason });
        // The app is started again after that as well.
        self.app_notices.notices = Notices::Told { version, at: platform::clock::now(), closes: None };
        let now = platform::clock::now();
        self.update_check = self.update_check.step(recurring::Event::PolicyChanged { due: now });
    }
}
