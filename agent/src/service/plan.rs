//! PURE: what has to be done, from what policy means and what was observed. [`super::apply`] does it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use policy_schema::settings::UpdateMode;
use policy_schema::{Policy, Resolved};

use super::observe::Observed;
use crate::app::configuration::{is_before, native_values, render};
use crate::app::descriptor::{Descriptor, System};
use crate::app::observe::{self, Found};
use crate::app::ownership::{OwnershipRecord, is_ours, means_the_same, recordable};
use crate::app::write::Change;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let the app find this.
    WriteConfiguration { path: PathBuf, bytes: Vec<u8> },
    /// Let the app find nothing of ours.
    RemoveConfiguration { path: PathBuf },
    /// Set and remove values that the app reads from the operating system.
    WriteValues { location: String, change: Change },
    /// Remember what was observed.
    Record(OwnershipRecord),
    /// Check the release feed, and install what policy allows.
    CheckForUpdate,
    /// Send what is to be reported.
    SendReport,
    /// Check the documents of the identity provider.
    CheckProvider,
    /// Check for a new version of the agent itself.
    CheckForAgentUpdate,
    /// Serve the sinks that keep no queue.
    ServeSinks,
}

/// When work is due; `None` while it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// The check of the release feed.
    pub(crate) update: Option<Timestamp>,
    /// The next report.
    pub(crate) report: Option<Timestamp>,
    /// The check of the identity provider's documents.
    pub(crate) provider: Option<Timestamp>,
    /// The check for a new version of the agent.
    pub(crate) agent_update: Option<Timestamp>,
    /// The first of the sinks that keep no queue.
    pub(crate) sinks: Option<Timestamp>,
}

/// What to do now. The same policy and an unchanged device plan nothing.
pub(crate) fn plan(
    resolved: &Resolved,
    descriptor: Option<&Descriptor>,
    observed: &Observed,
    due: Due,
) -> Vec<Step> {
    let system = descriptor.and_then(Descriptor::system);
    let mut steps = plan_configuration(resolved, system, &observed.app, observed.now);
    let is_due = |time: Option<Timestamp>| time.is_some_and(|time| time <= observed.now);
    // Updates that were switched off leave nothing behind.
    let off = resolved.policy.update_mode == UpdateMode::Off && observed.journal.offer().is_some();
    if (updates(resolved, system) || off) && is_due(due.update) {
        steps.push(Step::CheckForUpdate);
    }
    if resolved.policy.report_url.is_some() && is_due(due.report) {
        steps.push(Step::SendReport);
    }
    if has_provider(resolved) && is_due(due.provider) {
        steps.push(Step::CheckProvider);
    }
    if updates_agent(&resolved.policy) && is_due(due.agent_update) {
        steps.push(Step::CheckForAgentUpdate);
    }
    if is_due(due.sinks) {
        steps.push(Step::ServeSinks);
    }
    steps
}

/// When something is due, if nothing happens before.
pub(crate) fn wake(resolved: &Resolved, descriptor: Option<&Descriptor>, due: Due) -> Option<Timestamp> {
    let system = descriptor.and_then(Descriptor::system);
    let update = due.update.filter(|_| updates(resolved, system));
    let report = due.report.filter(|_| resolved.policy.report_url.is_some());
    let provider = due.provider.filter(|_| has_provider(resolved));
    let agent_update = due.agent_update.filter(|_| updates_agent(&resolved.policy));
    [update, report, provider, agent_update, due.sinks].into_iter().flatten().min()
}

fn has_provider(resolved: &Resolved) -> bool {
    resolved.policy.issuer.is_some() && resolved.policy.client_id.is_some()
}

/// Whether policy says where new versions of the agent come from, and whether they are installed.
pub(crate) fn updates_agent(policy: &Policy) -> bool {
    policy.agent_update_mode != UpdateMode::Off
        && policy.agent_update_feed.is_some()
        && policy.agent_roots().is_some()
}

/// Whether the agent manages the app's versions.
pub(crate) fn updates(resolved: &Resolved, system: Option<&System>) -> bool {
    let has_feed = |system: &System| resolved.policy.update_feed.is_some() || !system.feeds.is_empty();
    resolved.policy.update_mode != UpdateMode::Off
        && system.is_some_and(|system| system.installation.is_some() && has_feed(system))
}

