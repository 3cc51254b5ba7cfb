//! The identity providers of the vendors, and how they differ.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::provider::{EMAIL, GOOGLE_SECRET, ProviderFault, Vendor};
use protocol::session::SessionState;

use super::fixture::{SignInDevice, device_of_vendor};

/// Signs in and renews three times: the account stays the same, and the user signs in once.
async fn check_that_session_lasts(fixture: &SignInDevice) {
    fixture.provider.behave(|behaviour| behaviour.lifetime = 10);
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in as ada@example.com"), "{printed}");
    for _ in 0..3 {
        fixture.token().await.unwrap();
    }
    assert_eq!((fixture.provider.refreshes(), fixture.provider.logins()), (3, 1));
    let session = fixture.session().await;
    assert_eq!(session.account.as_deref(), Some(EMAIL));
    assert_eq!(session.state, SessionState::SignedIn);
}

/// Entra ID keeps used refresh tokens valid, and sends an ID token only if the renewal names the scopes again.
#[tokio::test]
async fn entra_session_lasts_and_ends_once_with_its_error() {
    let policy = "IdentityProvider = \"entra\"\nDomainHint = \"example.com\"\n";
    let fixture = device_of_vendor(Vendor::Entra, policy).await;
    check_that_session_lasts(&fixture).await;
    let parameter = |name: &str| fixture.provider.authorization_parameter(name);
    assert_eq!(parameter("domain_hint").as_deref(), Some("example.com"));
    assert_eq!(parameter("prompt"), None);
    let scope = fixture.provider.token_parameter("scope").unwrap();
    assert!(scope.split(' ').any(|scope| scope == "openid"), "{scope}");
    let id_token = fixture.device.printed(&["token", "--id-token"]).await;
    assert_eq!(id_token.split('.').count(), 3, "{id_token}");

    fixture.provider.revoke_all();
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("AADSTS700082") && refused.contains("sign in again"), "{refused}");
    let before = fixture.provider.token_requests();
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("nobody is signed in"), "{refused}");
    assert_eq!(fixture.provider.token_requests(), before, "it does not try again and again");

    // `common` instead of the tenant.
    fixture.provider.behave(|behaviour| behaviour.fault = Some(ProviderFault::DiscoveryOfAllTenants));
    let printed = fixture.login().await;
    assert!(printed.contains("{tenantid}") && printed.contains("`Issuer` must be exactly"), "{printed}");
}

/// Okta accepts a used refresh token for half a minute.
#[tokio::test]
async fn okta_session_survives_lost_response_and_refusal_is_shown() {
    let fixture = device_of_vendor(Vendor::Okta, "IdentityProvider = \"okta\"\n").await;
    check_that_session_lasts(&fixture).await;
    assert_eq!(fixture.provider.authorization_parameter("prompt"), None);
    fixture.provider.behave(|behaviour| behaviour.lost_responses = 1);
    fixture.token().await.unwrap();
    fixture.device.printed(&["logout"]).await;
    fixture.provider.behave(|behaviour| behaviour.deny = true);
    let printed = fixture.login().await;
    assert!(printed.contains("access_denied: User is not assigned to the client application"), "{printed}");
    fixture.provider.behave(|behaviour| behaviour.fault = Some(ProviderFault::DiscoveryRefused));
    let printed = fixture.login().await;
    assert!(printed.contains("401"), "{printed}");
}

/// PingFederate has the address at the userinfo endpoint only, and its renewals bring no ID token: the one of the sign-in
/// is all there is. Once it has expired, a request for it fails with the reason.
#[tokio::test]
async fn pingfederate_session_without_new_id_tokens_lasts() {
    let fixture = device_of_vendor(Vendor::PingFederate, "IdentityProvider = \"pingfederate\"\n").await;
    check_that_session_lasts(&fixture).await;
    let id_token = fixture.device.printed(&["token", "--id-token"]).await;
    assert_eq!(id_token.split('.').count(), 3, "{id_token}");
    fixture.provider.behave(|behaviour| behaviour.id_token_lifetime = 20);
    fixture.login().await;
    let refused = fixture.device.printed(&["token", "--id-token"]).await;
    assert!(
        refused.contains("a renewal brings no new one") && refused.contains("return ID tokens on refresh"),
        "{refused}"
    );
}

#[tokio::test]
async fn pingone_session_lasts_with_strict_rotation() {
    let fixture = device_of_vendor(Vendor::PingOne, "IdentityProvider = \"pingone\"\n").await;
    check_that_session_lasts(&fixture).await;
}

/// Google issues a refresh token only after consent, so consent is requested when there is none, and only then. Its
/// renewals bring none, and it does not know `offline_access`.
#[tokio::test]
async fn google_consent_is_requested_only_without_refresh_token() {
    let policy = format!("IdentityProvider = \"google\"\nClientSecret = \"{GOOGLE_SECRET}\"\n");
    let fixture = device_of_vendor(Vendor::Google, &policy).await;
    check_that_session_lasts(&fixture).await;
    let parameter = |name: &str| fixture.provider.authorization_parameter(name);
    assert_eq!(parameter("access_type").as_deref(), Some("offline"));
    assert_eq!(parameter("prompt").as_deref(), Some("consent"));
    assert!(!parameter("scope").unwrap().contains("offline_access"));
    // Again, while there is a refresh token: no consent, no new refresh token, and the old one stays in use.
    fixture.login().await;
    assert_eq!(parameter("prompt"), None);
    let before = fixture.provider.refreshes();
    fixture.token().await.unwrap();
    assert_eq!(fixture.provider.refreshes(), before + 1);
    fixture.device.printed(&["logout"]).await;
    fixture.login().await;
    assert_eq!(parameter("prompt").as_deref(), Some("consent"));
    let log = fixture.broker.log();
    assert!(!log.contains(GOOGLE_SECRET), "{log}");
}
