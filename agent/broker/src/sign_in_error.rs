//! Why a sign-in ends without a session. A [`Problem`] is made of it at the edge.

use net::admission::StatusCode;
use policy_schema::{Code, Problem};
use protocol::diagnosis;

use super::callback::PortTaken;
use super::configuration::{Configuration, ConfigurationError};
use super::provider::{Check, ProviderError};
use super::session::{AddressError, BeginError};

/// Why a sign-in ends without a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignInError {
    /// Policy does not say where to sign in.
    #[error(transparent)]
    NotConfigured(#[from] ConfigurationError),
    /// `DeviceFlow` is `never`.
    #[error("policy does not allow it")]
    DeviceFlowNotAllowed,
    /// It is not possible to listen at the redirect URI.
    #[error(transparent)]
    PortTaken(#[from] PortTaken),
    /// The provider refused, or gave nothing that can be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Policy does not let the user in.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No browser could be opened.
    #[error("no browser could be opened: {0}")]
    NoBrowser(String),
    /// The user did not finish in time.
    #[error("nobody came back from the browser within {minutes} minutes")]
    TimedOut {
        /// How long the user had.
        minutes: u64,
    },
    /// The user began another one in another way.
    #[error("another sign-in replaced this one")]
    Replaced,
    /// The user gave it up.
    #[error("the sign-in was cancelled")]
    Cancelled,
    /// What the user pasted cannot be used.
    #[error(transparent)]
    Paste(#[from] PasteError),
    /// The broker is about to end.
    #[error("the broker is stopping")]
    Stopping,
}

/// Why an address that a user pasted cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasteError {
    /// Nobody waits for it.
    #[error("no sign-in is under way")]
    NoSignIn,
    /// It is not what a sign-in ends with.
    #[error("this is not the address that a sign-in ends with")]
    NotARedirect,
    /// It belongs to another sign-in.
    #[error("this address belongs to another sign-in")]
    OtherSignIn,
}

impl SignInError {
    /// The HTTP status of the refusal.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotConfigured(_) | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeviceFlowNotAllowed | Self::Address(_) => StatusCode::FORBIDDEN,
            Self::PortTaken(_)
            | Self::NoBrowser(_)
            | Self::Replaced
            | Self::Cancelled
            | Self::Paste(PasteError::NoSignIn | PasteError::OtherSignIn) => StatusCode::CONFLICT,
            Self::Provider(error) => error.status(),
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Paste(PasteError::NotARedirect) => StatusCode::BAD_REQUEST,
        }
    }

    /// The problem to show, under this configuration.
    pub(crate) fn problem(&self, configuration: &Configuration) -> Problem {
        let problem = |code: Code, hint: &str| Problem::new(code, self.to_string()).hint(hint.to_owned());
        match self {
            Self::NotConfigured(error) => error.problem(),
            Self::DeviceFlowNotAllowed => problem(
                Code::SignInDeviceFlowUnavailable,
                "`steward login --paste` needs no port and no device",
            )
            .key("DeviceFlow"),
            Self::PortTaken(error) => error.problem(),
            Self::Provider(error) => error.problem(configuration),
            Self::Address(error) => error.problem(),
            Self::NoBrowser(_) => problem(
                Code::SignInBrowserFailed,
                "`steward login --no-browser` shows the address to open by hand",
            ),
            Self::TimedOut { .. } => Problem::new(Code::SignInTimedOut, self.to_string()).hint(format!(
                "if the browser showed an error, register exactly {} as a redirect URI of a native client",
                configuration.redirect_uri
            )),
            Self::Replaced | Self::Cancelled => Problem::new(Code::SignInRequired, self.to_string()),
            Self::Paste(error) => problem(
                Code::SignInTokenInvalid,
                match error {
                    PasteError::NoSignIn => "begin one with `steward login --paste`",
                    PasteError::NotARedirect => {
                        "copy the whole address from the browser's address bar; it has `code=` and `state=` in it"
                    }
                    PasteError::OtherSignIn => {
                        "open the address that was shown last, and paste where it leads"
                    }
                },
            ),
            Self::Stopping => Problem::new(Code::ApiRefused, self.to_string()),
        }
    }

    /// What the page in the user's browser says. Errors of libraries and of servers mean nothing to a user: the code is
    /// what a support contact looks up, and the broker's log has the rest.
    pub(crate) fn for_user(&self, configuration: &Configuration) -> String {
        let problem = self.problem(configuration);
        let code = problem.code.as_str();
        match self {
            Self::Provider(ProviderError::Unreachable { reason, .. }) => {
                if diagnosis::match_causes(reason).iter().any(|cause| cause.is_of_network()) {
                    format!("This device does not trust the certificate of the identity provider ({code}).")
                } else {
                    format!(
                        "The identity provider could not be reached ({code}). Check the network and sign in again."
                    )
                }
            }
            Self::Provider(ProviderError::Failing { .. }) => {
                format!("The identity provider has a fault at the moment ({code}). Sign in again in a while.")
            }
            Self::Provider(ProviderError::Discovery(_) | ProviderError::Keys(_)) => {
                format!("The identity provider is not set up as this device expects ({code}).")
            }
            Self::Provider(ProviderError::Untrusted { check: Check::Expiry | Check::Start, .. }) => {
                format!(
                    "The response of the identity provider is not valid at this time ({code}). Check this device's clock and sign in again."
                )
            }
            Self::Provider(ProviderError::Untrusted { .. }) => {
                format!(
                    "The response of the identity provider failed a check, and nothing of it was used ({code})."
                )
            }
            Self::NotConfigured(_)
            | Self::DeviceFlowNotAllowed
            | Self::PortTaken(_)
            | Self::Provider(_)
            | Self::Address(_)
            | Self::NoBrowser(_)
            | Self::TimedOut { .. }
            | Self::Replaced
            | Self::Cancelled
            | Self::Paste(_)
            | Self::Stopping => problem.message,
        }
    }
}

impl From<BeginError> for SignInError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::NotConfigured(error) => Self::NotConfigured(error),
            BeginError::NoIdToken => {
                ProviderError::Untrusted { check: Check::IdToken, reason: error.to_string() }.into()
            }
            BeginError::Address(error) => Self::Address(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::configuration;

    /// Found by trial: the page said "error sending request: client error (Connect): invalid peer certificate:
    /// unknown issuer", and the hint was to check the network.
    #[test]
    fn certificate_trouble_is_no_network_trouble_and_no_library_error_for_users() {
        let configuration = configuration("");
        let error = |reason: &str| {
            SignInError::from(ProviderError::Unreachable { reason: reason.to_owned(), arrived: false })
        };
        let untrusted = error(
            "a.example could not be reached: error sending request: invalid peer certificate: UnknownIssuer",
        );
        let hint = untrusted.problem(&configuration).hint.unwrap();
        assert!(hint.contains("trust store") && !hint.contains("check the network"), "{hint}");
        let page = untrusted.for_user(&configuration);
        assert!(page.contains("trust the certificate") && !page.contains("UnknownIssuer"), "{page}");
        let offline = error("a.example could not be reached: error sending request: dns error");
        assert!(offline.problem(&configuration).hint.unwrap().contains("check the network"));
        let page = offline.for_user(&configuration);
        assert!(page.contains("could not be reached") && !page.contains("dns error"), "{page}");
    }
}
