//! What an OpAMP server is told of a report: four parts, each of which is left out while it stays the same. Nothing in them moves while
//! the device stays as it is. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy_schema::{Code, Open};
use prost::Message as _;
use protocol::health::{ComponentHealth, ComponentName, State};
use protocol::opamp::{self, KeyValue, PackageStatusEnum as Package, RemoteConfigStatuses as Policy};
use protocol::report::Report;
use protocol::update::Stage;

use super::resource::{self, Attributes};

/// The longest sentence about the whole device, in characters.
const MAXIMUM_SUMMARY: usize = 500;

/// What a report says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parts {
    pub(crate) description: opamp::AgentDescription,
    pub(crate) health: opamp::ComponentHealth,
    pub(crate) policy: opamp::RemoteConfigStatus,
    pub(crate) packages: opamp::PackageStatuses,
}

/// What a report says, for an OpAMP server.
pub(crate) fn parts(report: &Report) -> Parts {
    Parts {
        description: description(report),
        health: root(report),
        policy: policy(report),
        packages: packages(report),
    }
}

/// A message that leaves nothing out.
pub(super) fn whole(report: &Report) -> Vec<u8> {
    let Parts { description, health, policy, packages } = parts(report);
    let message = opamp::AgentToServer {
        agent_description: Some(description),
        health: Some(health),
        remote_config_status: Some(policy),
        package_statuses: Some(packages),
        ..opamp::AgentToServer::default()
    };
    message.encode_to_vec()
}

fn description(report: &Report) -> opamp::AgentDescription {
    let attributes = |all: Attributes| all.iter().map(|(name, value)| KeyValue::text(name, value)).collect();
    let mut describing = resource::describing(report);
    describing.extend(report.boot_id.clone().map(|id| ("steward.boot.id", id)));
    describing.extend(report.cloned_from.clone().map(|id| ("steward.cloned_from", id)));
    opamp::AgentDescription {
        identifying_attributes: attributes(resource::identifying(report)),
        non_identifying_attributes: attributes(describing),
    }
}

/// The device, with a sentence about all that is not well: some servers show only this.
fn root(report: &Report) -> opamp::ComponentHealth {
    let mut root = component(&report.health);
    root.start_time_unix_nano = nanoseconds(Some(report.status.started_at));
    if !root.healthy {
        // Posture decides nothing about the device.
        let parts = report.health.components.iter().filter(|part| part.name != ComponentName::Posture);
        let unwell = parts.filter(|part| !is_healthy(part.known_state()));
        let sentences: Vec<String> =
            unwell.map(|part| format!("{} is {}: {}", part.name(), part.state(), part.reason)).collect();
        root.last_error = sentences.join("; ").chars().take(MAXIMUM_SUMMARY).collect();
    }
    root
}

fn component(part: &ComponentHealth) -> opamp::ComponentHealth {
    let healthy = is_healthy(part.known_state());
    // What passes says so in words that may move.
    let explains = matches!(part.known_state(), State::NotApplicable | State::Pending);
    let optional = [
        ("steward.code", part.code.as_ref().map(|code| code.as_str().to_owned())),
        ("steward.last_state", part.last_state.as_ref().map(|state| name(state).to_owned())),
        ("steward.evidence", part.evidence.clone()),
        ("steward.flaps", part.flaps.map(|count| count.to_string())),
        ("steward.reason", Some(part.reason.clone()).filter(|reason| explains && !reason.is_empty())),
    ];
    let mut names = BTreeMap::new();
    for inner in &part.components {
        // Users whom `ReportIdentity` does not name have one name.
        let name = inner
            .instance
            .as_ref()
            .map_or_else(|| inner.name().to_owned(), |one| format!("{}:{one}", inner.name()));
        let same = (1..).map(|number| if number == 1 { name.clone() } else { format!("{name} {number}") });
        let free = same.into_iter().find(|name| !names.contains_key(name)).unwrap_or(name);
        names.insert(free, component(inner));
    }
    opamp::ComponentHealth {
        healthy,
        start_time_unix_nano: 0,
        last_error: if healthy { String::new() } else { part.reason.clone() },
        status: part.state().to_owned(),
        status_time_unix_nano: nanoseconds(part.since),
        component_health_map: names,
        attributes: optional
            .into_iter()
            .filter_map(|(name, value)| Some(KeyValue::text(name, &value?)))
            .collect(),
    }
}

