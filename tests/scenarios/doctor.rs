//! The doctor: a provider, a network or a device that is broken in exactly one way, and what it says; and a healthy one, of
//! which it says nothing.
#![expect(clippy::unwrap_used, reason = "everything here is a test, or what it is made of")]

use e2e::device::Device;
use e2e::doorway::{Inspection, Validity, proxy_with_password};
use e2e::keyring::Keyring;
use e2e::provider::{CLIENT_ID, EMAIL, Misbehaviour, Oddity, Provider, Vendor};
use serde_json::Value;

use super::office::{FILE_VAULT, Office, office, office_at, office_on};
use super::{free_port, sign_in_policy};

/// What the doctor found, and its exit code.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Found {
    /// The diagnoses, each with its check.
    fn diagnoses(&self) -> Vec<(&str, &Value)> {
        let all = self.findings.iter().flat_map(|finding| {
            let check = finding["check"].as_str().unwrap_or_default();
            finding["diagnoses"].as_array().into_iter().flatten().map(move |diagnosis| (check, diagnosis))
        });
        all.collect()
    }

    fn ids(&self) -> Vec<&str> {
        self.diagnoses().iter().filter_map(|(_, diagnosis)| diagnosis["id"].as_str()).collect()
    }

    fn diagnosis(&self, id: &str) -> &Value {
        let found = self.diagnoses().into_iter().find(|(_, diagnosis)| diagnosis["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {:#?}", self.findings)).1
    }

    fn outcome(&self, check: &str) -> &str {
        let found = self.findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings))["outcome"].as_str().unwrap()
    }
}

