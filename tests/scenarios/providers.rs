//! The providers that people have: what sets the vendors apart, and two independent ones with rules of their own for
//! used refresh tokens.
#![expect(clippy::unwrap_used, reason = "everything here is a test, or what it is made of")]

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use e2e::device::Device;
use e2e::provider::{EMAIL, GOOGLE_SECRET, Misbehaviour, Provider, Vendor};
use serde_json::Value;
use tokio::process::Command;

use super::browser::{OtherProvider, node};
use super::office::{FILE_VAULT, Office, office_at};
use super::{free_port, sign_in_policy};

/// Where `cargo xtask` installed the packages of `tests/python`.
pub(super) fn python() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the folder of installed packages is the caller's to say")]
    let folder = std::env::var_os("STEWARD_PYTHON");
    PathBuf::from(folder.expect("STEWARD_PYTHON is not set; run `cargo xtask test`")).join("bin/python")
}

/// A script of `tests/python`.
pub(super) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

async fn office_of(vendor: Vendor, more: &str) -> Office {
    office_at(Device::new(), Provider::start_as(vendor).await, &format!("{FILE_VAULT}{more}")).await
}

/// A sign-in and three renewals: the person stays who she is, and nobody is asked twice.
async fn lasts(office: &Office) {
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in as ada@example.com"), "{said}");
    for _ in 0..3 {
        office.token().await.unwrap();
    }
    assert_eq!((office.provider.refreshes(), office.provider.logins()), (3, 1));
    let facts = office.sign_in_facts().await;
    assert_eq!((&facts["account"], &facts["state"]), (&EMAIL.into(), &"signed-in".into()));
}

#[tokio::test]
async fn entra_keeps_used_refresh_tokens_and_wants_the_scopes_each_time() {
    let office =
        office_of(Vendor::Entra, "IdentityProvider = \"entra\"\nDomainHint = \"example.com\"\n").await;
    lasts(&office).await;
    assert_eq!(office.provider.asked("domain_hint").as_deref(), Some("example.com"));
    assert_eq!(office.provider.asked("prompt"), None);
    // Else there would be no ID token in the answer.
    assert!(office.provider.exchanged("scope").unwrap().split(' ').any(|scope| scope == "openid"));
    let identity = office.device.printed(&["token", "--id-token"]).await;
    assert_eq!(identity.split('.').count(), 3, "{identity}");

    office.provider.revoke_all();
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("AADSTS700082") && refused.contains("sign in again"), "{refused}");
    let asked = office.provider.exchanges();
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("nobody is signed in"), "{refused}");
    assert_eq!(office.provider.exchanges(), asked, "once, and not in a loop");

    // `common` instead of the tenant.
    office.provider.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::DiscoveryOfEveryTenant));
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("{tenantid}") && said.contains("`Issuer` must be exactly"), "{said}");
}

#[tokio::test]
async fn okta_rotates_with_half_a_minute_of_grace_and_refuses_in_its_own_words() {
    let office = office_of(Vendor::Okta, "IdentityProvider = \"okta\"\n").await;
    lasts(&office).await;
    assert_eq!(office.provider.asked("prompt"), None);
    office.provider.behave(|behaviour| behaviour.lost_answers = 1);
    office.token().await.unwrap();
    office.device.printed(&["logout"]).await;
    office.provider.behave(|behaviour| behaviour.deny = true);
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("access_denied: User is not assigned to the client application"), "{said}");
    office.provider.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::DiscoveryRefused));
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("it answered 401"), "{said}");
}

