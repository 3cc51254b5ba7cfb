//! What an administrator pastes about an identity provider, as issuer and endpoints.
//!
//! In: an ID, a domain or an address. Out: a [`Preset`]. Called by `steward setup`, and by the check of a policy, which
//! compares its issuer with the exact one ([`crate::contradiction`]). The forms of issuers and endpoints come from the app
//! vendor's page. The forms of pasted addresses come from the providers' consoles and discovery documents.

use serde::Serialize;
use url::Url;

use crate::loopback::is_loopback;
use crate::message::excerpt;
use crate::settings::IdentityProvider;

/// The endpoints of an identity provider, by their names in the discovery document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// `issuer`.
    pub issuer: String,
    /// `authorization_endpoint`.
    pub authorization_endpoint: String,
    /// `token_endpoint`.
    pub token_endpoint: String,
    /// `jwks_uri`.
    pub jwks_uri: String,
}

/// What is known about an identity provider without its discovery document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The product.
    pub provider: IdentityProvider,
    /// The exact issuer.
    pub issuer: String,
    /// `None` for a custom provider: they are in its discovery document.
    pub endpoints: Option<Endpoints>,
    /// How the pasted value was understood, if the administrator should know.
    pub notes: Vec<String>,
}

/// PingOne's regions, which are the ends of its domains.
pub const REGIONS: [&str; 6] = ["com", "ca", "eu", "asia", "com.au", "sg"];

/// The domains below which organizations have theirs at Okta.
pub(crate) const OKTA: [&str; 5] =
    ["okta.com", "oktapreview.com", "okta-emea.com", "okta-gov.com", "okta.mil"];

/// Why a pasted value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    /// An address of something else than Entra ID.
    #[error("{0} is not an address of Entra ID; use the Directory (tenant) ID of the overview page")]
    NotEntra(String),
    /// An address of a portal without a tenant.
    #[error("{0} does not name a tenant; copy the Directory (tenant) ID from the overview page")]
    NoTenant(String),
    /// `common` and its kind.
    #[error("`{0}` is a shared endpoint, and no token comes from it; use the Directory (tenant) ID")]
    EveryTenant(String),
    /// No ID and no domain of a tenant.
    #[error(
        "`{0}` is neither a tenant ID (such as 6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10) nor a domain of a tenant"
    )]
    Tenant(String),
    /// The GUID of zeros, which templates have.
    #[error("`{0}` is the GUID of zeros: nobody's tenant; copy the ID from the overview page")]
    Zeros(String),
    /// An e-mail address.
    #[error("`{0}` is an e-mail address; enter the address where users sign in")]
    Mail(String),
    /// A domain of Okta itself, or one that is nearly one of Okta's.
    #[error("`{pasted}` is not the domain of an organization at Okta{meant}")]
    NotOkta {
        /// What was pasted.
        pasted: String,
        /// What may be meant, as the rest of the sentence.
        meant: String,
    },
    /// Not an authorization server of Okta.
    #[error("`{0}` is not an authorization server: use `default`, `org`, or its ID")]
    AuthorizationServer(String),
    /// The port of PingFederate's console.
    #[error("{0}: 9999 is the port of the administrative console; use the host and port where users sign in")]
    AdministrativePort(String),
    /// Nothing was said about PingOne's environment.
    #[error("an environment ID or a custom domain is needed")]
    NoEnvironment,
    /// An address of PingOne without an environment.
    #[error("{0} does not name an environment")]
    EnvironmentMissing(String),
    /// Not an environment of PingOne.
    #[error("`{0}` is not an environment ID, such as 3fe7c5a1-2f5b-4d13-8f1e-0f7c0c7f3a10")]
    Environment(String),
    /// Two regions.
    #[error("the region `{named}` contradicts the address, which is of `{by_address}`")]
    TwoRegions {
        /// The region that was named.
        named: String,
        /// The region of the address.
        by_address: String,
    },
    /// Not a region of PingOne.
    #[error("`{0}` is not a region of PingOne: use com, ca, eu, asia, com.au or sg")]
    Region(String),
    /// Not a host and not an address.
    #[error("`{0}` is neither a host name nor an address")]
    Address(String),
    /// An address that is not encrypted.
    #[error("{0}: the address of an identity provider must be https")]
    PlainHttp(String),
    /// An address of another kind.
    #[error("{pasted}: an identity provider's address begins with https, not with `{scheme}`")]
    Scheme {
        /// What was pasted.
        pasted: String,
        /// Its scheme.
        scheme: String,
    },
}

