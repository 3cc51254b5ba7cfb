//! Signing in without typing any configuration, and everything that a session has to survive.

use std::time::Duration;

use e2e::device::{Device, Process};
use e2e::keyring::Keyring;
use e2e::provider::{EMAIL, Misbehaviour, Oddity, Provider, Rotation};
use serde_json::Value;

use super::{free_port, sign_in_policy, start_app};

const FILE_VAULT: &str = "VaultFallback = \"encrypted-file\"\n";

/// A device with a provider, policy and both processes.
struct Office {
    broker: Process,
    _agent: Process,
    provider: Provider,
    device: Device,
}

async fn office(more: &str) -> Office {
    office_on(Device::new(), more).await
}

async fn office_on(device: Device, more: &str) -> Office {
    let provider = Provider::start().await;
    device.push("50.toml", &format!("{}{more}", sign_in_policy(&provider, free_port())));
    let agent = device.start_agent().await;
    let broker = device.start_broker().await;
    Office { device, provider, broker, _agent: agent }
}

impl Office {
    async fn restart_broker(&mut self) {
        let next = self.device.start_broker();
        // The old one must be gone before the new one listens, and takes its lock.
        let user = nix::unistd::geteuid();
        let socket = self.device.path(&format!("run/user/{user}/steward/broker.sock"));
        let id = i32::try_from(self.broker.id()).expect("process IDs are small");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL)
            .expect("it runs");
        self.broker.gone().await;
        e2e::wait::until("the broker's end", async || match tokio::net::UnixStream::connect(&socket).await {
            Ok(_) => Err("it still answers"),
            Err(_) => Ok(()),
        })
        .await;
        self.broker = next.await;
    }

    async fn sign_in_facts(&self) -> Value {
        self.device.status().await["sign_in"].clone()
    }

    async fn token(&self) -> Result<String, String> {
        let output = self.device.steward(&["token"]).await;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

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

#[tokio::test]
async fn without_a_secret_store_policy_decides_and_the_person_is_told() {
    let mut strict = office("").await;
    strict.device.printed(&["login"]).await;
    let facts = strict.sign_in_facts().await;
    assert_eq!((&facts["state"], &facts["kept"]), (&"signed-in".into(), &"memory".into()));
    assert_eq!(facts["problems"][0]["code"], "vault.unavailable");
    assert!(facts["problems"][0]["hint"].as_str().unwrap().contains("VaultFallback"));
    strict.restart_broker().await;
    assert!(strict.token().await.unwrap_err().contains("nobody is signed in"));

    let mut lenient = office(FILE_VAULT).await;
    lenient.device.printed(&["login"]).await;
    let facts = lenient.sign_in_facts().await;
    assert_eq!((&facts["kept"], &facts["problems"][0]["code"]), (&"file".into(), &"vault.degraded".into()));
    lenient.restart_broker().await;
    lenient.token().await.unwrap();
    assert_eq!(lenient.provider.logins(), 1);
}

/// A keyring that goes away is no sign-out: the saved session waits for it.
#[tokio::test]
async fn a_keyring_that_is_missing_for_a_while_costs_no_session() {
    let mut device = Device::new();
    let keyring = Keyring::start(&mut device).await;
    let mut office = office_on(device, "").await;
    office.device.printed(&["login"]).await;
    keyring.stop().await;
    office.restart_broker().await;
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("the saved session is kept"), "{refused}");
    let _keyring = Keyring::start(&mut office.device).await;
    office.restart_broker().await;
    office.token().await.unwrap();
    assert_eq!(office.provider.logins(), 1);
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
