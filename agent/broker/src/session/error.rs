//! Why there is no session, or one that can be used no more.

use policy_schema::{Code, Problem};

use crate::configuration::ConfigurationError;

/// Why a session can be used no more, until the user signs in again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// Policy names another provider or client by now.
    #[error("the session is from {issuer}, but policy now names another issuer")]
    OtherProvider {
        /// The provider of the session.
        issuer: String,
    },
    /// `SessionMaximumHours`.
    #[error("the session has reached the maximum of {hours} hours that policy sets")]
    TooOld {
        /// What policy allows.
        hours: u32,
    },
    /// `AllowedEmailDomains`.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The access token has expired.
    #[error(
        "the session has ended, and the identity provider gave no refresh token; is `offline_access` among the scopes?"
    )]
    NoRefreshToken,
}

impl Ended {
    /// The problem to show.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Address(error) => error.problem(),
            Self::OtherProvider { .. } | Self::TooOld { .. } | Self::NoRefreshToken => {
                Problem::new(Code::SignInRequired, self.to_string())
            }
        }
    }
}

/// Why policy does not let a user in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// The ID token does not say who the user is.
    #[error("the ID token has no claim `{claim}`")]
    Missing {
        /// `EmailClaim`.
        claim: String,
    },
    /// It is no address of one user: a second `@`, or characters that cannot be seen.
    #[error("the claim `{claim}` of the ID token is not an e-mail address")]
    Malformed {
        /// `EmailClaim`.
        claim: String,
    },
    /// The identity provider does not vouch for it.
    #[error("the identity provider has not verified that {email} belongs to the user (email_verified)")]
    Unverified {
        /// The user's address.
        email: String,
    },
    /// The address is of another domain.
    #[error("{email} is not an address of {}", domains.join(" or "))]
    NotAllowed {
        /// The user's address.
        email: String,
        /// `AllowedEmailDomains`.
        domains: Vec<String>,
    },
}

impl AddressError {
    /// The problem to show.
    pub(crate) fn problem(&self) -> Problem {
        let hint = match self {
            Self::Missing { .. } => {
                "add the claim at the identity provider, or name the right one in `EmailClaim`"
            }
            Self::Malformed { .. } => "name a claim with an e-mail address in `EmailClaim`",
            Self::Unverified { .. } => {
                "verify the address at the identity provider, or sign in with another account"
            }
            Self::NotAllowed { .. } => "sign in with another account",
        };
        Problem::new(Code::SignInAddressRefused, self.to_string())
            .key("AllowedEmailDomains")
            .hint(hint.to_owned())
    }
}

/// Why a sign-in begins no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    NotConfigured(#[from] ConfigurationError),
    #[error("the identity provider sent no ID token")]
    NoIdToken,
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Why the response to a renewal does not belong to the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewalMismatch {
    #[error("after the renewal the ID token names another user")]
    AnotherUser,
    #[error(transparent)]
    Address(#[from] AddressError),
}
