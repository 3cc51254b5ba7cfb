//! PURE: what has to be done, from what policy means and what is there. Called by the main loop; `apply` does it.

use std::path::PathBuf;

use jiff::Timestamp;
use policy_schema::Resolved;
use policy_schema::settings::UpdateMode;

use crate::app::descriptor::{Descriptor, Format, System};
use crate::app::{self};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let the app find this.
    WriteConfiguration { path: PathBuf, bytes: Vec<u8> },
    /// Let the app find nothing of ours.
    RemoveConfiguration { path: PathBuf },
    /// Look at the release feed, and install what policy allows.
    CheckForUpdate,
    /// Send what is to be reported.
    SendReport,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) app: app::Observed,
    /// When the feed is to be looked at again; `None` while that is going on.
    pub(crate) update_due: Option<Timestamp>,
    /// When the next report is to be sent; `None` while that is going on.
    pub(crate) report_due: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

/// What to do now. The same policy and an unchanged device plan nothing.
pub(crate) fn plan(resolved: &Resolved, descriptor: Option<&Descriptor>, observed: &Observed) -> Vec<Step> {
    let system = descriptor.and_then(Descriptor::system);
    let mut steps = plan_configuration(resolved, system, &observed.app);
    let due = |time: Option<Timestamp>| time.is_some_and(|time| time <= observed.now);
    if updates(resolved, system) && due(observed.update_due) {
        steps.push(Step::CheckForUpdate);
    }
    if resolved.policy.report_url.is_some() && due(observed.report_due) {
        steps.push(Step::SendReport);
    }
    steps
}

/// When something has to be looked at again, if nothing happens before.
pub(crate) fn wake(
    resolved: &Resolved,
    descriptor: Option<&Descriptor>,
    update_due: Option<Timestamp>,
    report_due: Option<Timestamp>,
) -> Option<Timestamp> {
    let system = descriptor.and_then(Descriptor::system);
    let update = update_due.filter(|_| updates(resolved, system));
    let report = report_due.filter(|_| resolved.policy.report_url.is_some());
    [update, report].into_iter().flatten().min()
}

/// Whether the agent looks after the app's versions.
pub(crate) fn updates(resolved: &Resolved, system: Option<&System>) -> bool {
    let has_feed = |system: &System| resolved.policy.update_feed.is_some() || system.feed.is_some();
    resolved.policy.update_mode != UpdateMode::Off
        && system.is_some_and(|system| system.installation.is_some() && has_feed(system))
}

fn plan_configuration(resolved: &Resolved, system: Option<&System>, observed: &app::Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    // Another app was managed before: what it was told no longer holds.
    if let Some(before) =
        observed.written_before.as_ref().filter(|before| observed.path.as_ref() != Some(before))
    {
        steps.push(Step::RemoveConfiguration { path: before.clone() });
    }
    let writes = |system: &&System| {
        system.configuration.as_ref().is_some_and(|configuration| configuration.format == Format::Json)
    };
    let (Some(system), Some(path)) = (system.filter(writes), &observed.path) else { return steps };
    match app::render(system, resolved) {
        Some(bytes)
            if observed.found.as_ref() != Some(&bytes) || observed.written_before.as_ref() != Some(path) =>
        {
            steps.push(Step::WriteConfiguration { path: path.clone(), bytes });
        }
        None if observed.written_before.as_ref() == Some(path) => {
            steps.push(Step::RemoveConfiguration { path: path.clone() });
        }
        Some(_) | None => {}
    }
    steps
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::Place;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn policy(text: &str) -> Resolved {
        let place = Place { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
        resolve(&[place], &LastGood::default())
    }

    fn notes() -> Option<&'static Descriptor> {
        app::descriptor::find("lab-notes")
    }

    fn observed(found: Option<&[u8]>, written_before: Option<&str>) -> Observed {
        Observed {
            app: app::Observed {
                path: Some("/managed.json".into()),
                found: found.map(<[u8]>::to_vec),
                written_before: written_before.map(PathBuf::from),
            },
            update_due: Some(NOW),
            report_due: Some(NOW),
            now: NOW,
        }
    }

    fn written(resolved: &Resolved) -> Vec<u8> {
        app::render(notes().and_then(Descriptor::system).unwrap(), resolved).unwrap()
    }

    #[test]
    fn the_same_policy_twice_plans_nothing() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let bytes = written(&resolved);
        let first = plan(&resolved, notes(), &observed(None, None));
        assert_eq!(first, [Step::WriteConfiguration { path: "/managed.json".into(), bytes: bytes.clone() }]);
        assert!(plan(&resolved, notes(), &observed(Some(&bytes), Some("/managed.json"))).is_empty());
    }

    #[test]
    fn a_configuration_that_somebody_changed_is_put_right() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let steps = plan(&resolved, notes(), &observed(Some(b"{}"), Some("/managed.json")));
        assert!(matches!(steps[..], [Step::WriteConfiguration { .. }]));
    }

    #[test]
    fn withdrawn_policy_removes_what_was_written_and_nothing_else() {
        let resolved = policy("LogLevel = \"debug\"");
        let steps = plan(&resolved, notes(), &observed(Some(b"{}"), Some("/managed.json")));
        assert_eq!(steps, [Step::RemoveConfiguration { path: "/managed.json".into() }]);
        assert!(plan(&resolved, notes(), &observed(Some(b"somebody's own"), None)).is_empty());
    }

    #[test]
    fn another_app_takes_the_place_of_the_first() {
        let resolved = policy("Issuer = \"https://a.example\"");
        let steps = plan(&resolved, notes(), &observed(None, Some("/other.json")));
        assert_eq!(steps[0], Step::RemoveConfiguration { path: "/other.json".into() });
        let mut without_app = observed(None, Some("/other.json"));
        without_app.app.path = None;
        assert_eq!(plan(&resolved, None, &without_app).len(), 1);
    }

    #[test]
    fn work_that_is_due_is_planned_only_where_policy_wants_it() {
        let feed = "UpdateFeed = \"https://a.example/latest.yml\"\nReportUrl = \"https://a.example/\"\n";
        let due = observed(None, None);
        assert_eq!(plan(&policy(feed), notes(), &due), [Step::CheckForUpdate, Step::SendReport]);
        assert_eq!(plan(&policy(&format!("{feed}UpdateMode = \"off\"")), notes(), &due), [Step::SendReport]);
        assert_eq!(plan(&policy(feed), app::descriptor::find("amazon-quick"), &due), [Step::SendReport]);
        let later = Observed { update_due: Some(Timestamp::MAX), report_due: None, ..due };
        assert!(plan(&policy(feed), notes(), &later).is_empty());
        assert_eq!(wake(&policy(feed), notes(), Some(Timestamp::MAX), None), Some(Timestamp::MAX));
        assert_eq!(wake(&policy(""), notes(), Some(Timestamp::MAX), None), None);
    }
}
