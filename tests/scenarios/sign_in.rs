//! Signing in without typing any configuration, and everything that a session has to survive.

use e2e::device::Device;
use e2e::keyring::Keyring;
use e2e::provider::{EMAIL, Misbehaviour, Oddity, Provider};
use serde_json::Value;

use super::office::{FILE_VAULT, office, office_on};
use super::{free_port, sign_in_policy, start_app};

#[tokio::test]
async fn a_person_starts_the_app_and_types_nothing_but_a_password() {
    let mut device = Device::new();
    let _keyring = Keyring::start(&mut device).await;
    let mut office = office_on(device, "").await;
    let (content, said) = start_app(&office.device).await;
    assert!(content && said.contains(EMAIL), "{said}");
    assert_eq!(office.provider.logins(), 1);
    let facts = office.sign_in_facts().await;
    assert_eq!((&facts["state"], &facts["kept"]), (&"signed-in".into(), &"secret-store".into()));

    // Next time it is silent, also after everything was started anew.
    let (content, said) = start_app(&office.device).await;
    assert!(content, "{said}");
    office.restart_broker().await;
    let (content, said) = start_app(&office.device).await;
    assert!(content, "{said}");
    assert_eq!(office.provider.logins(), 1);

    let sealed = fs_err::read_dir(office.device.path("home")).unwrap().count();
    assert!(sealed > 0, "the session lies in the person's own folder");
    let log = office.broker.log();
    assert!(!log.contains(&office.token().await.unwrap()), "no token in the log");
}

#[tokio::test]
async fn the_command_line_signs_in_shows_who_it_is_and_signs_out() {
    let office = office(FILE_VAULT).await;
    assert_eq!(office.device.steward(&["whoami"]).await.status.code(), Some(1));
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in as ada@example.com."), "{said}");
    let said = office.device.printed(&["whoami"]).await;
    assert!(said.starts_with("ada@example.com, token for 59 min"), "{said}");
    let grant: Value =
        serde_json::from_slice(&office.device.steward(&["token", "--json"]).await.stdout).unwrap();
    assert_eq!(grant["token_type"], "Bearer");
    assert!(grant["id_token"].as_str().unwrap().split('.').count() == 3);
    office.device.printed(&["logout"]).await;
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("nobody is signed in") && refused.contains("steward login"), "{refused}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let port = free_port();
    let provider = Provider::start().await;
    let device = Device::new();
    device.push("50.toml", &format!("{}{FILE_VAULT}", sign_in_policy(&provider, port)));
    let _agent = device.start_agent().await;
    let _broker = device.start_broker().await;
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let said = device.printed(&["login"]).await;
    assert!(said.contains(&format!("http://localhost:{port}")), "{said}");
    // This program holds it.
    let own = std::env::current_exe().unwrap().display().to_string();
    assert!(said.contains(&format!("process {}, {own}) holds the port", std::process::id())), "{said}");
    assert!(said.contains("hint: finish the sign-in there") && said.contains("--paste"), "{said}");
    drop(taken);
    let said = device.printed(&["login"]).await;
    assert!(said.contains("Signed in"), "{said}");
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("after the sign-in the port is free again");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.deny = true);
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("access_denied: User is not assigned"), "{said}");
    office.provider.behave(|behaviour| behaviour.deny = false);
    office.device.push("60.toml", "AllowedEmailDomains = [\"example.org\"]\n");
    office.device.status_where("the new policy", |status| status["status"]["policy"]["settings"] == 8).await;
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("ada@example.com is not an address of example.org"), "{said}");
    office.provider.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::NoEmail));
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("no claim `email`"), "{said}");
}

#[tokio::test]
async fn an_unconfigured_device_says_what_is_missing() {
    let device = Device::new();
    let _broker = device.start_broker().await;
    let said = device.printed(&["login"]).await;
    assert!(said.contains("check that the machine service runs"), "{said}");
    let _agent = device.start_agent().await;
    let said = device.printed(&["login"]).await;
    assert!(said.contains("`Issuer`: not set, so nobody can sign in"), "{said}");
}

