//! How the provider behaves: as vendors do, oddly but rightly, or wrongly.

use std::time::Duration;

use jsonwebtoken::Algorithm;

/// What happens to a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It stays valid (Entra ID).
    OldStaysValid,
    /// It stays valid for half a minute; after that its use ends the session (Okta with rotation).
    Grace,
    /// Its use ends the session at once.
    Strict,
    /// It is not known any more, and that is all.
    OldIsForgotten,
}

/// One thing that is wrong with the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// The ID token names another issuer.
    WrongIssuer,
    /// The ID token is for another client.
    WrongAudience,
    /// The ID token is for this client and another.
    ExtraAudience,
    /// The ID token answers another request.
    WrongNonce,
    /// The ID token answers no request.
    NoNonce,
    /// The ID token has ended.
    Expired,
    /// The ID token was issued in an hour.
    IssuedInTheFuture,
    /// The ID token holds in an hour.
    NotYetValid,
    /// The ID token was issued to another party.
    WrongAuthorizedParty,
    /// The ID token belongs to another access token.
    WrongAccessTokenHash,
    /// The signature is somebody else's.
    WrongSignature,
    /// No signature (`alg: none`).
    Unsigned,
    /// Signed with the client ID as a shared secret.
    SharedSecret,
    /// No ID token at all.
    NoIdToken,
    /// No subject.
    NoSubject,
    /// The browser comes back in another issuer's name (RFC 9207).
    WrongIssuerInResponse,
    /// The browser comes back without the issuer's name, although it was promised.
    NoIssuerInResponse,
    /// The token endpoint sends the client elsewhere.
    TokenEndpointRedirects,
    /// The token endpoint answers with a page.
    TokenEndpointAnswersHtml,
    /// The token endpoint's answer is endless.
    TokenEndpointAnswersEndlessly,
    /// Discovery names an issuer with a slash at the end.
    DiscoveryWithSlash,
    /// The ID token is for nobody in particular.
    NoAudience,
    /// The ID token does not say when it was issued.
    NoIssueTime,
    /// The ID token never ends.
    NoExpiry,
    /// The ID token ended longer ago than clocks differ.
    ExpiredBeyondLeeway,
    /// There are several keys, and the ID token does not say which one signed it.
    NoKeyIdOfSeveral,
    /// The ID token names a key that the provider never publishes.
    UnknownKey,
    /// The token endpoint begins an answer and never ends it.
    TokenEndpointStalls,
    /// The token endpoint fails without a word.
    TokenEndpointFailsSilently,
    /// No access token.
    NoAccessToken,
    /// There is no address in the ID token, and the userinfo endpoint speaks of another person.
    UserInfoOfAnotherPerson,
    /// There is no address anywhere.
    NoEmail,
    /// The browser comes back with nothing but the state.
    NoCode,
    /// The answer has a type of token that nobody knows.
    ForeignTokenType,
    /// Discovery answers with the placeholder of all tenants (Entra ID, `common`).
    DiscoveryOfEveryTenant,
    /// Discovery is refused, with a reason in the vendor's words (Okta without API Access Management).
    DiscoveryRefused,
    /// A renewed ID token names another issuer.
    RenewalOfAnotherIssuer,
    /// A renewed ID token names another person.
    RenewalOfAnotherPerson,
    /// A renewed ID token is for another client.
    RenewalForAnotherClient,
    /// The userinfo endpoint takes no access token.
    UserInfoRefused,
    /// There is no refresh token.
    NoRefreshToken,
    /// The keys are not such as check a signature.
    KeysUnusable,
    /// A captive portal sends everybody who asks for discovery to itself.
    Portal,
    /// The same with a page in the place of the document.
    PortalPage,
    /// The provider's clock is two hours slow.
    ClockSlow,
    /// Discovery lists little of what is needed.
    OffersLittle,
}

/// Something unusual that is allowed all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The audience is a list of one.
    AudienceIsList,
    /// One key, and the ID token does not name it.
    NoKeyIdOfOne,
    /// The keys change between discovery and signing.
    KeysRotateBeforeSigning,
    /// The ID token has just ended, as seen by a clock that is ahead.
    ExpiredWithinLeeway,
    /// The ID token was issued by a clock that is ahead.
    IssuedWithinLeeway,
    /// The answer does not say how long the access token lasts.
    NoLifetime,
    /// `BEARER`.
    TokenTypeInCapitals,
    /// `auth_time` has a fraction.
    FractionalTime,
    /// No `at_hash` (Entra ID).
    NoAccessTokenHash,
    /// The address lies at the userinfo endpoint only (PingFederate).
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
    pub identity_lifetime: i64,
    /// What happens to used refresh tokens.
    pub rotation: Rotation,
    /// Pause between using up a refresh token and answering.
    pub stall: Option<Duration>,
    /// So many answers to renewals get lost on the way.
    pub lost_answers: usize,
    /// What is wrong.
    pub misbehaviour: Option<Misbehaviour>,
    /// What is unusual.
    pub oddity: Option<Oddity>,
    /// How ID tokens are signed.
    pub algorithm: Algorithm,
    /// A person who is not let in.
    pub deny: bool,
    /// What such a person's browser comes back with: `error` and `error_description`.
    pub denial: (&'static str, &'static str),
    /// What a browser comes back with at once, before any page is shown.
    pub refusal: Option<(&'static str, &'static str)>,
    /// What a browser is shown in the place of the sign-in: status and page.
    pub page: Option<(u16, &'static str)>,
    /// Who signs in next.
    pub user: &'static str,
    /// Whether sign-in on another device is offered (RFC 8628).
    pub device_flow: bool,
}