/// The hosts where users of Microsoft's clouds sign in.
const MICROSOFT: [&str; 3] =
    ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"];
/// The hosts where administrators manage a tenant.
const PORTALS: [&str; 3] = ["portal.azure.com", "entra.microsoft.com", "portal.azure.us"];

/// Entra ID, from a tenant ID, a verified domain, or an address that contains one of them.
///
/// # Errors
/// What was pasted cannot be it; the error says why.
pub fn entra(pasted: &str) -> Result<Preset, PresetError> {
    let pasted = pasted.trim();
    let known = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        MICROSOFT.contains(&host) || PORTALS.contains(&host) || host == "sts.windows.net" || is_loopback(url)
    };
    // The scheme of an address may be missing.
    let without_scheme =
        pasted.contains('/').then(|| format!("https://{pasted}").parse::<Url>().ok()).flatten();
    let url = address(pasted).or_else(|| without_scheme.filter(known));
    let (base, tenant) = match &url {
        None => (format!("https://{}", MICROSOFT[0]), pasted.trim_matches('/').to_owned()),
        Some(url) if !known(url) => {
            return Err(PresetError::NotEntra(pasted.to_owned()));
        }
        Some(url) => {
            let host = url.host_str().unwrap_or_default();
            let tenant = if PORTALS.contains(&host) {
                in_portal(url).ok_or_else(|| PresetError::NoTenant(pasted.to_owned()))?
            } else {
                let mut parts = url.path_segments().into_iter().flatten();
                parts.find(|part| !part.is_empty()).unwrap_or_default().to_owned()
            };
            let signs_in = MICROSOFT.contains(&host) || is_loopback(url);
            (if signs_in { origin(url) } else { format!("https://{}", MICROSOFT[0]) }, tenant)
        }
    };
    if ["common", "organizations", "consumers"].contains(&tenant.as_str()) {
        return Err(PresetError::EveryTenant(tenant));
    }
    let domain = |text: &str| {
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
        };
        text.contains('.')
            && text.split('.').all(plain)
            && text
                .split('.')
                .next_back()
                .is_some_and(|end| end.len() > 1 && !end.starts_with(|letter: char| letter.is_ascii_digit()))
    };
    let Some(tenant) = identifier(&tenant).or_else(|| domain(&tenant).then(|| tenant.to_ascii_lowercase()))
    else {
        return Err(PresetError::Tenant(tenant));
    };
    if is_zeros(&tenant) {
        return Err(PresetError::Zeros(tenant));
    }
    let at = |path: &str| format!("{base}/{tenant}{path}");
    Ok(Preset::of(
        IdentityProvider::Entra,
        at("/v2.0"),
        at("/oauth2/v2.0/authorize"),
        at("/oauth2/v2.0/token"),
        at("/discovery/v2.0/keys"),
    ))
}

fn is_zeros(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_ok_and(|id| id.is_nil())
}

