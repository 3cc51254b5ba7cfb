//! New versions of the agent itself: checks for them, makes way for one that was installed, and shows that this one works.
//!
//! A version works when its own API answers, policy is loaded, and a report was attempted, whatever came of that. The watchdog
//! ([`watchdog`]) is told so, and goes back to the version before if it is not.

use std::sync::Arc;
use std::time::Duration;

use net::client::call;
use platform::paths::Paths;
use policy_schema::settings::UpdateMode;
use policy_schema::{Code, Extra, Policy, Problem};
use protocol::agent::STATUS;
use protocol::endpoint::Nothing;
use protocol::status::UpdateStatus;
use protocol::update::Command;
use tokio::sync::Notify;
use updates::versions::STARTS;
use watchdog::child::{Word, say};

use super::event::Event;
use super::observe::Observed;
use super::recurring::{self, Recurring};
use super::{Service, plan};
use crate::policy::{Read, Store};
use crate::update::{self, Job, Outcome};
use crate::version;

/// How long to wait for a version that works, before anything else is done that may have made this one crash.
const RESCUE: Duration = Duration::from_mins(1);
/// A version that has run for so long is stable.
const STABLE: Duration = Duration::from_mins(10);
/// The watchdog saves within this time that this version works.
const SAVED: Duration = Duration::from_secs(2);
/// How long to wait before this version is asked again whether it works.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How this process was started.
#[derive(Clone, Debug, Default)]
pub struct Launched {
    /// How often this version was started since it was stable last; 0 where nobody counts, so that no other can be started.
    pub starts: u32,
    /// A watchdog runs this process, and says when a user has logged on or off.
    pub supervised: Option<Arc<Notify>>,
}

/// How the machine service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was to stop.
    Stopped,
    /// Another version is to start.
    MakesWay,
}

/// What is known of new versions of the agent.
pub(super) struct AgentUpdate {
    pub(super) check: Recurring,
    outcome: Option<Outcome>,
    pub(super) problem: Option<Problem>,
    /// What administrators ask for, until the next check begins.
    commands: Vec<Command>,
    proof: Proof,
    supervised: bool,
    /// Whoever started this process starts another version, if there is one.
    counted: bool,
    waits_for_restart: bool,
}

/// Whether this version has shown that it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Missing,
    /// Its own API is being asked.
    Asking,
    Given,
}

impl AgentUpdate {
    pub(super) fn new(check: Recurring, launched: &Launched) -> Self {
        Self {
            check,
            outcome: None,
            problem: None,
            commands: Vec::new(),
            proof: Proof::Missing,
            supervised: launched.supervised.is_some(),
            counted: launched.starts > 0,
            waits_for_restart: false,
        }
    }
}

/// A version that has crashed again and again looks for a better one first of all. Gives whether one is installed.
pub(super) async fn rescue(paths: &Paths, launched: &Launched) -> bool {
    if launched.starts < STARTS {
        return false;
    }
    let now = platform::clock::now();
    let policy = match Store::open(paths.clone()).read(now) {
        Read::Policy(snapshot) => snapshot.resolved.policy,
        Read::Vanished(_) => return false,
    };
    let Some(job) = Job::of_agent(&policy, "").filter(|job| job.rules.mode == UpdateMode::Automatic) else {
        return false;
    };
    tracing::warn!("the agent was started {} times and always ended soon", launched.starts);
    if let Ok(outcome) = tokio::time::timeout(RESCUE, update::run_agent(paths, &job)).await {
        tracing::info!("update of the agent: {}", outcome.message);
    } else {
        tracing::warn!("no version of the agent was found within {} s", RESCUE.as_secs());
    }
    update::waits_for_restart(paths)
}

impl Service {
    /// Whether this process is to end so that another version can start. Nothing that is under way is cut off.
    pub(super) fn makes_way(&self) -> bool {
        self.agent_update.waits_for_restart && self.update_check.due().is_some()
    }

