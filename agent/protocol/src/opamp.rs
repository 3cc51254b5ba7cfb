//! The messages of OpAMP (Open Agent Management Protocol 0.20) that an agent sends and gets, in the binary form of Protocol Buffers. What
//! neither side of Steward uses is left out: a reader skips it. Names and numbers are those of the specification, "`AgentToServer` and
//! `ServerToAgent` Messages".

use std::collections::BTreeMap;

use prost::Message;

/// Bits of [`AgentToServer::capabilities`]: "AgentToServer.capabilities".
pub mod capability {
    /// Every agent has this one.
    pub const REPORTS_STATUS: u64 = 0x0001;
    /// It sends `package_statuses`.
    pub const REPORTS_PACKAGE_STATUSES: u64 = 0x0010;
    /// It sends `health`.
    pub const REPORTS_HEALTH: u64 = 0x0800;
    /// It sends `remote_config_status`.
    pub const REPORTS_REMOTE_CONFIG: u64 = 0x1000;
    /// It sends heartbeats, as often as the server wants.
    pub const REPORTS_HEARTBEAT: u64 = 0x2000;
}

/// The bit of [`ServerToAgent::flags`] that asks for everything: "ServerToAgent.flags".
pub const REPORT_FULL_STATE: u64 = 0x1;

/// What an agent sends. What has not changed since the last message may be left out.
#[derive(Clone, PartialEq, Message)]
pub struct AgentToServer {
    /// The agent, in 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub instance_uid: Vec<u8>,
    /// One more with each message.
    #[prost(uint64, tag = "2")]
    pub sequence_num: u64,
    /// The agent and its device.
    #[prost(message, optional, tag = "3")]
    pub agent_description: Option<AgentDescription>,
    /// Bits of [`capability`]; always there.
    #[prost(uint64, tag = "4")]
    pub capabilities: u64,
    /// The health of the device.
    #[prost(message, optional, tag = "5")]
    pub health: Option<ComponentHealth>,
    /// The policy in effect.
    #[prost(message, optional, tag = "7")]
    pub remote_config_status: Option<RemoteConfigStatus>,
    /// What is installed.
    #[prost(message, optional, tag = "8")]
    pub package_statuses: Option<PackageStatuses>,
    /// In the last message of an agent.
    #[prost(message, optional, tag = "9")]
    pub agent_disconnect: Option<AgentDisconnect>,
}

impl AgentToServer {
    /// Whether it leaves nothing out ("Agent Status Compression"), but for health that may not be known yet.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.agent_description.is_some()
            && self.remote_config_status.is_some()
            && self.package_statuses.is_some()
    }
}

/// "`AgentDescription` Message".
#[derive(Clone, PartialEq, Message)]
pub struct AgentDescription {
    /// What tells this agent from others.
    #[prost(message, repeated, tag = "1")]
    pub identifying_attributes: Vec<KeyValue>,
    /// Where it runs.
    #[prost(message, repeated, tag = "2")]
    pub non_identifying_attributes: Vec<KeyValue>,
}

/// An attribute (OpenTelemetry, `KeyValue`).
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// The value of an attribute (OpenTelemetry, `AnyValue`): of its kinds, only the text.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// A text.
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
}

impl KeyValue {
    /// An attribute that is a text.
    #[must_use]
    pub fn text(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { string_value: Some(value.to_owned()) }) }
    }
}

