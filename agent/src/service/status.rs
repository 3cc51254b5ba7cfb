//! PURE: the status that the service publishes, from what it knows and what was observed.

use platform::policy::Watch;
use policy_schema::{Code, Extra, Problem, without_query};
use protocol::FORMAT;
use protocol::status::{AppStatus, MAXIMUM_PROBLEMS, PolicyStatus, ReportStatus, Status, UpdateStatus};
use protocol::update::Progress;
use semver::Version;
use updates::Journal;
use updates::journal::State;

use super::observe::Observed;
use super::{Service, plan};
use crate::app::configuration;
use crate::app::descriptor::{self, Descriptor};
use crate::app::observe::Found;

/// What an update waits for since before the agent started.
fn waits(journal: &Journal) -> Option<String> {
    if let State::Waiting { why, .. } = &journal.state { Some(why.text.clone()) } else { None }
}

/// How far an update is; `None` if none was ever begun.
pub(super) fn progress(journal: &Journal) -> Option<Progress> {
    let offer = journal.offer();
    let (downloaded, until) = match &journal.state {
        State::Idle => return None,
        State::Downloading { offset, .. } => (*offset, None),
        State::Waiting { why, fetched, .. } => {
            (offer.filter(|_| *fetched).map_or(0, |offer| offer.size), why.until)
        }
        State::Verified { offer, .. } | State::Installing { offer, .. } => (offer.size, None),
        State::Offered { .. }
        | State::Confirming { .. }
        | State::RollingBack { .. }
        | State::Committed { .. }
        | State::RolledBack { .. } => (0, None),
    };
    Some(Progress {
        stage: journal.stage().into(),
        version: journal.version().cloned(),
        downloaded,
        size: offer.map_or(0, |offer| offer.size),
        until,
        extra: Extra::default(),
    })
}

impl Service {
    /// The facts as they are now. `observed_at` is the moment of the observation.
    pub(super) fn status(&self, observed: &Observed) -> Status {
        let problems = self.problems(observed);
        Status {
            format: FORMAT,
            agent_version: crate::version::own().to_string(),
            started_at: self.started_at,
            observed_at: observed.now,
            policy: self.policy_status(),
            app: self.app_status(observed),
            update: self.update_status(observed),
            agent_update: self.agent_update_status(observed),
            report: self.report_status(),
            sign_in: Some(self.sign_in_status()),
            history: self.history.clone(),
            problem_count: problems.len(),
            problems: problems.into_iter().take(MAXIMUM_PROBLEMS).collect(),
            extra: Extra::default(),
        }
    }

    fn policy_status(&self) -> PolicyStatus {
        let policy = &self.snapshot.resolved.policy;
        PolicyStatus {
            hash: self.snapshot.hash.clone(),
            read_at: self.snapshot.read_at,
            sources: self.snapshot.sources.clone(),
            settings: self.snapshot.resolved.set_by_policy().count(),
            organization: policy.organization_name.clone(),
            support_contact: policy.support_contact.clone(),
            extra: Extra::default(),
        }
    }

    fn app_status(&self, observed: &Observed) -> AppStatus {
        let (name, descriptor) = (&self.snapshot.resolved.policy.app, self.descriptor());
        let is_there = match &observed.app.found {
            Found::File(content) => content.is_some(),
            Found::Registry(values) | Found::ManagedPreferences(values) => !values.is_empty(),
            Found::Unreadable(_) => false,
        };
        AppStatus {
            name: name.clone(),
            title: descriptor.map_or(name.clone(), |descriptor| descriptor.title.clone()),
            not_applicable: descriptor.and_then(Descriptor::not_applicable),
            configuration: observed.app.location.clone().filter(|_| is_there),
            version: observed.installed.as_deref().and_then(|text| {
                let version = descriptor.and_then(Descriptor::system)?.version_of(text);
                Some(version).filter(|version| *version != Version::new(0, 0, 0))
            }),
            installed: observed.installed.clone(),
            repaired: self.repaired,
            extra: Extra::default(),
        }
    }

