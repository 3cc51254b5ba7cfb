//! The machine service: one loop over one closed enum of events ([`event`]).
//!
//! Everything that happens arrives as an event; everything that is known lies in [`Service`]. After each event comes a
//! round: [`observe`] (all the looking, once), [`plan`] (pure), [`apply`], [`status`] (pure), publish. When to read policy
//! ([`debounce`]), to report ([`delivery`]) and to check the feed or the provider ([`recurring`]) is decided by pure
//! steps. Slow work runs as tasks that send an event at their end. Between events the process sleeps until something is due.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use broker::configuration::Configuration;
use jiff::Timestamp;
use platform::file::Access;
use platform::lock::{Lock, LockError};
use platform::paths::Paths;
use platform::policy::Watch;
use platform::state::StateFile;
use platform::watch::Hint;
use platform::{clock, file, ipc, random, service};
use policy_schema::{Code, Problem};
use protocol::policy::ResolvedPolicy;
use protocol::status::{MAXIMUM_PROBLEMS, Status};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::app::descriptor::{self, Descriptor};
use crate::health::queue::Queue;
use crate::health::sources::sessions::{self, Sessions};
use crate::policy::{self, Read, Snapshot};
use crate::state::{private_folder, unwritable};
use crate::{logging, update};

use debounce::Debounce;
use delivery::Delivery;
use event::{Event, next_event};
use observe::{InstalledApp, Observed};
use provider_check::SignInFacts;
use recurring::Recurring;
use reporting::Fingerprint;
use routes::{Machine, Published};

mod apply;
mod debounce;
mod delivery;
mod event;
mod observe;
mod plan;
mod provider_check;
mod recurring;
mod reporting;
mod routes;
mod session_check;
mod status;

/// Policy is read this often even if nothing hints at a change. In seconds.
const POLL: u64 = 15 * 60;
/// Nothing is due later than this. In seconds.
const LONGEST_WAIT: u64 = 24 * 60 * 60;
/// A source that could not be read is read again this soon. In seconds.
const RETRY: u64 = 60;
/// While an app has to be started again, its processes are listed this often. In seconds.
const RESTART_CHECK: u64 = 60;

