//! The machine service: one loop over one closed enum of events ([`event`]).
//!
//! Everything that happens arrives as an event; everything that is known lies in [`Service`]. After each event comes a
//! round: [`observe`] (all the looking, once), [`plan`] (pure), [`apply`], [`status`] (pure), publish. When to read policy
//! ([`debounce`]), to report ([`delivery`]) and to check the feed or the provider ([`recurring`]) is decided by pure
//! steps. Slow work runs as tasks that send an event at their end. Between events the process sleeps until something is due.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use net::server::listen_later;
use platform::file::Access;
use platform::lock::Lock;
use platform::paths::Paths;
use platform::policy::Watch;
use platform::watch::Hint;
use platform::{clock, file, ipc, native, random, service};
use policy_schema::{Code, Problem};
use protocol::health::history::HealthHistory;
use protocol::status::MAXIMUM_PROBLEMS;
use protocol::update::Command;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use updates::OwnUpdater;
use watchdog::child::{Word, say};

use crate::app::descriptor::{self, Descriptor};
use crate::app::observe::Found;
use crate::app::ownership::OwnershipRecord;
use crate::health::identity::Identity;
use crate::health::queue::Queue;
use crate::health::sinks::Target;
use crate::health::sinks::http::Known;
use crate::health::sources::sessions::{self, Sessions};
use crate::policy::{self, Read, Snapshot};
use crate::state::private_folder;
use crate::{logging, update};

use agent_update::AgentUpdate;
use app_notices::AppNotices;
use debounce::Debounce;
use delivery::Delivery;
use event::{Event, next_event};
use observe::InstalledApp;
use provider_check::SignInFacts;
use recurring::Recurring;
use reporting::Fingerprint;
use routes::{Machine, Published};
use sinks::Sinks;

mod agent_update;
mod app_notices;
mod apply;
mod debounce;
pub(crate) mod delivery;
mod error;
mod event;
mod observe;
pub(crate) mod plan;
mod preview;
mod provider_check;
mod publish;
mod recurring;
mod reporting;
mod routes;
mod session_check;
mod sinks;
mod start;
mod status;

pub use agent_update::{Ended, Launched};
pub use error::StartError;
pub(crate) use publish::status_file;

/// Policy is read this often even if nothing hints at a change. In seconds.
const POLL: u64 = 15 * 60;
/// Nothing is due later than this. In seconds.
const LONGEST_WAIT: u64 = 24 * 60 * 60;
/// A source that could not be read is read again this soon. In seconds.
const RETRY: u64 = 60;
/// What an app finds is looked at at most this often because somebody changes it. In seconds.
const APP_PAUSE: u64 = 2;
/// While an update is under way, its journal is read this often.
const UPDATE_PROGRESS: Duration = Duration::from_secs(2);

/// Runs the machine service until `stop` ends, or another version is to start. Policy is applied before the local API opens.
///
/// # Errors
/// Another agent runs, or the state folder cannot be made.
pub async fn run(
    paths: Paths,
    stop: impl Future<Output = ()>,
    launched: Launched,
) -> Result<Ended, StartError> {
    let socket = paths.agent_socket();
    // A deleted socket must not let a second one start beside the first.
    file::create_folder(&paths.state(), Access::Public).map_err(StartError::NoState)?;
    // Where no other user can open it: whoever can open a lock can hold it.
    let lock = private_folder(&paths).join("agent.lock");
    let lock = Lock::only_one(&lock, Access::Private).map_err(StartError::Running)?;
    for (folder, access) in [(paths.state(), Access::Public), (private_folder(&paths), Access::Private)] {
        // Whoever made it, an administrator by hand or the service.
        file::correct_access(&folder, access).unwrap_or_else(|error| {
            tracing::warn!("the access of {} could not be corrected: {error}", folder.display());
        });
    }

    if agent_update::rescue(&paths, &launched).await {
        return Ok(Ended::MakesWay);
    }
    let (sender, mut events) = mpsc::channel(64);
    let mut agent = Service::start(paths, sender.clone(), &launched);
    agent.round();
    // Beside the channel, and one for any number of calls: no local user can fill the channel with them.
    let session_changed = launched.supervised.clone().unwrap_or_default();
    let machine = Machine {
        published: agent.published.subscribe(),
        events: sender.clone(),
        session_changed: Arc::clone(&session_changed),
        paths: agent.paths.clone(),
        previews: Arc::default(),
    };
    let api = routes::api(machine);
    let serving = match ipc::listen(&socket, ipc::Audience::Everybody) {
        Ok(listener) => {
            tracing::info!("answering at {}", socket.display());
            tokio::spawn(api.serve(listener))
        }
        // Without a lock, the socket is all that keeps a second agent away.
        Err(source) if lock.is_none() && source.kind() == std::io::ErrorKind::AddrInUse => {
            return Err(StartError::NoApi { path: socket, source });
        }
        Err(error) => {
            agent.handle(Event::LocalApi(Some(publish::no_api(&socket, &error))));
            let socket = socket.clone();
            tokio::spawn(async move {
                let listener = listen_later(&socket, ipc::Audience::Everybody).await;
                drop(sender.send(Event::LocalApi(None)).await);
                api.serve(listener).await;
            })
        }
    };
    service::ready(&format!("policy {}", agent.snapshot.hash));
    if launched.supervised.is_some() {
        say(Word::Ready);
    }

    let mut stop = pin!(stop);
    let mut ended = Ended::MakesWay;
    while !agent.makes_way() {
        let app_changed = Arc::clone(&agent.app_changed);
        let (wake, pushed) = (agent.wake(), agent.sinks.pushed());
        let event =
            next_event(&mut events, &session_changed, &app_changed, pushed, stop.as_mut(), wake).await;
        if matches!(event, Event::Stop) {
            ended = Ended::Stopped;
            break;
        }
        agent.handle(event);
    }
    if ended == Ended::Stopped {
        service::stopping();
    } else {
        tracing::info!("the agent makes way for another version");
    }
    agent.sinks.leave().await;
    // This process may go on as the watchdog of another version, which listens here then.
    serving.abort();
    let _aborted = serving.await;
    // Another process's place is its own.
    if agent.api_problem.is_none() {
        ipc::remove(&socket).unwrap_or_else(|error| tracing::warn!("{error}"));
    }
    Ok(ended)
}

