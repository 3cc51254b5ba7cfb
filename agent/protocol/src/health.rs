//! The health of a device as a tree of components. [`assess`] makes the tree. Pure.
//!
//! In: the status of the machine service and the sessions of brokers. Out: a [`ComponentHealth`] for the whole device.
//! Called by the command line and for reports.
//!
//! | state | it means | the device is then |
//! |---|---|---|
//! | `fail` | observed, and not as policy asks | `fail` |
//! | `error` | it could not be observed, because the observation failed | `error` |
//! | `stale` | observed before, but the process that observed it does not run any more | `stale` |
//! | `unknown` | not observed yet, or a state that only a newer version knows | `unknown` |
//! | `pending` | observed: it waits for a user, a time or a server, and nothing is wrong | `pass` |
//! | `not-applicable` | there is nothing to observe here | `pass` |
//! | `pass` | observed, and as policy asks | `pass` |
//!
//! The component whose state is first in this table decides. A device without components is `unknown`.

use jiff::Timestamp;
use policy_schema::{Code, Component, Extra, Open, Problem, counted};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::session::SessionStatus;
use crate::status::{AppStatus, ReportStatus, SignInStatus, Status, UpdateStatus};

/// The state of a component. The module's documentation has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Observed, and as policy asks.
    Pass,
    /// There is nothing to observe here.
    NotApplicable,
    /// It waits for a user, a time or a server, and nothing is wrong.
    Pending,
    /// Not observed yet.
    Unknown,
    /// Observed before, but the process that observed it does not run any more.
    Stale,
    /// It could not be observed, because the observation failed.
    Error,
    /// Observed, and not as policy asks.
    Fail,
}

impl State {
    /// All states.
    pub const ALL: [Self; 7] =
        [Self::Pass, Self::Fail, Self::Unknown, Self::NotApplicable, Self::Error, Self::Stale, Self::Pending];

    /// The state as printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NotApplicable => "not-applicable",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Error => "error",
            Self::Fail => "fail",
        }
    }

    /// The roll-up table: the rank of this state, and the state of the device if it decides. The highest rank decides.
    fn roll_up(self) -> (u8, Self) {
        match self {
            Self::Fail => (4, Self::Fail),
            Self::Error => (3, Self::Error),
            Self::Stale => (2, Self::Stale),
            Self::Unknown => (1, Self::Unknown),
            Self::Pending | Self::NotApplicable | Self::Pass => (0, Self::Pass),
        }
    }
}

/// A component of a device, or the device itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentName {
    /// The root of the tree.
    Device,
    /// The machine service itself.
    Agent,
    /// Policy.
    Policy,
    /// The managed app.
    App,
    /// The app's updates.
    Update,
    /// The delivery of reports.
    Report,
    /// Sign-in and tokens.
    SignIn,
}

impl ComponentName {
    /// The name as printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Agent => "agent",
            Self::Policy => "policy",
            Self::App => "app",
            Self::Update => "update",
            Self::Report => "report",
            Self::SignIn => "sign-in",
        }
    }
}

/// The process that observed a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Observer {
    /// The machine service, with the machine's rights.
    Agent,
    /// The broker, with the user's rights.
    Broker,
}

/// A component with its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentHealth {
    /// The component.
    pub name: Open<ComponentName>,
    /// Its state.
    pub state: Open<State>,
    /// The code of the problem that causes the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Open<Code>>,
    /// Why, as a sentence.
    pub reason: String,
    /// When it was observed.
    pub observed_at: Timestamp,
    /// The process that observed it.
    pub source: Open<Observer>,
    /// Its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentHealth>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ComponentHealth {
    /// The name as printed, even if only a newer version knows the component.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.name {
            Open::Known(name) => name.as_str(),
            Open::Unknown(name) => name,
        }
    }

    /// The state as printed, even if only a newer version knows it.
    #[must_use]
    pub fn state(&self) -> &str {
        match &self.state {
            Open::Known(state) => state.as_str(),
            Open::Unknown(state) => state,
        }
    }

    /// The state, where a state that only a newer version knows is `unknown`, and so never healthy.
    #[must_use]
    pub fn known_state(&self) -> State {
        self.state.known().unwrap_or(State::Unknown)
    }
}

/// The brokers of a device and their responses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Brokers<'b> {
    /// The sessions of the brokers that responded.
    pub sessions: &'b [SessionStatus],
    /// How many brokers did not respond.
    pub silent: usize,
}

