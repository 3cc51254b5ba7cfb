//! Renewals: nothing that can happen to one ends a session that the provider would go on with.

use std::time::Duration;

use e2e::crash_point::CrashPoint;
use e2e::provider::{EMAIL, ProviderFault, Rotation, Variation};
use e2e::wait::until;
use nix::sys::signal::Signal;
use policy_schema::Code;
use protocol::session::SessionState;

use super::fixture::{CURL, FILE_VAULT, SignInDevice, sign_in_device};

/// Shorter than what is given out, in seconds: every token request needs a renewal.
const SHORT: u64 = 10;

/// A device whose user is signed in with tokens that are renewed for every request.
async fn signed_in_device(rotation: Rotation) -> SignInDevice {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| {
        behaviour.lifetime = SHORT;
        behaviour.rotation = rotation;
    });
    fixture.login().await;
    fixture
}

/// Waits until refresh tokens were used so many times.
async fn refreshes_become(provider: &e2e::provider::Provider, count: usize) {
    until("renewals", async || match provider.refreshes() {
        found if found == count => Ok(()),
        found => Err(found),
    })
    .await;
}

#[tokio::test]
async fn token_is_renewed_silently_and_cached_token_never_waits() {
    let fixture = signed_in_device(Rotation::Strict).await;
    let first = fixture.token().await.unwrap();
    let second = fixture.token().await.unwrap();
    assert_ne!(first, second);
    assert!(fixture.provider.refreshes() >= 2 && fixture.provider.logins() == 1);

    // Short enough to be renewed early, long enough to be given out meanwhile.
    fixture.provider.behave(|behaviour| behaviour.lifetime = 60);
    let aging = fixture.token().await.unwrap();
    fixture.provider.behave(|behaviour| behaviour.stall = Some(Duration::from_hours(1)));
    assert_eq!(fixture.token().await.unwrap(), aging, "the renewal hangs, the cached token does not");
}

/// Four apps request a token that has expired: the refresh token of a strict provider is used once.
#[tokio::test]
async fn concurrent_token_requests_renew_once() {
    let fixture = signed_in_device(Rotation::Strict).await;
    fixture.provider.behave(|behaviour| {
        behaviour.lifetime = 3600;
        behaviour.stall = Some(Duration::from_millis(300));
    });
    let (a, b, c, d) = tokio::join!(fixture.token(), fixture.token(), fixture.token(), fixture.token());
    let mut tokens: Vec<String> = [a, b, c, d].into_iter().map(Result::unwrap).collect();
    tokens.dedup();
    assert_eq!((tokens.len(), fixture.provider.refreshes()), (1, 1));
}

/// The provider has rotated, its response is under way, and the broker is killed. A provider that accepts the old refresh
/// token once more keeps the session; at a strict one the user is told once, and can sign in again.
#[tokio::test]
async fn kill_between_rotation_and_save_keeps_session_where_provider_allows_reuse() {
    for (rotation, survives) in
        [(Rotation::OldStaysValid, true), (Rotation::Grace, true), (Rotation::Strict, false)]
    {
        let mut fixture = signed_in_device(rotation).await;
        fixture.provider.behave(|behaviour| {
            behaviour.lifetime = 3600;
            behaviour.stall = Some(Duration::from_hours(1));
        });
        tokio::select! {
            token = fixture.token() => panic!("the provider holds its response back, but: {token:?}"),
            () = refreshes_become(&fixture.provider, 1) => {}
        }
        fixture.provider.behave(|behaviour| behaviour.stall = None);
        fixture.restart_broker().await;
        let token = fixture.token().await;
        assert_eq!(token.is_ok(), survives, "{rotation:?}: {token:?}");
        if !survives {
            let again = fixture.token().await.unwrap_err();
            assert!(again.contains("nobody is signed in"), "it calls the provider only once: {again}");
            let printed = fixture.login().await;
            assert!(printed.contains("Signed in"), "{printed}");
        }
    }
}

#[tokio::test]
async fn unreachable_provider_keeps_session() {
    let mut fixture = signed_in_device(Rotation::Strict).await;
    fixture.provider.behave(|behaviour| behaviour.lifetime = 3600);
    fixture.provider.stop().await;
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("could not be reached"), "{refused}");
    assert!(refused.contains("nothing that was saved is lost"), "{refused}");
    fixture.restart_broker().await;
    assert!(fixture.token().await.is_err());
    fixture.provider.start_again().await;
    // Between two attempts there is a pause.
    until("a renewal", async || fixture.token().await).await;
    assert_eq!(fixture.provider.logins(), 1);
}

