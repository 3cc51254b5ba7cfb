//! Why there is no token. What follows from it is decided by these values; a [`Problem`] is made of them at the edge.

use net::admission::StatusCode;
use policy_schema::{Code, Problem};
use protocol::diagnosis;

use super::configuration::{Configuration, ConfigurationError};
use super::provider::{Check, ProviderError, Refusal};
use super::session::{Ended, RenewalMismatch};
use super::vault::VaultError;

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// There is no session.
    #[error("nobody is signed in")]
    NotSignedIn,
    /// There is no session of that account.
    #[error("{0} is not signed in")]
    NoSuchAccount(String),
    /// Policy does not say where to sign in.
    #[error(transparent)]
    NotConfigured(#[from] ConfigurationError),
    /// The session can be used no more.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The session cannot be renewed. What it has is still valid.
    #[error("there is no refresh token, so the session cannot be renewed")]
    NoRefreshToken,
    /// The ID token has expired, and a renewal brings no new one.
    #[error("the ID token has expired, and a renewal brings no new one")]
    NoNewIdToken,
    /// The provider gave nothing that can be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The provider refuses to renew the session, for another reason than `invalid_grant`. What it has is valid until it
    /// expires; then only a new sign-in helps.
    #[error("the session cannot be renewed: {0}")]
    RenewalRefused(Refusal),
    /// The session cannot be loaded or saved.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The broker is about to end.
    #[error("the broker is stopping")]
    Stopping,
}

impl TokenError {
    /// Whether a new sign-in is the way out. A store that is locked is not: the session is still there.
    pub(crate) fn ends_with_sign_in(&self) -> bool {
        match self {
            Self::NotSignedIn
            | Self::NoSuchAccount(_)
            | Self::Ended(_)
            | Self::NoRefreshToken
            | Self::RenewalRefused(_)
            | Self::Provider(ProviderError::InvalidGrant(_))
            | Self::Vault(VaultError::Corrupt { .. }) => true,
            Self::NotConfigured(_)
            | Self::NoNewIdToken
            | Self::Provider(_)
            | Self::Vault(VaultError::Unavailable { .. } | VaultError::Newer(_))
            | Self::Stopping => false,
        }
    }

    /// Whether it says something about the session that its user has to know, and not only about one request.
    pub(crate) fn is_about_session(&self) -> bool {
        matches!(self, Self::Provider(_) | Self::RenewalRefused(_) | Self::Vault(_) | Self::Ended(_))
    }

    /// The HTTP status of the refusal.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn | Self::NoRefreshToken | Self::RenewalRefused(_) => StatusCode::UNAUTHORIZED,
            Self::NoSuchAccount(_) => StatusCode::NOT_FOUND,
            Self::NotConfigured(_) | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Ended(ended) => match ended {
                Ended::Address(_) => StatusCode::FORBIDDEN,
                Ended::OtherProvider { .. } | Ended::TooOld { .. } | Ended::NoRefreshToken => {
                    StatusCode::UNAUTHORIZED
                }
            },
            Self::NoNewIdToken => StatusCode::BAD_GATEWAY,
            Self::Provider(error) => error.status(),
            Self::Vault(error) => match error {
                VaultError::Corrupt { .. } => StatusCode::UNAUTHORIZED,
                VaultError::Unavailable { .. } | VaultError::Newer(_) => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    }

    /// The problem to show, under this configuration.
    pub(crate) fn problem(&self, configuration: &Configuration) -> Problem {
        let problem = |code: Code, hint: &str| Problem::new(code, self.to_string()).hint(hint.to_owned());
        match self {
            Self::NotSignedIn => problem(Code::SignInRequired, "`steward login` opens the browser"),
            Self::NoSuchAccount(_) => problem(Code::SignInRequired, "`steward whoami` shows who is"),
            Self::NotConfigured(error) => error.problem(),
            Self::Ended(ended) => ended.problem(),
            Self::NoRefreshToken => problem(
                Code::SignInRequired,
                "sign in again: `steward login`; for a session that can be renewed, add `offline_access` to `Scopes`",
            ),
            Self::NoNewIdToken => problem(
                Code::SignInIdTokenMissing,
                "let the identity provider return ID tokens on refresh, or sign in again: `steward login`",
            ),
            Self::Provider(error) => error.problem(configuration),
            Self::RenewalRefused(refusal) => {
                let fix = diagnosis::fix_for(&configuration.context(), &refusal.to_string());
                let more = fix.map_or_else(String::new, |fix| format!(". If that does not help: {fix}"));
                problem(Code::SignInDenied, &format!("sign in again: `steward login`{more}"))
            }
            Self::Vault(error) => error.problem(),
            Self::Stopping => Problem::new(Code::ApiRefused, self.to_string()),
        }
    }
}

impl From<RenewalMismatch> for TokenError {
    fn from(mismatch: RenewalMismatch) -> Self {
        match mismatch {
            RenewalMismatch::AnotherUser => {
                ProviderError::Untrusted { check: Check::Subject, reason: mismatch.to_string() }.into()
            }
            RenewalMismatch::Address(error) => Self::Ended(Ended::Address(error)),
        }
    }
}