async fn examine(device: &Device, more: &[&str]) -> Found {
    let output = device.steward(&[&["doctor", "--json"], more].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let document: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    Found { code: output.status.code(), findings: document["findings"].as_array().unwrap().clone() }
}

/// A policy that is in no place yet.
async fn before_roll_out(policy: &str) -> Found {
    before_roll_out_on(&Device::new(), policy).await
}

async fn before_roll_out_on(device: &Device, policy: &str) -> Found {
    let file = device.path("policy.toml");
    fs_err::write(&file, policy).unwrap();
    examine(device, &["--policy", &file.display().to_string()]).await
}

fn policy_of(provider: &Provider, more: &str) -> String {
    format!("{}{FILE_VAULT}{more}", sign_in_policy(provider, free_port()))
}

/// Nothing is wrong: the doctor has nothing to say, also after a whole round.
#[tokio::test]
async fn of_a_healthy_device_the_doctor_says_nothing() {
    let mut device = Device::new();
    let _keyring = Keyring::start(&mut device).await;
    // It is installed.
    fs_err::create_dir_all(device.path("opt/lab-notes")).unwrap();
    let office = office_on(device, "").await;
    let found = examine(&office.device, &["--sign-in", "--expect-email", EMAIL]).await;
    assert!(found.ids().is_empty(), "{:#?}", found.findings);
    assert_eq!(found.code, Some(0), "{:#?}", found.findings);
    for check in [
        "policy",
        "discovery",
        "issuer",
        "keys",
        "redirect",
        "clock",
        "port",
        "vault",
        "app",
        "app-policy",
        "session",
        "lasting",
        "email",
        "userinfo",
        "renewal",
    ] {
        assert_eq!(found.outcome(check), "pass", "{check}: {:#?}", found.findings);
    }
    assert_eq!((office.provider.logins(), office.provider.refreshes()), (1, 1));
    let said = office.device.printed(&["doctor"]).await;
    assert!(said.ends_with("\nNothing is wrong.\n") && !said.contains("cause"), "{said}");
    // Without a whole round nothing is renewed.
    assert_eq!(office.provider.refreshes(), 1);
    let said = office.device.printed(&["doctor", "--details"]).await;
    assert!(said.contains("jwks_uri http"), "{said}");
}

/// One thing that is wrong with a provider.
#[derive(Clone, Copy)]
enum Fault {
    /// A page in the place of the sign-in.
    Page(u16, &'static str),
    /// The browser is sent back at once.
    Refused(&'static str, &'static str),
    /// The browser is sent back after the password.
    Denied(&'static str),
    Wrong(Misbehaviour),
    Odd(Oddity),
}

impl Fault {
    fn befall(self, provider: &Provider) {
        provider.behave(|behaviour| match self {
            Self::Page(status, page) => behaviour.page = Some((status, page)),
            Self::Refused(error, description) => behaviour.refusal = Some((error, description)),
            Self::Denied(description) => {
                behaviour.deny = true;
                behaviour.denial = ("access_denied", description);
            }
            Self::Wrong(misbehaviour) => behaviour.misbehaviour = Some(misbehaviour),
            Self::Odd(oddity) => behaviour.oddity = Some(oddity),
        });
    }
}

fn name(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Plain => "custom",
        Vendor::Entra => "entra",
        Vendor::Okta => "okta",
        Vendor::PingFederate => "pingfederate",
        Vendor::PingOne => "pingone",
        Vendor::Google => "google",
    }
}

/// Provider, fault, the cause that is to be named, and a part of the fix.
type Row = (Vendor, Fault, &'static str, &'static str);

const MISMATCH: &str = "<script>$Config={\"strServiceExceptionMessage\":\"AADSTS50011: The redirect URI \
                        'http://localhost:18080' specified in the request does not match\"}</script>";
const NOT_LOGIN: &str = "<h1>400 Bad Request</h1>The &#39;redirect_uri&#39; parameter must be a Login redirect URI in the \
                         client app settings.";
const NOT_CONFIGURED: &str = "One or more scopes are not configured for the authorization server resource.";
const EVALUATION: &str = "Policy evaluation failed for this request, please check the policy configurations.";
const UNVERIFIED: &str = "Access blocked: Example has not completed the Google verification process";

const BEFORE_THE_ROLL_OUT: [Row; 12] = [
    (Vendor::Entra, Fault::Page(200, MISMATCH), "redirect-not-registered", "Mobile and desktop applications"),
    (Vendor::Okta, Fault::Page(400, NOT_LOGIN), "redirect-not-registered", "Sign-in redirect URIs"),
    (
        Vendor::Google,
        Fault::Page(400, "Error 400: redirect_uri_mismatch"),
        "redirect-not-registered",
        "Desktop app",
    ),
    (
        Vendor::PingFederate,
        Fault::Page(400, "Redirect URI mismatch"),
        "redirect-not-registered",
        "Redirection URI",
    ),
    (
        Vendor::Okta,
        Fault::Refused("invalid_scope", NOT_CONFIGURED),
        "scope-refused",
        "offline_access has to be there",
    ),
    (Vendor::Okta, Fault::Refused("access_denied", EVALUATION), "access-policy-refuses", "Access Policies"),
    (Vendor::PingOne, Fault::Page(400, "<h1>Sorry</h1>"), "application-disabled", "switch the toggle on"),
    (Vendor::Google, Fault::Page(403, UNVERIFIED), "application-not-verified", "make it Internal"),
    (
        Vendor::Entra,
        Fault::Page(200, "AADSTS90094: needs admin permission"),
        "consent-missing",
        "Grant admin consent",
    ),
    (Vendor::Entra, Fault::Page(200, "AADSTS700016: was not found"), "client-unknown", "Compare `ClientId`"),
    (Vendor::Plain, Fault::Wrong(Misbehaviour::KeysUnusable), "keys-unusable", "HS256"),
    (Vendor::Plain, Fault::Wrong(Misbehaviour::OffersLittle), "scopes-not-offered", "Add the scopes"),
];

/// A provider of a vendor, broken in one way, before anything is installed.
#[tokio::test]
async fn rows_of_the_vendors_tables_that_show_before_the_roll_out() {
    for (vendor, fault, id, fix) in BEFORE_THE_ROLL_OUT {
        let provider = Provider::start_as(vendor).await;
        let secret = if vendor == Vendor::Google { "ClientSecret = \"GOCSPX-lab\"\n" } else { "" };
        let policy = policy_of(&provider, &format!("IdentityProvider = \"{}\"\n{secret}", name(vendor)));
        let device = Device::new();
        let healthy = before_roll_out_on(&device, &policy).await;
        assert!(!healthy.ids().contains(&id), "{vendor:?} {id}: {:#?}", healthy.findings);
        for check in ["discovery", "issuer", "endpoints", "keys", "redirect", "token-endpoint", "clock"] {
            assert_eq!(healthy.outcome(check), "pass", "{vendor:?}: {:#?}", healthy.findings);
        }
        fault.befall(&provider);
        let found = before_roll_out_on(&device, &policy).await;
        let diagnosis = found.diagnosis(id);
        assert!(diagnosis["fix"].as_str().unwrap().contains(fix), "{diagnosis:#}");
        assert_eq!(found.code, Some(2), "{vendor:?} {id}: {:#?}", found.findings);
        // What was read from a page is a guess; what came back by the protocol is not.
        match fault {
            Fault::Page(..) => assert_eq!(diagnosis["confidence"], "heuristic", "{diagnosis:#}"),
            Fault::Refused(..) => assert_eq!(diagnosis["confidence"], "certain", "{diagnosis:#}"),
            Fault::Denied(_) | Fault::Wrong(_) | Fault::Odd(_) => {}
        }
    }
}

/// The right client at the right provider, and something else that nobody registered.
#[tokio::test]
async fn a_certified_provider_is_understood_without_a_browser() {
    let port = free_port();
    let provider = super::browser::OtherProvider::start(&format!("http://localhost:{port}")).await;
    let policy = |client: &str, port: u16| {
        format!(
            "Issuer = \"{}\"\nClientId = \"{client}\"\nRedirectUri = \"http://localhost:{port}\"\nProxyMode = \"direct\"\n\
             App = \"lab-notes\"\n{FILE_VAULT}",
            provider.issuer
        )
    };
    let found = before_roll_out(&policy("steward-lab", port)).await;
    assert_eq!(found.outcome("redirect"), "pass", "{:#?}", found.findings);
    let found = before_roll_out(&policy("somebody-else", port)).await;
    found.diagnosis("client-unknown");
    // Native clients of this provider may use any port, but not any path.
    let wrong = policy("steward-lab", port).replace(&format!("{port}\""), &format!("{port}/elsewhere\""));
    let found = before_roll_out(&wrong).await;
    found.diagnosis("redirect-not-registered");
}

const NO_CONSENT: &str = "AADSTS65001: The user or administrator has not consented";
const UNASSIGNED: &str = "User is not assigned to the client application.";

const AT_A_SIGN_IN: [Row; 9] = [
    (Vendor::Entra, Fault::Wrong(Misbehaviour::NoEmail), "email-missing", "Add optional claim"),
    (Vendor::Entra, Fault::Denied(NO_CONSENT), "consent-missing", "Grant admin consent"),
    (Vendor::Okta, Fault::Denied(UNASSIGNED), "not-assigned", "Assignments"),
    (
        Vendor::Okta,
        Fault::Wrong(Misbehaviour::NoRefreshToken),
        "no-refresh-token",
        "Grant type: Refresh Token",
    ),
    (Vendor::PingOne, Fault::Wrong(Misbehaviour::UserInfoRefused), "userinfo-refused", "Resources"),
    (
        Vendor::Plain,
        Fault::Odd(Oddity::RenewalWithoutEmail),
        "email-missing-after-refresh",
        "renewals as well",
    ),
    (
        Vendor::Plain,
        Fault::Odd(Oddity::RenewalWithoutIdToken),
        "no-id-token-on-refresh",
        "return an ID token on refresh",
    ),
    (Vendor::Plain, Fault::Wrong(Misbehaviour::WrongIssuer), "issuer-differs", "exactly the value"),
    (Vendor::Plain, Fault::Wrong(Misbehaviour::Expired), "clock-wrong", "automatic time"),
];

/// What shows only when somebody signs in.
#[tokio::test]
async fn rows_of_the_vendors_tables_that_show_at_a_sign_in() {
    for (vendor, fault, id, fix) in AT_A_SIGN_IN {
        let policy = format!("IdentityProvider = \"{}\"\n{FILE_VAULT}", name(vendor));
        let office = office_at(Device::new(), Provider::start_as(vendor).await, &policy).await;
        let healthy = examine(&office.device, &["--sign-in"]).await;
        assert!(!healthy.ids().contains(&id), "{vendor:?} {id}: {:#?}", healthy.findings);
        office.device.printed(&["logout"]).await;
        fault.befall(&office.provider);
        let found = examine(&office.device, &["--sign-in"]).await;
        let diagnosis = found.diagnosis(id);
        assert!(diagnosis["fix"].as_str().unwrap().contains(fix), "{diagnosis:#}");
        assert_eq!(found.code, Some(2), "{vendor:?} {id}: {:#?}", found.findings);
    }
}

/// PingFederate as it is installed, and addresses that are not equal to the letter.
#[tokio::test]
async fn a_provider_as_it_is_installed_and_an_address_in_other_capitals_are_named() {
    for (vendor, expected, id, fix) in [
        (Vendor::PingFederate, EMAIL, "no-id-token-on-refresh", "Return ID Token On Refresh Grant"),
        (Vendor::Entra, "Ada@example.com", "email-differs", "Mail attribute"),
        (Vendor::Okta, "eve@example.com", "email-differs", "capitals included"),
    ] {
        let policy = format!("IdentityProvider = \"{}\"\n{FILE_VAULT}", name(vendor));
        let office = office_at(Device::new(), Provider::start_as(vendor).await, &policy).await;
        let found = examine(&office.device, &["--sign-in", "--expect-email", expected]).await;
        let diagnosis = found.diagnosis(id);
        assert!(diagnosis["fix"].as_str().unwrap().contains(fix), "{diagnosis:#}");
        assert_eq!(found.code, Some(2), "{vendor:?} {id}: {:#?}", found.findings);
    }
}

/// The issuer, to the letter.
#[tokio::test]
async fn an_issuer_that_differs_is_shown_to_the_letter() {
    let entra = Provider::start_as(Vendor::Entra).await;
    let right = entra.issuer().to_owned();
    let short = right.strip_suffix("/v2.0").unwrap();
    let policy = |issuer: &str, more: &str| {
        format!(
            "Issuer = \"{issuer}\"\nClientId = \"{CLIENT_ID}\"\nProxyMode = \"direct\"\nApp = \"lab-notes\"\n{FILE_VAULT}{more}"
        )
    };
    let found = before_roll_out(&policy(&format!("{right}/"), "")).await;
    let shown = found.diagnosis("issuer-differs")["evidence"].to_string();
    assert!(
        shown.contains("a slash too many at the end") && shown.contains(&format!("use exactly {right}")),
        "{shown}"
    );
    // A version is missing; discovery is not there, but at the right place it is.
    let found = before_roll_out(&policy(short, "")).await;
    let shown = found.diagnosis("issuer-differs")["evidence"].to_string();
    assert!(shown.contains("/v2.0 is missing at the end"), "{shown}");
    let plain = Provider::start().await;
    plain.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::DiscoveryWithSlash));
    let found = before_roll_out(&policy(plain.issuer(), "")).await;
    let shown = found.diagnosis("issuer-differs")["evidence"].to_string();
    assert!(shown.contains("the slash at the end is missing"), "{shown}");
    plain.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::DiscoveryOfEveryTenant));
    let found = before_roll_out(&policy(plain.issuer(), "IdentityProvider = \"entra\"\n")).await;
    found.diagnosis("issuer-of-every-tenant");
    let okta = Provider::start_as(Vendor::Okta).await;
    okta.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::DiscoveryRefused));
    let found = before_roll_out(&policy(okta.issuer(), "IdentityProvider = \"okta\"\n")).await;
    assert!(
        found.diagnosis("authorization-server-unavailable")["fix"]
            .to_string()
            .contains("--authorization-server org")
    );
    let found = before_roll_out(&policy(&format!("{}/nowhere", plain.issuer()), "")).await;
    found.diagnosis("discovery-missing");

    // Endpoints that are not the identity provider's, among them the keys where PingOne has none.
    let ping = Provider::start_as(Vendor::PingOne).await;
    let base = ping.issuer();
    let more = format!(
        "IdentityProvider = \"pingone\"\nJwksUri = \"{base}/.well-known/jwks.json\"\nTokenEndpoint = \"{base}/elsewhere\"\n"
    );
    let found = before_roll_out(&policy(base, &more)).await;
    let keys = found.diagnosis("keys-elsewhere");
    assert!(
        keys["fix"].to_string().contains("/as/jwks")
            && keys["evidence"].to_string().contains(&format!("{base}/jwks")),
        "{keys:#}"
    );
    found.diagnosis("endpoint-differs");
}

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
        .diagnosis("proxy-unreachable");
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
    let office = super::office::office_by(
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

#[tokio::test]
async fn what_is_wrong_with_this_device_is_named() {
    let provider = Provider::start().await;
    let port = free_port();
    let policy = |more: &str| format!("{}{more}", sign_in_policy(&provider, port));
    let mut device = Device::new();
    device.set("BROWSER", "/nowhere/browser");
    device.set("PATH", "/nowhere");
    let taken = std::net::TcpListener::bind(("::1", port)).unwrap();
    let found = before_roll_out_on(&device, &policy("")).await;
    let shown = found.diagnosis("port-taken")["evidence"].to_string();
    assert!(shown.contains(&format!("(process {}, ", std::process::id())), "{shown}");
    assert_eq!((found.outcome("browser"), found.outcome("vault")), ("warning", "failure"));
    found.diagnosis("no-browser");
    found.diagnosis("vault-unusable");
    drop(taken);
    let found = before_roll_out_on(&device, &policy(FILE_VAULT)).await;
    assert_eq!((found.outcome("port"), found.outcome("vault")), ("pass", "warning"));

    // In effect, but nothing runs; then without the app.
    let device = Device::new();
    device.push("50.toml", &policy(FILE_VAULT));
    let found = examine(&device, &[]).await;
    found.diagnosis("agent-not-running");
    found.diagnosis("broker-not-running");
    found.diagnosis("app-not-installed");
    assert_eq!(found.outcome("discovery"), "pass", "the policy is read all the same");
    // A policy with mistakes, and one that is dangerous.
    let found = before_roll_out(&policy("UpdateMode = \"Automatik\"\n")).await;
    assert!(found.diagnosis("policy-invalid")["fix"].to_string().contains("automatic"));
    let found = before_roll_out(&policy("UpdatePinnedVersion = \"2.0.0\"\n")).await;
    assert!(found.diagnosis("update-hazard")["fix"].to_string().contains("AppSelfUpdate"));
    let found = before_roll_out("App = \"lab-notes\"\n").await;
    assert_eq!(
        (found.diagnosis("not-configured")["confidence"].as_str(), found.code),
        (Some("certain"), Some(2))
    );
}

/// What only the app or a browser can say.
#[tokio::test]
async fn what_the_app_wrote_or_a_person_was_told_is_explained() {
    let office = office(FILE_VAULT).await;
    let logs = office.device.path("home/.local/state/lab-notes");
    fs_err::create_dir_all(&logs).unwrap();
    fs_err::write(logs.join("main.log"), "started\nsign-in: it is going on\n").unwrap();
    let found = examine(&office.device, &[]).await;
    assert_eq!(found.outcome("app-log"), "pass", "{:#?}", found.findings);
    let said = "Enterprise sign-in for Example Corp has not been configured for this account";
    fs_err::write(logs.join("main.log"), format!("started\nerror: {said}\nended\n")).unwrap();
    let found = examine(&office.device, &[]).await;
    assert!(found.diagnosis("extension-missing")["fix"].to_string().contains("Add extension"));
    let found = examine(&office.device, &["--said", "AADSTS50105: not assigned to a role"]).await;
    found.diagnosis("not-assigned");
    let text = office.device.printed(&["doctor", "--said", "something else"]).await;
    assert!(text.contains("not known to mean anything"), "{text}");
}

/// Reports say what the problems come from, and name nobody.
#[tokio::test]
async fn a_report_says_what_is_the_matter() {
    let office = office(FILE_VAULT).await;
    refuse(&office).await;
    let report = office.device.printed(&["report", "--format", "json"]).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let ids: Vec<&str> =
        report["diagnoses"].as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
    assert!(ids.contains(&"consent-missing"), "{report:#}");
    assert!(!report.to_string().contains("AADSTS"), "{report:#}");
}

/// A person is refused in a vendor's words, and told what to do about it.
async fn refuse(office: &Office) {
    office.provider.behave(|behaviour| {
        behaviour.deny = true;
        behaviour.denial = ("access_denied", "AADSTS90094: The grant requires admin permission.");
    });
    let said = office.device.printed(&["login"]).await;
    assert!(
        said.contains("AADSTS90094") && said.contains("Grant consent to the app as an administrator"),
        "{said}"
    );
}