    fn update_status(&self, observed: &Observed) -> UpdateStatus {
        let resolved = &self.snapshot.resolved;
        let managed = plan::updates(resolved, self.descriptor().and_then(Descriptor::system));
        let outcome = self.update_outcome.as_ref();
        UpdateStatus {
            managed,
            mode: Some(resolved.policy.update_mode.into()),
            running: self.update_check.due().is_none(),
            message: outcome.map(|outcome| outcome.message.clone()).or_else(|| waits(&observed.journal)),
            offered: outcome.and_then(|outcome| outcome.offered.clone()),
            quarantined: observed.journal.quarantined_versions(),
            progress: progress(&observed.journal).filter(|_| managed),
            hold: observed.journal.hold(observed.now).cloned(),
            checked_at: outcome.map(|outcome| outcome.finished_at),
            next: self.update_check.due().filter(|_| managed),
            extra: Extra::default(),
        }
    }

    pub(super) fn report_status(&self) -> ReportStatus {
        let url = self.snapshot.resolved.policy.report_url.as_deref();
        ReportStatus {
            url: url.map(|url| without_query(url).into_owned()),
            queued: self.queued,
            delivered_at: self.delivered_at,
            next: self.delivery.due().filter(|_| url.is_some()),
            certificate_until: self.certificate_until.filter(|_| url.is_some()),
            extra: Extra::default(),
        }
    }

    /// Whether policy asks for a version of the app.
    fn wants_app(&self) -> bool {
        let policy = &self.snapshot.resolved.policy;
        policy.update_pinned_version.is_some() || policy.update_minimum_version.is_some()
    }

    /// What became of the record of what the agent wrote for the app, which was lost.
    pub(super) fn explain_lost_record(&self, problem: Problem, observed: &Observed) -> Problem {
        let unknown = self.descriptor().and_then(Descriptor::system).map_or_else(Vec::new, |system| {
            configuration::unlike_policy(system, &self.snapshot.resolved, &observed.app)
        });
        let location = observed.app.location.as_deref().unwrap_or_default();
        if unknown.is_empty() {
            return problem.using("what is as policy wants it, which counts as the agent's");
        }
        let names = unknown.join(", ");
        problem
            .using(format!(
                "what is as policy wants it, which counts as the agent's; nobody knows who wrote {names}"
            ))
            .hint(format!("look at {location}, and remove what does not belong there"))
    }

    /// An app that policy asks for and that is not there. One that the agent installs is the update's matter.
    fn missing_app(&self, observed: &Observed) -> Option<Problem> {
        let descriptor = self.descriptor()?;
        let managed = plan::updates(&self.snapshot.resolved, descriptor.system());
        let missing =
            descriptor.system().is_some() && observed.installed.is_none() && self.wants_app() && !managed;
        missing.then(|| {
            let message = format!("{} is not installed for the whole device", descriptor.title);
            Problem::new(Code::AppNotInstalled, message).hint("deploy it with your MDM".to_owned())
        })
    }

    /// Everything that is wrong, the worst first.
    fn problems(&self, observed: &Observed) -> Vec<Problem> {
        let policy = &self.snapshot.resolved.policy;
        let mut problems = self.snapshot.problems.clone();
        if let Some(descriptor) = self.descriptor() {
            problems.extend(configuration::problems(descriptor, &self.snapshot.resolved, &observed.app));
        }
        problems.extend(descriptor::unknown(&self.snapshot.resolved.policy));
        problems.extend(self.missing_app(observed));
        problems.extend(self.provider_problem());
        problems.extend(observed.watch_failure.as_ref().map(|failure| {
            Problem::new(Code::PolicyWatchFailed, format!("changes are not noticed at once: {failure}"))
                .using("reading every 15 minutes")
                .hint(Watch::HINT.to_owned())
        }));
        problems.extend(self.api_problem.iter().cloned());
        problems.extend(self.app_problems.iter().cloned());
        problems.extend(observed.problems.iter().cloned());
        problems.extend(self.state_problems.iter().cloned());
        let lost = self.lost.iter().filter(|problem| !observed.problems.contains(problem));
        problems.extend(lost.cloned());
        problems.extend(self.update_problem.iter().cloned());
        problems.extend(self.agent_update.problem.iter().filter(|_| plan::updates_agent(policy)).cloned());
        problems.extend(self.sinks.problems().cloned());
        if self.snapshot.resolved.policy.report_url.is_some() {
            problems.extend(self.report_problems.iter().cloned());
        }
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity.clone()));
        problems
    }
}
