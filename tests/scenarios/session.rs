//! Sessions: several accounts, tokens with fewer scopes, and the end.

use e2e::provider::{CLIENT_ID, EMAIL, Rotation};
use policy_schema::Code;
use protocol::broker::{LOGOUT, LogoutRequest};
use protocol::session::SessionState;

use super::fixture::{FILE_VAULT, sign_in_device};

#[tokio::test]
async fn several_accounts_are_signed_in_side_by_side() {
    let mut fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    fixture.provider.behave(|behaviour| behaviour.user = "grace");
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in as grace@example.com"), "{printed}");
    fixture.restart_broker().await;
    let printed = fixture.device.printed(&["whoami"]).await;
    assert!(
        printed.starts_with("grace@example.com") && printed.contains("--account ada@example.com"),
        "{printed}"
    );
    let account =
        async |name: &str| Ok::<_, String>(fixture.device.tokens(&["--account", name]).await?.account);
    assert_eq!(account(EMAIL).await.unwrap(), EMAIL);
    assert_eq!(account("GRACE@example.com").await.unwrap(), "grace@example.com");
    assert!(account("eve@example.com").await.is_err());
    fixture.device.printed(&["logout", "--account", "grace@example.com"]).await;
    assert_eq!(fixture.session().await.account.as_deref(), Some(EMAIL));
    assert_eq!(fixture.vault().len(), 2);
    fixture.device.printed(&["logout", "--all"]).await;
    assert!(fixture.token().await.is_err() && fixture.vault().is_empty());
}

#[tokio::test]
async fn fewer_scopes_and_resources_have_their_own_cached_tokens() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| behaviour.rotation = Rotation::Strict);
    fixture.login().await;
    let tokens = async |more: &[&str]| fixture.device.tokens(more).await;
    let main = tokens(&[]).await.unwrap();
    let fewer = tokens(&["--scope", "profile email"]).await.unwrap();
    assert_eq!(fewer.scope, "email profile");
    assert_ne!(fewer.access_token, main.access_token);
    let narrow = tokens(&["--scope", "email", "--resource", "https://api.example.com"]).await.unwrap();
    assert_eq!(fixture.provider.token_parameter("resource").as_deref(), Some("https://api.example.com"));
    assert_eq!(fixture.provider.refreshes(), 2);
    // Each of them is cached, and the one of the sign-in stays as it was.
    assert_eq!(tokens(&["--scope", "email profile"]).await.unwrap().access_token, fewer.access_token);
    let again = tokens(&["--resource", "https://api.example.com", "--scope", "email"]).await.unwrap();
    assert_eq!(again.access_token, narrow.access_token);
    assert_eq!(tokens(&[]).await.unwrap().access_token, main.access_token);
    assert_eq!(fixture.provider.refreshes(), 2);
    // A scope that is refused for one app is no problem of the session. (It once kept other apps from renewing for a
    // while.)
    let refused = tokens(&["--scope", "forbidden"]).await.unwrap_err();
    tokens(&["--scope", "openid"]).await.unwrap();
    assert!(refused.contains("invalid_scope"), "{refused}");
    let session = fixture.session().await;
    assert_eq!(session.state, SessionState::SignedIn);
    assert_eq!(session.problems[0].code, Code::VaultDegraded);
}

#[tokio::test]
async fn logout_without_network_signs_out_here_and_says_what_is_left() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.allow_tests().await;
    fixture.login().await;
    let response = fixture.device.call_broker(&LOGOUT, &LogoutRequest::default()).await.unwrap();
    let url = response.end_session_url.unwrap();
    // Found by trial: with an ID token in it, the address was longer than a screen, and the token was shown.
    assert_eq!(url, format!("{}/logout?client_id={CLIENT_ID}", fixture.provider.issuer()));
    assert_eq!(response.session.state, SessionState::SignedOut);
    fixture.login().await;
    fixture.provider.stop().await;
    let printed = fixture.device.printed(&["logout"]).await;
    assert!(
        printed.contains(
            "Signed out on this device.\nnote: the session was not ended at the identity provider: "
        ),
        "{printed}"
    );
    assert!(fixture.vault().is_empty());
}
