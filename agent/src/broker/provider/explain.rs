//! The library's errors in the words of [`Problem`].

use openidconnect::core::CoreErrorResponseType;
use openidconnect::{
    DeviceCodeErrorResponse, DeviceCodeErrorResponseType, DiscoveryError, RequestTokenError,
};
use policy_schema::{Code, Problem};

use super::Provider;
use super::types::Failure;
use crate::http::{HttpError, chain};

impl Provider<'_> {
    pub(super) fn explain(&self, failure: Failure) -> Problem {
        let issuer = self.issuer.as_str();
        match failure {
            RequestTokenError::Request(error @ HttpError::TooLarge { .. }) => {
                self.distrust(Code::SignInTokenEndpointInvalid, format!("the token endpoint: {error}"))
            }
            RequestTokenError::Request(error) => unreachable(issuer, &error),
            RequestTokenError::ServerResponse(answer) => {
                let ended = *answer.error() == CoreErrorResponseType::InvalidGrant;
                let code = if ended { Code::SignInRequired } else { Code::SignInDenied };
                let described = answer.error_description().map(String::as_str);
                let problem = refused(code, answer.error().as_ref(), described).at(issuer);
                let fix = crate::doctor::fix_for(&self.discovered.configuration, &problem.message);
                problem.hint(fix)
            }
            // The library keeps the body here, tokens included: it must not be shown.
            RequestTokenError::Parse(error, _) => {
                let reason = one_line(&error.inner().to_string());
                // What the library says of the claims of an ID token, which it reads with the answer.
                if reason.contains("payload JSON") {
                    let reason = format!("the ID token is not what OpenID Connect says: {reason}");
                    return self.distrust(Code::SignInClaimMissing, reason);
                }
                let reason = format!("the token endpoint's answer is not what RFC 6749 says: {reason}");
                self.distrust(Code::SignInTokenEndpointInvalid, reason)
            }
            RequestTokenError::Other(reason) => self.distrust(
                Code::SignInTokenEndpointInvalid,
                format!("the token endpoint gave no answer to use: {}", one_line(&reason)),
            ),
        }
    }

    pub(super) fn explain_device(
        &self,
        failure: RequestTokenError<HttpError, DeviceCodeErrorResponse>,
    ) -> Problem {
        let issuer = self.issuer.as_str();
        match failure {
            RequestTokenError::Request(error) => unreachable(issuer, &error),
            RequestTokenError::ServerResponse(answer) => {
                let code = match answer.error() {
                    DeviceCodeErrorResponseType::ExpiredToken => Code::SignInTimedOut,
                    DeviceCodeErrorResponseType::AccessDenied
                    | DeviceCodeErrorResponseType::AuthorizationPending
                    | DeviceCodeErrorResponseType::SlowDown
                    | DeviceCodeErrorResponseType::Basic(_) => Code::SignInDenied,
                };
                refused(code, answer.error().as_ref(), answer.error_description().map(String::as_str))
                    .at(issuer)
            }
            RequestTokenError::Parse(error, body) => self.explain(RequestTokenError::Parse(error, body)),
            RequestTokenError::Other(reason) => self.explain(RequestTokenError::Other(reason)),
        }
    }
}

/// What a provider refused, in its own words.
pub(in crate::broker) fn refused(code: Code, error: &str, described: Option<&str>) -> Problem {
    let described = described.map_or_else(String::new, |text| format!(": {text}"));
    Problem::new(code, one_line(&format!("the identity provider refused: {error}{described}")))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the errors of the library are not exhaustive")]
pub(super) fn explain_discovery(issuer: &str, error: DiscoveryError<HttpError>) -> Problem {
    match error {
        DiscoveryError::Request(error) => unreachable(issuer, &error),
        DiscoveryError::Validation(reason) => invalid(issuer, &reason),
        DiscoveryError::Response(status, _, _) => {
            invalid(issuer, &format!("it answered {}, which is no discovery document", status.as_u16()))
        }
        DiscoveryError::Parse(error) => invalid(issuer, &format!("no discovery document: {}", error.inner())),
        other => invalid(issuer, &chain(&other)),
    }
}

pub(super) fn unreachable(issuer: &str, error: &HttpError) -> Problem {
    Problem::new(Code::SignInProviderUnreachable, chain(error))
        .at(issuer)
        .hint("check the network; nothing that was saved is lost".to_owned())
}

pub(super) fn invalid(issuer: &str, reason: &str) -> Problem {
    Problem::new(Code::SignInDiscoveryInvalid, one_line(reason))
        .at(issuer)
        .hint("`Issuer` must be exactly what the discovery document calls its issuer".to_owned())
}

pub(super) fn one_line(text: &str) -> String {
    let line: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    line.chars().take(300).collect()
}
