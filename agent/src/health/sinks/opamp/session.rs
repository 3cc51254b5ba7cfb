//! PURE: what an agent and an OpAMP server know of each other. In: what a report says, and what the server sends. Out: the next message,
//! without what the server knows already ("Agent Status Compression"), and what its response means.

use protocol::health::State;
use protocol::opamp::{
    self, AgentDisconnect, AgentToServer, REPORT_FULL_STATE, ServerErrorResponse, ServerErrorResponseType,
    ServerToAgent, capability,
};

use super::super::LONGEST_RETRY_AFTER;
use crate::health::encode::opamp::Parts;

/// A server cannot have the agent write more often than this, in seconds.
const SHORTEST_HEARTBEAT: u64 = 10;
/// Nor less often, in seconds; with heartbeats switched off, this often.
const LONGEST_HEARTBEAT: u64 = 24 * 60 * 60;
/// The longest message of a server that is repeated, in characters.
const MAXIMUM_EXCERPT: usize = 200;

const CAPABILITIES: u64 = capability::REPORTS_STATUS
    | capability::REPORTS_PACKAGE_STATUSES
    | capability::REPORTS_HEALTH
    | capability::REPORTS_REMOTE_CONFIG
    | capability::REPORTS_HEARTBEAT;

/// What both sides know.
#[derive(Debug)]
pub(super) struct Session {
    instance: [u8; 16],
    sequence: u64,
    known: Known,
    /// The server was told how the device is, or asked for it.
    told_health: bool,
    /// How often the server wants a message, in seconds; `None` if it has not said so.
    heartbeat: Option<u64>,
}

/// What the server has.
#[derive(Debug, Default)]
struct Known {
    description: Option<opamp::AgentDescription>,
    health: Option<opamp::ComponentHealth>,
    policy: Option<opamp::RemoteConfigStatus>,
    packages: Option<opamp::PackageStatuses>,
}

/// What a server's message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has what was sent.
    Taken,
    /// It wants everything now.
    Everything,
    /// It will not take this.
    Refused(String),
    /// It may take it later: after so many seconds, if it says so.
    Later(String, Option<u64>),
}

impl Session {
    pub(super) fn new(instance: [u8; 16]) -> Self {
        Self { instance, sequence: 0, known: Known::default(), told_health: false, heartbeat: None }
    }

    pub(super) fn instance(&self) -> [u8; 16] {
        self.instance
    }

    /// The time between two messages, in seconds, if the server wants another one than policy.
    pub(super) fn heartbeat(&self) -> Option<u64> {
        self.heartbeat
    }

    /// Nobody knows what the server has.
    pub(super) fn forget(&mut self) {
        self.known = Known::default();
    }

    /// The next message. Counts as known what it says. A device whose health is not known yet is left out of the first message:
    /// `healthy` has no value for that.
    pub(super) fn message(&mut self, parts: &Parts) -> AgentToServer {
        fn news<T: Clone + PartialEq>(known: &mut Option<T>, now: &T) -> Option<T> {
            if known.as_ref() == Some(now) {
                return None;
            }
            *known = Some(now.clone());
            known.clone()
        }
        let is_known = self.told_health || parts.health.status != State::Unknown.as_str();
        self.told_health = true;
        AgentToServer {
            agent_description: news(&mut self.known.description, &parts.description),
            health: is_known.then(|| news(&mut self.known.health, &parts.health)).flatten(),
            remote_config_status: news(&mut self.known.policy, &parts.policy),
            package_statuses: news(&mut self.known.packages, &parts.packages),
            ..self.next()
        }
    }

    /// The last message.
    pub(super) fn farewell(&mut self) -> AgentToServer {
        AgentToServer { agent_disconnect: Some(AgentDisconnect {}), ..self.next() }
    }

    fn next(&mut self) -> AgentToServer {
        self.sequence += 1;
        AgentToServer {
            instance_uid: self.instance.to_vec(),
            sequence_num: self.sequence,
            capabilities: CAPABILITIES,
            ..AgentToServer::default()
        }
    }

    /// Takes a message of the server's. `was_whole`: it responds to one that left nothing out. What policy decides is not the server's:
    /// offers of a configuration, a package, an address or a restart are not taken, and no capability invites them.
    pub(super) fn received(&mut self, message: ServerToAgent, was_whole: bool) -> Answer {
        if !message.instance_uid.is_empty() && message.instance_uid != self.instance {
            return Answer::Later("the response is for another agent".to_owned(), None);
        }
        if let Some(error) = message.error_response {
            return refusal(&error);
        }
        let mut everything = message.flags & REPORT_FULL_STATE != 0 && !was_whole;
        let new = message.agent_identification.map(|identification| identification.new_instance_uid);
        match new.map(<[u8; 16]>::try_from) {
            Some(Ok(new)) if new != [0; 16] && new != self.instance => {
                self.instance = new;
                everything = true;
            }
            Some(Ok(_)) | None => {}
            Some(Err(odd)) => {
                tracing::warn!(
                    "the OpAMP server gives this agent an identifier of {} bytes: not taken",
                    odd.len()
                );
            }
        }
        if let Some(settings) = message.connection_settings.and_then(|offers| offers.opamp) {
            self.heartbeat = Some(match settings.heartbeat_interval_seconds {
                0 => LONGEST_HEARTBEAT,
                seconds => seconds.clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT),
            });
        }
        if everything {
            self.forget();
            return Answer::Everything;
        }
        Answer::Taken
    }
}

