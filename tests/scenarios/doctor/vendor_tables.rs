//! The rows of the app vendor's troubleshooting tables, and issuers that differ.

use e2e::device::Device;
use e2e::provider::{CLIENT_ID, EMAIL, Provider, ProviderFault, Variation, Vendor};
use protocol::diagnosis::{Cause, Confidence};

use super::super::fixture::{FILE_VAULT, device_of_vendor};
use super::{before_roll_out, before_roll_out_on, policy_for, run_doctor};

/// One thing that is wrong with a provider.
#[derive(Clone, Copy)]
enum Fault {
    /// A page instead of the login form.
    Page(u16, &'static str),
    /// The browser is redirected before any page.
    Refused(&'static str, &'static str),
    /// The browser is redirected after the login form.
    Denied(&'static str),
    /// The provider is wrong.
    Provider(ProviderFault),
    /// The provider is unusual.
    Unusual(Variation),
}

impl Fault {
    fn apply(self, provider: &Provider) {
        provider.behave(|behaviour| match self {
            Self::Page(status, page) => behaviour.page = Some((status, page)),
            Self::Refused(error, description) => behaviour.refusal = Some((error, description)),
            Self::Denied(description) => {
                behaviour.deny = true;
                behaviour.denial = ("access_denied", description);
            }
            Self::Provider(fault) => behaviour.fault = Some(fault),
            Self::Unusual(variation) => behaviour.variation = Some(variation),
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

/// Provider, fault, the expected cause, and a part of its fix.
type Row = (Vendor, Fault, Cause, &'static str);
/// The same, with the provider that policy names.
type NamedRow = (Vendor, &'static str, Fault, Cause, &'static str);

const MISMATCH: &str = "<script>$Config={\"strServiceExceptionMessage\":\"AADSTS50011: The redirect URI \
                        'http://localhost:18080' specified in the request does not match\"}</script>";
const NOT_LOGIN: &str = "<h1>400 Bad Request</h1>The &#39;redirect_uri&#39; parameter must be a Login redirect URI in the \
                         client app settings.";
const NOT_CONFIGURED: &str = "One or more scopes are not configured for the authorization server resource.";
const EVALUATION: &str = "Policy evaluation failed for this request, please check the policy configurations.";
const UNVERIFIED: &str = "Access blocked: Example has not completed the Google verification process";

const BEFORE_ROLL_OUT: [Row; 12] = [
    (
        Vendor::Entra,
        Fault::Page(200, MISMATCH),
        Cause::RedirectNotRegistered,
        "Mobile and desktop applications",
    ),
    (Vendor::Okta, Fault::Page(400, NOT_LOGIN), Cause::RedirectNotRegistered, "Sign-in redirect URIs"),
    (
        Vendor::Google,
        Fault::Page(400, "Error 400: redirect_uri_mismatch"),
        Cause::RedirectNotRegistered,
        "Desktop app",
    ),
    (
        Vendor::PingFederate,
        Fault::Page(400, "Redirect URI mismatch"),
        Cause::RedirectNotRegistered,
        "Redirection URI",
    ),
    (
        Vendor::Okta,
        Fault::Refused("invalid_scope", NOT_CONFIGURED),
        Cause::ScopeRefused,
        "add offline_access",
    ),
    (
        Vendor::Okta,
        Fault::Refused("access_denied", EVALUATION),
        Cause::AccessPolicyRefuses,
        "Access Policies",
    ),
    (Vendor::PingOne, Fault::Page(400, "<h1>Sorry</h1>"), Cause::ApplicationDisabled, "turn on the toggle"),
    (Vendor::Google, Fault::Page(403, UNVERIFIED), Cause::ApplicationNotVerified, "select Internal"),
    (
        Vendor::Entra,
        Fault::Page(200, "AADSTS90094: needs admin permission"),
        Cause::ConsentMissing,
        "Grant admin consent",
    ),
    (
        Vendor::Entra,
        Fault::Page(200, "AADSTS700016: was not found"),
        Cause::ClientUnknown,
        "Compare `ClientId`",
    ),
    (Vendor::Plain, Fault::Provider(ProviderFault::KeysUnusable), Cause::KeysUnusable, "HS256"),
    (
        Vendor::Plain,
        Fault::Provider(ProviderFault::FewCapabilities),
        Cause::ScopesNotOffered,
        "add the scopes",
    ),
];

/// A provider of a vendor, broken in one way, before anything is installed.
#[tokio::test]
async fn vendor_table_rows_are_diagnosed_before_roll_out() {
    for (vendor, fault, cause, fix) in BEFORE_ROLL_OUT {
        let provider = Provider::start_as(vendor).await;
        let secret = if vendor == Vendor::Google { "ClientSecret = \"GOCSPX-lab\"\n" } else { "" };
        let policy = policy_for(&provider, &format!("IdentityProvider = \"{}\"\n{secret}", name(vendor)));
        let device = Device::new();
        let healthy = before_roll_out_on(&device, &policy).await;
        assert!(!healthy.causes().contains(&cause), "{vendor:?} {cause:?}: {:#?}", healthy.findings);
        for check in ["discovery", "issuer", "endpoints", "keys", "redirect", "token-endpoint", "clock"] {
            assert_eq!(healthy.outcome(check), "pass", "{vendor:?}: {:#?}", healthy.findings);
        }
        fault.apply(&provider);
        let found = before_roll_out_on(&device, &policy).await;
        let diagnosis = found.diagnosis(cause);
        assert!(diagnosis.fix.contains(fix), "{diagnosis:#?}");
        assert_eq!(found.code, Some(2), "{vendor:?} {cause:?}: {:#?}", found.findings);
        // What a page says is a guess; an error of the protocol is not.
        match fault {
            Fault::Page(..) => assert_eq!(diagnosis.confidence, Confidence::Heuristic, "{diagnosis:#?}"),
            Fault::Refused(..) => assert_eq!(diagnosis.confidence, Confidence::Certain, "{diagnosis:#?}"),
            Fault::Denied(_) | Fault::Provider(_) | Fault::Unusual(_) => {}
        }
    }
}

/// Found by review: a login form that only mentions an error made the doctor fail.
#[tokio::test]
async fn successful_page_that_mentions_error_is_only_a_warning() {
    let provider = Provider::start_as(Vendor::Okta).await;
    let policy = policy_for(&provider, "IdentityProvider = \"okta\"\n");
    let device = Device::new();
    for (status, outcome, code) in [(200, "warning", Some(1)), (400, "failure", Some(2))] {
        Fault::Page(status, "<h1>Sign in</h1> What to do about invalid_scope").apply(&provider);
        let found = before_roll_out_on(&device, &policy).await;
        assert_eq!((found.outcome("redirect"), found.code), (outcome, code), "{:#?}", found.findings);
        assert!(found.causes().contains(&Cause::ScopeRefused), "{:#?}", found.findings);
    }
}

const NO_CONSENT: &str = "AADSTS65001: The user or administrator has not consented";
const UNASSIGNED: &str = "User is not assigned to the client application.";

const AT_SIGN_IN: [NamedRow; 10] = [
    (
        Vendor::Entra,
        "entra",
        Fault::Provider(ProviderFault::NoEmail),
        Cause::EmailMissing,
        "Add optional claim",
    ),
    (Vendor::Entra, "entra", Fault::Denied(NO_CONSENT), Cause::ConsentMissing, "Grant admin consent"),
    (Vendor::Okta, "okta", Fault::Denied(UNASSIGNED), Cause::NotAssigned, "Assignments"),
    (
        Vendor::Okta,
        "okta",
        Fault::Provider(ProviderFault::NoRefreshToken),
        Cause::NoRefreshToken,
        "Grant type: Refresh Token",
    ),
    (
        Vendor::PingOne,
        "pingone",
        Fault::Provider(ProviderFault::UserInfoRefused),
        Cause::UserinfoRefused,
        "Resources",
    ),
    // A PingFederate that returns ID tokens on refresh, which is a setting there.
    (
        Vendor::Plain,
        "pingfederate",
        Fault::Unusual(Variation::RenewalWithoutEmail),
        Cause::EmailMissingAfterRefresh,
        "Attribute Contract",
    ),
    (
        Vendor::Plain,
        "pingfederate",
        Fault::Unusual(Variation::RenewalWithoutIdToken),
        Cause::NoIdTokenOnRefresh,
        "Return ID Token On Refresh Grant",
    ),
    (
        Vendor::Plain,
        "custom",
        Fault::Provider(ProviderFault::WrongIssuer),
        Cause::IssuerDiffers,
        "exactly the value",
    ),
    (Vendor::Plain, "custom", Fault::Provider(ProviderFault::Expired), Cause::ClockWrong, "automatic time"),
    (Vendor::Plain, "google", Fault::Denied(UNVERIFIED), Cause::ApplicationNotVerified, "select Internal"),
];

/// Causes that show only at a sign-in.
#[tokio::test]
async fn vendor_table_rows_are_diagnosed_at_sign_in() {
    for (vendor, name, fault, cause, fix) in AT_SIGN_IN {
        let policy = format!("IdentityProvider = \"{name}\"\n");
        let fixture = device_of_vendor(vendor, &policy).await;
        let healthy = run_doctor(&fixture.device, &["--sign-in"]).await;
        assert!(!healthy.causes().contains(&cause), "{vendor:?} {cause:?}: {:#?}", healthy.findings);
        fixture.device.printed(&["logout"]).await;
        fault.apply(&fixture.provider);
        let found = run_doctor(&fixture.device, &["--sign-in"]).await;
        let diagnosis = found.diagnosis(cause);
        assert!(diagnosis.fix.contains(fix), "{diagnosis:#?}");
        assert_eq!(found.code, Some(2), "{vendor:?} {cause:?}: {:#?}", found.findings);
    }
}

/// Sessions that end soon: the scope is not requested, or Google is not asked for offline access in its own way.
#[tokio::test]
async fn session_without_refresh_token_is_diagnosed_before_and_after_sign_in() {
    let provider = Provider::start_as(Vendor::Okta).await;
    let short = "IdentityProvider = \"okta\"\nScopes = [\"openid\", \"email\"]\n";
    let found = before_roll_out(&policy_for(&provider, short)).await;
    let diagnosis = found.diagnosis(Cause::OfflineAccessNotAsked);
    assert_eq!(diagnosis.confidence, Confidence::Certain);
    assert_eq!(found.code, Some(1), "{diagnosis:#?}");
    let whole = "IdentityProvider = \"okta\"\nScopes = [\"openid\", \"email\", \"offline_access\"]\n";
    let found = before_roll_out(&policy_for(&provider, whole)).await;
    assert!(!found.causes().contains(&Cause::OfflineAccessNotAsked), "{:#?}", found.findings);
    let scopes = "Scopes = [\"openid\", \"email\"]\n";
    let secret = format!("IdentityProvider = \"google\"\nClientSecret = \"GOCSPX-lab\"\n{scopes}");
    for (vendor, policy, lasts) in [(Vendor::Google, secret.as_str(), true), (Vendor::Okta, scopes, false)] {
        let fixture = device_of_vendor(vendor, policy).await;
        let found = run_doctor(&fixture.device, &["--sign-in"]).await;
        assert_eq!(found.outcome("lasting") == "pass", lasts, "{vendor:?}: {:#?}", found.findings);
        assert_eq!(
            found.causes().contains(&Cause::NoRefreshToken),
            !lasts,
            "{vendor:?}: {:#?}",
            found.findings
        );
    }
}

/// PingFederate with its default settings, and addresses that differ in capitals.
#[tokio::test]
async fn doctor_names_provider_defaults_and_email_in_other_capitals() {
    for (vendor, expected, cause, fix) in [
        (Vendor::PingFederate, EMAIL, Cause::NoIdTokenOnRefresh, "Return ID Token On Refresh Grant"),
        (Vendor::Entra, "Ada@example.com", Cause::EmailDiffers, "Mail attribute"),
        (Vendor::Okta, "eve@example.com", Cause::EmailDiffers, "including upper and lower case"),
    ] {
        let policy = format!("IdentityProvider = \"{}\"\n", name(vendor));
        let fixture = device_of_vendor(vendor, &policy).await;
        let found = run_doctor(&fixture.device, &["--sign-in", "--expect-email", expected]).await;
        let diagnosis = found.diagnosis(cause);
        assert!(diagnosis.fix.contains(fix), "{diagnosis:#?}");
        assert_eq!(found.code, Some(2), "{vendor:?} {cause:?}: {:#?}", found.findings);
    }
}

/// The issuer has to be equal, character by character.
#[tokio::test]
async fn issuer_that_differs_is_shown_exactly() {
    let entra = Provider::start_as(Vendor::Entra).await;
    let right = entra.issuer().to_owned();
    let short = right.strip_suffix("/v2.0").unwrap();
    let policy = |issuer: &str, more: &str| {
        format!(
            "Issuer = \"{issuer}\"\nClientId = \"{CLIENT_ID}\"\nProxyMode = \"direct\"\nApp = \"lab-notes\"\n{FILE_VAULT}{more}"
        )
    };
    let found = before_roll_out(&policy(&format!("{right}/"), "")).await;
    let shown = found.diagnosis(Cause::IssuerDiffers).evidence.join("\n");
    assert!(
        shown.contains("remove the slash at the end") && shown.contains(&format!("use exactly {right}")),
        "{shown}"
    );
    // A version is missing: discovery is not found there, but at the issuer with it.
    let found = before_roll_out(&policy(short, "")).await;
    let shown = found.diagnosis(Cause::IssuerDiffers).evidence.join("\n");
    assert!(shown.contains("/v2.0 is missing at the end"), "{shown}");
    let plain = Provider::start().await;
    plain.behave(|behaviour| behaviour.fault = Some(ProviderFault::DiscoveryWithSlash));
    let found = before_roll_out(&policy(plain.issuer(), "")).await;
    let shown = found.diagnosis(Cause::IssuerDiffers).evidence.join("\n");
    assert!(shown.contains("the slash at the end is missing"), "{shown}");
    plain.behave(|behaviour| behaviour.fault = Some(ProviderFault::DiscoveryOfAllTenants));
    let found = before_roll_out(&policy(plain.issuer(), "IdentityProvider = \"entra\"\n")).await;
    found.diagnosis(Cause::IssuerOfEveryTenant);
    let okta = Provider::start_as(Vendor::Okta).await;
    okta.behave(|behaviour| behaviour.fault = Some(ProviderFault::DiscoveryRefused));
    let found = before_roll_out(&policy(okta.issuer(), "IdentityProvider = \"okta\"\n")).await;
    assert!(
        found.diagnosis(Cause::AuthorizationServerUnavailable).fix.contains("--authorization-server org")
    );
    let found = before_roll_out(&policy(&format!("{}/nowhere", plain.issuer()), "")).await;
    found.diagnosis(Cause::DiscoveryMissing);

    // Endpoints that differ from discovery, among them the keys where PingOne has none.
    let ping = Provider::start_as(Vendor::PingOne).await;
    let base = ping.issuer();
    let more = format!(
        "IdentityProvider = \"pingone\"\nJwksUri = \"{base}/.well-known/jwks.json\"\nTokenEndpoint = \"{base}/elsewhere\"\n"
    );
    let found = before_roll_out(&policy(base, &more)).await;
    let keys = found.diagnosis(Cause::KeysElsewhere);
    assert!(
        keys.fix.contains("/as/jwks") && keys.evidence.join("\n").contains(&format!("{base}/jwks")),
        "{keys:#?}"
    );
    found.diagnosis(Cause::EndpointDiffers);
}