/// Why a client ID is probably not one of a product, and what to do; `None` if nothing speaks against it. Policy and
/// `steward setup` ask here.
#[must_use]
pub fn doubt_about_client_id(provider: IdentityProvider, client: &str) -> Option<(String, &'static str)> {
    const OF_GOOGLE: &str = ".apps.googleusercontent.com";
    let is_guid = identifier(client).is_some();
    let of_okta = client.len() == 20
        && client.starts_with("0oa")
        && client.chars().all(|letter| letter.is_ascii_alphanumeric());
    let copied = "copy the client ID from the page of the registered app";
    if client.contains("://") {
        return Some((format!("`{}` is an address, not a client ID", excerpt(client)), copied));
    }
    if is_zeros(client) {
        return Some(("the GUID of zeros, which no client has".to_owned(), copied));
    }
    match provider {
        IdentityProvider::Entra if !is_guid => Some((
            "not an application (client) ID of Entra ID, which is a GUID such as 3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77".to_owned(),
            "copy the Application (client) ID from the overview page of the app registration",
        )),
        IdentityProvider::Google if !client.ends_with(OF_GOOGLE) || client.len() == OF_GOOGLE.len() => Some((
            format!("not a client ID of Google, which ends in {OF_GOOGLE}"),
            "copy it from the page of the OAuth client",
        )),
        IdentityProvider::Okta if is_guid => Some((
            "looks like a client ID of Entra ID or PingOne; those of Okta begin with 0oa".to_owned(),
            copied,
        )),
        IdentityProvider::PingOne if of_okta => {
            Some(("looks like a client ID of Okta; those of PingOne are GUIDs".to_owned(), copied))
        }
        IdentityProvider::Okta | IdentityProvider::PingOne | IdentityProvider::PingFederate
            if client.ends_with(OF_GOOGLE) =>
        {
            Some(("is a client ID of Google".to_owned(), copied))
        }
        IdentityProvider::Entra
        | IdentityProvider::Google
        | IdentityProvider::Custom
        | IdentityProvider::Okta
        | IdentityProvider::PingFederate
        | IdentityProvider::PingOne => None,
    }
}

/// A UUID in the form that providers use, from any usual form.
#[must_use]
pub fn identifier(text: &str) -> Option<String> {
    uuid::Uuid::try_parse(text.trim()).ok().map(|id| id.hyphenated().to_string())
}

/// Okta, from its domain or any address on it. The authorization server is `default`, `org`, or an ID.
///
/// # Errors
/// What was pasted cannot be it; the error says why.
pub fn okta(pasted: &str, server: Option<&str>) -> Result<Preset, PresetError> {
    let url = host_or_address(pasted)?;
    let host = url.host_str().unwrap_or_default();
    let mut notes = Vec::new();
    let mut base = origin(&url);
    if let Some((name, rest)) = host.split_once("-admin.okta") {
        base = format!("https://{name}.okta{rest}");
        notes.push(format!("{host} is the admin console; users sign in at {name}.okta{rest}"));
    }
    if let Some(error) = not_okta(pasted, host) {
        return Err(error);
    }
    let in_path = url
        .path_segments()
        .and_then(|mut parts| (parts.next() == Some("oauth2")).then(|| parts.next()).flatten())
        .filter(|part| !part.is_empty() && *part != "v1")
        .map(ToOwned::to_owned);
    // The discovery document of the org authorization server is at the root of the host.
    let of_org = url.path().starts_with("/.well-known/").then(|| "org".to_owned());
    let server = server.map(str::trim).filter(|server| !server.is_empty()).map(ToOwned::to_owned);
    let server = server.or(in_path).or(of_org).unwrap_or_else(|| "default".to_owned());
    // These two are names, not IDs, whose capitals count.
    let name = ["default", "org"].into_iter().find(|name| server.eq_ignore_ascii_case(name));
    let server = name.map(ToOwned::to_owned).unwrap_or(server);
    let (issuer, at) = match server.as_str() {
        "org" => (base.clone(), format!("{base}/oauth2/v1")),
        id if id.chars().all(|letter| letter.is_ascii_alphanumeric()) => {
            (format!("{base}/oauth2/{id}"), format!("{base}/oauth2/{id}/v1"))
        }
        other => {
            return Err(PresetError::AuthorizationServer(other.to_owned()));
        }
    };
    let preset = Preset::of(
        IdentityProvider::Okta,
        issuer,
        format!("{at}/authorize"),
        format!("{at}/token"),
        format!("{at}/keys"),
    );
    Ok(Preset { notes, ..preset })
}