fn name(state: &Open<State>) -> &str {
    match state {
        Open::Known(state) => state.as_str(),
        Open::Unknown(state) => state,
    }
}

/// As the table of [`protocol::health`] counts for the device: what waits is well, and what is unknown never is.
fn is_healthy(state: State) -> bool {
    match state {
        State::Pass | State::NotApplicable | State::Pending => true,
        State::Unknown | State::Stale | State::Error | State::Fail => false,
    }
}

/// Policy is the configuration that a device has from elsewhere. Its hash is that of `steward status`.
fn policy(report: &Report) -> opamp::RemoteConfigStatus {
    let of = |name: ComponentName| report.health.components.iter().find(move |part| part.name == name);
    let (policy, app) = (of(ComponentName::Policy), of(ComponentName::App));
    let state = |part: Option<&ComponentHealth>| part.map_or(State::Unknown, ComponentHealth::known_state);
    let failed = [policy, app]
        .into_iter()
        .flatten()
        .find(|part| matches!(part.known_state(), State::Fail | State::Error));
    let status = match (failed, state(policy), state(app)) {
        (Some(_), _, _) => Policy::Failed,
        (None, State::Unknown | State::Stale, _) => Policy::Unset,
        (None, _, State::Pending) => Policy::Applying,
        (None, _, _) => Policy::Applied,
    };
    opamp::RemoteConfigStatus {
        last_remote_config_hash: bytes(&report.status.policy.hash),
        status: status.into(),
        error_message: failed
            .map(|part| format!("{} is {}: {}", part.name(), part.state(), part.reason))
            .unwrap_or_default(),
    }
}

/// A hash of hexadecimal digits as bytes; another text as it is.
fn bytes(hash: &str) -> Vec<u8> {
    let digits = hash.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    digits.collect::<Option<Vec<u8>>>().unwrap_or_else(|| hash.as_bytes().to_vec())
}

/// The agent and its app. A version is recognized by its name: a server that offered none has no hash to compare with.
fn packages(report: &Report) -> opamp::PackageStatuses {
    let package = |name: &str, version: &str, status: Package, error: &str| opamp::PackageStatus {
        name: name.to_owned(),
        agent_has_version: version.to_owned(),
        agent_has_hash: version.as_bytes().to_vec(),
        status: status.into(),
        error_message: error.to_owned(),
    };
    let status = &report.status;
    let agent = package("steward", &status.agent_version, Package::Installed, "");
    let mut packages = BTreeMap::from([("steward".to_owned(), agent)]);
    let app = &status.app;
    let (state, error) = app_package(report);
    // What is not there and not on its way is no package.
    if !app.name.is_empty() && (app.installed.is_some() || state != Package::Installed) {
        let installed = app.installed.as_deref().unwrap_or_default();
        packages.insert(app.name.clone(), package(&app.name, installed, state, error));
    }
    opamp::PackageStatuses { packages }
}

fn app_package(report: &Report) -> (Package, &str) {
    let update = report.health.components.iter().find(|part| part.name == ComponentName::Update);
    let installs = [Code::UpdateInstallFailed, Code::UpdateRolledBack, Code::UpdateGivenUp];
    let has_failed = |part: &&ComponentHealth| {
        let code = part.code.as_ref().and_then(Open::known);
        matches!(part.known_state(), State::Fail | State::Error)
            && code.is_some_and(|code| installs.contains(&code))
    };
    if let Some(failed) = update.filter(has_failed) {
        return (Package::InstallFailed, &failed.reason);
    }
    let stage = report.status.update.progress.as_ref().map(|progress| &progress.stage);
    let package = match stage {
        Some(Open::Known(stage)) => match stage {
            Stage::Offered | Stage::Verified | Stage::Waiting => Package::InstallPending,
            Stage::Downloading => Package::Downloading,
            Stage::Installing | Stage::Confirming | Stage::RollingBack => Package::Installing,
            Stage::Idle | Stage::Committed | Stage::RolledBack => Package::Installed,
        },
        Some(Open::Unknown(_)) | None => Package::Installed,
    };
    (package, "")
}

