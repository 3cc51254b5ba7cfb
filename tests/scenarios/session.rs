//! Everything that a session has to survive.

use std::time::Duration;

use e2e::provider::{EMAIL, Misbehaviour, Oddity, Rotation};
use e2e::trap::Trap;

use serde_json::Value;

use super::office::{CURL, FILE_VAULT, office};

#[tokio::test]
async fn a_token_is_renewed_silently_and_the_cached_one_never_waits() {
    let office = office(FILE_VAULT).await;
    // Shorter than what is given out: every question needs a renewal.
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    office.device.printed(&["login"]).await;
    let first = office.token().await.unwrap();
    let second = office.token().await.unwrap();
    assert_ne!(first, second);
    assert!(office.provider.refreshes() >= 2 && office.provider.logins() == 1);

    // Short enough to be renewed early, long enough to be given out meanwhile.
    office.provider.behave(|behaviour| behaviour.lifetime = 60);
    let aging = office.token().await.unwrap();
    office.provider.behave(|behaviour| behaviour.stall = Some(Duration::from_hours(1)));
    assert_eq!(office.token().await.unwrap(), aging, "the renewal hangs, the cached token does not");
}

/// Four apps ask at once for a token that has ended: the refresh token of a strict provider is used once.
#[tokio::test]
async fn many_questions_at_once_renew_once() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 3600;
        behaviour.stall = Some(Duration::from_millis(300));
    });
    let (a, b, c, d) = tokio::join!(office.token(), office.token(), office.token(), office.token());
    let mut tokens: Vec<String> = [a, b, c, d].into_iter().map(Result::unwrap).collect();
    tokens.dedup();
    assert_eq!((tokens.len(), office.provider.refreshes()), (1, 1));
}

/// The provider has rotated, the answer is on its way, the broker dies: with a provider that allows for it, nothing is
/// lost; with a strict one, the person is told once, and not in a loop.
#[tokio::test]
async fn killed_between_rotation_and_save() {
    for (rotation, survives) in
        [(Rotation::OldStaysValid, true), (Rotation::Grace, true), (Rotation::Strict, false)]
    {
        let mut office = office(FILE_VAULT).await;
        office.provider.behave(|behaviour| {
            behaviour.lifetime = 10;
            behaviour.rotation = rotation;
        });
        office.device.printed(&["login"]).await;
        office.provider.behave(|behaviour| {
            behaviour.lifetime = 3600;
            behaviour.stall = Some(Duration::from_hours(1));
        });
        let asking = office.token();
        let rotated = e2e::wait::until("a used refresh token", async || {
            if office.provider.refreshes() == 1 { Ok(()) } else { Err(office.provider.refreshes()) }
        });
        tokio::select! {
            answer = asking => panic!("the provider holds its answer back, but: {answer:?}"),
            () = rotated => {}
        }
        office.provider.behave(|behaviour| behaviour.stall = None);
        office.restart_broker().await;
        let answer = office.token().await;
        assert_eq!(answer.is_ok(), survives, "{rotation:?}: {answer:?}");
        if !survives {
            let again = office.token().await.unwrap_err();
            assert!(again.contains("nobody is signed in"), "it asks the provider once only: {again}");
            let said = office.device.printed(&["login"]).await;
            assert!(said.contains("Signed in"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_network_that_is_gone_ends_no_session() {
    let mut office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| behaviour.lifetime = 3600);
    office.provider.vanish().await;
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("could not be reached"), "{refused}");
    assert!(refused.contains("nothing that was saved is lost"), "{refused}");
    office.restart_broker().await;
    assert!(office.token().await.is_err());
    office.provider.come_back().await;
    // A pause that began while it was gone has to end.
    e2e::wait::until("a renewal", async || office.token().await).await;
    assert_eq!(office.provider.logins(), 1);
}

/// Found by review: the answer to a renewal fails a check (here: a foreign signature), and its new refresh token went
/// with it; the strict provider then took the next try with the old one for theft.
#[tokio::test]
async fn a_renewal_that_fails_a_check_costs_no_session() {
    let mut office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 3600;
        behaviour.misbehaviour = Some(Misbehaviour::WrongSignature);
    });
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("Signature verification failed"), "{refused}");
    office.provider.behave(|behaviour| behaviour.misbehaviour = None);
    office.restart_broker().await;
    office.token().await.unwrap();
    assert_eq!(office.provider.logins(), 1);
}

