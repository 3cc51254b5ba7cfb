//! Settings that are each valid and contradict one another. Each rule is one function over the typed policy.

use url::Url;

use crate::loopback::is_loopback;
use crate::preset;
use crate::problem::{Code, Problem};
use crate::settings::{AppSelfUpdate, IdentityProvider, Policy, ProxyMode};

/// Every contradiction in a policy.
pub(crate) fn contradictions(policy: &Policy) -> Vec<Problem> {
    let rules: [fn(&Policy) -> Vec<Problem>; 10] = [
        half_configured_sign_in,
        issuer_of_another_product,
        client_id_of_the_tenant,
        scopes_without_what_sign_in_needs,
        sign_in_that_nobody_may_use,
        endpoints_of_another_host,
        needless_client_secret,
        pin_against_the_apps_own_updater,
        pin_below_minimum,
        proxy_mode_without_its_address,
    ];
    rules.iter().flat_map(|rule| rule(policy)).collect()
}

fn contradiction(key: &str, message: impl Into<String>, hint: &str) -> Problem {
    Problem::new(Code::PolicyContradiction, message).key(key).hint(hint.to_owned())
}

fn half_configured_sign_in(policy: &Policy) -> Vec<Problem> {
    match (&policy.issuer, &policy.client_id) {
        (Some(_), None) => {
            vec![contradiction("ClientId", "not set, but `Issuer` is set", "sign-in needs both")]
        }
        (None, Some(_)) => {
            vec![contradiction("Issuer", "not set, but `ClientId` is set", "sign-in needs both")]
        }
        (Some(_), Some(_)) | (None, None) => Vec::new(),
    }
}

/// The product that an issuer belongs to, by its host.
fn product_of(host: &str) -> Option<IdentityProvider> {
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match host {
        "login.microsoftonline.com"
        | "login.microsoftonline.us"
        | "login.partner.microsoftonline.cn"
        | "sts.windows.net" => Some(IdentityProvider::Entra),
        "accounts.google.com" => Some(IdentityProvider::Google),
        _ if ["okta.com", "oktapreview.com", "okta-emea.com", "okta-gov.com", "okta.mil"]
            .into_iter()
            .any(below) =>
        {
            Some(IdentityProvider::Okta)
        }
        _ if host.starts_with("auth.pingone.") => Some(IdentityProvider::PingOne),
        _ => None,
    }
}

/// The issuer must be exactly what a provider's tokens say (OpenID Connect Core 1.0, section 3.1.3.7), so
/// nearly right is wrong.
fn issuer_of_another_product(policy: &Policy) -> Vec<Problem> {
    let Some(issuer) = &policy.issuer else { return Vec::new() };
    let Ok(url) = Url::parse(issuer) else { return Vec::new() };
    let wrong = |message: &str, hint: &str| vec![contradiction("Issuer", message, hint)];
    if let Some((exact, _)) = issuer.split_once("/.well-known/") {
        return wrong(
            "the address of the discovery document, not the issuer",
            &format!("write {}", of_host(policy, exact)),
        );
    }
    if is_on_this_device(issuer) {
        return Vec::new();
    }
    let host = url.host_str().unwrap_or_default();
    let by_host = product_of(host);
    let named = policy.identity_provider;
    let fits = match (named, by_host) {
        (IdentityProvider::Custom, Some(product)) => {
            // Without the product's name Google gives no refresh token.
            product != IdentityProvider::Google
        }
        (IdentityProvider::Entra | IdentityProvider::Google, product) => product == Some(named),
        // They have domains of their own.
        (_, product) => product.is_none_or(|product| product == named),
    };
    if !fits {
        let right = by_host.map_or_else(
            || {
                if named == IdentityProvider::Google {
                    "Google's issuer is https://accounts.google.com".to_owned()
                } else {
                    "it looks like https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/v2.0".to_owned()
                }
            },
            |product| format!("if that is right, set `IdentityProvider` to `{}`", product.as_str()),
        );
        return wrong(
            &format!("not an issuer of {}, which `IdentityProvider` names", named.as_str()),
            &right,
        );
    }
    let product = if named == IdentityProvider::Custom { by_host } else { Some(named) };
    let exact = match product {
        Some(IdentityProvider::Entra) => preset::entra(issuer),
        Some(IdentityProvider::Okta) => {
            // Without a path it is the organization's own authorization server.
            let of_organization = url.path().trim_matches('/').is_empty().then_some("org");
            preset::okta(issuer, of_organization)
        }
        Some(IdentityProvider::PingOne) if by_host.is_some() => preset::pingone(Some(issuer), None, None),
        Some(IdentityProvider::Google) => Ok(preset::google()),
        Some(IdentityProvider::PingFederate | IdentityProvider::PingOne) if issuer.ends_with('/') => {
            return wrong(
                "ends in a slash, but the issuers of this provider do not",
                &format!("write {}", issuer.trim_end_matches('/')),
            );
        }
        Some(_) | None => return Vec::new(),
    };
    match exact {
        Err(error) => wrong(
            &format!("cannot be the issuer of a token: {error}"),
            "copy the issuer from the provider's discovery document",
        ),
        Ok(exact) if exact.issuer != *issuer => {
            wrong("almost, but not exactly, the issuer in tokens", &format!("write {}", exact.issuer))
        }
        // Tokens name the tenant by its ID.
        Ok(_)
            if product == Some(IdentityProvider::Entra)
                && tenant_of(&url).is_some_and(|tenant| tenant.contains('.')) =>
        {
            wrong(
                "has the domain of the tenant, but tokens have its ID",
                "write the Directory (tenant) ID of the overview page in place of the domain",
            )
        }
        Ok(_) => Vec::new(),
    }
}

