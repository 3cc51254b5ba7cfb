//! The tree of the device from the status of the machine service and the sessions of brokers. Pure.

use jiff::Timestamp;
use policy_schema::{Code, Component, Open, Problem, counted};

use super::history::HealthHistory;
use super::{ComponentHealth, ComponentName, Observer, State, decisive};
use crate::session::{Kept, SessionState, SessionStatus};
use crate::status::{AppStatus, ReportStatus, SignInStatus, Status, UpdateStatus};

/// The brokers of a device and their responses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Brokers<'b> {
    /// The sessions of the brokers that responded.
    pub sessions: &'b [SessionStatus],
    /// How many brokers did not respond.
    pub silent: usize,
}

/// The health of a device, with what its history says about it. `status` is `None` if there is no status of the machine service.
#[must_use]
pub fn assess(
    status: Option<&Status>,
    agent_running: bool,
    brokers: Brokers<'_>,
    now: Timestamp,
) -> ComponentHealth {
    let mut components = observed(status, agent_running, brokers, now);
    if let Some(status) = status {
        status.history.apply(&mut components);
    }
    let mut root = [roll_up(components, status.map_or(now, |status| status.observed_at))];
    if let Some(status) = status.filter(|_| agent_running) {
        status.history.apply(&mut root);
    }
    let [root] = root;
    root
}

/// The history after this status and these brokers, for the machine service.
#[must_use]
pub fn next_history(status: &Status, brokers: Brokers<'_>, now: Timestamp) -> HealthHistory {
    let mut components = observed(Some(status), true, brokers, now);
    let history = status.history.clone().step(&components, now);
    history.apply(&mut components);
    history.step(&[roll_up(components, now)], now)
}