/// Found by review and by trial: the response to a renewal failed a check, or had an unexpected form, and its new refresh
/// token was dropped with it; the strict provider then took the next attempt with the old one for theft.
#[tokio::test]
async fn refresh_token_of_unusable_renewal_response_is_kept() {
    let mut fixture = signed_in_device(Rotation::Strict).await;
    for (fault, expected) in [
        (ProviderFault::WrongSignature, "its signature is wrong"),
        (ProviderFault::NoAccessToken, "it has no access_token"),
        (ProviderFault::ForeignTokenType, "not `Bearer`"),
        (ProviderFault::RenewalOfAnotherIssuer, "issuer"),
    ] {
        fixture.provider.behave(|behaviour| behaviour.fault = Some(fault));
        let refused = fixture.token().await.unwrap_err();
        assert!(refused.contains(expected), "{fault:?}: {refused}");
        fixture.provider.behave(|behaviour| behaviour.fault = None);
        fixture.restart_broker().await;
        fixture.token().await.unwrap();
    }
    assert_eq!(fixture.provider.logins(), 1);
}

/// After a renewal the session is still of the same issuer, user and client (Core 1.0, section 12.2), and what the
/// response leaves out stays as it was.
#[tokio::test]
async fn renewal_for_another_user_is_refused_and_session_kept() {
    use ProviderFault as F;
    let fixture = signed_in_device(Rotation::Strict).await;
    for (fault, code) in [
        (F::RenewalOfAnotherIssuer, Code::SignInIssuerMismatch),
        (F::RenewalOfAnotherUser, Code::SignInSubjectChanged),
        (F::RenewalForAnotherClient, Code::SignInAudienceMismatch),
    ] {
        fixture.provider.behave(|behaviour| behaviour.fault = Some(fault));
        // Between two attempts there is a pause, in which the last failure is repeated.
        until(code.as_str(), async || {
            let refused = fixture.token().await.expect_err("it is never accepted");
            let problems = fixture.session().await.problems;
            if problems.iter().any(|problem| problem.code == code) { Ok(()) } else { Err(refused) }
        })
        .await;
        assert_eq!(fixture.session().await.state, SessionState::SignedIn, "{fault:?}");
    }
    fixture.provider.behave(|behaviour| behaviour.fault = None);
    for variation in [
        Variation::RenewalWithoutIdToken,
        Variation::RenewalWithoutEmail,
        Variation::RenewalWithoutRefreshToken,
    ] {
        fixture.provider.behave(|behaviour| {
            behaviour.variation = Some(variation);
            behaviour.rotation = Rotation::OldStaysValid;
        });
        until("a renewal", async || fixture.token().await).await;
        assert_eq!(fixture.session().await.account.as_deref(), Some(EMAIL), "{variation:?}");
    }
    assert_eq!(fixture.provider.logins(), 1);
}

/// The broker is killed during a renewal, while the cached token is still valid. A renewal only when that has expired
/// would use the old refresh token too late for a provider that accepts it for half a minute only.
#[tokio::test]
async fn interrupted_renewal_is_repeated_at_next_start() {
    let mut fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| {
        behaviour.lifetime = 60;
        behaviour.rotation = Rotation::Grace;
    });
    fixture.login().await;
    fixture.provider.behave(|behaviour| {
        behaviour.lifetime = 3600;
        behaviour.stall = Some(Duration::from_hours(1));
    });
    fixture.token().await.unwrap();
    refreshes_become(&fixture.provider, 1).await;
    assert!(fixture.vault().concat().contains(".next"), "{:?}", fixture.vault());
    fixture.provider.behave(|behaviour| behaviour.stall = None);
    fixture.restart_broker().await;
    // Without any token request.
    refreshes_become(&fixture.provider, 2).await;
    until("a vault without an unfinished file", async || {
        let files = fixture.vault();
        if files.concat().contains(".next") { Err(files) } else { Ok(()) }
    })
    .await;
    fixture.token().await.unwrap();
    assert_eq!((fixture.provider.refreshes(), fixture.provider.logins()), (2, 1));
}

/// The broker is killed at each single step of a renewal and of saving it, as in a crash. (A power loss can also lose what
/// was not synced.) A provider that accepts a used refresh token once more keeps the session.
#[tokio::test]
async fn kill_at_every_step_of_renewal_keeps_session() {
    let mut fixture = signed_in_device(Rotation::Grace).await;
    let folder = fixture.device.session_folder();
    let sealed = fixture.vault().into_iter().find(|name| name.contains(".sealed")).unwrap();
    let (sealed, next) = (folder.join(&sealed), folder.join(sealed.replace(".sealed", ".next")));
    let mut kills = 0;
    for call in ["openat", "write", "ftruncate", "fsync", "rename", "unlink"] {
        for when in 1..20 {
            let crash_point =
                CrashPoint::set(fixture.broker.id(), call, when, &[&folder, &sealed, &next]).await.unwrap();
            let token = fixture.token().await;
            crash_point.remove().await.unwrap();
            if token.is_ok() {
                // A renewal has no more of these calls.
                break;
            }
            kills += 1;
            fixture.broker.wait_for_exit().await;
            fixture.start_broker_again().await;
            fixture.token().await.unwrap_or_else(|error| panic!("lost at {call} {when}: {error}"));
        }
    }
    assert!(kills >= 12, "only {kills} steps: are these the right files?");
    assert_eq!(fixture.provider.logins(), 1);
    assert_eq!(fixture.session().await.state, SessionState::SignedIn);
}