/// An issuer without what the product's issuers never have.
fn of_host(policy: &Policy, issuer: &str) -> String {
    let custom = policy.identity_provider == IdentityProvider::Custom;
    if custom { issuer.to_owned() } else { issuer.trim_end_matches('/').to_owned() }
}

fn tenant_of(issuer: &Url) -> Option<&str> {
    issuer.path_segments()?.find(|part| !part.is_empty())
}

/// Tenant and client are both GUIDs, on the same page of the portal.
fn client_id_of_the_tenant(policy: &Policy) -> Vec<Problem> {
    let (Some(issuer), Some(client)) = (&policy.issuer, &policy.client_id) else { return Vec::new() };
    let in_path = |address: &str| {
        Url::parse(address).is_ok_and(|url| {
            url.path_segments().into_iter().flatten().any(|part| part.eq_ignore_ascii_case(client))
        })
    };
    if preset::identifier(client).is_none() {
        let wrong = |message: &str, hint: &str| vec![contradiction("ClientId", message, hint)];
        return match policy.identity_provider {
            _ if is_on_this_device(issuer) => Vec::new(),
            IdentityProvider::Entra => wrong(
                "not an application (client) ID of Entra ID, which is a GUID",
                "copy the Application (client) ID from the overview page of the app registration",
            ),
            IdentityProvider::Google if !client.ends_with(".apps.googleusercontent.com") => wrong(
                "not a client ID of Google, which ends in .apps.googleusercontent.com",
                "copy it from the page of the OAuth client",
            ),
            IdentityProvider::Google
            | IdentityProvider::Custom
            | IdentityProvider::Okta
            | IdentityProvider::PingFederate
            | IdentityProvider::PingOne => Vec::new(),
        };
    }
    if in_path(issuer) {
        return vec![contradiction(
            "ClientId",
            "the same as the ID of the tenant in `Issuer`",
            "copy the Application (client) ID, which is shown beside the Directory (tenant) ID",
        )];
    }
    let endpoints = [&policy.authorization_endpoint, &policy.token_endpoint, &policy.jwks_uri];
    if endpoints.into_iter().flatten().any(|endpoint| in_path(endpoint)) {
        return vec![contradiction(
            "ClientId",
            "the ID of the tenant in the endpoints; client and tenant may be swapped",
            "compare both with the overview page of the app registration",
        )];
    }
    Vec::new()
}

/// What a session needs that lasts longer than an hour (OpenID Connect Core 1.0, sections 3.1.2.1 and 11).
fn scopes_without_what_sign_in_needs(policy: &Policy) -> Vec<Problem> {
    if policy.issuer.is_none() {
        return Vec::new();
    }
    let has = |scope: &str| policy.scopes.iter().any(|one| one == scope);
    let mut problems = Vec::new();
    if !has("openid") {
        problems.push(contradiction(
            "Scopes",
            "without `openid` there is no ID token, so nobody can sign in",
            "add it",
        ));
    }
    if !has("offline_access") && policy.identity_provider != IdentityProvider::Google {
        problems.push(contradiction(
            "Scopes",
            "without `offline_access` there is no refresh token: users sign in again every hour or so",
            "add it",
        ));
    }
    problems
}

fn sign_in_that_nobody_may_use(policy: &Policy) -> Vec<Problem> {
    if policy.allowed_email_domains.as_ref().is_none_or(|domains| !domains.is_empty()) {
        return Vec::new();
    }
    vec![contradiction(
        "AllowedEmailDomains",
        "an empty list, so nobody can sign in",
        "name the domains, or remove the setting",
    )]
}

