//! The facts that the main loop publishes, from what it knows and a look at the device. Changes nothing.

use agent_platform::policy::Watch;
use jiff::Timestamp;
use policy_schema::resolve::Origin;
use policy_schema::{Code, Problem, without_query};

use super::Agent;
use crate::app::Found;
use crate::app::descriptor::{self, Descriptor};
use crate::health::model::{
    AppFacts, FORMAT, MAXIMUM_PROBLEMS, PolicyFacts, ReportFacts, Status, UpdateFacts,
};
use crate::{app, plan, update};

impl Agent {
    pub(super) fn status(&self, now: Timestamp) -> Status {
        let resolved = &self.snapshot.resolved;
        let policy = &resolved.policy;
        let descriptor = self.descriptor();
        let system = descriptor.and_then(Descriptor::system);
        let observed = app::observe(&self.paths, descriptor);
        let installation = system.and_then(|system| system.installation.as_ref());
        let installed = installation.and_then(|one| update::installed_version(&self.paths, one));
        let outcome = self.update.outcome.as_ref();
        let problems = self.problems(&observed);
        Status {
            format: FORMAT,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            observed_at: now,
            policy: PolicyFacts {
                hash: self.snapshot.hash.clone(),
                read_at: self.snapshot.read_at,
                places: self.snapshot.places.clone(),
                settings: resolved
                    .settings
                    .iter()
                    .filter(|setting| {
                        matches!(setting.origin, Origin::Policy { .. } | Origin::LastGood { .. })
                    })
                    .count(),
                organization: policy.organization_name.clone(),
                support_contact: policy.support_contact.clone(),
            },
            app: AppFacts {
                name: policy.app.clone(),
                title: descriptor.map_or(policy.app.clone(), |descriptor| descriptor.title.clone()),
                not_applicable: descriptor.and_then(Descriptor::not_applicable),
                configuration: observed.place.filter(|_| match &observed.found {
                    Found::File(content) => content.is_some(),
                    Found::Registry(values) | Found::ManagedPreferences(values) => !values.is_empty(),
                    Found::Unreadable(_) => false,
                }),
                version: installed.map(|version| version.to_string()),
            },
            update: UpdateFacts {
                managed: plan::updates(resolved, system),
                mode: policy.update_mode.as_str().to_owned(),
                running: self.update.due.is_none(),
                message: outcome.map(|outcome| outcome.message.clone()),
                offered: outcome.and_then(|outcome| outcome.offered.as_ref().map(ToString::to_string)),
                held: update::held(&self.paths).iter().map(ToString::to_string).collect(),
                looked_at: outcome.map(|outcome| outcome.finished_at),
                next: self.update.due.filter(|_| plan::updates(resolved, system)),
            },
            report: ReportFacts {
                url: policy.report_url.as_deref().map(|url| without_query(url).into_owned()),
                queued: self.report.queued,
                delivered_at: self.report.delivered_at,
                next: self.report.due.filter(|_| policy.report_url.is_some()),
            },
            problem_count: problems.len(),
            problems: problems.into_iter().take(MAXIMUM_PROBLEMS).collect(),
        }
    }

    /// Everything that is wrong, the worst first.
    fn problems(&self, observed: &app::Observed) -> Vec<Problem> {
        let mut problems = self.snapshot.problems.clone();
        if let Some(descriptor) = self.descriptor() {
            problems.extend(app::problems(descriptor, &self.snapshot.resolved, observed));
        }
        problems.extend(self.watch.failure().map(|failure| {
            Problem::new(Code::PolicyWatchFailed, format!("changes are not noticed at once: {failure}"))
                .using("a look every 15 minutes")
                .hint(Watch::HINT.to_owned())
        }));
        problems.extend(self.app_problems.iter().cloned());
        problems.extend(self.state_problems.iter().cloned());
        if self.descriptor().is_none() {
            let app = &self.snapshot.resolved.policy.app;
            problems.push(
                Problem::new(Code::AppUnknown, format!("no app is known as `{app}`"))
                    .key("App")
                    .using("nothing: no app is managed")
                    .hint(format!("known are {}", descriptor::names())),
            );
        }
        problems.extend(self.update.problem.clone());
        if self.snapshot.resolved.policy.report_url.is_some() {
            problems.extend(self.report.problems.iter().cloned());
        }
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity.clone()));
        problems
    }
}
