//! Signing in without typing any configuration, and everything that a session has to survive.

use e2e::device::Device;
use e2e::keyring::Keyring;
use e2e::provider::{CLIENT_ID, EMAIL, Misbehaviour, Oddity};
use serde_json::Value;

use super::office::{FILE_VAULT, office, office_on};
use super::start_app;

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
    let office = office(FILE_VAULT).await;
    let port = office.port;
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains(&format!("http://localhost:{port}")), "{said}");
    // This program holds it.
    let own = std::env::current_exe().unwrap().display().to_string();
    assert!(said.contains(&format!("process {}, {own}) holds the port", std::process::id())), "{said}");
    assert!(said.contains("hint: finish the sign-in there") && said.contains("--paste"), "{said}");
    drop(taken);
    let said = office.device.printed(&["login"]).await;
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

/// What the provider is asked, as it arrives there (RFC 6749, 4.1.1; RFC 7636, 4; Core 1.0, 3.1.2.1).
#[tokio::test]
async fn every_request_is_new_and_says_what_it_must() {
    let office = office(FILE_VAULT).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let said = office.device.printed(&["login"]).await;
        assert!(said.contains("Signed in"), "{said}");
        let asked = |name: &str| office.provider.asked(name).unwrap_or_default();
        let redirect_uri = format!("http://localhost:{}", office.port);
        assert_eq!(
            (asked("response_type"), asked("redirect_uri")),
            ("code".to_owned(), redirect_uri.clone())
        );
        assert_eq!(
            (asked("client_id"), asked("code_challenge_method")),
            (CLIENT_ID.to_owned(), "S256".to_owned())
        );
        let scope = asked("scope");
        assert!(
            scope.split(' ').any(|scope| scope == "openid") && scope.contains("offline_access"),
            "{scope}"
        );
        let exchanged = |name: &str| office.provider.exchanged(name);
        assert_eq!(exchanged("redirect_uri"), Some(redirect_uri));
        assert_eq!(exchanged("client_secret"), None);
        let verifier = exchanged("code_verifier").expect("RFC 7636, section 4.5");
        let unreserved = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
        assert!((43..=128).contains(&verifier.len()) && verifier.chars().all(unreserved), "{verifier}");
        // The lab's provider has compared it with its challenge.
        for new in [verifier, asked("code_challenge"), asked("state"), asked("nonce")] {
            assert!(new.len() >= 16 && seen.insert(new.clone()), "`{new}` is short, or not new");
        }
    }
}

/// RFC 9207, section 2.4: where the issuer is wrong, the rest of the response counts for nothing, not even its error.
#[tokio::test]
async fn an_error_in_another_issuers_name_is_not_believed() {
    let office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| {
        behaviour.deny = true;
        behaviour.misbehaviour = Some(Misbehaviour::WrongIssuerInResponse);
    });
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("came back from another issuer") && !said.contains("access_denied"), "{said}");
}

