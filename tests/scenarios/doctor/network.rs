//! What can be in the way between a device and a server.

use e2e::browser::authorization_url;
use e2e::device::Device;
use e2e::interactive::Interactive;
use e2e::middlebox::{TlsInspection, Validity, proxy_with_password};
use e2e::provider::{CLIENT_ID, Provider, ProviderFault};
use protocol::diagnosis::Cause;

use super::super::fixture::{FILE_VAULT, device_with_policy, free_port};
use super::before_roll_out;

#[tokio::test]
async fn doctor_names_network_obstacles() {
    let provider = Provider::start().await;
    let policy = |issuer: &str, more: &str| {
        format!("Issuer = \"{issuer}\"\nClientId = \"{CLIENT_ID}\"\nApp = \"lab-notes\"\n{FILE_VAULT}{more}")
    };
    let direct = "ProxyMode = \"direct\"\n";
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    before_roll_out(&policy(&nowhere, direct)).await.diagnosis(Cause::ConnectionRefused);
    // A name that no resolver sends anywhere: one of its labels is too long. And a name on a device without a network.
    let name = format!("https://{}.example", "a".repeat(64));
    before_roll_out(&policy(&name, direct)).await.diagnosis(Cause::NameNotFound);
    let device = Device::new();
    let file = device.path("policy.toml").display().to_string();
    fs_err::write(&file, policy("https://login.example.com", direct)).unwrap();
    let steward = e2e::process::program("steward").display().to_string();
    let alone = ["--net", &steward, "--root", &device.root_text(), "doctor", "--policy", &file];
    let output = device.run("/usr/bin/unshare".as_ref(), &alone).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("[name-not-found]") && output.status.code() == Some(2), "{printed}");
    for (fault, cause) in [
        (ProviderFault::CaptivePortal, Cause::CaptivePortal),
        (ProviderFault::CaptivePortalPage, Cause::CaptivePortal),
        (ProviderFault::ClockSlow, Cause::ClockWrong),
    ] {
        provider.behave(|behaviour| behaviour.fault = Some(fault));
        before_roll_out(&policy(provider.issuer(), direct)).await.diagnosis(cause);
    }
    provider.behave(|behaviour| behaviour.fault = None);
    // Loopback is never sent through a fixed proxy; any other name is.
    let proxy = proxy_with_password().await;
    let fixed = |proxy: &str| format!("ProxyMode = \"fixed\"\nProxyUrl = \"{proxy}\"\n");
    before_roll_out(&policy("https://login.example.com", &fixed(&proxy)))
        .await
        .diagnosis(Cause::ProxyAuthentication);
    before_roll_out(&policy("https://login.example.com", &fixed(&nowhere)))
        .await
        .diagnosis(Cause::ProxyUnreachable);
    before_roll_out(&policy("https://login.example.com", "ProxyMode = \"fixed\"\n"))
        .await
        .diagnosis(Cause::NetworkSettingsUnusable);
    // A server without TLS.
    let plain = provider.issuer().replace("http://127.0.0.1", "https://localhost");
    before_roll_out(&policy(&plain, direct)).await.diagnosis(Cause::TlsFailed);
}

/// TLS is inspected on the way, with an authority that only policy can make the device trust.
#[tokio::test]
async fn tls_inspection_is_named_and_trusted_only_by_policy() {
    let provider = Provider::start().await;
    let inspection = TlsInspection::in_front_of(provider.address(), Validity::Now).await;
    let provider = provider.behind(&inspection.address);
    let policy = format!(
        "Issuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nApp = \"lab-notes\"\nProxyMode = \"direct\"\n{FILE_VAULT}",
        provider.issuer()
    );
    let found = before_roll_out(&policy).await;
    let diagnosis = found.diagnosis(Cause::TlsUntrusted);
    let shown = diagnosis.evidence.join("\n");
    assert!(shown.contains("issued by CN=Example Corp Inspection CA"), "{shown}");
    assert_ne!(
        diagnosis.confidence,
        protocol::diagnosis::Confidence::Certain,
        "one host alone says too little"
    );
    assert_eq!(found.code, Some(2));
    let trusting = format!("{policy}AdditionalTrustedCertificates = ['''{}''']\n", inspection.authority);
    let found = before_roll_out(&trusting).await;
    for check in ["discovery", "issuer", "keys", "redirect"] {
        assert_eq!(found.outcome(check), "pass", "{:#?}", found.findings);
    }
    // A sign-in works through it with the same policy: what policy trusts is trusted.
    let fixture = device_with_policy(
        Device::new(),
        provider,
        free_port(),
        &trusting.replace("App =", "RedirectUri = \"http://localhost:18095\"\nApp ="),
    )
    .await;
    let mut login = Interactive::steward(&fixture.device, &["login", "--no-browser"]);
    let address = authorization_url(&login.next_address().await).await;
    assert!(address.starts_with(&inspection.address), "{address}");
    drop(login);

    let expired = TlsInspection::in_front_of(fixture.provider.address(), Validity::Expired).await;
    let policy = format!(
        "Issuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nApp = \"lab-notes\"\nProxyMode = \"direct\"\n{FILE_VAULT}\
         AdditionalTrustedCertificates = ['''{}''']\n",
        expired.address, expired.authority
    );
    before_roll_out(&policy).await.diagnosis(Cause::CertificateUnusable);
}
