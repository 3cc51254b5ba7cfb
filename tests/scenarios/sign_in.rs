//! Sign-in: the browser, the redirect, pasted responses, other devices, and what a user sees when it fails.

use e2e::browser;
use e2e::device::Device;
use e2e::interactive::Interactive;
use e2e::keyring::Keyring;
use e2e::provider::{CLIENT_ID, EMAIL, ProviderFault};
use e2e::wait::until;
use net::client::CallError;
use policy_schema::Code;
use protocol::broker::{LOGIN_RETURN, LoginReturnRequest};
use protocol::session::{Kept, SessionState};

use super::fixture::{
    FILE_VAULT, SIGN_IN_SETTINGS, own_program, sign_in_device, sign_in_device_on, start_app,
};

#[tokio::test]
async fn first_start_of_app_signs_in_and_later_starts_are_silent() {
    let mut device = Device::new();
    let _keyring = Keyring::start(&mut device).await;
    let mut fixture = sign_in_device_on(device, "").await;
    let (succeeded, printed) = start_app(&fixture.device).await;
    assert!(succeeded && printed.contains(EMAIL), "{printed}");
    assert_eq!(fixture.provider.logins(), 1);
    let session = fixture.session().await;
    assert_eq!(session.state, SessionState::SignedIn);
    assert_eq!(session.kept, Some(Kept::SecretStore.into()));

    // The next starts are silent, also after a restart of the broker.
    let (succeeded, printed) = start_app(&fixture.device).await;
    assert!(succeeded, "{printed}");
    fixture.restart_broker().await;
    let (succeeded, printed) = start_app(&fixture.device).await;
    assert!(succeeded, "{printed}");
    assert_eq!(fixture.provider.logins(), 1);

    let sealed = fs_err::read_dir(fixture.device.path("home")).unwrap().count();
    assert!(sealed > 0, "the session is in the user's own folder");
    let log = fixture.broker.log();
    assert!(!log.contains(&fixture.token().await.unwrap()), "no token in the log");
}

#[tokio::test]
async fn command_line_signs_in_shows_account_and_signs_out() {
    let fixture = sign_in_device(FILE_VAULT).await;
    assert_eq!(fixture.device.steward(&["whoami"]).await.status.code(), Some(1));
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in as ada@example.com."), "{printed}");
    let printed = fixture.device.printed(&["whoami"]).await;
    assert!(printed.starts_with("ada@example.com, token for 59 min"), "{printed}");
    let tokens = fixture.device.tokens(&[]).await.unwrap();
    assert_eq!(tokens.token_type, "Bearer");
    assert_eq!(tokens.id_token.split('.').count(), 3);
    fixture.device.printed(&["logout"]).await;
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("nobody is signed in") && refused.contains("steward login"), "{refused}");
}

#[tokio::test]
async fn taken_port_fails_sign_in_and_names_the_process() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let port = fixture.port;
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let printed = fixture.login().await;
    assert!(printed.contains(&format!("http://localhost:{port}")), "{printed}");
    // The program that runs the tests has it.
    let own = own_program();
    assert!(printed.contains(&format!("process {}, {own}) holds the port", std::process::id())), "{printed}");
    assert!(printed.contains("hint: finish the sign-in there") && printed.contains("--paste"), "{printed}");
    drop(taken);
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in"), "{printed}");
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("after the sign-in the port is free again");
}

#[tokio::test]
async fn refused_user_is_shown_why() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| behaviour.deny = true);
    let printed = fixture.login().await;
    assert!(printed.contains("access_denied: User is not assigned"), "{printed}");
    fixture.provider.behave(|behaviour| behaviour.deny = false);
    fixture.device.push("60.toml", "AllowedEmailDomains = [\"example.org\"]\n");
    fixture.device.settings_become(SIGN_IN_SETTINGS + 2).await;
    let printed = fixture.login().await;
    assert!(printed.contains("ada@example.com is not an address of example.org"), "{printed}");
    fixture.provider.behave(|behaviour| behaviour.fault = Some(ProviderFault::NoEmail));
    let printed = fixture.login().await;
    assert!(printed.contains("no claim `email`"), "{printed}");
}

#[tokio::test]
async fn login_on_unconfigured_device_names_what_is_missing() {
    let device = Device::new();
    let _broker = device.start_broker().await;
    let printed = device.printed(&["login"]).await;
    assert!(printed.contains("check that the machine service runs"), "{printed}");
    let _agent = device.start_agent().await;
    let printed = device.printed(&["login"]).await;
    assert!(printed.contains("`Issuer`: not set, so nobody can sign in"), "{printed}");
}