struct Service {
    paths: Paths,
    /// As the queue has it, which is away while a delivery is under way.
    identity: Identity,
    started_at: Timestamp,
    events: mpsc::Sender<Event>,
    published: watch::Sender<Arc<Published>>,

    store: policy::Store,
    watch: Watch,
    /// What is watched fits what there is, as far as is known.
    armed: bool,
    snapshot: Snapshot,
    /// The hash of the policy that was applied last.
    in_effect: String,
    poll_due: Timestamp,
    debounce: Debounce,

    api_problem: Option<Problem>,
    app_watch: native::Watch,
    app_changed: Arc<Notify>,
    app_looked_at: Timestamp,
    /// The hash of the policy that the app's configuration was brought in line with.
    app_in_line: String,
    /// How often what the app finds was put back.
    repaired: u64,
    app_problems: Vec<Problem>,
    retry_at: Option<Timestamp>,
    state_problems: Vec<Problem>,
    /// What could not be saved about the app's configuration so far, and why not.
    unsaved_record: Option<OwnershipRecord>,
    record_problem: Option<Problem>,

    update_check: Recurring,
    app_wait: apply::AppWait,
    app_notices: AppNotices,
    update_outcome: Option<update::Outcome>,
    update_problem: Option<Problem>,
    /// What administrators ask for, until the next check begins.
    update_commands: Vec<Command>,
    agent_update: AgentUpdate,
    /// Who waits for the check that is under way.
    waiting_for_update: Vec<oneshot::Sender<()>>,

    delivery: Delivery,
    /// Until when the certificate for reports is valid.
    certificate_until: Option<Timestamp>,
    /// What the receiver of reports said of itself.
    receiver: Known,
    sinks: Sinks,
    /// What the components of the device were before.
    history: HealthHistory,
    /// Away while a delivery is under way.
    queue: Option<Queue>,
    queued: usize,
    /// What is wrong with what earlier runs left, and can be seen once only.
    lost: Vec<Problem>,
    report_problems: Vec<Problem>,
    /// A delivery has ended, whatever came of it.
    report_attempted: bool,
    delivered_at: Option<Timestamp>,
    /// What the last report told, or the next one is going to tell.
    last_reported: Option<Fingerprint>,
    session_check: session_check::SessionCheck,
    sessions: Sessions,
    provider_check: Recurring,
    sign_in: SignInFacts,
    installed_app: Option<InstalledApp>,
    /// The app's own updater, as it was in the round before.
    own_updater_was: OwnUpdater,
}

