//! The status of a user's session, without tokens. The broker makes it; the command line, the machine service and
//! reports read it.

use jiff::Timestamp;
use policy_schema::{Extra, Open, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The status of one user's session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionStatus {
    /// Whether the user is signed in.
    pub state: Open<SessionState>,
    /// The user's address, or the subject where there is no address.
    pub account: Option<String>,
    /// Other accounts that are signed in as well.
    #[serde(default)]
    pub other_accounts: Vec<String>,
    /// The issuer of the ID token.
    pub issuer: Option<String>,
    /// When the session began.
    pub signed_in_at: Option<Timestamp>,
    /// When the access token expires; it is renewed before.
    pub token_expires_at: Option<Timestamp>,
    /// Where the session is stored.
    pub kept: Option<Open<Kept>>,
    /// Whether the session can be renewed, because there is a refresh token.
    #[serde(default)]
    pub lasting: bool,
    /// What is wrong with sign-in.
    pub problems: Vec<Problem>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

impl SessionStatus {
    /// Whether a user is signed in.
    #[must_use]
    pub fn is_signed_in(&self) -> bool {
        self.state == SessionState::SignedIn
    }
}

/// Whether a user is signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// There is a session that can be used.
    SignedIn,
    /// A sign-in is under way.
    SigningIn,
    /// There is no session, or it has ended.
    SignedOut,
    /// Policy does not say where to sign in.
    NotConfigured,
}

/// Where a session is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// In an encrypted file, with its key in the operating system's secret store.
    SecretStore,
    /// In an encrypted file, with its key beside it.
    File,
    /// Only in memory: it ends with the broker.
    Memory,
}
