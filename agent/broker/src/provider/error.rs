//! Why a provider gave nothing that can be used. What follows from it is decided by these values; a [`Problem`] is made
//! of them at the edge.

use net::admission::StatusCode;
use policy_schema::{Code, Problem};
use protocol::diagnosis;

use crate::configuration::{Configuration, ConfigurationError};

/// Why a provider gave nothing that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProviderError {
    /// Policy does not say which provider.
    #[error(transparent)]
    NotConfigured(#[from] ConfigurationError),
    /// No response came. Nothing that was saved is lost.
    #[error("{reason}")]
    Unreachable {
        /// Why not.
        reason: String,
        /// The request may have reached the provider.
        arrived: bool,
    },
    /// The provider has failed, or is too busy. Nothing that was saved is lost.
    #[error("{reason}")]
    Failing {
        /// What it said.
        reason: String,
        /// In how many seconds it wants to be asked again (RFC 9110, section 10.2.3).
        retry_after: Option<u64>,
    },
    /// What the provider says of itself cannot be used.
    #[error("{0}")]
    Discovery(String),
    /// Its keys cannot be fetched.
    #[error("{0}")]
    Keys(String),
    /// The provider does not accept the refresh token any more (`invalid_grant`, RFC 6749, section 5.2). Only this ends
    /// a session.
    #[error("{0}")]
    InvalidGrant(Refusal),
    /// The provider refused for another reason.
    #[error("{0}")]
    Refused(Refusal),
    /// The user took too long on the other device (RFC 8628, section 3.5).
    #[error("{0}")]
    DeviceCodeExpired(Refusal),
    /// The provider does not offer sign-in on another device.
    #[error("the identity provider does not offer sign-in on another device")]
    NoDeviceFlow,
    /// A response failed a check, so nothing of it is used.
    #[error("{reason}")]
    Untrusted {
        /// Which check.
        check: Check,
        /// What is wrong, as a sentence.
        reason: String,
    },
}

/// A refusal in the provider's own words, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    error: String,
    text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Refusal {
    /// `error` and `error_description` (RFC 6749, section 5.2).
    pub(crate) fn new(error: &str, description: Option<&str>) -> Self {
        let description = description.map_or_else(String::new, |text| format!(": {text}"));
        let text = one_line(&format!("the identity provider refused: {error}{description}"));
        Self { error: error.to_owned(), text }
    }

    /// Whether it has this `error`.
    pub(crate) fn is(&self, error: &str) -> bool {
        self.error == error
    }
}

/// The checks of responses, each with its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// RFC 9207, section 2.4: the browser comes back from the right issuer.
    ResponseIssuer,
    /// RFC 6749, sections 5.1 and 7.1: the token endpoint's response has the form that it must have.
    TokenResponse,
    /// There is an ID token.
    IdToken,
    /// The ID token has the claims that it must have.
    Claims,
    /// Core 1.0, section 3.1.3.7: `iss`.
    Issuer,
    /// `aud`.
    Audience,
    /// `azp`.
    AuthorizedParty,
    /// `nonce`.
    Nonce,
    /// `exp`.
    Expiry,
    /// `iat` and `nbf`.
    Start,
    /// The signature.
    Signature,
    /// The algorithm of the signature.
    Algorithm,
    /// The key of the signature.
    Key,
    /// `at_hash`.
    AccessTokenHash,
    /// Core 1.0, section 5.3.2: the userinfo endpoint is about the same user.
    UserInfo,
    /// Core 1.0, section 12.2: after a renewal the user is the same.
    Subject,
    /// Anything else about a token or a redirect response.
    Token,
}

impl Check {
    fn code(self) -> Code {
        match self {
            Self::ResponseIssuer => Code::SignInResponseIssuerMismatch,
            Self::TokenResponse => Code::SignInTokenEndpointInvalid,
            Self::IdToken => Code::SignInIdTokenMissing,
            Self::Claims => Code::SignInClaimMissing,
            Self::Issuer => Code::SignInIssuerMismatch,
            Self::Audience => Code::SignInAudienceMismatch,
            Self::AuthorizedParty => Code::SignInPartyMismatch,
            Self::Nonce => Code::SignInNonceMismatch,
            Self::Expiry => Code::SignInTokenExpired,
            Self::Start => Code::SignInTokenNotYetValid,
            Self::Signature => Code::SignInSignatureInvalid,
            Self::Algorithm => Code::SignInAlgorithmRefused,
            Self::Key => Code::SignInKeyUnknown,
            Self::AccessTokenHash => Code::SignInAccessTokenMismatch,
            Self::UserInfo => Code::SignInUserInfoMismatch,
            Self::Subject => Code::SignInSubjectChanged,
            Self::Token => Code::SignInTokenInvalid,
        }
    }
}