/// Whatever a provider, or somebody in its name, does wrong: nobody is signed in, and the reason is given.
#[tokio::test]
async fn answers_that_fail_a_check_sign_nobody_in() {
    use Misbehaviour as M;
    let office = office(FILE_VAULT).await;
    let cases = [
        (M::WrongIssuer, "issuer"),
        (M::WrongAudience, "audience"),
        (M::ExtraAudience, "audience"),
        (M::WrongNonce, "another sign-in"),
        (M::NoNonce, "missing"),
        (M::Expired, "Expired"),
        (M::IssuedInTheFuture, "in the future"),
        (M::NotYetValid, "nbf"),
        (M::WrongAuthorizedParty, "azp"),
        (M::WrongAccessTokenHash, "does not belong to the ID token"),
        (M::WrongSignature, "Signature verification failed"),
        (M::Unsigned, "the ID token is not to be believed"),
        (M::SharedSecret, "algorithm"),
        (M::NoIdToken, "no ID token"),
        (M::NoSubject, "token endpoint"),
        (M::WrongIssuerInResponse, "another issuer"),
        (M::NoIssuerInResponse, "without the issuer's name"),
        (M::TokenEndpointRedirects, "token endpoint"),
        (M::TokenEndpointAnswersHtml, "token endpoint"),
        (M::TokenEndpointAnswersEndlessly, "more than 1048576 bytes"),
        (M::DiscoveryWithSlash, "unexpected issuer"),
        (M::NoAudience, "audience"),
        (M::NoIssueTime, "token endpoint"),
        (M::NoExpiry, "token endpoint"),
        (M::ExpiredBeyondLeeway, "Expired"),
        (M::NoKeyIdOfSeveral, "the ID token is not to be believed"),
        (M::UnknownKey, "No matching key"),
        (M::TokenEndpointFailsSilently, "token endpoint"),
        (M::NoAccessToken, "token endpoint"),
        (M::UserInfoOfAnotherPerson, "userinfo"),
    ];
    for (misbehaviour, expected) in cases {
        office.provider.behave(|behaviour| behaviour.misbehaviour = Some(misbehaviour));
        let output = office.device.steward(&["login"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{misbehaviour:?}: {said}");
        assert!(!said.contains("canary"), "{said}");
        assert_eq!(office.sign_in_facts().await["state"], "signed-out", "{misbehaviour:?}");
    }
    office.provider.behave(|behaviour| behaviour.misbehaviour = None);
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in"), "{said}");
}

/// An answer that begins and never ends is not waited for as long as its bytes trickle.
#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::TokenEndpointStalls));
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("did not finish its answer within 20 seconds"), "{said}");
}

/// What is unusual but right signs people in, with every algorithm that the app's vendor names and the library has.
#[tokio::test]
async fn answers_that_are_only_unusual_sign_people_in() {
    use jsonwebtoken::Algorithm as A;
    let office = office(FILE_VAULT).await;
    let sign_in = async |what: &str| {
        let output = office.device.steward(&["login"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{what}: {said}");
        let facts = office.sign_in_facts().await;
        assert_eq!((&facts["state"], &facts["account"]), (&"signed-in".into(), &EMAIL.into()), "{what}");
        office.device.printed(&["logout"]).await;
    };
    for algorithm in [A::ES256, A::ES384, A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512] {
        office.provider.behave(|behaviour| behaviour.algorithm = algorithm);
        sign_in(&format!("{algorithm:?}")).await;
    }
    office.provider.behave(|behaviour| behaviour.algorithm = A::ES256);
    for oddity in [
        Oddity::AudienceIsList,
        Oddity::NoKeyIdOfOne,
        Oddity::ExpiredWithinLeeway,
        Oddity::IssuedWithinLeeway,
        Oddity::NoLifetime,
        Oddity::TokenTypeInCapitals,
        Oddity::FractionalTime,
        Oddity::NoAccessTokenHash,
        Oddity::EmailAtUserInfo,
        Oddity::KeysRotateBeforeSigning,
    ] {
        office.provider.behave(|behaviour| behaviour.oddity = Some(oddity));
        let asked = office.provider.key_requests();
        sign_in(&format!("{oddity:?}")).await;
        let rotated = oddity == Oddity::KeysRotateBeforeSigning;
        assert_eq!(office.provider.key_requests() - asked, if rotated { 2 } else { 1 }, "{oddity:?}");
    }
}

/// A page of somebody else sends the browser to the open port: it neither ends nor hijacks the sign-in.
#[tokio::test]
async fn a_browser_with_a_foreign_state_changes_nothing() {
    let port = free_port();
    let provider = Provider::start().await;
    let device = Device::new();
    device.push("50.toml", &format!("{}{FILE_VAULT}", sign_in_policy(&provider, port)));
    let _agent = device.start_agent().await;
    let _broker = device.start_broker().await;
    let login = device.steward(&["login", "--no-browser"]);
    let intruder = async {
        let address = format!("http://127.0.0.1:{port}/?code=evil&state=evil");
        let status = e2e::wait::until("the open port", async || {
            e2e::browser().get(&address).send().await.map_err(|error| error.to_string())
        })
        .await
        .status();
        assert_eq!(status, 410);
        let underway = device.status().await["sign_in"]["state"].clone();
        assert_eq!(underway, "signing-in");
    };
    tokio::select! {
        output = login => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        () = intruder => {}
    }
}
