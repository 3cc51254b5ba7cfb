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
//! The component whose state is first in this table decides. A device without components is `unknown`. `posture` is decided
//! in the same way by its parts, but decides nothing about the device: what protects a device is not Steward's to enforce, and which
//! protection a device must have is a rule of the dashboard.
//!
//! The state and its age are two things. `state` is what is known now; `observed_at` says when it was observed, and a component
//! that is `stale` keeps in `last_state` what it was then. What a component was before comes from [`history`].

use jiff::Timestamp;
use policy_schema::{Code, Extra, Open};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod assess;
pub mod history;
mod posture;

pub use assess::{Brokers, assess, next_history};
pub use posture::{Protection, left_out, not_observed, posture};

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
    /// A user, as a part of sign-in.
    User,
    /// Where sessions are stored.
    Vault,
    /// What protects the device.
    Posture,
    /// The disks are encrypted; a part of posture.
    DiskEncryption,
    /// A firewall filters incoming connections; a part of posture.
    Firewall,
    /// The firmware starts only what is signed; a part of posture.
    SecureBoot,
    /// The screen locks by itself; a part of posture.
    ScreenLock,
    /// The operating system waits for a restart; a part of posture.
    PendingRestart,
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
            Self::User => "user",
            Self::Vault => "vault",
            Self::Posture => "posture",
            Self::DiskEncryption => "disk-encryption",
            Self::Firewall => "firewall",
            Self::SecureBoot => "secure-boot",
            Self::ScreenLock => "screen-lock",
            Self::PendingRestart => "pending-restart",
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
    /// Which one, where there are several of this name: the user, named as `ReportIdentity` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Its state.
    pub state: Open<State>,
    /// What it was when it was observed last, if it is `stale` now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_state: Option<Open<State>>,
    /// The code of the problem that causes the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Open<Code>>,
    /// Why, as a sentence.
    pub reason: String,
    /// When it was observed.
    pub observed_at: Timestamp,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when it was last `pass`; absent while it is, and if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Timestamp>,
    /// It changes again and again: how often. The worst of its states is shown, until it is calm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaps: Option<u32>,
    /// The process that observed it.
    pub source: Open<Observer>,
    /// Where that process read it, if that is one place: a file, a key of the registry, a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
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
    /// A component without parts that the machine service observed.
    #[must_use]
    pub(crate) fn new(name: ComponentName, state: State, reason: &str, observed_at: Timestamp) -> Self {
        Self {
            name: name.into(),
            instance: None,
            state: state.into(),
            last_state: None,
            code: None,
            reason: reason.to_owned(),
            observed_at,
            since: None,
            last_good: None,
            flaps: None,
            source: Observer::Agent.into(),
            evidence: None,
            components: Vec::new(),
            extra: Extra::default(),
        }
    }
}

/// The first of the components whose rank is the highest, by the table of the module's documentation, and the state that it gives to
/// the whole.
fn decisive(components: &[ComponentHealth]) -> (State, Option<&ComponentHealth>) {
    let rank = |part: &ComponentHealth| part.known_state().roll_up().0;
    let decisive = components.iter().rev().max_by_key(|part| rank(part));
    (decisive.map_or(State::Unknown, |part| part.known_state().roll_up().1), decisive)
}

#[cfg(test)]
mod tests;