/// The requests as they arrive at the provider (RFC 6749, 4.1.1; RFC 7636, 4; Core 1.0, 3.1.2.1).
#[tokio::test]
async fn authorization_requests_are_unique_and_complete() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let printed = fixture.login().await;
        assert!(printed.contains("Signed in"), "{printed}");
        let parameter = |name: &str| fixture.provider.authorization_parameter(name).unwrap_or_default();
        let redirect_uri = format!("http://localhost:{}", fixture.port);
        assert_eq!(
            (parameter("response_type"), parameter("redirect_uri")),
            ("code".to_owned(), redirect_uri.clone())
        );
        assert_eq!(
            (parameter("client_id"), parameter("code_challenge_method")),
            (CLIENT_ID.to_owned(), "S256".to_owned())
        );
        let scope = parameter("scope");
        assert!(
            scope.split(' ').any(|scope| scope == "openid") && scope.contains("offline_access"),
            "{scope}"
        );
        let token_parameter = |name: &str| fixture.provider.token_parameter(name);
        assert_eq!(token_parameter("redirect_uri"), Some(redirect_uri));
        assert_eq!(token_parameter("client_secret"), None);
        let verifier = token_parameter("code_verifier").expect("RFC 7636, section 4.5");
        let unreserved = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
        assert!((43..=128).contains(&verifier.len()) && verifier.chars().all(unreserved), "{verifier}");
        // The lab's provider has compared the verifier with its challenge.
        for new in [verifier, parameter("code_challenge"), parameter("state"), parameter("nonce")] {
            assert!(new.len() >= 16 && seen.insert(new.clone()), "`{new}` is short, or was used before");
        }
    }
}

/// RFC 9207, section 2.4: where the issuer is wrong, the rest of the response is ignored, even its error.
#[tokio::test]
async fn error_response_of_wrong_issuer_is_ignored() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| {
        behaviour.deny = true;
        behaviour.fault = Some(ProviderFault::WrongIssuerInResponse);
    });
    let printed = fixture.login().await;
    assert!(
        printed.contains("came back from another issuer") && !printed.contains("access_denied"),
        "{printed}"
    );
}

/// The end of a sign-in as a browser sees it: no code stays in the address bar or the history, nothing may be cached, and a
/// second or another request changes nothing.
#[tokio::test]
async fn last_page_shows_result_and_code_leaves_the_address() {
    let about = "OrganizationName = \"Example <Corp>\"\nSupportContact = \"it-help@example.com\"\n";
    let fixture = sign_in_device(&format!("{FILE_VAULT}{about}")).await;
    let port = fixture.port;
    let client = browser::client_without_redirects();
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
        fixture.provider.behave(|behaviour| behaviour.deny = deny);
        let mut login = Interactive::steward(&fixture.device, &["login", "--no-browser"]);
        let redirect = browser::sign_in(&login.next_address().await).await;
        assert!(redirect.starts_with(&format!("http://localhost:{port}/?")), "{redirect}");
        let base = format!("http://localhost:{port}/");
        // Other paths and methods, and an address without a state, show nothing and change nothing.
        assert_eq!(get(&format!("{base}favicon.ico")).await.0, 410);
        assert_eq!(get(&base).await.0, 410);
        assert_eq!(client.post(&redirect).send().await.unwrap().status(), 410);
        assert_eq!(get(&format!("{base}?state=a&state=b&code=c")).await.0, 410);
        // A page elsewhere whose name resolves to this device.
        let rebound = client.get(&redirect).header("host", format!("evil.example:{port}"));
        assert_eq!(rebound.send().await.unwrap().status(), 410);

        let (status, location, cache, body) = get(&redirect).await;
        assert_eq!((status, cache.as_str(), body.as_str()), (303, "no-store", ""));
        let last = location.strip_prefix("/signed-in/").expect("an address that nobody can guess");
        assert!(last.len() == 32 && !location.contains("code"), "{location}");
        // A second tab, or a connection that was cut off, before the last page was shown. (It once hung.)
        let (status, again, ..) = get(&redirect).await;
        assert_eq!((status, &again), (303, &location));
        // The page is for the browser that came back, not for whoever connects.
        assert_eq!(get(&base).await.0, 410);
        assert_eq!(get(&format!("{base}?state=guessed&code=guessed")).await.0, 410);
        let (status, _, cache, page) = get(&format!("http://localhost:{port}{location}")).await;
        assert_eq!((status, cache.as_str()), (200, "no-store"));
        assert!(page.contains(heading) && page.contains("lang=\"en\""), "{page}");
        assert!(
            page.contains("Example &#60;Corp&#62;") && page.contains("Help: it-help@example.com"),
            "{page}"
        );
        let code = redirect.split("code=").nth(1).unwrap_or("no code").split('&').next().unwrap();
        assert!(
            !page.contains(code) && !page.contains("<script") && !fixture.broker.log().contains(code),
            "{page}"
        );
        assert_eq!(login.succeeds().await, !deny);
    }
    assert_eq!(fixture.provider.logins(), 2);
}

#[tokio::test]
async fn pasted_redirect_response_signs_in_although_port_is_taken() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let port = fixture.port;
    // Another program has the port all the time.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    for (pasted, expected) in [
        (Some("https://example.com/"), "not the address that a sign-in ends with"),
        (Some("http://localhost/?code=a&state=b"), "belongs to another sign-in"),
        (None, "Signed in as ada@example.com"),
    ] {
        let mut login = Interactive::steward(&fixture.device, &["login", "--paste"]);
        let redirect = browser::sign_in(&login.next_address().await).await;
        login.type_line(pasted.unwrap_or(&redirect)).await;
        let printed = login.remaining_output().await;
        assert!(printed.contains(expected), "{printed}");
    }
}

