//! What a round leaves: state files, and the status for everybody who asks.

use std::path::Path;
use std::sync::Arc;

use broker::configuration::Configuration;
use platform::clock;
use platform::file::Access;
use platform::paths::Paths;
use platform::state::StateFile;
use policy_schema::{Code, Problem};
use protocol::health::{assess, next_history};
use protocol::policy::ResolvedPolicy;
use protocol::status::Status;
use protocol::update::History;

use super::observe::Observed;
use super::routes::Published;
use super::{Service, apply, plan};
use crate::app::descriptor::{self, Descriptor};
use crate::state::unwritable;

/// A state file that could not be written is written again this soon. In seconds.
const STATE_RETRY: u64 = 10;

impl Service {
    /// Makes durable what has changed with policy, once the app has its configuration.
    pub(super) fn save(&mut self) {
        self.state_problems.clear();
        self.state_problems.extend(self.store.save());
        self.save_record();
        self.state_problems.extend(self.record_problem.clone());
        let resolved = &self.snapshot.resolved;
        let configuration = descriptor::sign_in_configuration(&resolved.policy).leaving_to_user(resolved);
        if let Err(error) = configuration.save(&self.paths) {
            self.state_problems.push(unwritable(Configuration::file(&self.paths).path(), &error));
        }
        if !self.state_problems.is_empty() {
            self.retry_soon();
        }
    }

    /// The next round comes soon: what could not be written may be writable by then.
    fn retry_soon(&mut self) {
        self.retry_at = apply::earliest([self.retry_at, Some(clock::after(clock::now(), STATE_RETRY))]);
    }

    pub(super) fn publish(&mut self, observed: &Observed) {
        let now = observed.now;
        let mut status = self.status(observed);
        let history = next_history(&status, self.sessions.brokers(), now);
        let before = std::mem::replace(&mut self.history, history);
        status.history = self.history.clone();
        let health = assess(Some(&status), true, self.sessions.brokers(), now);
        self.log_changes(&before, &health);
        self.report_if_changed(&status, health, now);
        status.report = self.report_status();
        let before = self.published.borrow().clone();
        status.observed_at = before.status.observed_at;
        let history = &observed.journal.history;
        let preview = Some(self.preview_inputs());
        if status != before.status || *history != before.history.entries || preview != before.preview {
            status.observed_at = now;
            let file = status_file(&self.paths);
            if let Err(error) = file.save(&status) {
                status.problems.insert(0, unwritable(file.path(), &error));
                status.problem_count += 1;
                self.retry_soon();
            }
            // What went wrong with a setting later, such as an app that finds another value, belongs to it as well.
            let mut problems = self.snapshot.problems.clone();
            let later = status.problems.iter().filter(|problem| problem.key.is_some());
            let later: Vec<Problem> = later.filter(|problem| !problems.contains(problem)).cloned().collect();
            problems.extend(later);
            let policy = ResolvedPolicy::new(&self.snapshot.resolved, &self.snapshot.last_good, problems);
            let app = status.app.name.clone();
            let history = History { app, entries: history.clone() };
            self.published.send_replace(Arc::new(Published { status, policy, history, preview }));
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

/// What to say where the local API cannot be used.
pub(super) fn no_api(socket: &Path, error: &std::io::Error) -> Problem {
    let problem = Problem::new(Code::AgentApiUnavailable, error.to_string()).at(socket.display().to_string());
    let problem = problem.using("none; `steward status` shows what the agent has written to its status file");
    let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
        "end the program that has its place; the agent tries again every 10 seconds"
    } else {
        "make its folder usable; the agent tries again every 10 seconds"
    };
    problem.hint(hint.to_owned())
}

/// The last status, readable by every user, also when no agent runs.
pub(crate) fn status_file(paths: &Paths) -> StateFile<Status> {
    let path: &Path = &paths.state();
    StateFile::new(path.join("status.json"), Access::Public)
}