#[tokio::test]
async fn pingfederate_tells_the_address_at_userinfo_and_renews_without_an_id_token() {
    let office = office_of(Vendor::PingFederate, "IdentityProvider = \"pingfederate\"\n").await;
    lasts(&office).await;
    // The ID token of the sign-in is all there is. Once it has ended, whoever needs one is told why.
    let identity = office.device.printed(&["token", "--id-token"]).await;
    assert_eq!(identity.split('.').count(), 3, "{identity}");
    office.provider.behave(|behaviour| behaviour.identity_lifetime = 20);
    office.device.printed(&["login"]).await;
    let refused = office.device.printed(&["token", "--id-token"]).await;
    assert!(
        refused.contains("a renewal brings no new one") && refused.contains("return ID tokens on refresh"),
        "{refused}"
    );
}

#[tokio::test]
async fn pingone_rotates_strictly() {
    let office = office_of(Vendor::PingOne, "IdentityProvider = \"pingone\"\n").await;
    lasts(&office).await;
}

/// Google gives a refresh token only with consent, so it is asked for when there is none, and only then; its renewals
/// bring none, and it knows no `offline_access`.
#[tokio::test]
async fn google_is_asked_for_consent_only_when_a_refresh_token_is_missing() {
    let policy = format!("IdentityProvider = \"google\"\nClientSecret = \"{GOOGLE_SECRET}\"\n");
    let office = office_of(Vendor::Google, &policy).await;
    lasts(&office).await;
    let asked = |name: &str| office.provider.asked(name);
    assert_eq!(asked("access_type").as_deref(), Some("offline"));
    assert_eq!(asked("prompt").as_deref(), Some("consent"));
    assert!(!asked("scope").unwrap().contains("offline_access"));
    // Again, while the refresh token is there: no question, no new one, and the old one goes on to work.
    office.device.printed(&["login"]).await;
    assert_eq!(asked("prompt"), None);
    let before = office.provider.refreshes();
    office.token().await.unwrap();
    assert_eq!(office.provider.refreshes(), before + 1);
    office.device.printed(&["logout"]).await;
    office.device.printed(&["login"]).await;
    assert_eq!(asked("prompt").as_deref(), Some("consent"));
    let log = office.broker.log();
    assert!(!log.contains(GOOGLE_SECRET), "{log}");
}

/// An office with an independent provider.
async fn office_with(issuer: &str, port: u16, browser: &str) -> Office {
    let mut device = Device::new();
    device.set("BROWSER", browser);
    device.set("LAST_PAGE", &device.path("last-page.txt").display().to_string());
    // The lab's own provider only lends its place.
    let lab = Provider::start().await;
    let policy = sign_in_policy(&lab, port).replace(lab.issuer(), issuer);
    super::office::office_by(device, lab, port, &format!("{policy}{FILE_VAULT}")).await
}

impl Office {
    /// The person's vault goes back to what it was: what a renewal brought was never saved.
    async fn forget_a_renewal(&mut self) {
        let folder = self.device.path(&format!("home/{}/.local/state/steward", nix::unistd::geteuid()));
        let name = self.vault().into_iter().find(|name| name.contains(".sealed")).unwrap();
        let before = fs_err::read(folder.join(&name)).unwrap();
        let first = self.token().await.unwrap();
        assert_ne!(fs_err::read(folder.join(&name)).unwrap(), before, "each of these is a renewal");
        assert!(!first.is_empty());
        // As a power loss would have it: the broker has no time to save anything.
        self.kill_broker().await;
        fs_err::write(folder.join(&name), before).unwrap();
        self.start_broker_again().await;
    }
}

/// django-oauth-toolkit forgives the second use of a refresh token for half a minute: nothing is lost.
#[tokio::test]
async fn django_oauth_toolkit_forgives_a_renewal_that_was_never_saved() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let provider = OtherProvider::run(
        Command::new(python())
            .arg(script("grace_provider.py"))
            .arg(format!("http://localhost:{port}"))
            .arg(folder.path()),
    )
    .await;
    let browser = format!("{} {} %s", python().display(), script("person.py").display());
    let mut office = office_with(&provider.issuer, port, &browser).await;
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in as ada@example.com"), "{said}");
    for _ in 0..2 {
        office.token().await.unwrap();
    }
    office.forget_a_renewal().await;
    office.token().await.unwrap();
    assert_eq!(office.sign_in_facts().await["account"], EMAIL);
    let said = office.device.printed(&["logout"]).await;
    assert!(said.contains("Signed out"), "{said}");
}

