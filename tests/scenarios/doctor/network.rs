//! What stands between this device and a server.

use e2e::device::Device;
use e2e::doorway::{Inspection, Validity, proxy_with_password};
use e2e::provider::{CLIENT_ID, Misbehaviour, Provider};

use super::super::free_port;
use super::super::office::{FILE_VAULT, office_by};
use super::before_roll_out;

/// What stands between this device and a server.
#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let provider = Provider::start().await;
    let policy = |issuer: &str, more: &str| {
        format!("Issuer = \"{issuer}\"\nClientId = \"{CLIENT_ID}\"\nApp = \"lab-notes\"\n{FILE_VAULT}{more}")
    };
    let direct = "ProxyMode = \"direct\"\n";
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    before_roll_out(&policy(&nowhere, direct)).await.diagnosis("connection-refused");
    // A name that no resolver asks anybody about: one of its parts is too long. And one that it could not ask about.
    let name = format!("https://{}.example", "a".repeat(64));
    before_roll_out(&policy(&name, direct)).await.diagnosis("name-not-found");
    let device = Device::new();
    let file = device.path("policy.toml").display().to_string();
    fs_err::write(&file, policy("https://login.example.com", direct)).unwrap();
    let steward = e2e::device::program("steward").display().to_string();
    let alone = ["--net", &steward, "--root", &device.root_text(), "doctor", "--policy", &file];
    let output = device.run("/usr/bin/unshare".as_ref(), &alone).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("[name-not-found]") && output.status.code() == Some(2), "{said}");
    for (misbehaviour, id) in [
        (Misbehaviour::Portal, "captive-portal"),
        (Misbehaviour::PortalPage, "captive-portal"),
        (Misbehaviour::ClockSlow, "clock-wrong"),
    ] {
        provider.behave(|behaviour| behaviour.misbehaviour = Some(misbehaviour));
        before_roll_out(&policy(provider.issuer(), direct)).await.diagnosis(id);
    }
    provider.behave(|behaviour| behaviour.misbehaviour = None);
    // Loopback is never sent through a fixed proxy; any other name is.
    let proxy = proxy_with_password().await;
    let fixed = |proxy: &str| format!("ProxyMode = \"fixed\"\nProxyUrl = \"{proxy}\"\n");
    before_roll_out(&policy("https://login.example.com", &fixed(&proxy)))
        .await
        .diagnosis("proxy-authentication");
    before_roll_out(&policy("https://login.example.com", &fixed(&nowhere)))
        .await
        .diagnosis("proxy-unreachable");
    before_roll_out(&policy("https://login.example.com", "ProxyMode = \"fixed\"\n"))
        .await
        .diagnosis("network-settings-unusable");
    // A server that speaks no TLS.
    let plain = provider.issuer().replace("http://127.0.0.1", "https://localhost");
    before_roll_out(&policy(&plain, direct)).await.diagnosis("tls-failed");
}

/// The encryption is opened on the way, by an authority that this device knows from policy only.
#[tokio::test]
async fn whoever_opens_the_encryption_is_named_and_trusted_where_policy_says_so() {
    let provider = Provider::start().await;
    let inspection = Inspection::in_front_of(provider.address(), Validity::Now).await;
    let provider = provider.behind(&inspection.address);
    let policy = format!(
        "Issuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nApp = \"lab-notes\"\nProxyMode = \"direct\"\n{FILE_VAULT}",
        provider.issuer()
    );
    let found = before_roll_out(&policy).await;
    let shown = found.diagnosis("tls-intercepted")["evidence"].to_string();
    assert!(shown.contains("issued by CN=Example Corp Inspection CA"), "{shown}");
    assert_eq!(found.code, Some(2));
    let trusting = format!("{policy}AdditionalTrustedCertificates = ['''{}''']\n", inspection.authority);
    let found = before_roll_out(&trusting).await;
    for check in ["discovery", "issuer", "keys", "redirect"] {
        assert_eq!(found.outcome(check), "pass", "{:#?}", found.findings);
    }
    // The same policy signs people in through it: nothing else than policy is trusted, and that is.
    let office = office_by(
        Device::new(),
        provider,
        free_port(),
        &trusting.replace("App =", "RedirectUri = \"http://localhost:18095\"\nApp ="),
    )
    .await;
    let mut login = e2e::device::Talk::start(&office.device, &["login", "--no-browser"]);
    assert!(login.address().await.starts_with(&inspection.address));
    drop(login);

    let over = Inspection::in_front_of(office.provider.address(), Validity::Over).await;
    let ended = format!(
        "Issuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nApp = \"lab-notes\"\nProxyMode = \"direct\"\n{FILE_VAULT}\
         AdditionalTrustedCertificates = ['''{}''']\n",
        over.address, over.authority
    );
    before_roll_out(&ended).await.diagnosis("certificate-unusable");
}