/// "`ComponentHealth` Message".
#[derive(Clone, PartialEq, Message)]
pub struct ComponentHealth {
    /// Whether it is well. Nothing unknown is.
    #[prost(bool, tag = "1")]
    pub healthy: bool,
    /// Since when it runs, in nanoseconds since 1970; 0 for what does not run.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// Why it is not well.
    #[prost(string, tag = "3")]
    pub last_error: String,
    /// Its state, in words of the agent's.
    #[prost(string, tag = "4")]
    pub status: String,
    /// Since when it is in this state, in nanoseconds since 1970; 0 if that is not known.
    #[prost(fixed64, tag = "5")]
    pub status_time_unix_nano: u64,
    /// Its parts by their names.
    #[prost(btree_map = "string, message", tag = "6")]
    pub component_health_map: BTreeMap<String, ComponentHealth>,
    /// What else is known about it.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// "`RemoteConfigStatus` Message".
#[derive(Clone, PartialEq, Message)]
pub struct RemoteConfigStatus {
    /// What the configuration is recognized by.
    #[prost(bytes = "vec", tag = "1")]
    pub last_remote_config_hash: Vec<u8>,
    /// What became of it.
    #[prost(enumeration = "RemoteConfigStatuses", tag = "2")]
    pub status: i32,
    /// Why it failed.
    #[prost(string, tag = "3")]
    pub error_message: String,
}

/// "RemoteConfigStatus.status".
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum RemoteConfigStatuses {
    /// Nothing is known about it.
    Unset = 0,
    /// It is in effect.
    Applied = 1,
    /// It is being applied.
    Applying = 2,
    /// It could not be applied as it is.
    Failed = 3,
}

/// "`PackageStatuses` Message".
#[derive(Clone, PartialEq, Message)]
pub struct PackageStatuses {
    /// Packages by their names.
    #[prost(btree_map = "string, message", tag = "1")]
    pub packages: BTreeMap<String, PackageStatus>,
}

/// "`PackageStatus` Message".
#[derive(Clone, PartialEq, Message)]
pub struct PackageStatus {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The version that is installed; empty if none is.
    #[prost(string, tag = "2")]
    pub agent_has_version: String,
    /// What that version is recognized by; empty if none is.
    #[prost(bytes = "vec", tag = "3")]
    pub agent_has_hash: Vec<u8>,
    /// How far it is.
    #[prost(enumeration = "PackageStatusEnum", tag = "6")]
    pub status: i32,
    /// Why it failed.
    #[prost(string, tag = "7")]
    pub error_message: String,
}

/// "PackageStatus.status".
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum PackageStatusEnum {
    /// It is installed.
    Installed = 0,
    /// Another version is going to be installed.
    InstallPending = 1,
    /// Another version is being installed.
    Installing = 2,
    /// Another version could not be installed.
    InstallFailed = 3,
    /// Another version is being downloaded.
    Downloading = 4,
}

/// "`AgentToServer.agent_disconnect`".
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AgentDisconnect {}

/// What a server sends.
#[derive(Clone, PartialEq, Message)]
pub struct ServerToAgent {
    /// The agent that it is for.
    #[prost(bytes = "vec", tag = "1")]
    pub instance_uid: Vec<u8>,
    /// Why a message was not taken.
    #[prost(message, optional, tag = "2")]
    pub error_response: Option<ServerErrorResponse>,
    /// How the server wants to be connected to.
    #[prost(message, optional, tag = "4")]
    pub connection_settings: Option<ConnectionSettingsOffers>,
    /// [`REPORT_FULL_STATE`] and others.
    #[prost(uint64, tag = "6")]
    pub flags: u64,
    /// Bits that say what the server can do.
    #[prost(uint64, tag = "7")]
    pub capabilities: u64,
    /// Another identifier for the agent.
    #[prost(message, optional, tag = "8")]
    pub agent_identification: Option<AgentIdentification>,
}

/// "`ServerErrorResponse` Message".
#[derive(Clone, PartialEq, Message)]
pub struct ServerErrorResponse {
    /// What kind of error it is.
    #[prost(enumeration = "ServerErrorResponseType", tag = "1")]
    pub r#type: i32,
    /// A sentence.
    #[prost(string, tag = "2")]
    pub error_message: String,
    /// When to come back.
    #[prost(message, optional, tag = "3")]
    pub retry_info: Option<RetryInfo>,
}

/// "ServerErrorResponse.type".
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum ServerErrorResponseType {
    /// Something is wrong.
    Unknown = 0,
    /// The message is malformed and must not be sent again.
    BadRequest = 1,
    /// The server has too much to do.
    Unavailable = 2,
}

/// "Throttling".
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RetryInfo {
    /// How long to stay away.
    #[prost(uint64, tag = "1")]
    pub retry_after_nanoseconds: u64,
}

/// "`ConnectionSettingsOffers`".
#[derive(Clone, PartialEq, Message)]
pub struct ConnectionSettingsOffers {
    /// What these settings are recognized by.
    #[prost(bytes = "vec", tag = "1")]
    pub hash: Vec<u8>,
    /// The settings for OpAMP itself.
    #[prost(message, optional, tag = "2")]
    pub opamp: Option<ConnectionSettings>,
}

/// "`OpAMPConnectionSettings`". An address, headers or a certificate of the server's are never taken: policy says where reports go.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ConnectionSettings {
    /// How often the agent says that it is there; 0 for never.
    #[prost(uint64, tag = "4")]
    pub heartbeat_interval_seconds: u64,
}

/// "`AgentIdentification`".
#[derive(Clone, PartialEq, Message)]
pub struct AgentIdentification {
    /// The identifier to use from now on, in 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub new_instance_uid: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are those of the specification's own example of a varint and of its field numbers, written by hand.
    #[test]
    fn messages_have_the_numbers_of_the_specification() {
        let message = AgentToServer {
            instance_uid: vec![7; 16],
            sequence_num: 300,
            capabilities: capability::REPORTS_STATUS | capability::REPORTS_HEARTBEAT,
            agent_disconnect: Some(AgentDisconnect {}),
            ..AgentToServer::default()
        };
        let mut expected = vec![0x0a, 16];
        expected.extend([7; 16]);
        expected.extend([0x10, 0xac, 0x02, 0x20, 0x81, 0x40, 0x4a, 0x00]);
        assert_eq!(message.encode_to_vec(), expected);
        assert_eq!(AgentToServer::decode(&expected[..]).unwrap(), message);
    }

    #[test]
    fn unknown_fields_are_skipped_and_other_bytes_are_refused() {
        // Field 9 (a command), field 100, and then the flags.
        let read = ServerToAgent::decode(&[0x4a, 0x02, 0x08, 0x00, 0xa2, 0x06, 0x01, 0x78, 0x30, 0x01][..]);
        assert_eq!(read.unwrap(), ServerToAgent { flags: REPORT_FULL_STATE, ..ServerToAgent::default() });
        for odd in ["<html><body>Welcome to the hotel</body></html>", "{\"flags\":1}", "OK"] {
            assert!(ServerToAgent::decode(odd.as_bytes()).is_err(), "{odd}");
        }
    }
}