/// The certified provider takes the second use for theft and ends the session: then the person is told, once.
#[tokio::test]
async fn the_certified_provider_ends_a_session_whose_renewal_was_never_saved() {
    let port = free_port();
    let provider = OtherProvider::start(&format!("http://localhost:{port}")).await;
    let browser = format!("node {} %s", node().join("person.mjs").display());
    let mut office = office_with(&provider.issuer, port, &browser).await;
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in as ada@example.com"), "{said}");
    office.forget_a_renewal().await;
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("invalid_grant") && refused.contains("sign in again"), "{refused}");
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("nobody is signed in"), "{refused}");
    let facts = office.sign_in_facts().await;
    assert_eq!(facts["state"], Value::from("signed-out"));
    // And a session that is ended here is ended there.
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in"), "{said}");
    let said = office.device.printed(&["logout"]).await;
    assert_eq!(said, "Signed out on this device.\n");
}

/// A provider may take requests only that were handed to it in advance (RFC 9126).
#[tokio::test]
async fn the_certified_provider_gets_its_requests_in_advance_where_it_demands_that() {
    let port = free_port();
    let provider = OtherProvider::start_with(&[&format!("http://localhost:{port}"), "pushed"]).await;
    let browser = format!("node {} %s", node().join("person.mjs").display());
    let office = office_with(&provider.issuer, port, &browser).await;
    let mut asked = e2e::device::Talk::start(&office.device, &["login", "--no-browser"]);
    let address = asked.address().await;
    assert!(address.contains("request_uri=urn") && !address.contains("code_challenge"), "{address}");
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in as ada@example.com"), "{said}");
    office.token().await.unwrap();
}

/// The one algorithm of the app's vendor that the library cannot verify, signed by an independent implementation.
#[tokio::test]
async fn the_certified_provider_signs_with_es512() {
    let port = free_port();
    let provider = OtherProvider::start_with(&[&format!("http://localhost:{port}"), "ES512"]).await;
    let browser = format!("node {} %s", node().join("person.mjs").display());
    let office = office_with(&provider.issuer, port, &browser).await;
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in as ada@example.com"), "{said}");
    let grant = office.device.printed(&["token", "--json"]).await;
    let grant: Value = serde_json::from_str(&grant).unwrap();
    let header = grant["id_token"].as_str().unwrap().split('.').next().unwrap().to_owned();
    let header = String::from_utf8(BASE64.decode(header).unwrap()).unwrap();
    assert!(header.contains("ES512"), "{header}");
}

/// Sign-in on another device, at a provider that did not learn the protocol from us.
#[tokio::test]
async fn the_certified_provider_signs_in_on_another_device() {
    let provider = OtherProvider::start("http://localhost:18080").await;
    let office = office_with(&provider.issuer, free_port(), "/usr/bin/false").await;
    office.device.push("60.toml", "DeviceFlow = \"fallback\"\n");
    office.device.status_where("the policy", |status| status["status"]["policy"]["settings"] == 8).await;
    let mut login = e2e::device::Talk::start(&office.device, &["login", "--device"]);
    let line = login.line().await;
    let (address, code) =
        (line.split(' ').nth(1).unwrap(), line.trim_end_matches('.').rsplit(' ').next().unwrap());
    let person = Command::new("node")
        .arg(node().join("other-device.mjs"))
        .arg(format!("{address}?user_code={code}"))
        .current_dir(node())
        .output();
    let person = person.await.unwrap();
    assert!(person.status.success(), "{}", String::from_utf8_lossy(&person.stderr));
    let said = login.rest().await;
    assert!(said.contains("Signed in as ada@example.com"), "{said}");
    office.token().await.unwrap();
}