impl ProviderError {
    /// Whether it says that the provider cannot be asked for anything now.
    pub(crate) fn is_of_all(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failing { .. })
    }

    /// The HTTP status of the refusal.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotConfigured(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::InvalidGrant(_) => StatusCode::UNAUTHORIZED,
            Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::DeviceCodeExpired(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Unreachable { .. }
            | Self::Failing { .. }
            | Self::Discovery(_)
            | Self::Keys(_)
            | Self::NoDeviceFlow
            | Self::Untrusted { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// The problem to show, at the provider of this configuration.
    pub(crate) fn problem(&self, configuration: &Configuration) -> Problem {
        let problem = |code: Code| {
            let problem = Problem::new(code, self.to_string());
            match &configuration.issuer {
                Some(issuer) => problem.at(issuer),
                None => problem,
            }
        };
        match self {
            Self::NotConfigured(error) => error.problem(),
            Self::Failing { retry_after, .. } => {
                let when =
                    retry_after.map_or_else(|| "in a while".to_owned(), |seconds| format!("in {seconds} s"));
                problem(Code::SignInProviderFailing).hint(format!(
                    "the fault is at the identity provider: Steward tries again {when}; nothing that was saved is lost"
                ))
            }
            Self::Keys(_) => problem(Code::SignInDiscoveryInvalid)
                .hint("compare `JwksUri` with the discovery document, or remove it".to_owned()),
            Self::Unreachable { reason, .. } => {
                // A server that presents a certificate was reached: the network is not what is wrong.
                let fix = diagnosis::fix_for(&configuration.context(), reason);
                let network = || "check the network; nothing that was saved is lost".to_owned();
                problem(Code::SignInProviderUnreachable).hint(fix.unwrap_or_else(network))
            }
            Self::Discovery(_) => problem(Code::SignInDiscoveryInvalid)
                .hint("`Issuer` must be exactly what the discovery document calls its issuer".to_owned()),
            Self::InvalidGrant(_) => problem(Code::SignInRequired)
                .hint("sign in again: `steward login`, or start the app".to_owned()),
            Self::Refused(refusal) => {
                let fix = diagnosis::fix_for(&configuration.context(), &refusal.text);
                problem(Code::SignInDenied).hint(fix.unwrap_or_else(|| configuration.help()))
            }
            Self::DeviceCodeExpired(_) => problem(Code::SignInTimedOut),
            Self::NoDeviceFlow => problem(Code::SignInDeviceFlowUnavailable)
                .hint("`steward login --paste` needs no port and no device".to_owned()),
            Self::Untrusted { check, .. } => {
                let hint = match check {
                    Check::Expiry | Check::Start => {
                        "compare this device's clock with the time on your phone, then try again".to_owned()
                    }
                    Check::ResponseIssuer
                    | Check::TokenResponse
                    | Check::IdToken
                    | Check::Claims
                    | Check::Issuer
                    | Check::Audience
                    | Check::AuthorizedParty
                    | Check::Nonce
                    | Check::Signature
                    | Check::Algorithm
                    | Check::Key
                    | Check::AccessTokenHash
                    | Check::UserInfo
                    | Check::Subject
                    | Check::Token => format!("try again; if it persists, {}", configuration.help()),
                };
                problem(check.code()).hint(hint)
            }
        }
    }
}

/// A response that failed a check.
pub(super) fn untrusted(check: Check, reason: String) -> ProviderError {
    ProviderError::Untrusted { check, reason }
}

/// Foreign text on one line, without control characters, at most 300 characters.
pub(crate) fn one_line(text: &str) -> String {
    let line: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    line.chars().take(300).collect()
}
