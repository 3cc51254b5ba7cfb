//! The users who have the app open while an update waits for it: when they are told, when the app is closed, and when it is started
//! again. When is decided by [`updates::notices`]; what is said goes through the users' brokers ([`update::users`]).

use jiff::Timestamp;
use platform::clock;
use protocol::app::AppNotice;
use semver::Version;
use updates::Journal;
use updates::notices::{Notices, Step, Waiting};

use super::event::Event;
use super::observe::Observed;
use super::{Service, plan, recurring};
use crate::app::descriptor::Descriptor;
use crate::update::{self, FailedStart, users};

/// A check that begins so long after the app was to be closed closes nothing. In seconds.
const IN_TIME: u64 = 2 * 60;
/// Before the app is closed, the feed was checked in this time. In seconds.
const RECENT: u64 = 10 * 60;
/// The app is not closed twice in this time for a version that was not installed all the same. In seconds.
const NOT_AGAIN: u64 = 24 * 60 * 60;

/// What is under way between the agent and the users of the app.
#[derive(Debug, Default)]
pub(super) struct AppNotices {
    notices: Notices,
    /// A check has ended since the last round.
    checked: bool,
    /// The version for which the next check closes the app, until this time.
    close_now: Option<(Version, Timestamp)>,
    /// The version for which the app was asked to close.
    closed_for: Option<Version>,
    /// A version for which it was closed, and which was not installed; it is not closed for it again until then.
    in_vain: Option<(Version, Timestamp)>,
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

    /// What a check has to know. It is said once.
    pub(super) fn brief(&mut self, job: &mut update::Job, now: Timestamp) {
        job.close_now = self.close_now.take().filter(|(_, until)| now < *until).map(|(version, _)| version);
        job.failed_start = self.failed_start.take();
    }

    /// Whether the app may be closed for a version at its deadline.
    fn may_close(&self, version: &Version, now: Timestamp) -> bool {
        let in_vain = self.in_vain.as_ref();
        !in_vain.is_some_and(|(failed, until)| {
            failed == version && now < *until && *until <= clock::after(now, NOT_AGAIN)
        })
    }
}

impl Service {
    /// Tells users of an update that waits for their app, or does what comes after that.
    pub(super) fn tell_users(&mut self, observed: &Observed) {
        let now = observed.now;
        self.app_notices.due = None;
        // A check changes the journal in many steps, and may put a version back that failed.
        let Some(next_check) = self.update_check.due() else { return };
        if self.app_notices.failed_start.is_some() {
            return;
        }
        let policy = &self.snapshot.resolved.policy;
        let (close, hours) = (policy.update_app_close, policy.update_deadline_hours);
        let waiting = Waiting::of(&observed.journal, close, hours, now);
        // Nothing is closed for an update that cannot be installed now, for want of a network for example.
        let can_be_installed = self.update_outcome.as_ref().is_some_and(|outcome| outcome.waits_for_app);
        let waiting = waiting.map(|waiting| {
            let may_close = can_be_installed && self.app_notices.may_close(&waiting.version, now);
            Waiting { force: waiting.force && may_close, ..waiting }
        });
        let checked = std::mem::take(&mut self.app_notices.checked);
        let waiting = match observed.app.running_since {
            Some(_) => waiting,
            // Closed for the update, which was not installed all the same: nobody has to do without the app until it is.
            None if checked && now < next_check => None,
            // It is installed in a moment.
            None if waiting.is_some() => return,
            None => None,
        };
        let notices = std::mem::take(&mut self.app_notices.notices);
        let (notices, step) = notices.step(waiting.as_ref(), now);
        self.app_notices.due = notices.due(waiting.as_ref());
        self.app_notices.notices = notices;
        if let Some(step) = step {
            self.take_notice_step(step, waiting, &observed.journal, now);
        }
    }

    fn take_notice_step(&mut self, step: Step, waiting: Option<Waiting>, journal: &Journal, now: Timestamp) {
        let app = self.descriptor().and_then(|descriptor| update::app(&self.paths, descriptor));
        let (Some(app), paths, events) = (app, self.paths.clone(), self.events.clone()) else { return };
        match (step, waiting) {
            (Step::Tell { closes, again: once }, Some(waiting)) => {
                let checked_at = self.update_outcome.as_ref().map(|outcome| outcome.finished_at);
                let is_last = matches!(self.app_notices.notices, Notices::Told { closes: Some(_), .. });
                if is_last && checked_at.is_none_or(|at| clock::after(at, RECENT) < now) {
                    // Whether it can still be installed is known then.
                    self.update_check = self.update_check.step(recurring::Event::Requested { now });
                }
                let notice = AppNotice { app, version: waiting.version.to_string(), closes_at: closes, once };
                tokio::spawn(async move {
                    let (open, told) = users::tell(&paths, &notice).await;
                    let AppNotice { app, version, once, .. } = notice;
                    let said =
                        format!("{open} users have {} open; {told} see that {version} is ready", app.title);
                    if once { tracing::debug!("{said}") } else { tracing::info!("{said}") }
                });
            }
            (Step::Close, Some(waiting)) => {
                tracing::info!("{} is asked to close: the deadline of its update has passed", app.title);
                self.app_notices.closed_for = Some(waiting.version);
                tokio::spawn(async move { users::close(&paths, &app).await });
            }
            (Step::Force, Some(waiting)) => {
                tokio::spawn(async move {
                    // Somebody may have opened it since, and it is started again for whom it was closed.
                    users::close(&paths, &app).await;
                    drop(events.send(Event::AppClosing(waiting.version)).await);
                });
            }
            (Step::Resume, _) => {
                let version = journal.just_installed().cloned();
                if let Some(failed) = self.app_notices.closed_for.take()
                    && version.as_ref() != Some(&failed)
                {
                    self.app_notices.in_vain = Some((failed, clock::after(now, NOT_AGAIN)));
                }
                tokio::spawn(async move {
                    let ended = users::resume(&paths, &app).await;
                    if let Some((version, reason)) = version.zip(ended) {
                        let failed = FailedStart { version, reason };
                        drop(events.send(Event::FirstStartFailed(failed)).await);
                    }
                });
            }
            (Step::Tell { .. } | Step::Close | Step::Force, None) => {}
        }
    }

    /// The next check closes the app, if it begins soon.
    pub(super) fn app_closing(&mut self, version: Version) {
        let now = clock::now();
        self.app_notices.close_now = Some((version, clock::after(now, IN_TIME)));
        self.update_check = self.update_check.step(recurring::Event::Requested { now });
    }

    /// A version that was installed just now and fails for its user is rolled back.
    pub(super) fn first_start_failed(&mut self, failed: FailedStart) {
        let system = self.descriptor().and_then(Descriptor::system);
        if !plan::updates(&self.snapshot.resolved, system) {
            return;
        }
        let FailedStart { version, reason } = &failed;
        tracing::warn!("version {version} of the app fails for its user: {reason}");
        let now = clock::now();
        // The app is started again after that as well.
        self.app_notices.notices = Notices::Unknown;
        self.app_notices.failed_start = Some(failed);
        self.check_for_update_again(now);
    }
}