/// The health of a device. `status` is `None` if there is no status of the machine service.
#[must_use]
pub fn assess(
    status: Option<&Status>,
    agent_running: bool,
    brokers: Brokers<'_>,
    now: Timestamp,
) -> ComponentHealth {
    let mut components = match status {
        None => MACHINE
            .map(|name| {
                component(name, State::Unknown, "the Steward agent has not run on this device yet", now)
            })
            .to_vec(),
        Some(status) if agent_running => assess_machine(status),
        Some(status) => {
            let mut components = assess_machine(status);
            for component in &mut components {
                match component.known_state() {
                    State::Pass | State::Fail | State::Error | State::Pending => {
                        component.state = State::Stale.into();
                    }
                    State::NotApplicable | State::Unknown | State::Stale => {}
                }
            }
            components[0] = component(ComponentName::Agent, State::Fail, "it does not run", now);
            components
        }
    };
    components.push(assess_sign_in(status, brokers, now));
    roll_up(components, status.map_or(now, |status| status.observed_at))
}

/// The components that the machine service observes.
const MACHINE: [ComponentName; 5] = [
    ComponentName::Agent,
    ComponentName::Policy,
    ComponentName::App,
    ComponentName::Update,
    ComponentName::Report,
];

/// The health of the device from its components, by the table of the module's documentation.
fn roll_up(components: Vec<ComponentHealth>, observed_at: Timestamp) -> ComponentHealth {
    let rank = |part: &ComponentHealth| part.known_state().roll_up().0;
    // The first of those with the highest rank.
    let decisive = components.iter().rev().max_by_key(|part| rank(part));
    let state = decisive.map_or(State::Unknown, |part| part.known_state().roll_up().1);
    let (code, reason) = match (state, decisive) {
        (State::Pass, _) => (None, "everything that policy asks for works".to_owned()),
        (_, Some(part)) => (part.code.clone(), format!("{}: {}", part.name(), part.reason)),
        (_, None) => (None, "nothing was observed".to_owned()),
    };
    ComponentHealth { code, components, ..component(ComponentName::Device, state, &reason, observed_at) }
}

/// The components of the machine service. The agent itself is the first.
fn assess_machine(status: &Status) -> Vec<ComponentHealth> {
    let part = |name: ComponentName, quiet: (State, String)| {
        let errors = status.problems.iter().filter(|problem| problem.severity.is_error());
        match errors.into_iter().find(|problem| component_of(&problem.code) == name) {
            Some(problem) => failed(name, problem, status.observed_at),
            None => component(name, quiet.0, &quiet.1, status.observed_at),
        }
    };
    vec![
        part(ComponentName::Agent, (State::Pass, "it runs".to_owned())),
        part(ComponentName::Policy, (State::Pass, counted(status.policy.settings, "setting"))),
        part(ComponentName::App, quiet_app(&status.app)),
        part(ComponentName::Update, quiet_update(&status.update)),
        part(ComponentName::Report, quiet_report(&status.report, &status.problems)),
    ]
}

/// A component with the problem that causes its state.
fn failed(name: ComponentName, problem: &Problem, observed_at: Timestamp) -> ComponentHealth {
    let state = if is_failed_observation(&problem.code) { State::Error } else { State::Fail };
    ComponentHealth {
        code: Some(problem.code.clone()),
        ..component(name, state, &sentence(problem), observed_at)
    }
}

fn quiet_app(app: &AppStatus) -> (State, String) {
    let title = &app.title;
    match (&app.not_applicable, &app.installed, &app.configuration) {
        (Some(reason), _, _) => (State::NotApplicable, reason.clone()),
        (None, Some(version), Some(_)) => (State::Pass, format!("{title} {version} is configured")),
        (None, Some(version), None) => {
            (State::Pass, format!("{title} {version} is installed; policy has no settings for it"))
        }
        (None, None, Some(_)) => {
            (State::NotApplicable, format!("{title} is not installed; its configuration is in place"))
        }
        (None, None, None) => (State::NotApplicable, format!("{title} is not installed")),
    }
}

fn quiet_update(update: &UpdateStatus) -> (State, String) {
    match (&update.message, update.managed) {
        (_, false) => (State::NotApplicable, "updates are not managed on this device".to_owned()),
        (None, true) => (State::Unknown, "the feed has not been checked yet".to_owned()),
        (Some(message), true) => (State::Pass, message.clone()),
    }
}