    pub(super) fn check_for_agent_update(&mut self) {
        let policy = &self.snapshot.resolved.policy;
        let Some(mut job) = Job::of_agent(policy, &self.identity.device_id) else { return };
        job.commands = std::mem::take(&mut self.agent_update.commands);
        self.agent_update.check = self.agent_update.check.step(recurring::Event::Started);
        let (paths, events) = (self.paths.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = update::run_agent(&paths, &job).await;
            drop(events.send(Event::AgentUpdateFinished(outcome)).await);
        });
    }

    pub(super) fn agent_update_finished(&mut self, outcome: Outcome) {
        tracing::info!("update of the agent: {}", outcome.message);
        let (now, next) = (outcome.finished_at, outcome.next);
        self.agent_update.check = self.agent_update.check.step(recurring::Event::Finished { now, next });
        self.agent_update.problem = outcome.problem.clone().map(of_agent);
        self.agent_update.outcome = Some(outcome);
        self.agent_update.waits_for_restart =
            self.agent_update.counted && update::waits_for_restart(&self.paths);
    }

    /// An administrator wants to know of updates now, or lets a version be installed again, which may be one of the agent.
    pub(super) fn agent_update_requested(&mut self, command: Option<&Command>) {
        let now = platform::clock::now();
        let event = match command {
            None => recurring::Event::Requested { now },
            Some(command @ Command::Release { .. }) => {
                self.agent_update.commands.push(command.clone());
                recurring::Event::Changed { due: now }
            }
            Some(Command::Hold { .. } | Command::RollBack) => return,
        };
        self.agent_update.check = self.agent_update.check.step(event);
    }

    /// Shows that this version works, once it does.
    pub(super) fn prove(&mut self) {
        let reports = self.snapshot.resolved.policy.report_url.is_some();
        let attempted = !reports || self.report_attempted;
        if self.agent_update.proof != Proof::Missing || self.api_problem.is_some() || !attempted {
            return;
        }
        self.agent_update.proof = Proof::Asking;
        let (socket, events) = (self.paths.agent_socket(), self.events.clone());
        tokio::spawn(async move {
            let works = match call(&socket, &STATUS, &Nothing {}).await {
                Ok(status) => status.agent_version == version::own().to_string(),
                Err(error) => {
                    tracing::warn!("the agent's own API does not answer: {error}");
                    false
                }
            };
            if !works {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            drop(events.send(Event::OwnApiAnswered(works)).await);
        });
    }

    pub(super) fn own_api_answered(&mut self, works: bool) {
        if !works {
            self.agent_update.proof = Proof::Missing;
            return;
        }
        self.agent_update.proof = Proof::Given;
        if self.agent_update.supervised {
            say(Word::Proved);
        } else {
            // What ran as long as this is no cause of a crash any more; where a watchdog runs, it sees that itself.
            let paths = self.paths.clone();
            tokio::spawn(async move {
                tokio::time::sleep(STABLE).await;
                if let Err(error) = watchdog::change(&paths, |versions| versions.stable(version::own())) {
                    tracing::debug!("that this version is stable cannot be saved: {error}");
                }
            });
        }
        if !update::is_interrupted(&self.paths, update::AGENT) {
            return;
        }
        // Its journal is closed.
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SAVED).await;
            drop(events.send(Event::AgentVersionProved).await);
        });
    }

    pub(super) fn agent_version_proved(&mut self) {
        let now = platform::clock::now();
        self.agent_update.check = self.agent_update.check.step(recurring::Event::Requested { now });
    }

    /// What the status says of new versions of the agent; nothing where policy names no feed for them.
    pub(super) fn agent_update_status(&self, observed: &Observed) -> Option<UpdateStatus> {
        let policy: &Policy = &self.snapshot.resolved.policy;
        let journal = &observed.agent_journal;
        plan::updates_agent(policy).then(|| UpdateStatus {
            managed: true,
            mode: Some(policy.agent_update_mode.into()),
            running: self.agent_update.check.due().is_none(),
            message: self.agent_update.outcome.as_ref().map(|outcome| outcome.message.clone()),
            offered: self.agent_update.outcome.as_ref().and_then(|outcome| outcome.offered.clone()),
            quarantined: journal.quarantined_versions(),
            progress: super::status::progress(journal),
            hold: None,
            checked_at: self.agent_update.outcome.as_ref().map(|outcome| outcome.finished_at),
            next: self.agent_update.check.due(),
            extra: Extra::default(),
        })
    }
}

/// A problem with the updates of an app, said of the agent.
fn of_agent(problem: Problem) -> Problem {
    let (using, hint) = if problem.code == Code::UpdateAvailable {
        let using = "the version that runs, because `AgentUpdateMode` is `notify`";
        (using, "set `AgentUpdateMode` to `automatic`")
    } else if problem.code == Code::UpdateNewerThanPin {
        ("the version that runs", "raise `AgentPinnedVersion`: no pin leads the agent to an older version")
    } else {
        return problem.key("AgentUpdateFeed");
    };
    problem.using(using).hint(hint.to_owned()).key("AgentUpdateFeed")
}