fn nanoseconds(time: Option<Timestamp>) -> u64 {
    time.and_then(|time| u64::try_from(time.as_nanosecond()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use protocol::health::{Brokers, assess};
    use protocol::report::sample_report;
    use protocol::status::sample_status;

    use super::*;

    fn report() -> Report {
        let status = sample_status();
        let mut report = sample_report(status.clone(), 1);
        report.health = assess(Some(&status), true, Brokers::default(), Timestamp::UNIX_EPOCH);
        report
    }

    fn set(report: &mut Report, name: ComponentName, state: State) {
        for part in &mut report.health.components {
            if part.name == name {
                part.state = state.into();
                "something happened".clone_into(&mut part.reason);
            }
        }
        report.health.state = state.into();
    }

    #[test]
    fn nothing_that_is_unknown_is_healthy() {
        for state in State::ALL {
            let mut report = report();
            set(&mut report, ComponentName::SignIn, state);
            let root = parts(&report).health;
            let well = matches!(state, State::Pass | State::Pending | State::NotApplicable);
            assert_eq!(
                (root.healthy, root.component_health_map["sign-in"].healthy),
                (well, well),
                "{state:?}"
            );
            assert_eq!(root.status, state.as_str());
            assert_eq!(root.last_error.contains("sign-in is"), !well, "{state:?}: {}", root.last_error);
        }
        let mut newer = report();
        newer.health.state = Open::Unknown("radiant".to_owned());
        assert!(!parts(&newer).health.healthy);
        assert_eq!(parts(&newer).health.status, "radiant");
    }

    #[test]
    fn policy_is_applied_applying_or_failed_with_the_hash_that_status_shows() {
        for (name, state, expected) in [
            (ComponentName::Policy, State::Pass, Policy::Applied),
            (ComponentName::Policy, State::Fail, Policy::Failed),
            (ComponentName::Policy, State::Unknown, Policy::Unset),
            (ComponentName::App, State::Pending, Policy::Applying),
            (ComponentName::App, State::Error, Policy::Failed),
            (ComponentName::Update, State::Fail, Policy::Applied),
        ] {
            let mut report = report();
            set(&mut report, name, state);
            report.status.policy.hash = "0aff".to_owned();
            let policy = parts(&report).policy;
            assert_eq!(policy.status, i32::from(expected), "{name:?} {state:?}");
            assert_eq!(policy.last_remote_config_hash, [0x0a, 0xff]);
            assert_eq!(policy.error_message.is_empty(), expected != Policy::Failed);
        }
        assert_eq!(bytes("0af"), b"0af");
    }

    #[test]
    fn app_that_is_not_there_is_a_package_only_while_it_comes() {
        let mut report = report();
        let packages = parts(&report).packages.packages;
        let of = |name: &str| &packages[name];
        assert_eq!(of("steward").agent_has_version, "1.2.3");
        assert_eq!((of("lab-notes").agent_has_version.as_str(), of("lab-notes").status), ("2.0.0", 0));
        report.status.app.installed = None;
        assert!(!parts(&report).packages.packages.contains_key("lab-notes"));
        set(&mut report, ComponentName::Update, State::Fail);
        assert!(
            !parts(&report).packages.packages.contains_key("lab-notes"),
            "a feed that is down installs nothing"
        );
        for part in &mut report.health.components {
            if part.name == ComponentName::Update {
                part.code = Some(Code::UpdateInstallFailed.into());
            }
        }
        let failed = &parts(&report).packages.packages["lab-notes"];
        assert_eq!(failed.status, i32::from(Package::InstallFailed));
        assert_eq!(
            (failed.agent_has_version.as_str(), failed.error_message.as_str()),
            ("", "something happened")
        );
    }

    #[test]
    fn users_without_a_name_are_all_there() {
        let mut report = report();
        for part in &mut report.health.components {
            if part.name == ComponentName::SignIn {
                let user = ComponentHealth {
                    name: ComponentName::User.into(),
                    components: Vec::new(),
                    ..part.clone()
                };
                let ada = ComponentHealth { instance: Some("ada".to_owned()), ..user.clone() };
                part.components = vec![user.clone(), ada, user];
            }
        }
        let root = parts(&report).health;
        let names: Vec<&String> = root.component_health_map["sign-in"].component_health_map.keys().collect();
        assert_eq!(names, ["user", "user 2", "user:ada"]);
    }
}