impl Service {
    fn handle(&mut self, event: Event) {
        match event {
            Event::PolicyHint(hint) => {
                self.armed &= hint == Hint::Changed;
                if hint == Hint::Unsettled {
                    // A watch may tell of one change only, and more may be coming.
                    self.arm();
                }
                if !self.debounced(debounce::Event::Hinted(hint)) {
                    return;
                }
                self.read_policy();
            }
            Event::Due => {
                let poll = self.poll_due <= clock::now();
                self.armed &= !poll;
                if self.debounced(debounce::Event::Due) || poll {
                    self.read_policy();
                }
            }
            Event::ReloadPolicy(done) => {
                self.armed = false;
                self.read_policy();
                if self.debounce.due().is_some() {
                    // An administrator who asks means what is there now.
                    self.read_policy();
                }
                // Whoever changes policy and says so wants to know whether it works, and not how it was.
                self.history = std::mem::take(&mut self.history).calm(clock::now());
                let now = clock::now();
                self.provider_check = self.provider_check.step(recurring::Event::Requested { now });
                self.delivery = self.delivery.step(delivery::Event::Requested { now });
                self.round();
                // The caller may have gone; then nobody waits.
                let _ = done.send(());
                return;
            }
            Event::LocalApi(problem) => {
                if let Some(problem) = &problem {
                    tracing::error!("{}: {problem}", problem.code.as_str());
                } else {
                    tracing::info!("answering at {}", self.paths.agent_socket().display());
                }
                self.api_problem = problem;
            }
            Event::CheckForUpdate(command, done) => self.update_requested(command, done),
            // Its watch tells of the agent's own changes as well. Somebody who changes it again and again gets an answer every
            // other second.
            Event::AppChanged => {
                let now = clock::now();
                let again = clock::after(self.app_looked_at, APP_PAUSE);
                if now < again && again <= clock::after(now, APP_PAUSE) {
                    self.retry_at = apply::earliest([self.retry_at, Some(again)]);
                    return;
                }
            }
            Event::SessionChanged => return self.observe_sessions(session_check::Event::Changed),
            Event::SessionsObserved(sessions) => {
                self.note_sign_in(&sessions, clock::now());
                self.sessions = sessions;
                self.observe_sessions(session_check::Event::Observed);
            }
            Event::UpdateRecovered(problem) => {
                self.update_problem = problem;
                self.installed_app = None;
                self.update_finished(clock::now(), clock::now());
            }
            Event::UpdateFinished(outcome) => {
                tracing::info!("update: {}", outcome.message);
                self.update_finished(outcome.finished_at, outcome.next);
                self.update_problem.clone_from(&outcome.problem);
                self.app_notices.update_finished();
                self.installed_app = None;
                self.update_outcome = Some(outcome);
            }
            Event::AgentUpdateFinished(outcome) => self.agent_update_finished(outcome),
            Event::OwnApiAnswered(works) => self.own_api_answered(works),
            Event::AgentVersionProved => self.agent_version_proved(),
            Event::AppClosing(version) => self.app_closing(version),
            Event::FirstStartFailed(failed) => self.first_start_failed(failed),
            Event::ProviderChecked(outcome) => self.provider_checked(*outcome),
            Event::DeliveryFinished(delivery) => self.delivery_finished(*delivery),
            Event::PostureObserved(protections) => self.note_posture(&protections, clock::now()),
            Event::SinkServed(kind, outcome) => self.sink_served(kind, *outcome),
            Event::OpampPushed(pushed) => self.opamp_pushed(pushed),
            Event::Stop => return,
        }
        self.round();
        self.prove();
    }

    /// How long to sleep if nothing happens.
    fn wake(&self) -> Duration {
        let now = clock::now();
        let due = self.due();
        let planned = plan::wake(&self.snapshot.resolved, self.descriptor(), due);
        let due = apply::earliest([Some(self.poll_due), planned, self.retry_at, self.app_notices.due()]);
        let wait = due.map_or(Duration::MAX, |due| clock::until(now, due)).min(Duration::from_secs(POLL));
        // Whoever waits for a download sees it grow.
        let wait = if self.update_check.due().is_none() { wait.min(UPDATE_PROGRESS) } else { wait };
        match self.debounce.due() {
            Some(moment) => wait.min(moment.saturating_sub(clock::monotonic())),
            None => wait,
        }
    }

    fn due(&self) -> plan::Due {
        plan::Due {
            update: self.update_check.due(),
            report: self.delivery.due(),
            provider: self.provider_check.due(),
            agent_update: self.agent_update.check.due(),
            sinks: self.next_sink_due(),
        }
    }

    /// Whether policy is to be read now.
    fn debounced(&mut self, event: debounce::Event) -> bool {
        let (next, read) = self.debounce.step(event, clock::monotonic());
        self.debounce = next;
        read
    }