/// After a renewal the session is still of the same issuer, person and client (Core 1.0, section 12.2), and what the
/// answer leaves out stays as it was.
#[tokio::test]
async fn a_renewal_keeps_who_it_is() {
    use Misbehaviour as M;
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    office.device.printed(&["login"]).await;
    for (misbehaviour, code) in [
        (M::RenewalOfAnotherIssuer, "sign-in.issuer-mismatch"),
        (M::RenewalOfAnotherPerson, "sign-in.subject-changed"),
        (M::RenewalForAnotherClient, "sign-in.audience-mismatch"),
    ] {
        office.provider.behave(|behaviour| behaviour.misbehaviour = Some(misbehaviour));
        // Between two attempts there is a pause, in which the last failure is repeated.
        e2e::wait::until(code, async || {
            let refused = office.token().await.expect_err("it is never believed");
            let problems = office.sign_in_facts().await["problems"].to_string();
            if problems.contains(code) { Ok(()) } else { Err(refused) }
        })
        .await;
        assert_eq!(office.sign_in_facts().await["state"], "signed-in", "{misbehaviour:?}");
    }
    office.provider.behave(|behaviour| behaviour.misbehaviour = None);
    for oddity in
        [Oddity::RenewalWithoutIdToken, Oddity::RenewalWithoutEmail, Oddity::RenewalWithoutRefreshToken]
    {
        office.provider.behave(|behaviour| {
            behaviour.oddity = Some(oddity);
            behaviour.rotation = Rotation::OldStaysValid;
        });
        e2e::wait::until("a renewal", async || office.token().await).await;
        assert_eq!(office.sign_in_facts().await["account"], EMAIL, "{oddity:?}");
    }
    assert_eq!(office.provider.logins(), 1);
}

/// The broker dies while a renewal is on its way; the cached token lasts for a while yet. Waiting until it ends would
/// use the old refresh token too late for a provider that forgives reuse for half a minute only.
#[tokio::test]
async fn a_renewal_that_was_cut_off_is_made_up_for_at_the_next_start() {
    let mut office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 60;
        behaviour.rotation = Rotation::Grace;
    });
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 3600;
        behaviour.stall = Some(Duration::from_hours(1));
    });
    office.token().await.unwrap();
    let provider = office.provider.clone();
    let renewals = async |count: usize| {
        e2e::wait::until("renewals", async || match provider.refreshes() {
            found if found == count => Ok(()),
            found => Err(found),
        })
        .await;
    };
    renewals(1).await;
    assert!(office.vault().concat().contains(".next"), "{:?}", office.vault());
    office.provider.behave(|behaviour| behaviour.stall = None);
    office.restart_broker().await;
    // Nobody asks.
    renewals(2).await;
    e2e::wait::until("a settled vault", async || {
        let files = office.vault();
        if files.concat().contains(".next") { Err(files) } else { Ok(()) }
    })
    .await;
    office.token().await.unwrap();
    assert_eq!((office.provider.refreshes(), office.provider.logins()), (2, 1));
}

/// The broker dies at each single step of a renewal and of saving it, as in a crash or a power loss (what was not synced
/// by then is another matter). A provider that forgives the second use of a refresh token keeps the session alive.
#[tokio::test]
async fn killed_at_every_step_of_a_renewal() {
    let mut office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| {
        // Shorter than what is given out: every question is a renewal.
        behaviour.lifetime = 10;
        behaviour.rotation = Rotation::Grace;
    });
    office.device.printed(&["login"]).await;
    let folder = office.device.path(&format!("home/{}/.local/state/steward", nix::unistd::geteuid()));
    let sealed = office.vault().into_iter().find(|name| name.contains(".sealed")).unwrap();
    let (sealed, next) = (folder.join(&sealed), folder.join(sealed.replace(".sealed", ".next")));
    let mut deaths = 0;
    for call in ["openat", "write", "ftruncate", "fsync", "rename", "unlink"] {
        for when in 1..20 {
            let trap = Trap::set(office.broker.id(), call, when, &[&folder, &sealed, &next]).await.unwrap();
            let asked = office.token().await;
            trap.take_away().await.unwrap();
            if asked.is_ok() {
                // There are no more of these.
                break;
            }
            deaths += 1;
            office.broker.gone().await;
            office.start_broker_again().await;
            office.token().await.unwrap_or_else(|error| panic!("lost at {call} {when}: {error}"));
        }
    }
    assert!(deaths >= 12, "only {deaths} steps: is the trap at the right files?");
    assert_eq!(
        (office.provider.logins(), office.sign_in_facts().await["state"].as_str()),
        (1, Some("signed-in"))
    );
}

