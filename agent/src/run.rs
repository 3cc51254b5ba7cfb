//! THE main loop of the machine service: one closed `enum Event`, `next_event`, `handle`.
//!
//! Everything that happens arrives as an event; everything that is known lies in [`Agent`]; what has to be done comes
//! from [`crate::plan`]. Slow work (updates, reports) runs as tasks that send an event when they are finished, so
//! nothing waits for them. Between events the process sleeps until the next time something is due.

use std::sync::Arc;
use std::time::Duration;

use agent_platform::lock::Lock;
use agent_platform::paths::Paths;
use agent_platform::policy::Watch;
use agent_platform::watch::Hint;
use agent_platform::{file, ipc, service};
use anyhow::Context as _;
use jiff::Timestamp;
use policy_schema::{Code, Problem};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::api::{self, Explained, Published};
use crate::app::descriptor::{self, Descriptor};
use crate::broker::configuration::Configuration;
use crate::health::model::{MAXIMUM_PROBLEMS, State, Status, assess};
use crate::health::queue::Queue;
use crate::health::send::{self, Delivery};
use crate::plan::{self, Observed};
use crate::policy::{self, Snapshot, private_folder, unwritable};
use crate::{app, clock, logging, update};

mod apply;
mod facts;

/// Policy is looked at this often even if nothing hints at a change. In seconds.
const POLL: u64 = 15 * 60;
/// Nothing is due later than this. In seconds.
const LONGEST_WAIT: u64 = 24 * 60 * 60;
/// A place that could not be read is looked at again this soon. In seconds.
const RETRY: u64 = 60;
/// An app that has to be started anew is looked for this often. In seconds.
const RESTART_LOOK: u64 = 60;
/// After a look at policy, the next one waits at least this long, and four times as long as the look took.
const QUIET: Duration = Duration::from_millis(50);
/// What has gone may be about to come back under the same name, as when an editor keeps a copy of the old file.
const SETTLE: Duration = Duration::from_millis(400);
/// Changes that never stop coming are not waited for any longer than this.
const LONGEST_SETTLE: Duration = Duration::from_secs(5);
/// A changed state is reported within so many milliseconds, so that a fleet does not report in one instant.
const SPREAD: u16 = 3000;

/// What can happen.
pub(crate) enum Event {
    /// A place of policy may have changed.
    PolicyHint(Hint),
    /// The time has come for something.
    Due,
    /// An administrator wants policy to be read now.
    Reload(oneshot::Sender<()>),
    /// An administrator wants the feed to be looked at now.
    CheckForUpdate(oneshot::Sender<()>),
    /// A switch that a crash had interrupted is finished.
    UpdateRecovered(Option<Problem>),
    /// A look at the feed has ended.
    UpdateFinished(update::Outcome),
    /// Sending has ended.
    ReportFinished(Delivery),
    /// The service manager wants an end.
    Stop,
}

/// Runs the machine service until it is told to stop.
pub(crate) async fn run(paths: Paths) -> anyhow::Result<()> {
    service::clear_umask();
    let mut stop = service::StopSignal::new().context("cannot listen for signals")?;
    let socket = paths.agent_socket();
    // A deleted socket must not let a second one start beside the first.
    let _lock = Lock::only_one(&paths.state().join("agent.lock"), file::Access::Public)
        .context("another agent runs already; stop it first")?;
    let listener = ipc::listen(&socket, ipc::Audience::Everybody)?;
    file::create_folder(&paths.state(), file::Access::Public)?;

    let (sender, mut events) = mpsc::channel(64);
    let mut agent = Agent::start(paths, sender.clone());
    agent.work();
    tokio::spawn(api::serve(listener, api::routes(agent.published.subscribe(), sender)));
    service::ready(&format!("policy {}", agent.snapshot.hash));
    tracing::info!("answering at {}", socket.display());

    loop {
        let event = next_event(&mut events, &mut stop, agent.wake()).await;
        if matches!(event, Event::Stop) {
            break;
        }
        agent.handle(event);
    }
    service::stopping();
    ipc::remove(&socket).unwrap_or_else(|error| tracing::warn!("{error}"));
    Ok(())
}

async fn next_event(
    events: &mut mpsc::Receiver<Event>,
    stop: &mut service::StopSignal,
    wake: Duration,
) -> Event {
    tokio::select! {
        event = events.recv() => event.unwrap_or(Event::Stop),
        () = stop.wait() => Event::Stop,
        () = tokio::time::sleep(wake) => Event::Due,
    }
}

