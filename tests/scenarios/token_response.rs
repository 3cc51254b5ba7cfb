//! Sign-ins whose token response, or redirect response, is wrong or unusual.

use e2e::provider::{EMAIL, ProviderFault, Variation};
use protocol::session::SessionState;

use super::fixture::{FILE_VAULT, sign_in_device};

/// Whatever a provider, or an attacker in its name, does wrong: no user is signed in, and the reason is shown.
#[tokio::test]
async fn token_response_that_fails_a_check_signs_nobody_in() {
    use ProviderFault as F;
    let fixture = sign_in_device(FILE_VAULT).await;
    let cases = [
        (F::WrongIssuer, "issuer-mismatch", "issuer"),
        (F::WrongAudience, "audience-mismatch", "audience"),
        (F::ExtraAudience, "audience-mismatch", "audience"),
        (F::NoAudience, "audience-mismatch", "audience"),
        (F::WrongAuthorizedParty, "authorized-party-mismatch", "azp"),
        (F::WrongNonce, "nonce-mismatch", "another sign-in"),
        (F::NoNonce, "nonce-mismatch", "missing"),
        (F::Expired, "token-expired", "it has expired"),
        (F::ExpiredBeyondLeeway, "token-expired", "this device's clock"),
        (F::IssuedInTheFuture, "token-not-yet-valid", "in the future"),
        (F::NotYetValid, "token-not-yet-valid", "nbf"),
        (F::WrongAccessTokenHash, "access-token-mismatch", "does not belong to the ID token"),
        (F::WrongSignature, "signature-invalid", "its signature is wrong"),
        (F::Unsigned, "algorithm-refused", "none is not accepted"),
        (F::SharedSecret, "algorithm-refused", "algorithm"),
        (F::NoKeyIdOfSeveral, "key-unknown", "the ID token is not trusted"),
        (F::UnknownKey, "key-unknown", "none of the identity provider's keys"),
        (F::NoIdToken, "id-token-missing", "no ID token"),
        (F::NoSubject, "claim-missing", "sub"),
        (F::NoIssueTime, "claim-missing", "iat"),
        (F::NoExpiry, "claim-missing", "exp"),
        (F::NoCode, "token-invalid", "without a code"),
        (F::WrongIssuerInResponse, "response-issuer-mismatch", "another issuer"),
        (F::NoIssuerInResponse, "response-issuer-mismatch", "without the issuer's name"),
        (F::TokenEndpointRedirects, "token-endpoint-invalid", "token endpoint"),
        (F::TokenEndpointSendsHtml, "token-endpoint-invalid", "token endpoint"),
        (
            F::TokenEndpointFailsWithoutBody,
            "provider-failing",
            "the token endpoint responded with status 500",
        ),
        (F::TokenEndpointSendsEndlessBody, "token-endpoint-invalid", "more than 1048576 bytes"),
        (F::NoAccessToken, "token-endpoint-invalid", "access_token"),
        (F::ForeignTokenType, "token-endpoint-invalid", "not `Bearer`"),
        (F::DiscoveryWithSlash, "discovery-invalid", "the issuer in the discovery document is"),
        (F::DiscoveryOfAllTenants, "discovery-invalid", "{tenantid}"),
        (F::DiscoveryRefused, "discovery-invalid", "401"),
        (F::UserInfoOfAnotherUser, "user-info-mismatch", "userinfo"),
    ];
    for (fault, code, expected) in cases {
        fixture.provider.behave(|behaviour| behaviour.fault = Some(fault));
        let output = fixture.device.steward(&["login"]).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(expected), "{fault:?}: {errors}");
        assert!(errors.contains("hint: ") && !errors.contains("canary"), "{fault:?}: {errors}");
        let session = fixture.session().await;
        assert_eq!(session.state, SessionState::SignedOut, "{fault:?}");
        let found = session.problems[0].code.as_str();
        assert_eq!(found, format!("sign-in.{code}"), "{fault:?}: {session:?}");
    }
    fixture.provider.behave(|behaviour| behaviour.fault = None);
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in"), "{printed}");
}

/// A response that begins and never ends is not waited for longer than the limit.
#[tokio::test]
async fn endless_token_response_ends_sign_in_at_the_time_limit() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| behaviour.fault = Some(ProviderFault::TokenEndpointStalls));
    let printed = fixture.login().await;
    assert!(printed.contains("within 20 seconds"), "{printed}");
}

/// Every algorithm that the app's vendor names (ES512 is tested with the certified provider), and what else is unusual but
/// valid.
#[tokio::test]
async fn unusual_but_valid_token_responses_sign_in() {
    use jsonwebtoken::Algorithm as A;
    let fixture = sign_in_device(FILE_VAULT).await;
    let sign_in = async |what: &str| {
        let output = fixture.device.steward(&["login"]).await;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{what}: {printed}");
        let session = fixture.session().await;
        assert_eq!(session.state, SessionState::SignedIn, "{what}");
        assert_eq!(session.account.as_deref(), Some(EMAIL), "{what}");
        fixture.device.printed(&["logout"]).await;
    };
    for algorithm in [A::ES256, A::ES384, A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512] {
        fixture.provider.behave(|behaviour| behaviour.algorithm = algorithm);
        sign_in(&format!("{algorithm:?}")).await;
    }
    fixture.provider.behave(|behaviour| behaviour.algorithm = A::ES256);
    for variation in [
        Variation::AudienceIsList,
        Variation::NoKeyIdOfOne,
        Variation::ExpiredWithinLeeway,
        Variation::IssuedWithinLeeway,
        Variation::NoLifetime,
        Variation::TokenTypeInCapitals,
        Variation::FractionalTime,
        Variation::NoAccessTokenHash,
        Variation::EmailAtUserInfo,
        Variation::KeysRotateBeforeSigning,
    ] {
        fixture.provider.behave(|behaviour| behaviour.variation = Some(variation));
        let before = fixture.provider.key_requests();
        sign_in(&format!("{variation:?}")).await;
        let rotated = variation == Variation::KeysRotateBeforeSigning;
        assert_eq!(fixture.provider.key_requests() - before, if rotated { 2 } else { 1 }, "{variation:?}");
    }
}
