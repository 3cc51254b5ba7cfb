use crate::raw::{RawValue, Source};
use crate::read::drop_in;
use crate::resolve::{LastGood, resolve};

fn messages(policy: &str) -> Vec<String> {
    let source =
        Source { rank: 0, name: "test".to_owned(), contents: Ok(drop_in::read(policy.as_bytes()).unwrap()) };
    assert!(
        source
            .contents
            .as_ref()
            .unwrap()
            .enforced
            .values()
            .all(|entry| !matches!(entry.value, RawValue::Other(_)))
    );
    let problems = resolve(&[source], &LastGood::default()).problems;
    problems.iter().map(|problem| format!("{} {problem}\n", problem.code.as_str())).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with a line or two for each case")]
fn contradiction_is_reported_and_its_repair_is_not() {
    const TENANT: &str = "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10";
    const CLIENT: &str = "3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77";
    let entra = format!("IdentityProvider = \"entra\"\nClientId = \"{CLIENT}\"\nIssuer = ");
    let at_entra = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let okta = "IdentityProvider = \"okta\"\nClientId = \"0oa1\"\nIssuer = ";
    let write_entra = format!("write {at_entra}");
    let cases = [
        ("Issuer = \"https://a.example\"\n".to_owned(), "`ClientId`: not set"),
        ("ClientId = \"c\"\n".to_owned(), "`Issuer`: not set"),
        (format!("{entra}\"https://login.example.com/t/v2.0\""), "not an issuer of entra"),
        (format!("{entra}\"https://login.microsoftonline.com/common/v2.0\""), "shared endpoint"),
        (format!("{entra}\"https://login.microsoftonline.com/{TENANT}\""), &write_entra),
        (format!("{entra}\"{at_entra}/\""), &write_entra),
        (format!("{entra}\"{at_entra}/.well-known/openid-configuration\""), &write_entra),
        (format!("{entra}\"https://login.microsoftonline.com//{TENANT}/v2.0\""), &write_entra),
        (format!("{entra}\"https://sts.windows.net/{TENANT}/\""), &write_entra),
        (format!("{entra}\"HTTPS://Login.MicrosoftOnline.com/{}/v2.0\"", TENANT.to_uppercase()), &write_entra),
        (format!("{entra}\"https://login.microsoftonline.com/contoso.onmicrosoft.com/v2.0\""), "has the domain of the tenant"),
        (format!("{entra}\"{at_entra}\""), ""),
        (format!("ClientId = \"{CLIENT}\"\nIssuer = \"{at_entra}\""), ""),
        (format!("ClientId = \"{CLIENT}\"\nIssuer = \"{at_entra}/\""), &write_entra),
        (format!("{okta}\"{at_entra}\""), "if that is right, set `IdentityProvider` to `entra`"),
        (format!("{okta}\"https://example-admin.okta.com\""), "write https://example.okta.com\n"),
        (format!("{okta}\"https://example.okta.com/\""), "write https://example.okta.com\n"),
        (format!("{okta}\"https://example.okta.com/.well-known/openid-configuration\""), "write https://example.okta.com\n"),
        (format!("{okta}\"https://example.okta.com/oauth2/default/\""), "write https://example.okta.com/oauth2/default\n"),
        (format!("{okta}\"https://example.okta.com\""), ""),
        (format!("{okta}\"https://login.example.com/oauth2/aus1\""), ""),
        ("IdentityProvider = \"pingfederate\"\nClientId = \"c\"\nIssuer = \"https://sso.example.com:9031/\"".to_owned(), "write https://sso.example.com:9031\n"),
        (format!("IdentityProvider = \"pingone\"\nClientId = \"c\"\nIssuer = \"https://auth.pingone.eu/{TENANT}/as/\""), "/as\n"),
        ("ClientId = \"c\"\nIssuer = \"https://id.example.com/realms/a/\"".to_owned(), ""),
        ("ClientId = \"c\"\nIssuer = \"https://accounts.google.com\"".to_owned(), "set `IdentityProvider` to `google`"),
        (
            "IdentityProvider = \"google\"\nClientId = \"c.apps.googleusercontent.com\"\nClientSecret = \"s\"\nIssuer = \"https://accounts.google.com/\"".to_owned(),
            "write https://accounts.google.com\n",
        ),
        (
            format!("IdentityProvider = \"entra\"\nClientId = \"{TENANT}\"\nIssuer = \"{at_entra}\""),
            "the same as the ID of the tenant",
        ),
        (
            format!("{entra}\"{at_entra}\"\nTokenEndpoint = \"https://login.microsoftonline.com/{CLIENT}/oauth2/v2.0/token\""),
            "client and tenant may be swapped",
        ),
        (format!("IdentityProvider = \"entra\"\nClientId = \"Quick\"\nIssuer = \"{at_entra}\""), "which is a GUID"),
        (format!("{entra}\"{at_entra}\"\nScopes = [\"openid\", \"email\"]"), "without `offline_access`"),
        (format!("{entra}\"{at_entra}\"\nScopes = [\"offline_access\"]"), "without `openid`"),
        (format!("{entra}\"{at_entra}\"\nAllowedEmailDomains = []"), "an empty list, so nobody can sign in"),
        (
            "ClientId = \"c\"\nIssuer = \"https://a.example\"\nTokenEndpoint = \"https://b.example/token\"".to_owned(),
            "`TokenEndpoint`: is on b.example, but the issuer is a.example",
        ),
        (
            "IdentityProvider = \"google\"\nClientId = \"c.apps.googleusercontent.com\"\nClientSecret = \"s\"\nIssuer = \"https://accounts.google.com\"\nTokenEndpoint = \"https://oauth2.googleapis.com/token\"".to_owned(),
            "",
        ),
        (
            "IdentityProvider = \"google\"\nClientId = \"c.apps.googleusercontent.com\"\nIssuer = \"https://accounts.google.com\"".to_owned(),
            "`ClientSecret`: not set, but the token endpoint of Google wants one",
        ),
        ("IdentityProvider = \"google\"\nClientId = \"c.apps.googleusercontent.com\"\nClientSecret = \"c.apps.googleusercontent.com\"".to_owned(), "the same as `ClientId`"),
        ("IdentityProvider = \"okta\"\nClientSecret = \"s\"".to_owned(), "`ClientSecret`: set, but only Google"),
        ("IdentityProvider = \"okta\"\nAllowedEmailDomains = [\"example.com\"]".to_owned(), "`IdentityProvider`: set, but `Issuer` and `ClientId` are not"),
        (format!("{okta}\"https://okta.com\""), "cannot be the issuer of a token"),
        (format!("{okta}\"https://example.okta.com/oauth2/Default\""), "write https://example.okta.com/oauth2/default\n"),
        (format!("IdentityProvider = \"okta\"\nClientId = \"{CLIENT}\"\nIssuer = \"https://example.okta.com\""), "looks like a client ID of Entra ID"),
        (format!("IdentityProvider = \"pingone\"\nClientId = \"c\"\nIssuer = \"https://api.pingone.eu/v1/environments/{TENANT}\""), "/as\n"),
        ("IdentityProvider = \"pingfederate\"\nClientId = \"c\"\nIssuer = \"https://sso.example.com/as/authorization.oauth2\"".to_owned(), "write https://sso.example.com\n"),
        ("IdentityProvider = \"pingfederate\"\nClientId = \"c\"\nIssuer = \"https://sso.example.com/pf/JWKS\"".to_owned(), "write https://sso.example.com\n"),
        ("IdentityProvider = \"pingfederate\"\nClientId = \"c\"\nIssuer = \"https://sso.example.com:9999\"".to_owned(), "port of the administrative console"),
        (format!("{entra}\"https://acme.ciamlogin.com/{TENANT}/v2.0\""), "Entra External ID"),
        (format!("{entra}\"{at_entra}\"\nTokenEndpoint = \"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize\""), "the address that belongs to `AuthorizationEndpoint`"),
        (format!("{entra}\"{at_entra}\"\nTokenEndpoint = \"https://login.microsoftonline.com/{TENANT}/oauth2/token\""), "does not belong to `Issuer`"),
        (
            format!("{entra}\"{at_entra}\"\nTokenEndpoint = \"https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a11/oauth2/v2.0/token\""),
            "another tenant",
        ),
        ("ClientId = \"c\"\nIssuer = \"https://a.example\"\nTokenEndpoint = \"https://a.example/t\"\nJwksUri = \"https://a.example/t\"".to_owned(), "the same address as `TokenEndpoint`"),
        ("ProxyMode = \"fixed\"\nProxyUrl = \"proxy example\"".to_owned(), "!`ProxyUrl` is not set"),
        (
            "UpdatePinnedVersion = \"2.0.0\"".to_owned(),
            "policy.pin-against-app-updater `UpdatePinnedVersion`: set, while the app's own updater",
        ),
        ("UpdatePinnedVersion = \"2.0.0\"\nAppSelfUpdate = \"none\"".to_owned(), ""),
        (
            "UpdatePinnedVersion = \"2.0.0\"\nAppSelfUpdate = \"none\"\nUpdateMinimumVersion = \"2.1.0\"".to_owned(),
            "policy.unreachable-version `UpdatePinnedVersion`: 2.0.0 is below `UpdateMinimumVersion` 2.1.0",
        ),
        ("UpdatePinnedVersion = \"2.1\"\nAppSelfUpdate = \"none\"\nUpdateMinimumVersion = \"2.1.7\"".to_owned(), ""),
        (
            "UpdatePinnedVersion = \"2.1.0-beta.2\"\nAppSelfUpdate = \"none\"\nUpdateChannel = \"stable\"".to_owned(),
            "2.1.0-beta.2 is not in the channel `stable`",
        ),
        ("UpdatePinnedVersion = \"2.1.0-beta.2\"\nAppSelfUpdate = \"none\"\nUpdateChannel = \"beta\"".to_owned(), ""),
        ("UpdateDowngrades = [\"2.1 to 2.0.4\"]".to_owned(), ""),
        ("UpdateAppClose = \"force-at-deadline\"".to_owned(), "`UpdateAppClose`: `force-at-deadline`, but no update has a deadline"),
        ("UpdateAppClose = \"force-at-deadline\"\nUpdateDeadlineHours = 24".to_owned(), ""),
        ("UpdateDowngrades = [\"2.1 to 2.2.0\"]".to_owned(), "`2.1 to 2.2.0` never happens: the second version is not older"),
        ("UpdateDowngrades = [\"2 to 2.0.4\"]".to_owned(), "the second version is not older"),
        (
            "UpdateDowngrades = [\"2.1 to 2.0.4\"]\nUpdateMinimumVersion = \"2.1.0\"".to_owned(),
            "2.0.4 is below `UpdateMinimumVersion` 2.1.0",
        ),
        (
            "UpdateDowngrades = [\"2.1 to 2.0.4\"]\nUpdatePinnedVersion = \"2.1\"".to_owned(),
            "`UpdatePinnedVersion` 2.1 does not allow 2.0.4",
        ),
        (
            "UpdateDowngrades = [\"2.1 to 2.0.4\", \"2.0.4 to 2.0.3\"]".to_owned(),
            "another item leads away from 2.0.4",
        ),
        (format!("{entra}\"http://127.0.0.1:8080/t/v2.0\""), ""),
        (format!("{entra}\"https://localhost:8443/t/v2.0\""), ""),
        (format!("{entra}\"https://localhost.example.com/t/v2.0\""), "not an issuer of entra"),
        ("IdentityProvider = \"google\"\nClientId = \"c\"\nIssuer = \"http://idp.localhost:8080\"".to_owned(), ""),
        ("ProxyMode = \"fixed\"".to_owned(), "policy.contradiction `ProxyMode`: `fixed`, but `ProxyUrl` is not set"),
        ("ProxyUrl = \"http://proxy.example:3128\"".to_owned(), "`ProxyUrl`: set, but not used"),
    ];
    for (policy, expected) in cases {
        let messages = messages(&policy);
        if expected.is_empty() {
            assert!(messages.is_empty(), "{policy}: {messages:?}");
        } else if let Some(unwanted) = expected.strip_prefix('!') {
            assert!(!messages.iter().any(|message| message.contains(unwanted)), "{policy}: {messages:?}");
        } else {
            assert!(messages.iter().any(|message| message.contains(expected)), "{policy}: {messages:?}");
        }
    }
}