struct Agent {
    paths: Paths,
    device_id: String,
    store: policy::Store,
    watch: Watch,
    snapshot: Snapshot,
    poll_due: Timestamp,
    /// When a hint is to be followed, and before when not to look again.
    hinted: Option<Instant>,
    quiet_until: Instant,
    /// When to look at the latest, while changes keep coming.
    settle_until: Option<Instant>,
    app_problems: Vec<Problem>,
    app_retry: Option<Timestamp>,
    state_problems: Vec<Problem>,
    update: UpdatePart,
    report: ReportPart,
    events: mpsc::Sender<Event>,
    published: watch::Sender<Arc<Published>>,
    started_at: Timestamp,
}

struct UpdatePart {
    due: Option<Timestamp>,
    outcome: Option<update::Outcome>,
    problem: Option<Problem>,
    /// Who waits for the look that is going on.
    waiting: Vec<oneshot::Sender<()>>,
}

struct ReportPart {
    /// Away while sending.
    queue: Option<Queue>,
    due: Option<Timestamp>,
    failures: u32,
    problems: Vec<Problem>,
    delivered_at: Option<Timestamp>,
    queued: usize,
    /// Whether there is something to tell that no report has told; else only what waits is sent.
    news: bool,
    /// The states that the last report told, or is going to tell.
    told: Option<Vec<(String, State)>>,
}