fn refusal(error: &ServerErrorResponse) -> Answer {
    let words: String = error
        .error_message
        .chars()
        .filter(|character| !character.is_control())
        .take(MAXIMUM_EXCERPT)
        .collect();
    let sentence = |what: &str| if words.is_empty() { what.to_owned() } else { format!("{what}: {words}") };
    match error.r#type() {
        ServerErrorResponseType::BadRequest => {
            Answer::Refused(sentence("the server cannot take the message"))
        }
        ServerErrorResponseType::Unknown => Answer::Later(sentence("the server failed"), None),
        ServerErrorResponseType::Unavailable => {
            let asked = error.retry_info.map(|info| info.retry_after_nanoseconds.div_ceil(1_000_000_000));
            let asked = asked.map(|seconds| seconds.min(LONGEST_RETRY_AFTER));
            Answer::Later(sentence("the server has too much to do"), asked)
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use protocol::opamp::{AgentIdentification, ConnectionSettings, ConnectionSettingsOffers, RetryInfo};

    use super::*;

    fn parts(state: &str) -> Parts {
        Parts {
            description: opamp::AgentDescription::default(),
            health: opamp::ComponentHealth { status: state.to_owned(), ..opamp::ComponentHealth::default() },
            policy: opamp::RemoteConfigStatus::default(),
            packages: opamp::PackageStatuses::default(),
        }
    }

    fn session() -> Session {
        Session::new([7; 16])
    }

    #[test]
    fn unchanged_parts_are_left_out_and_heartbeat_is_small() {
        let mut session = session();
        let first = session.message(&parts("pass"));
        assert!(first.is_whole() && first.health.is_some() && first.sequence_num == 1);
        let changed = session.message(&parts("fail"));
        assert!(changed.health.is_some() && changed.agent_description.is_none() && changed.sequence_num == 2);
        session.sequence = u64::MAX - 1;
        let heartbeat = session.message(&parts("fail"));
        assert!(heartbeat.health.is_none() && heartbeat.capabilities == CAPABILITIES);
        assert!(heartbeat.encoded_len() <= 64, "{}", heartbeat.encoded_len());
        session.forget();
        session.sequence = 1;
        assert!(session.message(&parts("fail")).is_whole(), "nobody knows what it has");
    }

    #[test]
    fn device_whose_health_is_not_known_yet_is_not_called_unwell_at_once() {
        let mut session = session();
        assert_eq!(session.message(&parts("unknown")).health, None);
        assert!(session.message(&parts("unknown")).health.is_some(), "and unknown is never well");
        session.forget();
        assert!(session.message(&parts("unknown")).health.is_some(), "also after a reconnect");
    }

    #[test]
    fn each_message_of_a_server_has_its_meaning() {
        let flagged = || ServerToAgent { flags: REPORT_FULL_STATE, ..ServerToAgent::default() };
        let of = |uid: Vec<u8>| ServerToAgent { instance_uid: uid, ..ServerToAgent::default() };
        let new = |uid: Vec<u8>| ServerToAgent {
            agent_identification: Some(AgentIdentification { new_instance_uid: uid }),
            ..ServerToAgent::default()
        };
        let error = |kind: ServerErrorResponseType, nanoseconds: Option<u64>| ServerToAgent {
            error_response: Some(ServerErrorResponse {
                r#type: kind.into(),
                error_message: "no".to_owned(),
                retry_info: nanoseconds.map(|number| RetryInfo { retry_after_nanoseconds: number }),
            }),
            ..ServerToAgent::default()
        };
        let busy = |seconds| Answer::Later("the server has too much to do: no".to_owned(), seconds);
        for (case, message, was_whole, expected) in [
            ("nothing to say", ServerToAgent::default(), false, Answer::Taken),
            ("for this agent", of(vec![7; 16]), false, Answer::Taken),
            (
                "for another",
                of(vec![8; 16]),
                false,
                Answer::Later("the response is for another agent".to_owned(), None),
            ),
            ("everything", flagged(), false, Answer::Everything),
            ("everything, again and again", flagged(), true, Answer::Taken),
            ("another identifier", new(vec![9; 16]), true, Answer::Everything),
            ("the same identifier", new(vec![7; 16]), true, Answer::Taken),
            ("no identifier", new(vec![0; 16]), true, Answer::Taken),
            ("a short identifier", new(vec![9; 4]), true, Answer::Taken),
            ("busy", error(ServerErrorResponseType::Unavailable, None), false, busy(None)),
            (
                "busy for 2 s",
                error(ServerErrorResponseType::Unavailable, Some(1_500_000_000)),
                false,
                busy(Some(2)),
            ),
            (
                "busy for ever",
                error(ServerErrorResponseType::Unavailable, Some(u64::MAX)),
                false,
                busy(Some(LONGEST_RETRY_AFTER)),
            ),
            (
                "malformed",
                error(ServerErrorResponseType::BadRequest, None),
                false,
                Answer::Refused("the server cannot take the message: no".to_owned()),
            ),
        ] {
            assert_eq!(session().received(message, was_whole), expected, "{case}");
        }
        let mut renamed = session();
        renamed.message(&parts("pass"));
        renamed.received(new(vec![9; 16]), true);
        let next = renamed.message(&parts("pass"));
        assert!(next.is_whole() && next.instance_uid == [9; 16] && next.sequence_num == 2);
    }

    #[test]
    fn server_says_how_often_within_limits() {
        for (offered, expected) in [(0, 86_400), (1, 10), (30, 30), (u64::MAX, 86_400)] {
            let mut session = session();
            assert_eq!(session.heartbeat(), None);
            let opamp = Some(ConnectionSettings { heartbeat_interval_seconds: offered });
            let offers = ConnectionSettingsOffers { opamp, ..ConnectionSettingsOffers::default() };
            session.received(
                ServerToAgent { connection_settings: Some(offers), ..ServerToAgent::default() },
                false,
            );
            assert_eq!(session.heartbeat(), Some(expected), "{offered}");
        }
    }
}