    /// Reads policy. If a source has vanished, a second read in a moment decides.
    fn read_policy(&mut self) {
        let (now, begun) = (clock::now(), clock::monotonic());
        if !self.armed {
            self.arm();
        }
        let snapshot = match self.store.read(now) {
            Read::Policy(snapshot) => *snapshot,
            Read::Vanished(vanished) => {
                self.debounced(debounce::Event::Vanished(vanished));
                self.poll_due = clock::after(now, POLL);
                return;
            }
        };
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        let (old, new) = (&before.resolved.policy, &self.snapshot.resolved.policy);
        if Target::of_reports(old) != Target::of_reports(new) {
            let by = clock::after(now, 1 + u64::from(random::bytes::<1>()[0]) % 3);
            self.delivery = self.delivery.step(delivery::Event::OtherReceiver { by });
        }
        self.poll_due = next_poll(&self.snapshot);
        let took = clock::monotonic().saturating_sub(begun);
        self.debounced(debounce::Event::Read { took });
        if before.problems != self.snapshot.problems {
            self.log_problems();
        }
        if before.resolved.policy != self.snapshot.resolved.policy {
            self.policy_changed(now);
        }
    }

    fn arm(&mut self) {
        self.watch.arm(&self.paths);
        self.armed = true;
    }

    fn log_problems(&self) {
        for problem in self.snapshot.problems.iter().take(MAXIMUM_PROBLEMS) {
            tracing::warn!("{}: {problem}", problem.code.as_str());
        }
    }

    fn policy_changed(&mut self, now: Timestamp) {
        let due = provider_check::soon(now);
        self.provider_check = self.provider_check.step(recurring::Event::Changed { due });
        logging::set_level(self.snapshot.resolved.policy.log_level);
        if !self.snapshot.resolved.policy.report_posture {
            self.history = std::mem::take(&mut self.history).without_posture();
        }
        self.check_for_update_again(now);
        let due = clock::after(now, 1);
        self.agent_update.check = self.agent_update.check.step(recurring::Event::Changed { due });
    }

    /// One round: observes, plans, applies, publishes.
    fn round(&mut self) {
        let now = clock::now();
        // A clock that was set back must not leave anything due in years.
        let latest = clock::after(now, LONGEST_WAIT);
        self.update_check = self.update_check.no_later_than(latest);
        self.provider_check = self.provider_check.no_later_than(clock::after(latest, LONGEST_WAIT));
        self.agent_update.check = self.agent_update.check.no_later_than(latest);
        self.delivery = self.delivery.no_later_than(latest);
        self.sinks.no_later_than(latest);
        self.poll_due = self.poll_due.min(clock::after(now, POLL));
        let descriptor = self.descriptor();
        let location = descriptor.and_then(|app| app.location(&self.paths));
        self.app_watch.arm(&self.paths, location.as_deref());
        self.app_looked_at = now;
        let mut observed = observe::observe(
            &self.paths,
            descriptor,
            self.watch.failure(),
            self.unsaved_record.as_ref(),
            &mut self.installed_app,
            now,
        );
        if observed.app.lost {
            let problem = observed.app.problem.clone();
            self.lost.extend(problem.map(|problem| self.explain_lost_record(problem, &observed)));
        }
        self.follow_app(&observed);
        self.tell_users(&observed);
        self.follow_own_updater(&observed);
        let due = self.due();
        let steps = plan::plan(&self.snapshot.resolved, self.descriptor(), &observed, due);
        self.app_problems.clear();
        self.retry_at = None;
        for step in steps {
            self.apply(step, &mut observed);
        }
        if self.app_problems.is_empty() && !matches!(observed.app.found, Found::Unreadable(_)) {
            self.app_in_line.clone_from(&self.snapshot.hash);
        }
        self.save();
        if self.in_effect != self.snapshot.hash {
            tracing::info!("policy {} is in effect", self.snapshot.hash);
            self.in_effect.clone_from(&self.snapshot.hash);
        }
        self.publish(&observed);
        self.look_again(&observed);
    }

    /// Asks the brokers, if that is due, in a task of its own.
    fn observe_sessions(&mut self, event: session_check::Event) {
        let (next, ask) = self.session_check.step(event);
        self.session_check = next;
        let Some(pause) = ask else { return };
        let (paths, events) = (self.paths.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let sessions = sessions::observe(&paths).await;
            drop(events.send(Event::SessionsObserved(sessions)).await);
        });
    }

    fn descriptor(&self) -> Option<&'static Descriptor> {
        descriptor::find(&self.snapshot.resolved.policy.app)
    }
}

/// When to read policy even if nothing hints at a change: soon, if something could not be read.
fn next_poll(snapshot: &Snapshot) -> Timestamp {
    let failed = snapshot.problems.iter().any(|problem| problem.code == Code::PolicyUnreadable);
    clock::after(snapshot.read_at, if failed { RETRY } else { POLL })
}