/// Whatever a provider, or somebody in its name, does wrong: nobody is signed in, and the reason is given.
#[tokio::test]
async fn answers_that_fail_a_check_sign_nobody_in() {
    use Misbehaviour as M;
    let office = office(FILE_VAULT).await;
    let cases = [
        (M::WrongIssuer, "issuer-mismatch", "issuer"),
        (M::WrongAudience, "audience-mismatch", "audience"),
        (M::ExtraAudience, "audience-mismatch", "audience"),
        (M::NoAudience, "audience-mismatch", "audience"),
        (M::WrongAuthorizedParty, "authorized-party-mismatch", "azp"),
        (M::WrongNonce, "nonce-mismatch", "another sign-in"),
        (M::NoNonce, "nonce-mismatch", "missing"),
        (M::Expired, "token-expired", "Expired"),
        (M::ExpiredBeyondLeeway, "token-expired", "this device's clock"),
        (M::IssuedInTheFuture, "token-not-yet-valid", "in the future"),
        (M::NotYetValid, "token-not-yet-valid", "nbf"),
        (M::WrongAccessTokenHash, "access-token-mismatch", "does not belong to the ID token"),
        (M::WrongSignature, "signature-invalid", "Signature verification failed"),
        (M::Unsigned, "signature-invalid", "the ID token is not to be believed"),
        (M::SharedSecret, "algorithm-refused", "algorithm"),
        (M::NoKeyIdOfSeveral, "key-unknown", "the ID token is not to be believed"),
        (M::UnknownKey, "key-unknown", "No matching key"),
        (M::NoIdToken, "id-token-missing", "no ID token"),
        (M::NoSubject, "claim-missing", "sub"),
        (M::NoIssueTime, "claim-missing", "iat"),
        (M::NoExpiry, "claim-missing", "exp"),
        (M::NoCode, "token-invalid", "without a code"),
        (M::WrongIssuerInResponse, "response-issuer-mismatch", "another issuer"),
        (M::NoIssuerInResponse, "response-issuer-mismatch", "without the issuer's name"),
        (M::TokenEndpointRedirects, "token-endpoint-invalid", "token endpoint"),
        (M::TokenEndpointAnswersHtml, "token-endpoint-invalid", "token endpoint"),
        (M::TokenEndpointFailsSilently, "token-endpoint-invalid", "token endpoint"),
        (M::TokenEndpointAnswersEndlessly, "token-endpoint-invalid", "more than 1048576 bytes"),
        (M::NoAccessToken, "token-endpoint-invalid", "access_token"),
        (M::ForeignTokenType, "token-endpoint-invalid", "not `Bearer`"),
        (M::DiscoveryWithSlash, "discovery-invalid", "unexpected issuer"),
        (M::DiscoveryOfEveryTenant, "discovery-invalid", "{tenantid}"),
        (M::DiscoveryRefused, "discovery-invalid", "401"),
        (M::UserInfoOfAnotherPerson, "user-info-mismatch", "userinfo"),
    ];
    for (misbehaviour, code, expected) in cases {
        office.provider.behave(|behaviour| behaviour.misbehaviour = Some(misbehaviour));
        let output = office.device.steward(&["login"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{misbehaviour:?}: {said}");
        assert!(said.contains("hint: ") && !said.contains("canary"), "{misbehaviour:?}: {said}");
        let facts = office.sign_in_facts().await;
        assert_eq!(facts["state"], "signed-out", "{misbehaviour:?}");
        assert_eq!(facts["problems"][0]["code"], format!("sign-in.{code}"), "{misbehaviour:?}: {facts}");
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

/// What is unusual but right signs people in, with every algorithm that the app's vendor names
/// (ES512 is the certified provider's part).
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

/// The end of a sign-in as a browser sees it: no code stays in the address bar or the history, nothing may be kept, and
/// coming twice or with something else changes nothing.
#[tokio::test]
async fn the_last_page_says_what_happened_and_keeps_no_code() {
    let about = "OrganizationName = \"Example <Corp>\"\nSupportContact = \"it-help@example.com\"\n";
    let office = office(&format!("{FILE_VAULT}{about}")).await;
    let port = office.port;
    let client = e2e::patient_browser();
    let get = async |address: &str| {
        let response = client.get(address).send().await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        let (status, location, cache) =
            (response.status().as_u16(), header("location"), header("cache-control"));
        (status, location, cache, response.text().await.unwrap())
    };
    for (deny, heading) in [(true, "The sign-in did not work"), (false, "You are signed in")] {
        office.provider.behave(|behaviour| behaviour.deny = deny);
        let mut login = e2e::device::Talk::start(&office.device, &["login", "--no-browser"]);
        let back = e2e::person::sign_in(&login.address().await).await;
        assert!(back.starts_with(&format!("http://localhost:{port}/?")), "{back}");
        let base = format!("http://localhost:{port}/");
        // Other paths and methods, and an address without a state, say nothing and change nothing.
        assert_eq!(get(&format!("{base}favicon.ico")).await.0, 404);
        assert_eq!(get(&base).await.0, 410);
        assert_eq!(client.post(&back).send().await.unwrap().status(), 405);
        assert_eq!(get(&format!("{base}?state=a&state=b&code=c")).await.0, 400);

        let (status, location, cache, body) = get(&back).await;
        assert_eq!((status, location.as_str(), cache.as_str(), body.as_str()), (303, "/", "no-store", ""));
        // A second tab, before the last page was seen. (It hung: the broker held both ends of what it waited for.)
        assert_eq!(get(&back).await.0, 303);
        let (status, _, cache, page) = get(&base).await;
        assert_eq!((status, cache.as_str()), (200, "no-store"));
        assert!(page.contains(heading) && page.contains("lang=\"en\""), "{page}");
        assert!(
            page.contains("Example &#60;Corp&#62;") && page.contains("Help: it-help@example.com"),
            "{page}"
        );
        let code = back.split("code=").nth(1).unwrap_or("no code").split('&').next().unwrap();
        assert!(
            !page.contains(code) && !page.contains("<script") && !office.broker.log().contains(code),
            "{page}"
        );
        assert_eq!(login.end().await, !deny);
    }
    assert_eq!(office.provider.logins(), 2);
}

#[tokio::test]
async fn a_person_without_a_port_pastes_the_last_address() {
    let office = office(FILE_VAULT).await;
    let port = office.port;
    // Somebody else has the port all the time.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    for (spoil, expected) in [
        (Some("https://example.com/"), "not the address that a sign-in ends with"),
        (Some("http://localhost/?code=a&state=b"), "belongs to another sign-in"),
        (None, "Signed in as ada@example.com"),
    ] {
        let mut login = e2e::device::Talk::start(&office.device, &["login", "--paste"]);
        let back = e2e::person::sign_in(&login.address().await).await;
        login.say(spoil.unwrap_or(&back)).await;
        let said = login.rest().await;
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn a_person_signs_in_on_another_device_if_policy_allows_it() {
    let office = office(FILE_VAULT).await;
    let refused = office.device.printed(&["login", "--device"]).await;
    assert!(refused.contains("`DeviceFlow`: policy does not allow it"), "{refused}");
    office.device.push("70.toml", "DeviceFlow = \"fallback\"\n");
    office.device.status_where("the policy", |status| status["status"]["policy"]["settings"] == 8).await;
    let mut login = e2e::device::Talk::start(&office.device, &["login", "--device"]);
    let line = login.line().await;
    assert!(line.ends_with("on any device and enter the code WDJB-MJHT."), "{line}");
    let address = line.split(' ').nth(1).unwrap();
    let typed = format!("{address}?user_code=WDJB-MJHT");
    // What is pasted now belongs to no sign-in that waits for it. (It hung until the code had ended.)
    office.allow(&[super::office::CURL]).await;
    let pasted = serde_json::json!({ "url": "http://localhost:18080/?code=a&state=b" });
    let answer = office.post("/v1/login/return", &pasted).await;
    assert_eq!(answer["error"]["code"], "sign-in.token-invalid", "{answer}");
    assert!(e2e::browser().get(typed).send().await.unwrap().status().is_success());
    let said = login.rest().await;
    assert!(said.contains("Signed in as ada@example.com"), "{said}");
    office.token().await.unwrap();
    office.device.printed(&["logout"]).await;
    office.provider.behave(|behaviour| behaviour.deny = true);
    let said = office.device.printed(&["login", "--device"]).await;
    assert!(said.contains("access_denied"), "{said}");
    office.provider.behave(|behaviour| behaviour.device_flow = false);
    let said = office.device.printed(&["login", "--device"]).await;
    assert!(said.contains("does not offer sign-in on another device"), "{said}");
}

/// Found by review: a person without a browser waited for five minutes and was told that nobody had come back.
#[tokio::test]
async fn a_device_without_a_browser_says_so_at_once() {
    let mut device = Device::new();
    device.set("BROWSER", "/nowhere/browser");
    device.set("PATH", "/nowhere");
    let office = office_on(device, FILE_VAULT).await;
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("no browser could be opened") && said.contains("--no-browser"), "{said}");
    let said = office.device.printed(&["token", "ada@example.com"]).await;
    assert!(said.contains("--account ada@example.com"), "a word in the wrong place: {said}");
}

/// The app signs in by itself on the same port: its sign-in ends soon, and ours goes on.
#[tokio::test]
async fn a_port_that_is_freed_is_waited_for() {
    let office = office(FILE_VAULT).await;
    let port = office.port;
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let login = office.device.printed(&["login"]);
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        drop(taken);
    };
    let (said, ()) = tokio::join!(login, release);
    assert!(said.contains("Signed in"), "{said}");
}

/// A person who has closed the browser asks again: it opens again, for the same sign-in.
#[tokio::test]
async fn asking_again_opens_the_browser_again() {
    let office = office(FILE_VAULT).await;
    // Shown, and closed again.
    let mut first = e2e::device::Talk::start(&office.device, &["login", "--no-browser"]);
    first.address().await;
    let (again, said) = tokio::join!(office.device.printed(&["login"]), first.rest());
    assert!(again.contains("Signed in") && said.contains("Signed in"), "{again} {said}");
    assert_eq!(office.provider.logins(), 1);
}

/// A page of somebody else sends the browser to the open port: it neither ends nor hijacks the sign-in.
#[tokio::test]
async fn a_browser_with_a_foreign_state_changes_nothing() {
    let office = office(FILE_VAULT).await;
    let port = office.port;
    let login = office.device.steward(&["login", "--no-browser"]);
    let intruder = async {
        let address = format!("http://127.0.0.1:{port}/?code=evil&state=evil");
        let status = e2e::wait::until("the open port", async || {
            e2e::browser().get(&address).send().await.map_err(|error| error.to_string())
        })
        .await
        .status();
        assert_eq!(status, 410);
        let underway = office.device.status().await["sign_in"]["state"].clone();
        assert_eq!(underway, "signing-in");
    };
    tokio::select! {
        output = login => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        () = intruder => {}
    }
}