/// Why the machine service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two agents would work against each other.
    #[error("another agent runs already; stop it first")]
    Running(#[source] LockError),
    /// The local API cannot be served.
    #[error("no local API at {}", path.display())]
    NoApi {
        /// The socket or pipe.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There is no room for the agent's state.
    #[error("no folder for the agent's state")]
    NoState(#[source] std::io::Error),
}

/// Runs the machine service until `stop` ends.
///
/// # Errors
/// Another agent runs, or local API or state folder cannot be made.
pub async fn run(paths: Paths, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let socket = paths.agent_socket();
    // A deleted socket must not let a second one start beside the first.
    file::create_folder(&paths.state(), Access::Public).map_err(StartError::NoState)?;
    // Where no other user can open it: whoever can open a lock can hold it.
    let lock = private_folder(&paths).join("agent.lock");
    let _lock = Lock::only_one(&lock, Access::Private).map_err(StartError::Running)?;
    let listener = ipc::listen(&socket, ipc::Audience::Everybody)
        .map_err(|source| StartError::NoApi { path: socket.clone(), source })?;

    let (sender, mut events) = mpsc::channel(64);
    let mut agent = Service::start(paths, sender.clone());
    agent.round();
    // Beside the channel, and one for any number of calls: no local user can fill the channel with them.
    let session_changed = Arc::new(Notify::new());
    let machine = Machine {
        published: agent.published.subscribe(),
        events: sender,
        session_changed: Arc::clone(&session_changed),
    };
    tokio::spawn(routes::api(machine).serve(listener));
    service::ready(&format!("policy {}", agent.snapshot.hash));
    tracing::info!("answering at {}", socket.display());

    let mut stop = pin!(stop);
    loop {
        let event = next_event(&mut events, &session_changed, stop.as_mut(), agent.wake()).await;
        if matches!(event, Event::Stop) {
            break;
        }
        agent.handle(event);
    }
    service::stopping();
    ipc::remove(&socket).unwrap_or_else(|error| tracing::warn!("{error}"));
    Ok(())
}

struct Service {
    paths: Paths,
    device_id: String,
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

    app_problems: Vec<Problem>,
    app_retry: Option<Timestamp>,
    state_problems: Vec<Problem>,

    update_check: Recurring,
    update_outcome: Option<update::Outcome>,
    update_problem: Option<Problem>,
    /// Who waits for the check that is under way.
    waiting_for_update: Vec<oneshot::Sender<()>>,

    delivery: Delivery,
    /// Away while a delivery is under way.
    queue: Option<Queue>,
    queued: usize,
    /// What is wrong with what earlier runs left, and can be seen once only.
    lost: Vec<Problem>,
    report_problems: Vec<Problem>,
    delivered_at: Option<Timestamp>,
    /// What the last report told, or the next one is going to tell.
    last_reported: Option<Fingerprint>,
    session_check: session_check::SessionCheck,
    sessions: Sessions,
    provider_check: Recurring,
    sign_in: SignInFacts,
    installed_app: Option<InstalledApp>,
}

impl Service {
    fn start(paths: Paths, events: mpsc::Sender<Event>) -> Self {
        let now = clock::now();
        let nudge = events.clone();
        // A full channel means that a read is coming anyway.
        let mut watch = Watch::new(&paths, move |hint| drop(nudge.try_send(Event::PolicyHint(hint))));
        watch.arm(&paths);
        let mut store = policy::Store::open(paths.clone());
        let mut read = store.read(now);
        if let Read::Vanished { with_its_place } = read {
            // The local API is not open yet, so nobody waits.
            std::thread::sleep(debounce::second_read(with_its_place));
            read = store.read(now);
        }
        let snapshot = match read {
            Read::Policy(snapshot) => *snapshot,
            Read::Vanished { .. } => store.preview(now),
        };
        let (queue, identity_problem) = Queue::open(&private_folder(&paths), random::bytes());
        let lost: Vec<Problem> = identity_problem.into_iter().chain(update::take_up(&paths)).collect();
        for problem in &lost {
            tracing::error!("{}: {problem}", problem.code.as_str());
        }
        let mut agent = Self {
            poll_due: next_poll(&snapshot),
            debounce: Debounce::Quiet { until: Duration::ZERO },
            app_problems: Vec::new(),
            app_retry: None,
            state_problems: Vec::new(),
            update_check: Recurring::Waiting { due: now },
            update_outcome: None,
            update_problem: None,
            waiting_for_update: Vec::new(),
            delivery: Delivery::new(now),
            queued: queue.waiting().len(),
            device_id: queue.identity().device_id.clone(),
            queue: Some(queue),
            lost,
            report_problems: Vec::new(),
            delivered_at: None,
            last_reported: None,
            session_check: session_check::SessionCheck::Idle,
            sessions: Sessions::default(),
            provider_check: Recurring::Waiting { due: provider_check::soon(now) },
            sign_in: SignInFacts::load(&paths),
            installed_app: None,
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
                // Whoever changes policy and says so wants to know whether it works.
                self.provider_check =
                    self.provider_check.step(recurring::Event::Requested { now: clock::now() });
                self.round();
                // The caller may have gone; then nobody waits.
                let _ = done.send(());
                return;
            }
            Event::CheckForUpdate(done) => {
                if plan::updates(&self.snapshot.resolved, self.descriptor().and_then(Descriptor::system)) {
                    self.waiting_for_update.push(done);
                    let now = clock::now();
                    self.update_check = self.update_check.step(recurring::Event::Requested { now });
                } else {
                    let _ = done.send(());
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
                self.update_finished(clock::now(), clock::now());
            }
            Event::UpdateFinished(outcome) => {
                tracing::info!("update: {}", outcome.message);
                self.update_finished(outcome.finished_at, outcome.next);
                self.update_problem.clone_from(&outcome.problem);
                self.update_outcome = Some(outcome);
            }
            Event::ProviderChecked(outcome) => self.provider_checked(*outcome),
            Event::DeliveryFinished(delivery) => self.delivery_finished(delivery),
            Event::Stop => return,
        }
        self.round();
    }

    /// How long to sleep if nothing happens.
    fn wake(&self) -> Duration {
        let now = clock::now();
        let due = self.due();
        let planned = plan::wake(&self.snapshot.resolved, self.descriptor(), due);
        let due = apply::earliest([Some(self.poll_due), planned, self.app_retry]);
        let wait = due.map_or(Duration::MAX, |due| clock::until(now, due)).min(Duration::from_secs(POLL));
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
            Read::Vanished { with_its_place } => {
                self.debounced(debounce::Event::Vanished { with_its_place });
                self.poll_due = clock::after(now, POLL);
                return;
            }
        };
        let before = std::mem::replace(&mut self.snapshot, snapshot);
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

    /// A switch that a crash interrupted is finished before the feed is checked, and beside everything else.
    fn recover(&mut self) {
        let installation =
            self.descriptor().and_then(Descriptor::system).and_then(|system| system.installation.as_ref());
        let Some(installation) = installation.filter(|_| update::is_interrupted(&self.paths)) else { return };
        self.update_check = self.update_check.step(recurring::Event::Started);
        let (paths, events) = (self.paths.clone(), self.events.clone());
        tokio::spawn(async move {
            let problem = update::recover(&paths, installation).await;
            drop(events.send(Event::UpdateRecovered(problem)).await);
        });
    }

    fn update_finished(&mut self, now: Timestamp, next: Timestamp) {
        self.update_check = self.update_check.step(recurring::Event::Finished { now, next });
    }

    fn log_problems(&self) {
        for problem in self.snapshot.problems.iter().take(MAXIMUM_PROBLEMS) {
            tracing::warn!("{}: {problem}", problem.code.as_str());
        }
    }

    fn policy_changed(&mut self, now: Timestamp) {
        let due = provider_check::soon(now);
        self.provider_check = self.provider_check.step(recurring::Event::PolicyChanged { due });
        logging::set_level(self.snapshot.resolved.policy.log_level);
        self.update_check = self.update_check.step(recurring::Event::PolicyChanged { due: now });
    }

    /// One round: observes, plans, applies, publishes.
    fn round(&mut self) {
        let now = clock::now();
        // A clock that was set back must not leave anything due in years.
        let latest = clock::after(now, LONGEST_WAIT);
        self.update_check = self.update_check.no_later_than(latest);
        self.provider_check = self.provider_check.no_later_than(clock::after(latest, LONGEST_WAIT));
        self.delivery = self.delivery.no_later_than(latest);
        self.poll_due = self.poll_due.min(clock::after(now, POLL));
        let mut observed = observe::observe(
            &self.paths,
            descriptor::find(&self.snapshot.resolved.policy.app),
            self.watch.failure(),
            &mut self.installed_app,
            now,
        );
        if observed.app.lost {
            self.lost.extend(observed.app.problem.clone());
        }
        let due = self.due();
        let steps = plan::plan(&self.snapshot.resolved, self.descriptor(), &observed, due);
        self.app_problems.clear();
        self.app_retry = None;
        for step in steps {
            self.apply(step, &mut observed);
        }
        self.save();
        if self.in_effect != self.snapshot.hash {
            tracing::info!("policy {} is in effect", self.snapshot.hash);
            self.in_effect.clone_from(&self.snapshot.hash);
        }
        self.publish(&observed);
        let waits = |problem: &Problem| {
            problem.code == Code::AppRestartPending || problem.code == Code::AppConfigurationUnreadable
        };
        if self.published.borrow().status.problems.iter().any(waits) {
            self.app_retry = self.app_retry.or(Some(clock::after(now, RESTART_CHECK)));
        }
    }

    /// Makes durable what has changed with policy, once the app has its configuration.
    fn save(&mut self) {
        self.state_problems.clear();
        self.state_problems.extend(self.store.save());
        let policy = &self.snapshot.resolved.policy;
        let configuration = descriptor::sign_in_configuration(policy);
        if let Err(error) = configuration.save(&self.paths) {
            self.state_problems.push(unwritable(Configuration::file(&self.paths).path(), &error));
        }
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

    fn publish(&mut self, observed: &Observed) {
        let now = observed.now;
        let mut status = self.status(observed);
        self.report_if_changed(&status, now);
        status.report = self.report_status();
        let before = self.published.borrow().clone();
        status.observed_at = before.status.observed_at;
        if status != before.status {
            status.observed_at = now;
            let file = status_file(&self.paths);
            if let Err(error) = file.save(&status) {
                status.problems.insert(0, unwritable(file.path(), &error));
                status.problem_count += 1;
            }
            // What went wrong with a setting later, such as an app that finds another value, belongs to it as well.
            let mut problems = self.snapshot.problems.clone();
            let later = status.problems.iter().filter(|problem| problem.key.is_some());
            let later: Vec<Problem> = later.filter(|problem| !problems.contains(problem)).cloned().collect();
            problems.extend(later);
            let policy = ResolvedPolicy::new(&self.snapshot.resolved, &self.snapshot.last_good, problems);
            self.published.send_replace(Arc::new(Published { status, policy }));
        }
        let managed = plan::updates(&self.snapshot.resolved, self.descriptor().and_then(Descriptor::system));
        if !managed || self.update_check.due().is_some_and(|due| due > now) {
            for done in self.waiting_for_update.drain(..) {
                // The caller may have gone.
                let _ = done.send(());
            }
        }
    }
}

/// When to read policy even if nothing hints at a change: soon, if something could not be read.
fn next_poll(snapshot: &Snapshot) -> Timestamp {
    let failed = snapshot.problems.iter().any(|problem| problem.code == Code::PolicyUnreadable);
    clock::after(snapshot.read_at, if failed { RETRY } else { POLL })
}

/// The last status, readable by every user, also when no agent runs.
pub(crate) fn status_file(paths: &Paths) -> StateFile<Status> {
    let path: &Path = &paths.state();
    StateFile::new(path.join("status.json"), Access::Public)
}
