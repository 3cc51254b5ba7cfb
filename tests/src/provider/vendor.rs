//! How the vendors' providers differ: their endpoints, what they leave out, how they refuse.

use jsonwebtoken::Algorithm;

use super::behaviour::{Behaviour, Rotation};

/// Whose product the provider behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// No vendor's: everything that OpenID Connect specifies.
    Plain,
    /// Entra ID, version 2.0.
    Entra,
    /// Okta, the authorization server `default`.
    Okta,
    /// PingFederate with its default settings.
    PingFederate,
    /// PingOne.
    PingOne,
    /// Google Workspace.
    Google,
}

/// The paths of a provider's endpoints.
pub(super) struct Endpoints {
    pub(super) issuer: &'static str,
    pub(super) authorize: &'static str,
    pub(super) token: &'static str,
    pub(super) keys: &'static str,
    pub(super) user_info: &'static str,
}

impl Vendor {
    pub(super) fn endpoints(self) -> Endpoints {
        let of = |issuer, authorize, token, keys, user_info| Endpoints {
            issuer,
            authorize,
            token,
            keys,
            user_info,
        };
        match self {
            Self::Plain => of("", "/authorize", "/token", "/jwks", "/userinfo"),
            Self::Entra => of(
                "/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/v2.0",
                "/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/oauth2/v2.0/authorize",
                "/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/oauth2/v2.0/token",
                "/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/discovery/v2.0/keys",
                "/oidc/userinfo",
            ),
            Self::Okta => of(
                "/oauth2/default",
                "/oauth2/default/v1/authorize",
                "/oauth2/default/v1/token",
                "/oauth2/default/v1/keys",
                "/oauth2/default/v1/userinfo",
            ),
            Self::PingFederate => {
                of("", "/as/authorization.oauth2", "/as/token.oauth2", "/pf/JWKS", "/idp/userinfo.openid")
            }
            Self::PingOne => of(
                "/3fe7c5a1-2f5b-4d13-8f1e-0f7c0c7f3a10/as",
                "/3fe7c5a1-2f5b-4d13-8f1e-0f7c0c7f3a10/as/authorize",
                "/3fe7c5a1-2f5b-4d13-8f1e-0f7c0c7f3a10/as/token",
                "/3fe7c5a1-2f5b-4d13-8f1e-0f7c0c7f3a10/as/jwks",
                "/3fe7c5a1-2f5b-4d13-8f1e-0f7c0c7f3a10/as/userinfo",
            ),
            Self::Google => of("", "/o/oauth2/v2/auth", "/token", "/oauth2/v3/certs", "/v1/userinfo"),
        }
    }

    pub(super) fn behaviour(self) -> Behaviour {
        let rotation = match self {
            Self::Plain | Self::PingOne => Rotation::Strict,
            Self::Okta => Rotation::Grace,
            Self::Entra | Self::PingFederate | Self::Google => Rotation::OldStaysValid,
        };
        let algorithm = match self {
            Self::Plain => Algorithm::ES256,
            Self::Entra | Self::Okta | Self::PingFederate | Self::PingOne | Self::Google => Algorithm::RS256,
        };
        Behaviour {
            lifetime: 3600,
            id_token_lifetime: 600,
            rotation,
            stall: None,
            lost_responses: 0,
            fault: None,
            variation: None,
            algorithm,
            deny: false,
            denial: ("access_denied", "User is not assigned to the client application"),
            refusal: None,
            page: None,
            user: "ada",
            device_flow: self == Self::Plain,
            discovery_member: None,
            keys: None,
        }
    }

    /// Whether authorization responses name the issuer (RFC 9207).
    pub(super) fn names_issuer(self) -> bool {
        match self {
            Self::Plain | Self::Okta | Self::PingOne => true,
            Self::Entra | Self::PingFederate | Self::Google => false,
        }
    }

    /// Whether ID tokens have the address.
    pub(super) fn has_email(self) -> bool {
        self != Self::PingFederate
    }

    /// Whether a renewal brings an ID token.
    pub(super) fn renews_id_token(self, scope: &str) -> bool {
        match self {
            Self::PingFederate => false,
            // Only if the request names the scopes again.
            Self::Entra => scope.split(' ').any(|scope| scope == "openid"),
            Self::Plain | Self::Okta | Self::PingOne | Self::Google => true,
        }
    }

    /// Whether the token endpoint's ID token has `at_hash`.
    pub(super) fn hashes_access_token(self) -> bool {
        self != Self::Entra
    }

    /// Whether a refresh token is given, for the parameters of the authorization request.
    pub(super) fn issues_refresh_token(self, parameter: impl Fn(&str) -> String) -> bool {
        match self {
            Self::Google => {
                parameter("access_type") == "offline"
                    && parameter("prompt").split(' ').any(|word| word == "consent")
            }
            Self::Plain | Self::Entra | Self::Okta | Self::PingFederate | Self::PingOne => {
                parameter("scope").split(' ').any(|scope| scope == "offline_access")
            }
        }
    }

    /// The vendor's error description for a refresh token that is not valid any more.
    pub(super) fn invalid_grant_description(self) -> &'static str {
        match self {
            Self::Entra => {
                "AADSTS700082: The refresh token has expired due to inactivity. Trace ID: 0 Correlation ID: 0"
            }
            Self::Google => "Token has been expired or revoked.",
            Self::Okta => "The refresh token is invalid or expired.",
            Self::PingFederate => "unknown, invalid, or expired refresh token",
            Self::Plain | Self::PingOne => "The refresh token is invalid",
        }
    }
}