/// The components as they are now, whatever they were before.
fn observed(
    status: Option<&Status>,
    agent_running: bool,
    brokers: Brokers<'_>,
    now: Timestamp,
) -> Vec<ComponentHealth> {
    let mut components = match status {
        None => MACHINE
            .map(|name| {
                let reason = "the Steward agent has not run on this device yet";
                ComponentHealth::new(name, State::Unknown, reason, now)
            })
            .to_vec(),
        Some(status) if agent_running => assess_machine(status),
        Some(status) => {
            let mut components = assess_machine(status);
            for component in &mut components {
                match component.known_state() {
                    State::Pass | State::Fail | State::Error | State::Pending => {
                        let last = std::mem::replace(&mut component.state, State::Stale.into());
                        component.last_state = Some(last);
                    }
                    State::NotApplicable | State::Unknown | State::Stale => {}
                }
            }
            components[0] = ComponentHealth::new(ComponentName::Agent, State::Fail, "it does not run", now);
            components
        }
    };
    components.push(assess_sign_in(status, brokers, now));
    components.push(assess_vault(status, brokers, now));
    components
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
pub(super) fn roll_up(components: Vec<ComponentHealth>, observed_at: Timestamp) -> ComponentHealth {
    let (state, decisive) = decisive(&components);
    let (code, reason) = match (state, decisive) {
        (State::Pass, _) => (None, "everything that policy asks for works".to_owned()),
        (_, Some(part)) => (part.code.clone(), format!("{}: {}", part.name(), part.reason)),
        (_, None) => (None, "nothing was observed".to_owned()),
    };
    ComponentHealth {
        code,
        components,
        ..ComponentHealth::new(ComponentName::Device, state, &reason, observed_at)
    }
}

/// The components of the machine service. The agent itself is the first.
fn assess_machine(status: &Status) -> Vec<ComponentHealth> {
    let part = |name: ComponentName, quiet: (State, String)| {
        let errors = status.problems.iter().filter(|problem| problem.severity.is_error());
        match errors.into_iter().find(|problem| component_of(&problem.code) == name) {
            Some(problem) => failed(name, problem, status.observed_at),
            None => ComponentHealth::new(name, quiet.0, &quiet.1, status.observed_at),
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
        ..ComponentHealth::new(name, state, &sentence(problem), observed_at)
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

/// What is wrong with a component of brokers, as brokers and the machine service say.
fn problem_of<'p>(
    name: ComponentName,
    status: Option<&'p Status>,
    sessions: &'p [SessionStatus],
) -> Option<&'p Problem> {
    let of_sessions = sessions.iter().flat_map(|session| &session.problems);
    let of_sessions = of_sessions.filter(|problem| component_in_session(&problem.code) == name);
    let of_machine = status.into_iter().flat_map(|status| &status.problems);
    let of_machine = of_machine.filter(|problem| component_of(&problem.code) == name);
    of_sessions.chain(of_machine).find(|problem| problem.severity.is_error())
}

/// The component that a problem of a session belongs to: a broker knows two.
fn component_in_session(code: &Open<Code>) -> ComponentName {
    if component_of(code) == ComponentName::Vault { ComponentName::Vault } else { ComponentName::SignIn }
}

/// A sign-in that nobody has tried is unknown, however good the policy looks. Each session is a part, and decides nothing more.
fn assess_sign_in(status: Option<&Status>, brokers: Brokers<'_>, now: Timestamp) -> ComponentHealth {
    let name = ComponentName::SignIn;
    let part = |state, reason: &str| ComponentHealth::new(name, state, reason, now);
    let signed_in = brokers.sessions.iter().any(SessionStatus::is_signed_in);
    let known = status.and_then(|status| status.sign_in.as_ref());
    let health = if let Some(problem) = problem_of(name, status, brokers.sessions) {
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
    let components = brokers.sessions.iter().map(|session| assess_user(session, now)).collect();
    ComponentHealth { components, source: observer(brokers), ..health }
}

/// The session of a user. Its account is named as whoever asks may know it.
fn assess_user(session: &SessionStatus, now: Timestamp) -> ComponentHealth {
    let name = ComponentName::User;
    let part = |state, reason| ComponentHealth::new(name, state, reason, now);
    let is_of_sign_in = |problem: &&Problem| component_in_session(&problem.code) == ComponentName::SignIn;
    let mut problems = session.problems.iter().filter(|problem| problem.severity.is_error());
    let health = match (problems.find(is_of_sign_in), session.state.known()) {
        (Some(problem), _) => failed(name, problem, now),
        (None, Some(SessionState::SignedIn)) => part(State::Pass, "signed in"),
        (None, Some(SessionState::SigningIn)) => part(State::Pending, "waiting for the browser"),
        (None, Some(SessionState::SignedOut)) => part(State::Pending, "not signed in"),
        (None, Some(SessionState::NotConfigured)) => {
            part(State::NotApplicable, "policy does not say where to sign in")
        }
        (None, None) => part(State::Unknown, "a state that only a newer version knows"),
    };
    ComponentHealth {
        instance: session.account.clone(),
        since: session.signed_in_at.filter(|_| session.is_signed_in()),
        source: Observer::Broker.into(),
        ..health
    }
}

/// Where sessions are stored. One that ends with its broker is nothing wrong, but waits for a store.
fn assess_vault(status: Option<&Status>, brokers: Brokers<'_>, now: Timestamp) -> ComponentHealth {
    let name = ComponentName::Vault;
    let part = |state, reason: &str| ComponentHealth::new(name, state, reason, now);
    let stored = || brokers.sessions.iter().filter(|session| session.is_signed_in());
    let kept = |session: &SessionStatus| session.kept.as_ref().and_then(Open::known);
    let health = if let Some(problem) = problem_of(name, status, brokers.sessions) {
        failed(name, problem, now)
    } else if brokers.silent > 0 {
        part(State::Unknown, "a broker does not respond")
    } else if stored().next().is_none() {
        match status {
            Some(_) => part(State::NotApplicable, "no session is stored now"),
            None => part(State::Unknown, "nothing is known about sessions"),
        }
    } else if stored().any(|session| kept(session).is_none()) {
        part(State::Unknown, "a broker does not say where its session is stored")
    } else if stored().any(|session| kept(session) == Some(Kept::Memory)) {
        part(State::Pending, "a session is in memory only and ends with its broker")
    } else if stored().any(|session| kept(session) == Some(Kept::File)) {
        part(State::Pass, "a session is in an encrypted file, with its key beside it")
    } else {
        part(State::Pass, "sessions are in encrypted files, with their keys in the secret store")
    };
    ComponentHealth { source: observer(brokers), ..health }
}

fn observer(brokers: Brokers<'_>) -> Open<Observer> {
    if brokers.sessions.is_empty() { Observer::Agent.into() } else { Observer::Broker.into() }
}

fn sentence(problem: &Problem) -> String {
    match &problem.key {
        Some(key) => format!("`{key}`: {}", problem.message),
        None => problem.message.clone(),
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
            Component::Vault => Self::Vault,
        }
    }
}
