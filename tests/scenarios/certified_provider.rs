//! A real browser at the login form of a certified provider, through the real redirect to port 18080; and what else only an
//! independent provider can show.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use e2e::browser::authorization_url;
use e2e::device::Device;
use e2e::interactive::Interactive;
use e2e::keyring::Keyring;
use e2e::process::program;
use e2e::provider::EMAIL;
use e2e::wait::until;
use protocol::session::{Kept, SessionState};
use tokio::process::Command;

use super::external_provider::{
    ExternalProvider, certified_browser, device_with_external_provider, node, python, script,
};
use super::fixture::{SIGN_IN_SETTINGS, SignInDevice, free_port, start_app};

/// Waits until the user at the browser reports an error; forever, if there is none.
async fn browser_error(file: &Path) -> String {
    loop {
        match fs_err::read_to_string(file) {
            Ok(error) if !error.is_empty() => return error,
            Ok(_) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
}

#[tokio::test]
async fn port_18080_real_browser_signs_in_at_certified_provider() {
    let provider = ExternalProvider::certified("http://localhost:18080").await;
    let mut device = Device::new();
    let _keyring = Keyring::start(&mut device).await;
    let last_page = device.path("last-page.txt");
    device.set("LAST_PAGE", &last_page.display().to_string());
    // A browser command with arguments, as BROWSER allows; %s is the address.
    device.set("BROWSER", &certified_browser());
    device.push(
        "50.toml",
        &format!(
            "App = \"lab-notes\"\nIssuer = \"{}\"\nClientId = \"steward-lab\"\nProxyMode = \"direct\"\n\
             AllowedApplications = [\"{}\"]\nOrganizationName = \"Example Corp\"\nSupportContact = \"it-help@example.com\"\n",
            provider.issuer,
            program("lab-notes").display(),
        ),
    );
    let _agent = device.start_agent().await;
    let broker = device.start_broker().await;
    let error_file = device.path("last-page.txt.error");
    let (succeeded, printed) = tokio::select! {
        started = start_app(&device) => started,
        error = browser_error(&error_file) => panic!("the user could not go on: {error}"),
    };
    assert!(succeeded && printed.contains("ada@example.com"), "{printed}\n{}", broker.log());

    let page = until("the last page", async || fs_err::read_to_string(&last_page)).await;
    assert!(page.contains("You are signed in") && page.contains("Example Corp"), "{page}");
    assert!(page.contains("Help: it-help@example.com"), "{page}");

    // The provider rotates strictly and its tokens expire soon: each of these is a silent renewal.
    for _ in 0..3 {
        let token = device.steward(&["token"]).await;
        assert!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
    }
    let session = device.status().await.sign_in.unwrap();
    assert_eq!(session.state, SessionState::SignedIn);
    assert_eq!(session.kept, Some(Kept::SecretStore.into()));
    // The port is closed again.
    std::net::TcpListener::bind(("127.0.0.1", 18080)).expect("the port is free");
}

impl SignInDevice {
    /// Puts the vault back to what it was before a renewal, as if that had never been saved.
    async fn undo_saved_renewal(&mut self) {
        let name = self.vault().into_iter().find(|name| name.contains(".sealed")).unwrap();
        let file = self.device.session_folder().join(name);
        let before = fs_err::read(&file).unwrap();
        self.token().await.unwrap();
        assert_ne!(fs_err::read(&file).unwrap(), before, "each of these is a renewal");
        // Killed, as in a power loss, it cannot save anything more.
        self.kill_broker().await;
        fs_err::write(&file, before).unwrap();
        self.start_broker_again().await;
    }
}

/// django-oauth-toolkit accepts a used refresh token for half a minute: nothing is lost.
#[tokio::test]
async fn unsaved_renewal_keeps_session_at_django_oauth_toolkit() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let provider = ExternalProvider::start(
        Command::new(python())
            .arg(script("grace_provider.py"))
            .arg(format!("http://localhost:{port}"))
            .arg(folder.path()),
    )
    .await;
    let browser = format!("{} {} %s", python().display(), script("browser.py").display());
    let mut fixture = device_with_external_provider(&provider.issuer, port, &browser).await;
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in as ada@example.com"), "{printed}");
    for _ in 0..2 {
        fixture.token().await.unwrap();
    }
    fixture.undo_saved_renewal().await;
    fixture.token().await.unwrap();
    assert_eq!(fixture.session().await.account.as_deref(), Some(EMAIL));
    let printed = fixture.device.printed(&["logout"]).await;
    assert!(printed.contains("Signed out"), "{printed}");
}

/// The certified provider takes a second use for theft and ends the session: the user is told so, once.
#[tokio::test]
async fn unsaved_renewal_ends_session_once_at_certified_provider() {
    let port = free_port();
    let provider = ExternalProvider::certified(&format!("http://localhost:{port}")).await;
    let mut fixture = device_with_external_provider(&provider.issuer, port, &certified_browser()).await;
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in as ada@example.com"), "{printed}");
    fixture.undo_saved_renewal().await;
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("invalid_grant") && refused.contains("sign in again"), "{refused}");
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("nobody is signed in"), "{refused}");
    assert_eq!(fixture.session().await.state, SessionState::SignedOut);
    // A session that is ended here is ended there.
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in"), "{printed}");
    let printed = fixture.device.printed(&["logout"]).await;
    assert!(printed.starts_with("Signed out on this device.\nnote: the browser may still"), "{printed}");
}

