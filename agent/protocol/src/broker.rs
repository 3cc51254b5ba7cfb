//! The endpoints of the broker's local API, with their requests and responses. Called by apps and the command line.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, Nothing};
use crate::session::SessionStatus;

/// A token for an app.
pub const TOKEN: Endpoint<TokenRequest, TokenResponse> = Endpoint::post(
    "/v1/token",
    "token",
    "A token; the session is renewed as needed. Only for programs that policy allows.",
);

/// Begins a sign-in.
pub const LOGIN: Endpoint<LoginRequest, LoginResponse> =
    Endpoint::post("/v1/login", "login", "Begins a sign-in, or joins the one that is under way.");

/// Passes on a redirect response that the user pasted.
pub const LOGIN_RETURN: Endpoint<LoginReturnRequest, LoginResponse> = Endpoint::post(
    "/v1/login/return",
    "loginReturn",
    "Passes on the address where a sign-in with the method `paste` ended.",
);

/// Ends a sign-in that is under way.
pub const LOGIN_CANCEL: Endpoint<Nothing, SessionStatus> = Endpoint::post(
    "/v1/login/cancel",
    "loginCancel",
    "Ends the sign-in that is under way, and frees its port. Without one, nothing happens.",
);

/// Signs out.
pub const LOGOUT: Endpoint<LogoutRequest, LogoutResponse> =
    Endpoint::post("/v1/logout", "logout", "Ends sessions on this device and at the identity provider.");

/// The state of the session.
pub const SESSION: Endpoint<Nothing, SessionStatus> =
    Endpoint::get("/v1/session", "session", "The state of the session, without tokens.");

/// The programs that sent requests.
pub const CALLERS: Endpoint<Nothing, Vec<CallerRecord>> = Endpoint::get(
    "/v1/callers",
    "callers",
    "The programs that sent requests, and which of them were refused.",
);

/// The OpenAPI document.
pub const OPENAPI: Endpoint<Nothing, serde_json::Value> =
    Endpoint::get("/v1/openapi.json", "openapi", "This document.");

/// A request for a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// Sign in through the browser if no user is signed in.
    pub interactive: bool,
    /// The account, by address or subject; by default the one that signed in last.
    pub account: Option<String>,
    /// Fewer scopes than those of the sign-in, separated by spaces (RFC 6749, section 6); by default all of them.
    pub scope: Option<String>,
    /// The resource that the access token is for (RFC 8707).
    pub resource: Option<String>,
    /// Renew the session if the ID token has expired, even if the access token is still valid.
    pub id_token: bool,
    /// Renew the session first, even if its tokens are valid. Only for Steward's own program.
    pub renew: bool,
    /// The access token that a server refused although it had not expired. A newer one is given out, if there is none yet
    /// after a renewal; at most one renewal a minute.
    pub rejected: Option<String>,
}

/// The tokens for an app, with the names of RFC 6749, section 5.1.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenResponse {
    /// The access token.
    pub access_token: String,
    /// Always `Bearer` (RFC 6750).
    pub token_type: String,
    /// The ID token of the sign-in or of the last renewal that returned one.
    pub id_token: String,
    /// How long the access token is still valid, in seconds.
    pub expires_in: i64,
    /// How long the ID token is still valid, in seconds; negative if it has expired.
    pub id_token_expires_in: i64,
    /// The scopes of the access token, separated by spaces.
    pub scope: String,
    /// The user's address, or the subject where there is no address.
    pub account: String,
    /// Whether the response that brought the access token brought the ID token as well. Absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token_renewed: Option<bool>,
}

/// Without the tokens.
impl fmt::Debug for TokenResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenResponse")
            .field("expires_in", &self.expires_in)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// How a user signs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A browser on this device, which is redirected to the redirect URI (RFC 8252).
    #[default]
    Browser,
    /// A browser on any device. The user pastes the address that it could not open.
    Paste,
    /// A browser on another device, with a code (RFC 8628).
    Device,
}

/// A request to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoginRequest {
    /// How the user signs in.
    pub method: Method,
    /// Open the browser. Otherwise the caller shows the address to the user.
    pub browser: bool,
    /// Respond when the sign-in has ended. Otherwise respond when it has begun.
    pub wait: bool,
    /// Begin none: join the sign-in that is under way. If it has ended, the response is how it ended.
    pub join: bool,
}

impl Default for LoginRequest {
    fn default() -> Self {
        Self { method: Method::Browser, browser: true, wait: true, join: false }
    }
}

/// A sign-in that has begun, or ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoginResponse {
    /// The address at which the user begins, in a browser on this device: a short one of this device itself, which is valid
    /// as long as the sign-in waits. If the user pastes the last address, that of the identity provider.
    pub authorization_url: String,
    /// What the user needs to sign in on another device.
    pub device: Option<DeviceCode>,
    /// The broker opened no browser, because it runs in another session of the user than the caller (Remote Desktop): the
    /// caller opens the address itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_session: bool,
    /// The session as it is now.
    pub session: SessionStatus,
}

/// What the user needs to sign in on another device (RFC 8628, section 3.2).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeviceCode {
    /// The address to open.
    pub verification_uri: String,
    /// The code to enter there.
    pub user_code: String,
    /// The address that already contains the code.
    pub verification_uri_complete: Option<String>,
    /// How long the code is valid, in seconds.
    pub expires_in: u64,
}

/// The address that the user copied from the browser at the end of a sign-in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginReturnRequest {
    /// The whole address, with `code` and `state`.
    pub url: String,
}

/// A request to sign out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogoutRequest {
    /// The account, by address or subject; by default the one that signed in last.
    pub account: Option<String>,
    /// Every account on this device.
    pub all: bool,
}

/// The result of a sign-out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogoutResponse {
    /// The address that ends the session at the identity provider in a browser (RP-Initiated Logout 1.0), if it offers
    /// that.
    pub end_session_url: Option<String>,
    /// What failed at the identity provider. The session on this device is deleted all the same.
    pub remarks: Vec<String>,
    /// The session as it is now.
    pub session: SessionStatus,
}

/// An application that sent requests to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallerRecord {
    /// The path of its program.
    pub application: String,
    /// The path of the endpoint.
    pub route: String,
    /// Whether policy allows it.
    pub allowed: bool,
    /// Why it was refused.
    pub reason: Option<String>,
    /// How many requests it sent.
    #[serde(alias = "questions")]
    pub requests: u64,
    /// The process that sent the last request.
    pub process: Option<u32>,
    /// When it sent the first request.
    pub first_at: Timestamp,
    /// When it sent the last request.
    pub last_at: Timestamp,
}