fn plan_configuration(
    resolved: &Resolved,
    system: Option<&System>,
    observed: &observe::Observed,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = leave_old_location(observed);
    if let (Some(system), Some(location)) = (system, &observed.location) {
        let step = match &observed.found {
            Found::File(found) => plan_file(resolved, system, observed, location, found.as_ref()),
            Found::Registry(found) => plan_values(resolved, system, observed, location, found),
            Found::ManagedPreferences(found) => record_change(observed, location, found, now),
            Found::Unreadable(_) => None,
        };
        steps.extend(step);
    }
    if let (true, Some(record)) = (steps.is_empty(), &observed.ownership) {
        // A change that was cut off has turned out to be finished, and the app has been started since, or was not open.
        let opened_before = |started| record.changed_at.is_some_and(|changed| is_before(started, changed));
        let was_open = observed.running_since.map_or(record.was_open, opened_before);
        let changed_at = record.changed_at.filter(|_| was_open);
        let was_open = changed_at.is_some();
        let settled = OwnershipRecord { before: None, changed_at, was_open, ..record.clone() };
        if settled != *record {
            steps.push(Step::Record(settled));
        }
    }
    steps
}

/// Another app was managed before: what it was told no longer holds.
pub(crate) fn leave_old_location(observed: &observe::Observed) -> Vec<Step> {
    let Some(record) = &observed.ownership else { return Vec::new() };
    if record.location.is_empty() || observed.location.as_ref() == Some(&record.location) {
        return Vec::new();
    }
    if record.observed_only {
        return vec![Step::Record(OwnershipRecord::default())];
    }
    match &record.values {
        None => vec![Step::RemoveConfiguration { path: record.location.clone().into() }],
        Some(ours) => {
            let still = |name: &&String| is_ours(name, observed.left.get(*name), Some(record));
            let names = ours.keys().chain(record.before.iter().flat_map(|before| before.keys()));
            let gone: BTreeSet<&String> =
                names.filter(|name| observed.left.contains_key(*name)).filter(still).collect();
            let change = Change { gone: gone.into_iter().cloned().collect(), ..Change::default() };
            if change.gone.is_empty() {
                return Vec::new();
            }
            vec![Step::WriteValues { location: record.location.clone(), change }]
        }
    }
}

fn plan_file(
    resolved: &Resolved,
    system: &System,
    observed: &observe::Observed,
    location: &str,
    found: Option<&Vec<u8>>,
) -> Option<Step> {
    let written_before = observed.ownership.as_ref().is_some_and(|record| record.location == location);
    let path = PathBuf::from(location);
    match render(system, resolved) {
        Some(bytes) if found != Some(&bytes) || !written_before => {
            Some(Step::WriteConfiguration { path, bytes })
        }
        None if written_before => Some(Step::RemoveConfiguration { path }),
        Some(_) | None => None,
    }
}

/// Values that the agent wrote follow policy; any other value is somebody else's, such as a Group Policy's, and wins.
fn plan_values(
    resolved: &Resolved,
    system: &System,
    observed: &observe::Observed,
    location: &str,
    found: &platform::native::Values,
) -> Option<Step> {
    let record = observed.ownership.as_ref().filter(|record| record.location == location);
    let wanted = native_values(system, resolved);
    let mut change = Change::default();
    let names = system.configuration.iter().flat_map(|configuration| configuration.values.keys());
    for name in names {
        let there = found.get(name);
        let as_wanted =
            wanted.get(name).zip(there).is_some_and(|(wanted, there)| means_the_same(there, wanted));
        // With the record lost, what is as policy wants it was written by the agent, as far as can be known.
        if !(is_ours(name, there, record) || observed.lost && as_wanted) {
            continue;
        }
        match wanted.get(name) {
            Some(value) => {
                if !as_wanted {
                    change.set.insert(name.clone(), value.clone());
                }
                change.ours.insert(name.clone(), value.clone());
            }
            None if there.is_some() => change.gone.push(name.clone()),
            None => {}
        }
    }
    if !change.set.is_empty() || !change.gone.is_empty() {
        return Some(Step::WriteValues { location: location.to_owned(), change });
    }
    // What somebody else has set by now is theirs, also if they set the same value later.
    let recorded = record.and_then(|record| record.values.as_ref());
    let differs = recorded.map_or(!change.ours.is_empty(), |recorded| *recorded != change.ours);
    differs.then(|| {
        let record = record.cloned().unwrap_or_default();
        Step::Record(OwnershipRecord {
            location: location.to_owned(),
            values: Some(change.ours),
            before: None,
            observed_only: false,
            ..record
        })
    })
}

/// What the MDM writes there is the app's; when it changes, the app has to be started again.
fn record_change(
    observed: &observe::Observed,
    location: &str,
    found: &platform::native::Values,
    now: Timestamp,
) -> Option<Step> {
    let record = observed.ownership.as_ref().filter(|record| record.location == location);
    let before = record.and_then(|record| record.values.as_ref());
    let found = recordable(found);
    if before == Some(&found) {
        return None;
    }
    Some(Step::Record(OwnershipRecord {
        location: location.to_owned(),
        values: Some(found),
        // What lay there before it was observed first may have lain there before the app started.
        changed_at: before.map(|_| now),
        observed_only: true,
        ..OwnershipRecord::default()
    }))
}

#[cfg(test)]
mod tests;
