//! The library's errors as [`ProviderError`]s.

use net::chain;
use net::http::HttpError;
use openidconnect::core::CoreErrorResponseType;
use openidconnect::{
    DeviceCodeErrorResponse, DeviceCodeErrorResponseType, DiscoveryError, RequestTokenError,
};

use super::checks::untrusted;
use super::error::{Check, ProviderError, Refusal, one_line};
use super::types::Failure;

/// A failure of the token endpoint.
pub(super) fn explain(failure: Failure) -> ProviderError {
    match failure {
        RequestTokenError::Request(error @ HttpError::TooLarge { .. }) => {
            untrusted(Check::TokenResponse, format!("the token endpoint: {error}"))
        }
        RequestTokenError::Request(error) => unreachable(&error),
        RequestTokenError::ServerResponse(response) => {
            let description = response.error_description().map(String::as_str);
            let refusal = Refusal::new(response.error().as_ref(), description);
            if *response.error() == CoreErrorResponseType::InvalidGrant {
                ProviderError::InvalidGrant(refusal)
            } else {
                ProviderError::Refused(refusal)
            }
        }
        // The library keeps the body here, tokens included: it must not be shown.
        RequestTokenError::Parse(error, _) => {
            let reason = one_line(&error.inner().to_string());
            // What the library says of the claims of an ID token, which it reads with the response.
            if reason.contains("payload JSON") {
                let reason = format!("the ID token is not what OpenID Connect says: {reason}");
                return untrusted(Check::Claims, reason);
            }
            let reason = format!("the token endpoint's response is not what RFC 6749 says: {reason}");
            untrusted(Check::TokenResponse, reason)
        }
        RequestTokenError::Other(reason) => untrusted(
            Check::TokenResponse,
            format!("the token endpoint gave no response that can be used: {}", one_line(&reason)),
        ),
    }
}

/// A failure of the token endpoint while it is asked for the end of a sign-in on another device.
pub(super) fn explain_device(
    failure: RequestTokenError<HttpError, DeviceCodeErrorResponse>,
) -> ProviderError {
    match failure {
        RequestTokenError::Request(error) => unreachable(&error),
        RequestTokenError::ServerResponse(response) => {
            let description = response.error_description().map(String::as_str);
            let refusal = Refusal::new(response.error().as_ref(), description);
            match response.error() {
                DeviceCodeErrorResponseType::ExpiredToken => ProviderError::DeviceCodeExpired(refusal),
                DeviceCodeErrorResponseType::AccessDenied
                | DeviceCodeErrorResponseType::AuthorizationPending
                | DeviceCodeErrorResponseType::SlowDown
                | DeviceCodeErrorResponseType::Basic(_) => ProviderError::Refused(refusal),
            }
        }
        RequestTokenError::Parse(error, body) => explain(RequestTokenError::Parse(error, body)),
        RequestTokenError::Other(reason) => explain(RequestTokenError::Other(reason)),
    }
}

/// A failure of discovery, or of fetching the keys.
#[expect(clippy::wildcard_enum_match_arm, reason = "the errors of the library are not exhaustive")]
pub(super) fn explain_discovery(error: DiscoveryError<HttpError>) -> ProviderError {
    match error {
        DiscoveryError::Request(error) => unreachable(&error),
        DiscoveryError::Validation(reason) => invalid(&reason),
        DiscoveryError::Response(status, _, _) => {
            invalid(&format!("it responded with status {}, not with a discovery document", status.as_u16()))
        }
        DiscoveryError::Parse(error) => {
            invalid(&format!("the response is not a discovery document: {}", error.inner()))
        }
        other => invalid(&chain(&other)),
    }
}

pub(super) fn unreachable(error: &HttpError) -> ProviderError {
    ProviderError::Unreachable(chain(error))
}

pub(super) fn invalid(reason: &str) -> ProviderError {
    ProviderError::Discovery(one_line(reason))
}