impl Agent {
    fn start(paths: Paths, events: mpsc::Sender<Event>) -> Self {
        let now = clock::now();
        let nudge = events.clone();
        // A full channel means that a look is coming anyway.
        let mut watch = Watch::new(&paths, move |hint| drop(nudge.try_send(Event::PolicyHint(hint))));
        watch.arm(&paths);
        let mut store = policy::Store::open(paths.clone());
        let snapshot = store.read(now).or_else(|| {
            // Nothing answers yet, so nobody waits.
            std::thread::sleep(SETTLE);
            store.read(now)
        });
        let snapshot = snapshot.unwrap_or_else(|| store.preview(now));
        let (queue, saved) = Queue::open(&private_folder(&paths), clock::random());
        if let Err(error) = saved {
            tracing::error!("{}", unwritable(&private_folder(&paths), &error));
        }
        let queued = queue.waiting().len();
        let device_id = queue.identity().device_id.clone();
        let mut agent = Self {
            store,
            watch,
            poll_due: next_poll(&snapshot),
            hinted: None,
            quiet_until: Instant::now(),
            settle_until: None,
            app_problems: Vec::new(),
            app_retry: None,
            state_problems: Vec::new(),
            update: UpdatePart { due: Some(now), outcome: None, problem: None, waiting: Vec::new() },
            report: ReportPart {
                queue: Some(queue),
                due: Some(now),
                failures: 0,
                problems: Vec::new(),
                delivered_at: None,
                queued,
                news: true,
                told: None,
            },
            events,
            published: watch::Sender::new(Arc::new(Published {
                // Nobody sees it: the local API opens after the first look.
                status: Status::default(),
                policy: Explained::new(&snapshot, Vec::new()),
            })),
            started_at: now,
            snapshot,
            device_id,
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
                if hint == Hint::Unsettled {
                    // A watch may tell of one change only, and more may be coming.
                    self.watch.arm(&self.paths);
                    let now = Instant::now();
                    let latest = *self.settle_until.get_or_insert(now + LONGEST_SETTLE);
                    self.quiet_until = self.quiet_until.max((now + SETTLE).min(latest));
                }
                if Instant::now() < self.quiet_until {
                    self.hinted = Some(self.quiet_until);
                    return;
                }
                self.read_policy();
            }
            Event::Due => {
                let hinted = self.hinted.is_some_and(|time| time <= Instant::now());
                if hinted || self.poll_due <= clock::now() {
                    self.read_policy();
                }
            }
            Event::Reload(done) => {
                self.read_policy();
                if self.hinted.is_some() {
                    // An administrator who asks means what is there now.
                    self.read_policy();
                }
                self.work();
                // The caller may have gone; then nobody waits for the answer.
                let _ = done.send(());
                return;
            }
            Event::CheckForUpdate(done) => {
                let descriptor = self.descriptor();
                if plan::updates(&self.snapshot.resolved, descriptor.and_then(Descriptor::system)) {
                    self.update.waiting.push(done);
                    self.update.due = self.update.due.map(|_| clock::now());
                } else {
                    let _ = done.send(());
                }
            }
            Event::UpdateRecovered(problem) => {
                self.update.problem = problem;
                self.update.due = Some(clock::now());
            }
            Event::UpdateFinished(outcome) => {
                tracing::info!("update: {}", outcome.message);
                self.update.due = Some(outcome.next);
                self.update.problem.clone_from(&outcome.problem);
                self.update.outcome = Some(outcome);
            }
            Event::ReportFinished(delivery) => self.report_finished(delivery),
            Event::Stop => return,
        }
        self.work();
    }

    /// How long to sleep if nothing happens.
    fn wake(&self) -> Duration {
        let now = clock::now();
        let (update, report) = (self.update.due, self.report.due);
        let planned = plan::wake(&self.snapshot.resolved, self.descriptor(), update, report);
        let due = [Some(self.poll_due), planned, self.app_retry].into_iter().flatten().min();
        let wait = due.map_or(Duration::MAX, |due| clock::until(now, due)).min(Duration::from_secs(POLL));
        match self.hinted {
            Some(time) => wait.min(time.saturating_duration_since(Instant::now())),
            None => wait,
        }
    }

    /// Reads policy. That all of it has gone is believed if it is still so in a moment.
    fn read_policy(&mut self) {
        let (now, begun) = (clock::now(), Instant::now());
        self.settle_until = None;
        self.watch.arm(&self.paths);
        let Some(snapshot) = self.store.read(now) else {
            self.quiet_until = Instant::now() + SETTLE;
            self.hinted = Some(self.quiet_until);
            self.poll_due = clock::after(now, POLL);
            return;
        };
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.hinted = None;
        self.poll_due = next_poll(&self.snapshot);
        self.quiet_until = Instant::now() + QUIET.max(begun.elapsed() * 4);
        if before.problems != self.snapshot.problems {
            self.log_problems();
        }
        if before.resolved.policy != self.snapshot.resolved.policy {
            self.policy_changed(now);
        }
    }

    /// A switch that a crash interrupted is finished before the feed is looked at, and beside everything else.
    fn recover(&mut self) {
        let installation =
            self.descriptor().and_then(Descriptor::system).and_then(|system| system.installation.as_ref());
        let Some(installation) = installation.filter(|_| update::is_interrupted(&self.paths)) else { return };
        self.update.due = None;
        let (paths, events) = (self.paths.clone(), self.events.clone());
        tokio::spawn(async move {
            let problem = update::recover(&paths, installation).await;
            drop(events.send(Event::UpdateRecovered(problem)).await);
        });
    }

    fn log_problems(&self) {
        for problem in self.snapshot.problems.iter().take(MAXIMUM_PROBLEMS) {
            tracing::warn!("{}: {problem}", problem.code.as_str());
        }
    }

    fn policy_changed(&mut self, now: Timestamp) {
        tracing::info!("policy {} holds", self.snapshot.hash);
        let policy = &self.snapshot.resolved.policy;
        logging::set_level(policy.log_level);
        self.update.due = self.update.due.map(|_| now);
    }

    /// Makes durable what has changed with policy, once the app has its configuration.
    fn save(&mut self) {
        self.state_problems.clear();
        self.state_problems.extend(self.store.save());
        let configuration = Configuration::from(&self.snapshot.resolved.policy);
        if let Err(error) = configuration.save(&self.paths) {
            self.state_problems.push(unwritable(&Configuration::path(&self.paths), &error));
        }
    }

    /// Observes, plans, applies, publishes.
    fn work(&mut self) {
        let now = clock::now();
        // A clock that was set back must not leave anything due in years.
        let latest = clock::after(now, LONGEST_WAIT);
        self.update.due = self.update.due.map(|due| due.min(latest));
        self.report.due = self.report.due.map(|due| due.min(latest));
        self.poll_due = self.poll_due.min(clock::after(now, POLL));
        let observed = self.observe(now);
        let steps = plan::plan(&self.snapshot.resolved, self.descriptor(), &observed);
        self.app_problems.clear();
        self.app_retry = None;
        for step in steps {
            self.apply(step, now);
        }
        self.save();
        self.publish(now);
        let pending = |problem: &Problem| problem.code == Code::AppRestartPending;
        if self.published.borrow().status.problems.iter().any(pending) {
            self.app_retry = self.app_retry.or(Some(clock::after(now, RESTART_LOOK)));
        }
    }

    fn observe(&self, now: Timestamp) -> Observed {
        Observed {
            app: app::observe(&self.paths, self.descriptor()),
            update_due: self.update.due,
            report_due: self.report.due,
            now,
        }
    }

    fn report_finished(&mut self, delivery: Delivery) {
        let Delivery { queue, problem, delivered, retry_after, finished_at } = delivery;
        let interval = u64::from(self.snapshot.resolved.policy.report_interval_minutes) * 60;
        let waiting = queue.waiting().len();
        if delivered {
            self.report.delivered_at = Some(finished_at);
        }
        let unmade = problem.as_ref().is_some_and(|problem| problem.code == Code::AgentStateUnwritable);
        let pause = if waiting == 0 && !unmade {
            self.report.failures = 0;
            // What has happened while this one was on its way is told at once; else the next is due with its interval.
            if std::mem::replace(&mut self.report.news, true) { 1 } else { interval }
        } else {
            self.report.news |= unmade;
            let random = u64::from_le_bytes(clock::random());
            let pause = send::pause(self.report.failures, random).max(retry_after.unwrap_or(0));
            self.report.failures = self.report.failures.saturating_add(1);
            pause.min(interval.max(retry_after.unwrap_or(0)))
        };
        self.report.problems = problem.into_iter().collect();
        if queue.dropped > 0 {
            let message = format!("{} reports were dropped, the oldest first", queue.dropped);
            self.report.problems.push(Problem::new(Code::ReportDropped, message));
        }
        self.report.queued = waiting;
        self.report.queue = Some(queue);
        self.report.due = Some(clock::after(finished_at, pause));
    }

    fn descriptor(&self) -> Option<&'static Descriptor> {
        descriptor::find(&self.snapshot.resolved.policy.app)
    }

    fn publish(&mut self, now: Timestamp) {
        let mut status = self.status(now);
        let before = self.published.borrow().clone();
        status.observed_at = before.status.observed_at;
        if status == before.status {
            return;
        }
        status.observed_at = now;
        self.report_if_news(&status, now);
        status.report.next = self.report.due.filter(|_| status.report.url.is_some());
        let path = status_path(&self.paths);
        let bytes = serde_json::to_vec_pretty(&status).unwrap_or_default();
        if let Err(error) = file::replace(&path, &bytes, file::Access::Public) {
            status.problems.insert(0, unwritable(&path, &error));
            status.problem_count += 1;
        }
        // What went wrong with a setting later, such as an app that finds another value, belongs to its story.
        let mut problems = self.snapshot.problems.clone();
        let later = status.problems.iter().filter(|problem| problem.key.is_some());
        let later: Vec<Problem> = later.filter(|problem| !problems.contains(problem)).cloned().collect();
        problems.extend(later);
        let policy = Explained::new(&self.snapshot, problems);
        self.published.send_replace(Arc::new(Published { status, policy }));
        if self.update.due.is_some() {
            for done in self.update.waiting.drain(..) {
                // The caller may have gone.
                let _ = done.send(());
            }
        }
    }

    /// A changed state is reported soon, not at the next interval.
    fn report_if_news(&mut self, status: &Status, now: Timestamp) {
        let health = assess(Some(status), true, &[], now);
        let told: Vec<_> = health
            .components
            .into_iter()
            .filter(|part| part.name != "report")
            .map(|part| (part.name, part.state))
            .chain([(status.policy.hash.clone(), State::Pass)])
            .collect();
        if self.report.told.as_ref() == Some(&told) {
            return;
        }
        self.report.told = Some(told);
        self.report.news = true;
        let spread = u16::from_le_bytes(clock::random()) % SPREAD;
        let soon = now.checked_add(Duration::from_millis(spread.into())).unwrap_or(now);
        self.report.due = self.report.due.map(|due| due.min(soon));
    }
}

/// When to look even if nothing hints at a change: soon, if something could not be read.
fn next_poll(snapshot: &Snapshot) -> Timestamp {
    let failed = snapshot.problems.iter().any(|problem| problem.code == Code::PolicyUnreadable);
    clock::after(snapshot.read_at, if failed { RETRY } else { POLL })
}

/// Where the last facts lie, readable by everybody, also when no agent runs.
pub(crate) fn status_path(paths: &Paths) -> std::path::PathBuf {
    paths.state().join("status.json")
}