fn quiet_report(report: &ReportStatus, problems: &[Problem]) -> (State, String) {
    let late = problems.iter().find(|problem| problem.code == Code::ReportUndelivered);
    match (&report.url, late, report.delivered_at) {
        (None, _, _) => (State::NotApplicable, "no reports are sent".to_owned()),
        (Some(_), Some(problem), _) => (State::Pending, sentence(problem)),
        (Some(_), None, Some(_)) => (State::Pass, "delivered".to_owned()),
        (Some(_), None, None) => (State::Pending, "none has been delivered yet".to_owned()),
    }
}

/// A sign-in that nobody has tried is unknown, however good the policy looks.
fn assess_sign_in(status: Option<&Status>, brokers: Brokers<'_>, now: Timestamp) -> ComponentHealth {
    let name = ComponentName::SignIn;
    let part = |state, reason: &str| component(name, state, reason, now);
    let of_sessions = brokers.sessions.iter().flat_map(|session| &session.problems);
    let of_machine = status.into_iter().flat_map(|status| &status.problems);
    let of_machine = of_machine.filter(|problem| component_of(&problem.code) == name);
    let mut problems = of_sessions.chain(of_machine);
    let signed_in = brokers.sessions.iter().any(SessionStatus::is_signed_in);
    let known = status.and_then(|status| status.sign_in.as_ref());
    let health = if let Some(problem) = problems.find(|problem| problem.severity.is_error()) {
        failed(name, problem, now)
    } else if brokers.silent > 0 {
        part(State::Unknown, "a broker does not respond")
    } else if signed_in {
        part(State::Pass, "signed in")
    } else {
        match known {
            Some(SignInStatus { configured: false, .. }) => {
                part(State::NotApplicable, "policy does not say where to sign in")
            }
            Some(SignInStatus { proven_at: Some(at), .. }) => {
                let day = at.strftime("%Y-%m-%d");
                part(State::Pending, &format!("no user is signed in now; the last sign-in was on {day}"))
            }
            Some(SignInStatus { proven_at: None, .. }) => {
                part(State::Unknown, "no user has signed in on this device yet")
            }
            // The agent has not run, or it is older than these facts.
            None if brokers.sessions.is_empty() && status.is_some() => {
                part(State::NotApplicable, "no broker runs, so no user can be signed in")
            }
            None if brokers.sessions.is_empty() => part(State::Unknown, "nothing is known about sign-in"),
            None => part(State::Pending, "no user is signed in yet"),
        }
    };
    let source = if brokers.sessions.is_empty() { Observer::Agent } else { Observer::Broker };
    ComponentHealth { source: source.into(), ..health }
}

fn sentence(problem: &Problem) -> String {
    match &problem.key {
        Some(key) => format!("`{key}`: {}", problem.message),
        None => problem.message.clone(),
    }
}

fn component(name: ComponentName, state: State, reason: &str, observed_at: Timestamp) -> ComponentHealth {
    ComponentHealth {
        name: name.into(),
        state: state.into(),
        code: None,
        reason: reason.to_owned(),
        observed_at,
        source: Observer::Agent.into(),
        components: Vec::new(),
        extra: Extra::default(),
    }
}

/// The component that a problem belongs to. A problem whose code only a newer version knows belongs to the agent.
fn component_of(code: &Open<Code>) -> ComponentName {
    code.known().map_or(ComponentName::Agent, |code| code.component().into())
}

/// Whether a problem means that an observation failed, and not that something wrong was observed.
fn is_failed_observation(code: &Open<Code>) -> bool {
    let unobserved = [
        Code::PolicyUnreadable,
        Code::AppConfigurationUnreadable,
        Code::AgentStateUnreadable,
        Code::SignInProviderUnreachable,
    ];
    code.known().is_some_and(|code| unobserved.contains(&code))
}

impl From<Component> for ComponentName {
    fn from(component: Component) -> Self {
        match component {
            Component::Agent => Self::Agent,
            Component::Policy => Self::Policy,
            Component::App => Self::App,
            Component::Update => Self::Update,
            Component::SignIn => Self::SignIn,
            Component::Report => Self::Report,
        }
    }
}

#[cfg(test)]
mod tests;
