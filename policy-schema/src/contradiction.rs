//! Settings that are each valid and contradict one another. Each rule is one function over the typed policy.

use url::Url;

use crate::loopback::is_loopback;
use crate::preset;
use crate::problem::{Code, Problem};
use crate::settings::{AppSelfUpdate, IdentityProvider, Policy, ProxyMode, UpdateAppClose};
use crate::value::Secret;
use crate::version::{Downgrade, Pin, channel_of};

/// Every contradiction in a policy.
pub(crate) fn contradictions(policy: &Policy) -> Vec<Problem> {
    let rules: [fn(&Policy) -> Vec<Problem>; 18] = [
        half_configured_sign_in,
        issuer_of_another_product,
        client_id_of_the_tenant,
        scopes_without_what_sign_in_needs,
        sign_in_that_nobody_may_use,
        endpoints_of_another_host,
        endpoints_of_another_kind,
        needless_client_secret,
        missing_client_secret,
        secret_that_is_none,
        pin_against_the_apps_own_updater,
        pin_below_minimum,
        pin_of_another_channel,
        downgrades_that_never_happen,
        close_at_a_deadline_that_is_none,
        proxy_mode_without_its_address,
        roots_without_a_repository,
        agent_feed_without_roots,
    ];
    rules.iter().flat_map(|rule| rule(policy)).collect()
}

fn contradiction(key: &str, message: impl Into<String>, hint: &str) -> Problem {
    Problem::new(Code::PolicyContradiction, message).key(key).hint(hint.to_owned())
}

/// A version that policy asks for and excludes as well.
fn unreachable(key: &str, message: impl Into<String>, hint: &str) -> Problem {
    Problem::new(Code::PolicyUnreachableVersion, message).key(key).hint(hint.to_owned())
}