/// The connection breaks during the response. The renewal is repeated at once with the same refresh token, which a
/// provider with a grace period accepts.
#[tokio::test]
async fn lost_renewal_response_is_retried_with_same_refresh_token() {
    let fixture = signed_in_device(Rotation::Grace).await;
    fixture.provider.behave(|behaviour| behaviour.lost_responses = 1);
    fixture.token().await.unwrap();
    assert_eq!(fixture.provider.refreshes(), 2);
    fixture.provider.behave(|behaviour| behaviour.lost_responses = 2);
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("nothing that was saved is lost"), "{refused}");
    until("a renewal", async || fixture.token().await).await;
    assert_eq!(fixture.provider.logins(), 1);
}

#[tokio::test]
async fn failing_provider_is_not_asked_by_every_token_request() {
    let fixture = signed_in_device(Rotation::Strict).await;
    fixture.provider.behave(|behaviour| {
        behaviour.fault = Some(ProviderFault::TokenEndpointFailsWithoutBody);
    });
    let before = fixture.provider.token_requests();
    fixture.allow(&[CURL]).await;
    // Faster than the pause between two attempts: all over one connection.
    let more: Vec<&str> = std::iter::repeat_n("http://localhost/v1/token", 49).collect();
    let printed = fixture.token_request_by(CURL.as_ref(), &more).await;
    assert_eq!(printed.matches("sign-in.provider-failing").count(), 50, "{printed}");
    let requests = fixture.provider.token_requests() - before;
    assert!(requests <= 3, "the provider got {requests} requests");
}

/// Lock and socket were deleted, so there are two brokers after all. The provider refuses the first one's refresh token
/// as used; the vault has the second one's.
#[tokio::test]
async fn invalid_grant_reloads_vault_before_session_ends() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| {
        behaviour.lifetime = SHORT;
        behaviour.rotation = Rotation::OldIsForgotten;
    });
    fixture.allow(&[CURL]).await;
    fixture.login().await;
    fs_err::remove_file(fixture.device.session_folder().join("broker.lock")).unwrap();
    let first_broker = fixture.device.path("first.sock");
    fs_err::rename(fixture.socket(), &first_broker).unwrap();
    let _second = fixture.device.start_broker().await;
    fixture.token().await.unwrap();
    assert_eq!(fixture.provider.refreshes(), 1);
    let more = ["--unix-socket", &first_broker.display().to_string()];
    let printed = fixture.token_request_by(CURL.as_ref(), &more).await;
    assert!(printed.contains("access_token"), "{printed}");
    assert_eq!((fixture.provider.refreshes(), fixture.provider.logins()), (2, 1));
}

/// Found by review: on SIGTERM during a renewal, the broker dropped the response, and with it the session.
#[tokio::test]
async fn sigterm_during_renewal_waits_for_its_response() {
    let mut fixture = signed_in_device(Rotation::Strict).await;
    fixture.provider.behave(|behaviour| {
        behaviour.lifetime = 3600;
        behaviour.stall = Some(Duration::from_secs(2));
    });
    tokio::select! {
        token = fixture.token() => panic!("the provider holds its response back, but: {token:?}"),
        () = refreshes_become(&fixture.provider, 1) => {}
    }
    fixture.broker.signal(Signal::SIGTERM);
    fixture.broker.wait_for_exit().await;
    fixture.start_broker_again().await;
    fixture.token().await.unwrap();
    assert_eq!((fixture.provider.refreshes(), fixture.provider.logins()), (1, 1));
}

/// Found by review: policy requested one more scope, and no session could be renewed any more, because the renewal
/// requested more than the sign-in had been granted.
#[tokio::test]
async fn new_scope_in_policy_keeps_session_and_is_not_requested_in_renewal() {
    let policy = format!("{FILE_VAULT}Scopes = [\"openid\", \"offline_access\"]\n");
    let fixture = sign_in_device(&policy).await;
    fixture.provider.behave(|behaviour| behaviour.lifetime = SHORT);
    fixture.login().await;
    let before = fixture.device.machine_status().await.policy.hash;
    fixture.device.push("60.toml", "Scopes = [\"openid\", \"offline_access\", \"forbidden\"]\n");
    fixture.device.machine_status_where("the new policy", |status| status.policy.hash != before).await;
    fixture.token().await.unwrap();
    assert_eq!(fixture.provider.token_parameter("scope").as_deref(), Some("openid offline_access"));
}