/// A provider may accept only requests that were pushed to it before (RFC 9126).
#[tokio::test]
async fn pushed_authorization_request_is_used_where_provider_requires_it() {
    let port = free_port();
    let provider = ExternalProvider::certified_with(&[&format!("http://localhost:{port}"), "pushed"]).await;
    let fixture = device_with_external_provider(&provider.issuer, port, &certified_browser()).await;
    let mut login = Interactive::steward(&fixture.device, &["login", "--no-browser"]);
    let address = authorization_url(&login.next_address().await).await;
    assert!(address.contains("request_uri=urn") && !address.contains("code_challenge"), "{address}");
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in as ada@example.com"), "{printed}");
    fixture.token().await.unwrap();
}

/// The one algorithm of the app's vendor that the library cannot verify, signed by an independent implementation.
#[tokio::test]
async fn es512_id_token_of_certified_provider_is_accepted() {
    let port = free_port();
    let provider = ExternalProvider::certified_with(&[&format!("http://localhost:{port}"), "ES512"]).await;
    let fixture = device_with_external_provider(&provider.issuer, port, &certified_browser()).await;
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in as ada@example.com"), "{printed}");
    let tokens = fixture.device.tokens(&[]).await.unwrap();
    let header = tokens.id_token.split('.').next().unwrap();
    let header = String::from_utf8(BASE64.decode(header).unwrap()).unwrap();
    assert!(header.contains("ES512"), "{header}");
}

/// Sign-in on another device, at a provider that was not written for these tests.
#[tokio::test]
async fn device_flow_signs_in_at_certified_provider() {
    let provider = ExternalProvider::certified("http://localhost:18080").await;
    let fixture = device_with_external_provider(&provider.issuer, free_port(), "/usr/bin/false").await;
    fixture.device.push("60.toml", "DeviceFlow = \"fallback\"\n");
    // The vault's setting and this one.
    fixture.device.settings_become(SIGN_IN_SETTINGS + 2).await;
    let mut login = Interactive::steward(&fixture.device, &["login", "--device"]);
    let line = login.next_line().await;
    let (address, code) =
        (line.split(' ').nth(1).unwrap(), line.trim_end_matches('.').rsplit(' ').next().unwrap());
    let user = Command::new("node")
        .arg(node().join("device-flow.mjs"))
        .arg(format!("{address}?user_code={code}"))
        .current_dir(node())
        .output();
    let user = user.await.unwrap();
    assert!(user.status.success(), "{}", String::from_utf8_lossy(&user.stderr));
    let printed = login.remaining_output().await;
    assert!(printed.contains("Signed in as ada@example.com"), "{printed}");
    fixture.token().await.unwrap();
}