fn half_configured_sign_in(policy: &Policy) -> Vec<Problem> {
    match (&policy.issuer, &policy.client_id) {
        (Some(_), None) => {
            vec![contradiction("ClientId", "not set, but `Issuer` is set", "sign-in needs both")]
        }
        (None, Some(_)) => {
            vec![contradiction("Issuer", "not set, but `ClientId` is set", "sign-in needs both")]
        }
        (None, None) if policy.identity_provider != IdentityProvider::Custom => vec![contradiction(
            "IdentityProvider",
            "set, but `Issuer` and `ClientId` are not, so nobody can sign in",
            "`steward setup` finds both",
        )],
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
        _ if preset::OKTA.into_iter().any(|domain| host == domain || below(domain)) => {
            Some(IdentityProvider::Okta)
        }
        _ if preset::REGIONS.into_iter().any(|region| below(&format!("pingone.{region}"))) => {
            Some(IdentityProvider::PingOne)
        }
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
                if host.ends_with(".ciamlogin.com") {
                    "this is a tenant of Entra External ID: set `IdentityProvider` to `custom`".to_owned()
                } else if named == IdentityProvider::Google {
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
        // Its own paths and the port of its console; other issuers may have paths of their own.
        Some(IdentityProvider::PingFederate)
            if url.port() == Some(9999)
                || ["/as/", "/pf/", "/idp/", "/pingfederate/"]
                    .iter()
                    .any(|path| url.path().starts_with(path)) =>
        {
            preset::pingfederate(issuer)
        }
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
    if is_on_this_device(issuer) && preset::identifier(client).is_none() {
        return Vec::new();
    }
    if let Some((message, hint)) = preset::doubt_about_client_id(policy.identity_provider, client) {
        return vec![contradiction("ClientId", message, hint)];
    }
    if preset::identifier(client).is_none() {
        return Vec::new();
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

/// Endpoints that are swapped, or that belong to another tenant or authorization server than the issuer.
fn endpoints_of_another_kind(policy: &Policy) -> Vec<Problem> {
    let given = [
        ("AuthorizationEndpoint", &policy.authorization_endpoint),
        ("TokenEndpoint", &policy.token_endpoint),
        ("JwksUri", &policy.jwks_uri),
    ];
    let exact = policy.issuer.as_deref().and_then(|issuer| {
        let url = Url::parse(issuer).ok()?;
        match policy.identity_provider {
            IdentityProvider::Entra => preset::entra(issuer).ok(),
            IdentityProvider::Okta => {
                let org = url.path().trim_matches('/').is_empty().then_some("org");
                preset::okta(issuer, org).ok()
            }
            // The paths of the others can be configured, or are in their discovery document alone.
            IdentityProvider::Google
            | IdentityProvider::Custom
            | IdentityProvider::PingFederate
            | IdentityProvider::PingOne => None,
        }
    });
    let exact =
        exact.filter(|exact| policy.issuer.as_ref() == Some(&exact.issuer)).and_then(|exact| exact.endpoints);
    let expected =
        exact.as_ref().map(|exact| [&exact.authorization_endpoint, &exact.token_endpoint, &exact.jwks_uri]);
    let mut problems = Vec::new();
    for (index, (key, endpoint)) in given.iter().enumerate() {
        let Some(endpoint) = endpoint else { continue };
        if let Some((other, _)) = given.iter().enumerate().find_map(|(at, (other, same))| {
            (at < index && same.as_ref() == Some(endpoint)).then_some((other, same))
        }) {
            let hint = "copy each from the provider's discovery document, or remove both: Steward reads that document";
            problems.push(contradiction(key, format!("the same address as `{other}`"), hint));
            continue;
        }
        let Some(expected) = expected else { continue };
        // Another host has a problem of its own.
        if expected[index] == endpoint || host(endpoint) != host(expected[index]) {
            continue;
        }
        let swapped =
            given.iter().zip(expected).find(|(_, exact)| *exact == endpoint).map(|((other, _), _)| other);
        let message = swapped.map_or_else(
            || {
                "does not belong to `Issuer`: another tenant or authorization server, or another version"
                    .to_owned()
            },
            |other| format!("the address that belongs to `{other}`"),
        );
        problems.push(contradiction(key, message, &format!("write {}, or remove it", expected[index])));
    }
    problems
}

fn missing_client_secret(policy: &Policy) -> Vec<Problem> {
    let configured = policy.issuer.as_deref().is_some_and(|issuer| !is_on_this_device(issuer));
    if policy.identity_provider != IdentityProvider::Google || policy.client_secret.is_some() || !configured {
        return Vec::new();
    }
    vec![contradiction(
        "ClientSecret",
        "not set, but the token endpoint of Google wants one, also from desktop clients",
        "copy the client secret from the page of the OAuth client",
    )]
}

fn secret_that_is_none(policy: &Policy) -> Vec<Problem> {
    let same = |secret: &Secret| policy.client_id.as_deref() == Some(secret.expose());
    if !policy.client_secret.as_ref().is_some_and(same) {
        return Vec::new();
    }
    vec![contradiction("ClientSecret", "the same as `ClientId`", "copy the secret itself")]
}

impl Policy {
    /// The client secret, if the identity provider is one that gives its desktop clients one: Google. Everywhere else it
    /// would belong to a server's client, and every user could read it.
    #[must_use]
    pub fn usable_client_secret(&self) -> Option<&Secret> {
        let product = self.issuer.as_deref().and_then(host).and_then(|host| product_of(&host));
        let google = [Some(self.identity_provider), product].contains(&Some(IdentityProvider::Google));
        self.client_secret.as_ref().filter(|_| google)
    }
}

fn needless_client_secret(policy: &Policy) -> Vec<Problem> {
    if policy.client_secret.is_none() || policy.usable_client_secret().is_some() {
        return Vec::new();
    }
    let message =
        "set, but only Google gives desktop clients a secret: every user of every device could read it";
    let hint = "remove it, and register the app as a native (public) client, without a secret";
    vec![contradiction("ClientSecret", message, hint).using("no client secret")]
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
        (Some(pin), Some(minimum)) if pin.is_below(minimum) => vec![unreachable(
            "UpdatePinnedVersion",
            format!("{pin} is below `UpdateMinimumVersion` {minimum}"),
            "the pin decides; raise it or lower the minimum",
        )],
        _ => Vec::new(),
    }
}

/// A pin to a pre-release, which another channel has.
fn pin_of_another_channel(policy: &Policy) -> Vec<Problem> {
    let (Some(Pin::Exact(pin)), Some(channel)) = (&policy.update_pinned_version, &policy.update_channel)
    else {
        return Vec::new();
    };
    let own = channel_of(pin);
    if own.is_none_or(|own| own == channel) {
        return Vec::new();
    }
    let message = format!("{pin} is not in the channel `{channel}` of `UpdateChannel`, so no feed offers it");
    vec![unreachable("UpdatePinnedVersion", message, "pin a version of that channel, or change the channel")]
}

fn close_at_a_deadline_that_is_none(policy: &Policy) -> Vec<Problem> {
    if policy.update_app_close != UpdateAppClose::ForceAtDeadline || policy.update_deadline_hours.is_some() {
        return Vec::new();
    }
    let message = "`force-at-deadline`, but no update has a deadline, so no app is ever closed for one";
    vec![contradiction("UpdateAppClose", message, "set `UpdateDeadlineHours` as well").using("`ask`")]
}

fn downgrades_that_never_happen(policy: &Policy) -> Vec<Problem> {
    let wrong = |downgrade: &Downgrade| {
        let message = format!("`{downgrade}` never happens: {}", policy.fault_of(downgrade)?);
        Some(
            unreachable("UpdateDowngrades", message, "correct the item, or remove it")
                .using("the other items".to_owned()),
        )
    };
    policy.update_downgrades.iter().filter_map(wrong).collect()
}

impl Policy {
    /// The downgrades that can happen: each leads to an older version, and to one that policy allows and leads nowhere else.
    pub fn usable_downgrades(&self) -> impl Iterator<Item = &Downgrade> {
        self.update_downgrades.iter().filter(|downgrade| self.fault_of(downgrade).is_none())
    }

    /// Why a downgrade never happens.
    fn fault_of(&self, downgrade: &Downgrade) -> Option<String> {
        let (minimum, pin) = (self.update_minimum_version.as_ref(), self.update_pinned_version.as_ref());
        downgrade.fault(&self.update_downgrades, minimum, pin)
    }
}

fn roots_without_a_repository(policy: &Policy) -> Vec<Problem> {
    if policy.update_trusted_roots.is_none() || policy.update_feed.is_some() {
        return Vec::new();
    }
    let message = "set, but `UpdateFeed` is not, so there is no repository that could be signed from there";
    let problem = contradiction(
        "UpdateTrustedRoots",
        message,
        "set `UpdateFeed` to the address of the repository, or the roots of `AgentUpdateFeed` in `AgentUpdateTrustedRoots`",
    );
    vec![problem.using("no feed: nothing is installed")]
}

fn agent_feed_without_roots(policy: &Policy) -> Vec<Problem> {
    match (&policy.agent_update_feed, policy.agent_roots()) {
        (Some(_), None) => {
            let message = "set, but `AgentUpdateTrustedRoots` is not, so nobody knows who may sign there";
            let hint = "set `AgentUpdateTrustedRoots`; `steward repo status` prints it";
            vec![contradiction("AgentUpdateFeed", message, hint).using("no feed: the agent stays as it is")]
        }
        (None, _) if policy.agent_update_trusted_roots.is_some() => {
            let message = "set, but `AgentUpdateFeed` is not";
            let hint = "set `AgentUpdateFeed` to the address of the repository";
            vec![contradiction("AgentUpdateTrustedRoots", message, hint)]
        }
        (_, _) => Vec::new(),
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
mod tests;
