//! How the provider behaves: as a vendor's does, in an unusual but valid way, or wrongly.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::Value;

/// What happens to a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It stays valid (Entra ID).
    OldStaysValid,
    /// It stays valid for half a minute; a later use ends the session (Okta with rotation).
    Grace,
    /// Another use ends the session at once.
    Strict,
    /// It is unknown from then on; the session goes on.
    OldIsForgotten,
}

/// Something that is wrong with the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderFault {
    /// The ID token names another issuer.
    WrongIssuer,
    /// The ID token is for another client.
    WrongAudience,
    /// The ID token is for this client and another.
    ExtraAudience,
    /// The ID token belongs to another request.
    WrongNonce,
    /// The ID token has no nonce.
    NoNonce,
    /// The ID token has expired.
    Expired,
    /// The ID token was issued an hour in the future.
    IssuedInTheFuture,
    /// The ID token is valid only in an hour.
    NotYetValid,
    /// The ID token was issued to another party.
    WrongAuthorizedParty,
    /// The ID token belongs to another access token.
    WrongAccessTokenHash,
    /// The signature was made with another key.
    WrongSignature,
    /// No signature (`alg: none`).
    Unsigned,
    /// Signed with the client ID as a shared secret.
    SharedSecret,
    /// No ID token at all.
    NoIdToken,
    /// No subject.
    NoSubject,
    /// The redirect response names another issuer (RFC 9207).
    WrongIssuerInResponse,
    /// The redirect response names no issuer, although discovery promises it.
    NoIssuerInResponse,
    /// The token endpoint redirects the client.
    TokenEndpointRedirects,
    /// The token endpoint responds with a page.
    TokenEndpointSendsHtml,
    /// The token endpoint's response is endless.
    TokenEndpointSendsEndlessBody,
    /// Discovery names an issuer with a slash at the end.
    DiscoveryWithSlash,
    /// The ID token has no audience.
    NoAudience,
    /// The ID token does not say when it was issued.
    NoIssueTime,
    /// The ID token does not say when it expires.
    NoExpiry,
    /// The ID token expired longer ago than clocks may differ.
    ExpiredBeyondLeeway,
    /// There are several keys, and the ID token does not say which one signed it.
    NoKeyIdOfSeveral,
    /// The ID token names a key that the provider never publishes.
    UnknownKey,
    /// The token endpoint begins a response and never ends it.
    TokenEndpointStalls,
    /// The token endpoint fails with an empty response.
    TokenEndpointFailsWithoutBody,
    /// No access token.
    NoAccessToken,
    /// The ID token has no address, and the userinfo endpoint is about another user.
    UserInfoOfAnotherUser,
    /// Neither the ID token nor the userinfo endpoint has an address.
    NoEmail,
    /// The redirect response has only the state.
    NoCode,
    /// The response has an unknown type of token.
    ForeignTokenType,
    /// Discovery names an issuer with a placeholder for the tenant (Entra ID, `common`).
    DiscoveryOfAllTenants,
    /// Discovery is refused, with a reason in the vendor's words (Okta without API Access Management).
    DiscoveryRefused,
    /// A renewed ID token names another issuer.
    RenewalOfAnotherIssuer,
    /// A renewed ID token names another user.
    RenewalOfAnotherUser,
    /// A renewed ID token is for another client.
    RenewalForAnotherClient,
    /// The userinfo endpoint refuses the access token.
    UserInfoRefused,
    /// There is no refresh token.
    NoRefreshToken,
    /// None of the keys can verify a signature.
    KeysUnusable,
    /// A captive portal redirects requests for discovery to itself.
    CaptivePortal,
    /// A captive portal responds with its page instead of the document.
    CaptivePortalPage,
    /// The provider's clock is two hours slow.
    ClockSlow,
    /// Discovery does not list what a sign-in needs.
    FewCapabilities,
}

/// Something unusual that the standards allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variation {
    /// The audience is a list of one.
    AudienceIsList,
    /// One key, and the ID token does not name it.
    NoKeyIdOfOne,
    /// The keys change between discovery and signing.
    KeysRotateBeforeSigning,
    /// The ID token has just expired, as for a client whose clock is ahead.
    ExpiredWithinLeeway,
    /// The ID token was issued in the near future, as for a client whose clock is behind.
    IssuedWithinLeeway,
    /// The response does not say when the access token expires.
    NoLifetime,
    /// `BEARER`.
    TokenTypeInCapitals,
    /// `auth_time` has a fraction.
    FractionalTime,
    /// No `at_hash` (Entra ID).
    NoAccessTokenHash,
    /// Only the userinfo endpoint has the address (PingFederate).
    EmailAtUserInfo,
    /// A renewal brings no ID token (PingFederate, unless told otherwise).
    RenewalWithoutIdToken,
    /// A renewal brings an ID token without the address (PingFederate).
    RenewalWithoutEmail,
    /// A renewal brings no new refresh token.
    RenewalWithoutRefreshToken,
}

/// How the provider behaves; may be changed while it runs.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Of access tokens, in seconds.
    pub lifetime: u64,
    /// Of ID tokens, in seconds.
    pub id_token_lifetime: i64,
    /// What happens to used refresh tokens.
    pub rotation: Rotation,
    /// How long to wait between using up a refresh token and responding.
    pub stall: Option<Duration>,
    /// So many responses to renewals get lost.
    pub lost_responses: usize,
    /// What is wrong.
    pub fault: Option<ProviderFault>,
    /// What is unusual.
    pub variation: Option<Variation>,
    /// How ID tokens are signed.
    pub algorithm: Algorithm,
    /// The provider refuses the user.
    pub deny: bool,
    /// How it refuses the user, after the login form: `error` and `error_description`.
    pub denial: (&'static str, &'static str),
    /// How it refuses the request, before any page is shown.
    pub refusal: Option<(&'static str, &'static str)>,
    /// What it shows instead of the login form: status and page.
    pub page: Option<(u16, &'static str)>,
    /// The user who signs in next.
    pub user: &'static str,
    /// Whether sign-in on another device is offered (RFC 8628).
    pub device_flow: bool,
    /// A member of the discovery document, and what is there instead; `None` for nothing.
    pub discovery_member: Option<(&'static str, Option<Value>)>,
    /// What is there instead of the key set.
    pub keys: Option<Value>,
}
