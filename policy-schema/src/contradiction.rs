//! Settings that are each valid and contradict one another. Each rule is one function over the typed policy.

use url::Url;

use crate::loopback::is_loopback;
use crate::problem::{Code, Problem};
use crate::settings::{AppSelfUpdate, IdentityProvider, Policy, ProxyMode};

/// Every contradiction in a policy.
pub(crate) fn contradictions(policy: &Policy) -> Vec<Problem> {
    let rules: [fn(&Policy) -> Vec<Problem>; 7] = [
        half_configured_sign_in,
        issuer_of_another_product,
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
            vec![contradiction("ClientId", "not set, although `Issuer` is", "sign-in needs both")]
        }
        (None, Some(_)) => {
            vec![contradiction("Issuer", "not set, although `ClientId` is", "sign-in needs both")]
        }
        (Some(_), Some(_)) | (None, None) => Vec::new(),
    }
}

fn issuer_of_another_product(policy: &Policy) -> Vec<Problem> {
    let Some(issuer) = &policy.issuer else { return Vec::new() };
    let wrong = |message: &str, hint: &str| vec![contradiction("Issuer", message, hint)];
    match policy.identity_provider {
        IdentityProvider::Entra => {
            let tenant = issuer
                .strip_prefix("https://login.microsoftonline.com/")
                .or_else(|| issuer.strip_prefix("https://login.microsoftonline.us/"))
                .or_else(|| issuer.strip_prefix("https://login.partner.microsoftonline.cn/"))
                .map(|rest| rest.trim_end_matches('/'));
            match tenant {
                None if is_on_this_device(issuer) => Vec::new(),
                None => wrong(
                    "not an address of Entra ID",
                    "it looks like https://login.microsoftonline.com/<tenant ID>/v2.0",
                ),
                Some(tenant)
                    if ["common", "organizations", "consumers"]
                        .iter()
                        .any(|name| tenant.starts_with(name)) =>
                {
                    wrong(
                        "names no tenant",
                        "put the tenant ID in its place; `common` is never the issuer of a token",
                    )
                }
                Some(tenant) if !tenant.ends_with("/v2.0") => {
                    wrong("the version is missing at the end", "Entra's issuer ends in /v2.0")
                }
                Some(_) => Vec::new(),
            }
        }
        IdentityProvider::Google if issuer != "https://accounts.google.com" && !is_on_this_device(issuer) => {
            wrong(
                "not Google's",
                "Google's issuer is https://accounts.google.com, without a slash at the end",
            )
        }
        IdentityProvider::Google
        | IdentityProvider::Custom
        | IdentityProvider::Okta
        | IdentityProvider::PingFederate
        | IdentityProvider::PingOne => Vec::new(),
    }
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
                format!("lies on {host}, but the issuer is {issuer}"),
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
    let message = "set, while the app's own updater may run: the app's installer can then take the installation for broken and remove it";
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
        problems.iter().map(|problem| format!("{} {problem}", problem.code.as_str())).collect()
    }

    #[test]
    fn contradiction_is_reported_and_its_repair_is_not() {
        let entra = "IdentityProvider = \"entra\"\nClientId = \"c\"\nIssuer = ";
        let cases = [
            ("Issuer = \"https://a.example\"\n".to_owned(), "`ClientId`: not set"),
            ("ClientId = \"c\"\n".to_owned(), "`Issuer`: not set"),
            (format!("{entra}\"https://login.example.com/t/v2.0\""), "not an address of Entra ID"),
            (format!("{entra}\"https://login.microsoftonline.com/common/v2.0\""), "names no tenant"),
            (format!("{entra}\"https://login.microsoftonline.com/6f1c9a52\""), "the version is missing"),
            (format!("{entra}\"https://login.microsoftonline.com/6f1c9a52/v2.0\""), ""),
            ("IdentityProvider = \"google\"\nClientId = \"c\"\nIssuer = \"https://accounts.google.com/\"".to_owned(), "not Google's"),
            (
                "ClientId = \"c\"\nIssuer = \"https://a.example\"\nTokenEndpoint = \"https://b.example/token\"".to_owned(),
                "`TokenEndpoint`: lies on b.example, but the issuer is a.example",
            ),
            (
                "ClientId = \"c\"\nIssuer = \"https://accounts.google.com\"\nTokenEndpoint = \"https://oauth2.googleapis.com/token\"".to_owned(),
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
            (format!("{entra}\"https://localhost.example.com/t/v2.0\""), "not an address of Entra ID"),
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
