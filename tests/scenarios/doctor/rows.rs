//! The rows of the app vendor's troubleshooting tables, and issuers that are not equal to the letter.

use e2e::device::Device;
use e2e::provider::{CLIENT_ID, EMAIL, Misbehaviour, Oddity, Provider, Vendor};

use super::super::office::{FILE_VAULT, office_at};
use super::{before_roll_out, before_roll_out_on, examine, policy_of};

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
/// The same, with the provider that policy names.
type NamedRow = (Vendor, &'static str, Fault, &'static str, &'static str);

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

/// Found by review: the sign-in page of a provider that only mentions an error ended the doctor with a failure.
#[tokio::test]
async fn a_page_that_comes_as_usual_and_mentions_an_error_is_a_warning() {
    let provider = Provider::start_as(Vendor::Okta).await;
    let policy = policy_of(&provider, "IdentityProvider = \"okta\"\n");
    let device = Device::new();
    for (status, outcome, code) in [(200, "warning", Some(1)), (400, "failure", Some(2))] {
        Fault::Page(status, "<h1>Sign in</h1> What to do about invalid_scope").befall(&provider);
        let found = before_roll_out_on(&device, &policy).await;
        assert_eq!((found.outcome("redirect"), found.code), (outcome, code), "{:#?}", found.findings);
        assert!(found.ids().contains(&"scope-refused"), "{:#?}", found.findings);
    }
}

const NO_CONSENT: &str = "AADSTS65001: The user or administrator has not consented";
const UNASSIGNED: &str = "User is not assigned to the client application.";

const AT_A_SIGN_IN: [NamedRow; 10] = [
    (Vendor::Entra, "entra", Fault::Wrong(Misbehaviour::NoEmail), "email-missing", "Add optional claim"),
    (Vendor::Entra, "entra", Fault::Denied(NO_CONSENT), "consent-missing", "Grant admin consent"),
    (Vendor::Okta, "okta", Fault::Denied(UNASSIGNED), "not-assigned", "Assignments"),
    (
        Vendor::Okta,
        "okta",
        Fault::Wrong(Misbehaviour::NoRefreshToken),
        "no-refresh-token",
        "Grant type: Refresh Token",
    ),
    (
        Vendor::PingOne,
        "pingone",
        Fault::Wrong(Misbehaviour::UserInfoRefused),
        "userinfo-refused",
        "Resources",
    ),
    // One that was told to return ID tokens on refresh, as PingFederate can be.
    (
        Vendor::Plain,
        "pingfederate",
        Fault::Odd(Oddity::RenewalWithoutEmail),
        "email-missing-after-refresh",
        "Attribute Contract",
    ),
    (
        Vendor::Plain,
        "pingfederate",
        Fault::Odd(Oddity::RenewalWithoutIdToken),
        "no-id-token-on-refresh",
        "Return ID Token On Refresh Grant",
    ),
    (Vendor::Plain, "custom", Fault::Wrong(Misbehaviour::WrongIssuer), "issuer-differs", "exactly the value"),
    (Vendor::Plain, "custom", Fault::Wrong(Misbehaviour::Expired), "clock-wrong", "automatic time"),
    (Vendor::Plain, "google", Fault::Denied(UNVERIFIED), "application-not-verified", "make it Internal"),
];

/// What shows only when somebody signs in.
#[tokio::test]
async fn rows_of_the_vendors_tables_that_show_at_a_sign_in() {
    for (vendor, name, fault, id, fix) in AT_A_SIGN_IN {
        let policy = format!("IdentityProvider = \"{name}\"\n{FILE_VAULT}");
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

/// Sessions that end soon: the scope is not asked for, or Google is not asked in its own way.
#[tokio::test]
async fn a_session_that_cannot_last_is_told_before_and_after_the_sign_in() {
    let provider = Provider::start_as(Vendor::Okta).await;
    let short = "IdentityProvider = \"okta\"\nScopes = [\"openid\", \"email\"]\n";
    let found = before_roll_out(&policy_of(&provider, short)).await;
    let diagnosis = found.diagnosis("offline-access-not-asked");
    assert_eq!((diagnosis["confidence"].as_str(), found.code), (Some("certain"), Some(1)), "{diagnosis:#}");
    let whole = "IdentityProvider = \"okta\"\nScopes = [\"openid\", \"email\", \"offline_access\"]\n";
    let found = before_roll_out(&policy_of(&provider, whole)).await;
    assert!(!found.ids().contains(&"offline-access-not-asked"), "{:#?}", found.findings);
    let secret = "ClientSecret = \"GOCSPX-lab\"\nScopes = [\"openid\", \"email\"]\n";
    for (name, lasts) in [("google", true), ("custom", false)] {
        let policy = format!("IdentityProvider = \"{name}\"\n{secret}{FILE_VAULT}");
        let office = office_at(Device::new(), Provider::start_as(Vendor::Google).await, &policy).await;
        let found = examine(&office.device, &["--sign-in"]).await;
        assert_eq!(found.outcome("lasting") == "pass", lasts, "{name}: {:#?}", found.findings);
        assert_eq!(found.ids().contains(&"no-refresh-token"), !lasts, "{name}: {:#?}", found.findings);
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