fn endpoints_of_another_host(policy: &Policy) -> Vec<Problem> {
    let Some(issuer) = policy.issuer.as_deref().and_then(host) else { return Vec::new() };
    let family: &[&str] = match issuer.as_str() {
        "accounts.google.com" => &["accounts.google.com", "oauth2.googleapis.com", "www.googleapis.com"],
        same => &[same],
    };
    [
        ("AuthorizationEndpoint", &policy.authorization_endpoint),
        ("TokenEndpoint", &policy.token_endpoint),
        ("JwksUri", &policy.jwks_uri),
    ]
    .into_iter()
    .filter_map(|(key, endpoint)| {
        let host = host(endpoint.as_deref()?)?;
        (!family.contains(&host.as_str())).then(|| {
            contradiction(
                key,
                format!("is on {host}, but the issuer is {issuer}"),
                "check that both belong to the same identity provider",
            )
        })
    })
    .collect()
}

fn needless_client_secret(policy: &Policy) -> Vec<Problem> {
    let needed = matches!(policy.identity_provider, IdentityProvider::Google | IdentityProvider::Custom);
    if policy.client_secret.is_none() || needed {
        return Vec::new();
    }
    vec![contradiction(
        "ClientSecret",
        format!("set, but {} expects a public client without one", policy.identity_provider.as_str()),
        "remove it and register the app as a native (public) client",
    )]
}

fn pin_against_the_apps_own_updater(policy: &Policy) -> Vec<Problem> {
    if policy.update_pinned_version.is_none() || policy.app_self_update == Some(AppSelfUpdate::None) {
        return Vec::new();
    }
    let message = "set, while the app's own updater may run: the app's installer may then treat the installation as broken and remove it";
    vec![
        Problem::new(Code::PolicyPinAgainstAppUpdater, message)
            .key("UpdatePinnedVersion")
            .hint("set `AppSelfUpdate` to `none` and let users restart the app before pinning".to_owned()),
    ]
}

fn pin_below_minimum(policy: &Policy) -> Vec<Problem> {
    match (&policy.update_pinned_version, &policy.update_minimum_version) {
        (Some(pin), Some(minimum)) if pin < minimum => vec![contradiction(
            "UpdatePinnedVersion",
            format!("{pin} is below `UpdateMinimumVersion` {minimum}"),
            "the pin decides; raise it or lower the minimum",
        )],
        _ => Vec::new(),
    }
}

fn proxy_mode_without_its_address(policy: &Policy) -> Vec<Problem> {
    match (policy.proxy_mode, &policy.proxy_url) {
        (ProxyMode::Fixed, None) => vec![contradiction(
            "ProxyMode",
            "`fixed`, but `ProxyUrl` is not set, so nothing can be reached",
            "set `ProxyUrl`, or the mode to `system`",
        )],
        (ProxyMode::System | ProxyMode::Direct, Some(_)) => {
            vec![contradiction("ProxyUrl", "set, but not used", "set `ProxyMode` to `fixed`")]
        }
        (ProxyMode::Fixed, Some(_)) | (ProxyMode::System | ProxyMode::Direct, None) => Vec::new(),
    }
}

fn host(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_ascii_lowercase)
}

/// Whether the identity provider runs on this device: a test, which no product's address is expected of.
fn is_on_this_device(issuer: &str) -> bool {
    Url::parse(issuer).is_ok_and(|url| is_loopback(&url))
}

#[cfg(test)]
mod tests {
    use crate::raw::{RawValue, Source};
    use crate::read::drop_in;
    use crate::resolve::{LastGood, resolve};

    fn messages(policy: &str) -> Vec<String> {
        let source = Source {
            rank: 0,
            name: "test".to_owned(),
            contents: Ok(drop_in::read(policy.as_bytes()).unwrap()),
        };
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
                "IdentityProvider = \"google\"\nClientId = \"c.apps.googleusercontent.com\"\nIssuer = \"https://accounts.google.com/\"".to_owned(),
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
                "IdentityProvider = \"google\"\nClientId = \"c.apps.googleusercontent.com\"\nIssuer = \"https://accounts.google.com\"\nTokenEndpoint = \"https://oauth2.googleapis.com/token\"".to_owned(),
                "",
            ),
            ("IdentityProvider = \"okta\"\nClientSecret = \"s\"".to_owned(), "`ClientSecret`: set, but okta"),
            (
                "UpdatePinnedVersion = \"2.0.0\"".to_owned(),
                "policy.pin-against-app-updater `UpdatePinnedVersion`: set, while the app's own updater",
            ),
            ("UpdatePinnedVersion = \"2.0.0\"\nAppSelfUpdate = \"none\"".to_owned(), ""),
            (
                "UpdatePinnedVersion = \"2.0.0\"\nAppSelfUpdate = \"none\"\nUpdateMinimumVersion = \"2.1.0\"".to_owned(),
                "2.0.0 is below `UpdateMinimumVersion` 2.1.0",
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
            } else {
                assert!(messages.iter().any(|message| message.contains(expected)), "{policy}: {messages:?}");
            }
        }
    }
}