/// Why a host cannot be an organization's at Okta. It may have a domain of its own.
fn not_okta(pasted: &str, host: &str) -> Option<PresetError> {
    let error = |meant: String| Some(PresetError::NotOkta { pasted: pasted.to_owned(), meant });
    if OKTA.contains(&host) || OKTA.iter().any(|domain| host == format!("www.{domain}")) {
        return error(format!(
            ": yours stands before it, such as example.{}",
            host.trim_start_matches("www.")
        ));
    }
    let (name, rest) = host.split_once(".okta.")?;
    let known = OKTA.iter().any(|domain| host.ends_with(&format!(".{domain}")));
    if known || rest.contains('.') {
        return None;
    }
    error(format!("; did you mean {name}.okta.com?"))
}

/// PingFederate, from its host.
///
/// # Errors
/// What was pasted cannot be it; the error says why.
pub fn pingfederate(pasted: &str) -> Result<Preset, PresetError> {
    let url = host_or_address(pasted)?;
    if url.port() == Some(9999) {
        return Err(PresetError::AdministrativePort(pasted.to_owned()));
    }
    let base = origin(&url);
    let at = |path: &str| format!("{base}{path}");
    Ok(Preset::of(
        IdentityProvider::PingFederate,
        base.clone(),
        at("/as/authorization.oauth2"),
        at("/as/token.oauth2"),
        at("/pf/JWKS"),
    ))
}

/// PingOne, from an environment ID or an address that contains one. A custom domain replaces domain and environment.
///
/// # Errors
/// What was pasted cannot be it; the error says why.
pub fn pingone(
    pasted: Option<&str>,
    region: Option<&str>,
    custom_domain: Option<&str>,
) -> Result<Preset, PresetError> {
    let of = |base: String| {
        let at = |path: &str| format!("{base}{path}");
        Preset::of(IdentityProvider::PingOne, at(""), at("/authorize"), at("/token"), at("/jwks"))
    };
    if let Some(domain) = custom_domain {
        return Ok(of(format!("{}/as", origin(&host_or_address(domain)?))));
    }
    let pasted = pasted.ok_or(PresetError::NoEnvironment)?.trim();
    let url = address(pasted);
    let in_address = |url: &Url| {
        let in_query = url.query_pairs().find(|(name, _)| name == "env").map(|(_, value)| value.into_owned());
        let in_path =
            url.path_segments().into_iter().flatten().find(|part| uuid::Uuid::try_parse(part).is_ok());
        in_query.or_else(|| in_path.map(ToOwned::to_owned))
    };
    let environment = match &url {
        Some(url) => in_address(url).ok_or_else(|| PresetError::EnvironmentMissing(pasted.to_owned()))?,
        None => pasted.to_owned(),
    };
    let Some(environment) = identifier(&environment) else {
        return Err(PresetError::Environment(environment));
    };
    if let Some(url) = url.as_ref().filter(|url| is_loopback(url)) {
        return Ok(of(format!("{}/{environment}/as", origin(url))));
    }
    let by_address = url.as_ref().and_then(|url| {
        let host = url.host_str()?;
        REGIONS.into_iter().find(|region| host.ends_with(&format!(".pingone.{region}")))
    });
    if is_zeros(&environment) {
        return Err(PresetError::Zeros(environment));
    }
    let region = region.map(|region| region.trim_start_matches('.').to_ascii_lowercase());
    if let (Some(named), Some(by_address)) = (&region, by_address)
        && named != by_address
    {
        return Err(PresetError::TwoRegions { named: named.clone(), by_address: by_address.to_owned() });
    }
    let region = region.or(by_address.map(ToOwned::to_owned)).unwrap_or_else(|| "com".to_owned());
    if !REGIONS.contains(&region.as_str()) {
        return Err(PresetError::Region(region));
    }
    Ok(of(format!("https://auth.pingone.{region}/{environment}/as")))
}

