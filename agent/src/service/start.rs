//! What the machine service knows when it starts: what earlier runs left, and policy.

use std::sync::Arc;
use std::time::Duration;

use platform::paths::Paths;
use platform::policy::Watch;
use platform::{clock, native, random};
use policy_schema::Problem;
use tokio::sync::{Notify, mpsc, watch};
use updates::OwnUpdater;

use super::agent_update::{AgentUpdate, Launched};
use super::app_notices::AppNotices;
use super::debounce::{self, Debounce};
use super::delivery::Delivery;
use super::event::Event;
use super::provider_check::{self, SignInFacts};
use super::recurring::Recurring;
use super::sinks::Sinks;
use super::{Service, apply, next_poll, session_check, status_file};
use crate::health::identity::Origin;
use crate::health::queue::Queue;
use crate::health::sinks::http::Known;
use crate::health::sources::sessions::Sessions;
use crate::policy::{self, Read};
use crate::state::private_folder;
use crate::update;

impl Service {
    pub(super) fn start(paths: Paths, events: mpsc::Sender<Event>, launched: &Launched) -> Self {
        let now = clock::now();
        let nudge = events.clone();
        // A full channel means that a read is coming anyway.
        let mut watch = Watch::new(&paths, move |hint| {
            let sent = nudge.try_send(Event::PolicyHint(hint));
            tracing::debug!(
                "policy may have changed ({hint:?}; {})",
                if sent.is_ok() { "queued" } else { "already queued" }
            );
        });
        watch.arm(&paths);
        let app_changed = Arc::new(Notify::new());
        let told = Arc::clone(&app_changed);
        let app_watch = native::Watch::new(move || told.notify_one());
        let mut store = policy::Store::open(paths.clone());
        let mut read = store.read(now);
        if let Read::Vanished(vanished) = read {
            // The local API is not open yet, so nobody waits.
            std::thread::sleep(debounce::second_read(vanished));
            read = store.read(now);
        }
        let snapshot = match read {
            Read::Policy(snapshot) => *snapshot,
            Read::Vanished(_) => store.preview(now),
        };
        let (queue, identity_problem) =
            Queue::open(&private_folder(&paths), random::bytes(), Origin::observe());
        // A status that cannot be read tells nothing about before.
        let history = status_file(&paths)
            .peek()
            .ok()
            .flatten()
            .map(|status| status.history.observed_until(status.observed_at));
        let lost: Vec<Problem> = identity_problem.into_iter().chain(update::take_up(&paths)).collect();
        for problem in &lost {
            tracing::error!("{}: {problem}", problem.code.as_str());
        }
        let mut agent = Self {
            poll_due: next_poll(&snapshot),
            debounce: Debounce::Quiet { until: Duration::ZERO },
            api_problem: None,
            app_watch,
            app_changed,
            app_looked_at: now,
            app_in_line: String::new(),
            repaired: 0,
            app_problems: Vec::new(),
            retry_at: None,
            state_problems: Vec::new(),
            unsaved_record: None,
            record_problem: None,
            update_check: Recurring::Waiting { due: now },
            app_wait: apply::AppWait::default(),
            app_notices: AppNotices::default(),
            update_outcome: None,
            update_problem: None,
            update_commands: Vec::new(),
            waiting_for_update: Vec::new(),
            agent_update: AgentUpdate::new(Recurring::Waiting { due: now }, launched),
            delivery: Delivery::new(now),
            queued: queue.waiting().len(),
            identity: queue.identity().clone(),
            certificate_until: None,
            receiver: Known::default(),
            sinks: Sinks::new(now),
            history: history.unwrap_or_default(),
            queue: Some(queue),
            lost,
            report_problems: Vec::new(),
            report_attempted: false,
            delivered_at: None,
            last_reported: None,
            session_check: session_check::SessionCheck::Idle,
            sessions: Sessions::default(),
            provider_check: Recurring::Waiting { due: provider_check::soon(now) },
            sign_in: SignInFacts::load(&paths),
            installed_app: None,
            own_updater_was: OwnUpdater::default(),
            // Nobody sees it: the local API opens after the first round.
            published: watch::Sender::default(),
            started_at: now,
            store,
            watch,
            armed: true,
            snapshot,
            in_effect: String::new(),
            events,
            paths,
        };
        agent.log_problems();
        agent.policy_changed(now);
        agent.recover();
        agent
    }
}