/// The answer breaks off on its way. It is asked for once more, at once and with the same refresh token, which a
/// provider with a grace period answers.
#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_refresh_token() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 10;
        behaviour.rotation = Rotation::Grace;
    });
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| behaviour.lost_answers = 1);
    office.token().await.unwrap();
    assert_eq!(office.provider.refreshes(), 2);
    office.provider.behave(|behaviour| behaviour.lost_answers = 2);
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("nothing that was saved is lost"), "{refused}");
    e2e::wait::until("a renewal", async || office.token().await).await;
    assert_eq!(office.provider.logins(), 1);
}

/// A provider that fails is not asked again by everybody who wants a token.
#[tokio::test]
async fn a_provider_that_fails_is_left_alone_for_a_while() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| {
        behaviour.misbehaviour = Some(Misbehaviour::TokenEndpointFailsSilently);
    });
    let before = office.provider.exchanges();
    let socket = office.socket();
    // Quicker than the pause is long: all over one connection.
    let again: Vec<&str> = std::iter::repeat_n("http://localhost/v1/token", 50).collect();
    office.allow(&[CURL]).await;
    let question = ["-sS", "--unix-socket", &socket, "-H", "content-type: application/json", "-d", "{}"];
    let arguments = [&question[..], &again].concat();
    let said = office.device.run(CURL.as_ref(), &arguments).await;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.matches("sign-in.token-endpoint-invalid").count(), 50, "{said}");
    let asked = office.provider.exchanges() - before;
    assert!(asked <= 3, "the provider was asked {asked} times");
}

/// Somebody deleted the lock and the socket, so there are two brokers after all. The provider takes the first one's
/// refresh token for used up; the vault has the second one's.
#[tokio::test]
async fn before_a_session_is_given_up_the_vault_is_looked_into_again() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 10;
        behaviour.rotation = Rotation::OldIsForgotten;
    });
    office.allow(&[CURL]).await;
    office.device.printed(&["login"]).await;
    let folder = office.device.path(&format!("home/{}/.local/state/steward", nix::unistd::geteuid()));
    fs_err::remove_file(folder.join("broker.lock")).unwrap();
    let aside = office.device.path("first.sock");
    fs_err::rename(office.socket(), &aside).unwrap();
    let _second = office.device.start_broker().await;
    office.token().await.unwrap();
    assert_eq!(office.provider.refreshes(), 1);
    let question = ["-sS", "-H", "content-type: application/json", "-d", "{}", "http://localhost/v1/token"];
    let socket = aside.display().to_string();
    let said = office.device.run(CURL.as_ref(), &[&["--unix-socket", &socket], &question[..]].concat()).await;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("access_token"), "{said}");
    assert_eq!((office.provider.refreshes(), office.provider.logins()), (2, 1));
}

#[tokio::test]
async fn several_people_are_signed_in_side_by_side() {
    let mut office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| behaviour.user = "grace");
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in as grace@example.com"), "{said}");
    office.restart_broker().await;
    let said = office.device.printed(&["whoami"]).await;
    assert!(said.starts_with("grace@example.com") && said.contains("--account ada@example.com"), "{said}");
    let account = async |name: &str| {
        let output = office.device.steward(&["token", "--json", "--account", name]).await;
        serde_json::from_slice::<Value>(&output.stdout).map(|grant| grant["account"].clone())
    };
    assert_eq!(account(EMAIL).await.unwrap(), EMAIL);
    assert_eq!(account("GRACE@example.com").await.unwrap(), "grace@example.com");
    assert!(account("eve@example.com").await.is_err());
    office.device.printed(&["logout", "--account", "grace@example.com"]).await;
    assert_eq!(office.sign_in_facts().await["account"], EMAIL);
    assert_eq!(office.vault().len(), 2);
    office.device.printed(&["logout", "--all"]).await;
    assert!(office.token().await.is_err() && office.vault().is_empty());
}