/// Google Workspace, which is the same for every organisation.
#[must_use]
pub fn google() -> Preset {
    Preset::of(
        IdentityProvider::Google,
        "https://accounts.google.com".to_owned(),
        "https://accounts.google.com/o/oauth2/v2/auth".to_owned(),
        "https://oauth2.googleapis.com/token".to_owned(),
        "https://www.googleapis.com/oauth2/v3/certs".to_owned(),
    )
}

/// Any other provider, from its issuer or the address of its discovery document.
///
/// # Errors
/// What was pasted cannot be it; the error says why.
pub fn custom(pasted: &str) -> Result<Preset, PresetError> {
    let url = host_or_address(pasted)?;
    let text = pasted.trim();
    let text = if text.contains("://") { text.to_owned() } else { url.to_string() };
    let issuer = text.split(['?', '#']).next().unwrap_or_default();
    let issuer = match issuer.split_once("/.well-known/") {
        Some((issuer, _)) => issuer,
        // An issuer that is only a host has no slash at its end.
        None if url.path() == "/" && !pasted.trim().ends_with('/') => issuer.trim_end_matches('/'),
        None => issuer,
    };
    Ok(Preset {
        provider: IdentityProvider::Custom,
        issuer: issuer.to_owned(),
        endpoints: None,
        notes: Vec::new(),
    })
}

impl Preset {
    fn of(
        provider: IdentityProvider,
        issuer: String,
        authorize: String,
        token: String,
        keys: String,
    ) -> Self {
        Self {
            provider,
            issuer: issuer.clone(),
            endpoints: Some(Endpoints {
                issuer,
                authorization_endpoint: authorize,
                token_endpoint: token,
                jwks_uri: keys,
            }),
            notes: Vec::new(),
        }
    }
}

/// The tenant in an address of a portal.
fn in_portal(url: &Url) -> Option<String> {
    let id = |text: &str| uuid::Uuid::try_parse(text).is_ok();
    let in_query = url.query_pairs().find(|(name, _)| name.eq_ignore_ascii_case("tenantId"));
    let fragment = url.fragment().unwrap_or_default();
    let named = fragment.strip_prefix('@').and_then(|rest| rest.split('/').next());
    let after = |text: &str| {
        let at = text.to_ascii_lowercase().find("tenantid/")? + "tenantid/".len();
        text.get(at..)?.split(['/', '?', '&']).next().filter(|part| id(part)).map(ToOwned::to_owned)
    };
    let domain = named.filter(|named| named.contains('.') || id(named)).map(ToOwned::to_owned);
    in_query.map(|(_, value)| value.into_owned()).or(domain).or_else(|| after(fragment))
}

fn address(pasted: &str) -> Option<Url> {
    pasted.trim().parse::<Url>().ok().filter(Url::has_host)
}

/// A host name, with or without a port, or any address on it. Plain HTTP is accepted only for this device.
fn host_or_address(pasted: &str) -> Result<Url, PresetError> {
    let pasted = pasted.trim();
    let url = address(pasted).or_else(|| format!("https://{pasted}").parse().ok());
    if url.as_ref().is_some_and(|url| !url.username().is_empty()) {
        return Err(PresetError::Mail(pasted.to_owned()));
    }
    // Only the characters of host names, because the host is written into commands.
    let plain =
        |host: &str| host.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_[]:".contains(letter));
    let url = url.filter(|url| {
        let named =
            url.host_str().is_some_and(|host| plain(host) && (host.contains('.') || host == "localhost"));
        named || is_loopback(url)
    });
    let url = url.ok_or_else(|| PresetError::Address(pasted.to_owned()))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(PresetError::PlainHttp(pasted.to_owned())),
        scheme => Err(PresetError::Scheme { pasted: pasted.to_owned(), scheme: scheme.to_owned() }),
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests;