#[tokio::test]
async fn device_flow_signs_in_only_where_policy_and_provider_allow_it() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let refused = fixture.device.printed(&["login", "--device"]).await;
    assert!(refused.contains("`DeviceFlow`: policy does not allow it"), "{refused}");
    fixture.device.push("70.toml", "DeviceFlow = \"fallback\"\n");
    fixture.device.settings_become(SIGN_IN_SETTINGS + 2).await;
    let mut login = Interactive::steward(&fixture.device, &["login", "--device"]);
    let line = login.next_line().await;
    assert!(line.ends_with("on any device and enter the code WDJB-MJHT."), "{line}");
    let address = line.split(' ').nth(1).unwrap();
    let typed = format!("{address}?user_code=WDJB-MJHT");
    // A redirect response that is pasted now belongs to no sign-in that waits for one. (The request once hung until the
    // code had expired.)
    fixture.allow_tests().await;
    let pasted = LoginReturnRequest { url: "http://localhost:18080/?code=a&state=b".to_owned() };
    let refused = fixture.device.call_broker(&LOGIN_RETURN, &pasted).await.unwrap_err();
    let CallError::Refused(problem) = refused else { panic!("{refused}") };
    assert_eq!(problem.code, Code::SignInTokenInvalid, "{problem}");
    assert!(browser::client().get(typed).send().await.unwrap().status().is_success());
    let printed = login.remaining_output().await;
    assert!(printed.contains("Signed in as ada@example.com"), "{printed}");
    fixture.token().await.unwrap();
    fixture.device.printed(&["logout"]).await;
    fixture.provider.behave(|behaviour| behaviour.deny = true);
    let printed = fixture.device.printed(&["login", "--device"]).await;
    assert!(printed.contains("access_denied"), "{printed}");
    fixture.provider.behave(|behaviour| behaviour.device_flow = false);
    let printed = fixture.device.printed(&["login", "--device"]).await;
    assert!(printed.contains("does not offer sign-in on another device"), "{printed}");
}

/// Found by review: a user without a browser waited for five minutes, and was then told that no response had come.
#[tokio::test]
async fn login_without_browser_shows_the_address_and_goes_on() {
    let mut device = Device::new();
    device.set("BROWSER", "/nowhere/browser");
    device.set("PATH", "/nowhere");
    let fixture = sign_in_device_on(device, FILE_VAULT).await;
    let mut login = Interactive::steward(&fixture.device, &["login"]);
    // The first address is for the browser, and told on standard error.
    let redirect = browser::sign_in(&login.next_address().await).await;
    assert!(browser::client().get(&redirect).send().await.unwrap().status().is_success());
    let printed = login.remaining_output().await;
    assert!(
        printed.contains("no browser could be opened") && printed.contains("Signed in as ada"),
        "{printed}"
    );
    // An app cannot show an address: it is told at once.
    fixture.device.printed(&["logout"]).await;
    let printed = fixture.device.printed(&["token", "--interactive"]).await;
    assert!(printed.contains("no browser could be opened") && printed.contains("--no-browser"), "{printed}");
    let printed = fixture.device.printed(&["token", "ada@example.com"]).await;
    assert!(printed.contains("--account ada@example.com"), "a positional argument: {printed}");
}

/// The app itself signs in on the same port: its sign-in ends soon, and Steward's goes on.
#[tokio::test]
async fn sign_in_waits_for_port_that_is_freed_soon() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let port = fixture.port;
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let login = fixture.device.printed(&["login"]);
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        drop(taken);
    };
    let (printed, ()) = tokio::join!(login, release);
    assert!(printed.contains("Signed in"), "{printed}");
}

/// A user who has closed the browser tries again: it opens again, for the same sign-in.
#[tokio::test]
async fn second_login_opens_browser_for_the_same_sign_in() {
    let fixture = sign_in_device(FILE_VAULT).await;
    // The address is shown, and not opened.
    let mut first = Interactive::steward(&fixture.device, &["login", "--no-browser"]);
    first.next_address().await;
    let (again, printed) = tokio::join!(fixture.device.printed(&["login"]), first.remaining_output());
    assert!(again.contains("Signed in") && printed.contains("Signed in"), "{again} {printed}");
    assert_eq!(fixture.provider.logins(), 1);
}

/// A page of an attacker sends the browser to the open port: it neither ends nor hijacks the sign-in.
#[tokio::test]
async fn redirect_response_with_foreign_state_is_refused_and_sign_in_goes_on() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let port = fixture.port;
    let login = fixture.device.steward(&["login", "--no-browser"]);
    let attacker = async {
        let address = format!("http://127.0.0.1:{port}/?code=evil&state=evil");
        let status = until("the open port", async || {
            browser::client().get(&address).send().await.map_err(|error| error.to_string())
        })
        .await
        .status();
        assert_eq!(status, 410);
        assert_eq!(fixture.session().await.state, SessionState::SigningIn);
    };
    tokio::select! {
        output = login => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        () = attacker => {}
    }
}