#[tokio::test]
async fn fewer_scopes_and_other_resources_have_tokens_of_their_own() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.rotation = Rotation::Strict);
    office.device.printed(&["login"]).await;
    let ask = async |more: &[&str]| {
        let output = office.device.steward(&[&["token", "--json"], more].concat()).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice::<Value>(&output.stdout).map_err(|_| said)
    };
    let main = ask(&[]).await.unwrap();
    let fewer = ask(&["--scope", "profile email"]).await.unwrap();
    assert_eq!(fewer["scope"], "email profile");
    assert_ne!(fewer["access_token"], main["access_token"]);
    let narrow = ask(&["--scope", "email", "--resource", "https://api.example.com"]).await.unwrap();
    assert_eq!(office.provider.exchanged("resource").as_deref(), Some("https://api.example.com"));
    assert_eq!(office.provider.refreshes(), 2);
    // Each is kept, and the one of the sign-in is still what it was.
    assert_eq!(ask(&["--scope", "email profile"]).await.unwrap()["access_token"], fewer["access_token"]);
    let again = ask(&["--resource", "https://api.example.com", "--scope", "email"]).await.unwrap();
    assert_eq!(again["access_token"], narrow["access_token"]);
    assert_eq!(ask(&[]).await.unwrap()["access_token"], main["access_token"]);
    assert_eq!(office.provider.refreshes(), 2);
    // What one app may not have is no fault of the session.
    // (One app's refusal kept everybody else from renewing for a while.)
    let refused = ask(&["--scope", "forbidden"]).await.unwrap_err();
    ask(&["--scope", "openid"]).await.unwrap();
    assert!(refused.contains("invalid_scope"), "{refused}");
    let facts = office.sign_in_facts().await;
    assert_eq!(
        (&facts["state"], &facts["problems"][0]["code"]),
        (&"signed-in".into(), &"vault.degraded".into())
    );
}

#[tokio::test]
async fn a_sign_out_without_network_says_what_it_could_not_do() {
    let office = office(FILE_VAULT).await;
    office.allow(&[CURL]).await;
    office.device.printed(&["login"]).await;
    let answer = office.post("/v1/logout", &serde_json::json!({})).await;
    let url = answer["end_session_url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{}/logout?id_token_hint=", office.provider.issuer())), "{url}");
    office.device.printed(&["login"]).await;
    office.provider.vanish().await;
    let said = office.device.printed(&["logout"]).await;
    assert!(
        said.contains("Signed out on this device.\nnote: the session could not be ended at the identity"),
        "{said}"
    );
    assert!(office.vault().is_empty());
}

/// Found by review: told to stop in the middle of a renewal, the broker dropped the answer, and with it the session.
#[tokio::test]
async fn a_broker_that_is_told_to_stop_waits_for_the_answer_that_is_on_its_way() {
    let mut office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 10;
        behaviour.rotation = Rotation::Strict;
    });
    office.device.printed(&["login"]).await;
    office.provider.behave(|behaviour| {
        behaviour.lifetime = 3600;
        behaviour.stall = Some(Duration::from_secs(2));
    });
    let provider = office.provider.clone();
    let rotated = e2e::wait::until("a used refresh token", async || match provider.refreshes() {
        1 => Ok(()),
        found => Err(found),
    });
    tokio::select! {
        answer = office.token() => panic!("the provider holds its answer back, but: {answer:?}"),
        () = rotated => {}
    }
    let process = nix::unistd::Pid::from_raw(i32::try_from(office.broker.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).unwrap();
    office.broker.gone().await;
    office.start_broker_again().await;
    office.token().await.unwrap();
    assert_eq!((office.provider.refreshes(), office.provider.logins()), (1, 1));
}

/// Found by review: policy asks for one more scope, and every session could be renewed no more, because the renewal asked
/// for more than the sign-in had been granted.
#[tokio::test]
async fn a_scope_that_is_new_in_policy_ends_no_session() {
    let office =
        office("VaultFallback = \"encrypted-file\"\nScopes = [\"openid\", \"offline_access\"]\n").await;
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    office.device.printed(&["login"]).await;
    let before = office.device.status().await["status"]["policy"]["hash"].clone();
    office.device.push("60.toml", "Scopes = [\"openid\", \"offline_access\", \"forbidden\"]\n");
    office.device.status_where("the policy", |status| status["status"]["policy"]["hash"] != before).await;
    office.token().await.unwrap();
    assert_eq!(office.provider.exchanged("scope").as_deref(), Some("openid offline_access"));
}
