//! PURE: the files that `steward setup` writes.
//!
//! In: answers. Out: instructions and request bodies as files. The steps at the identity provider come from the
//! documentation of its vendor (Microsoft Graph `POST /applications`; Okta `POST /api/v1/apps`; PingFederate admin API
//! `/oauth/clients`; PingOne `/applications`). The values for the Amazon Quick console come from the app vendor's page.

use std::collections::BTreeSet;

use askama::Template;
use policy_schema::export::Artefact;
use serde_json::{Value, json};
use url::Url;

use super::registration::{self, NAME, SCOPES};
use super::{Answers, IdentityCenter};

/// The name of the trusted token issuer, which may have no space in it.
const TTI_NAME: &str = "AmazonQuickDesktop";

/// The instructions for the identity provider, and the request bodies of their commands.
pub(crate) fn identity_provider(answers: &Answers) -> Result<Vec<Artefact>, askama::Error> {
    let issuer: Option<Url> = answers.preset.issuer.parse().ok();
    let host = issuer.as_ref().map(net::http::host).unwrap_or_default();
    let after = |mark: &str| answers.preset.issuer.split(mark).nth(1).map(|rest| rest.trim_matches('/'));
    let server = after("/oauth2/").unwrap_or("org");
    let environment = issuer
        .as_ref()
        .and_then(|url| url.path_segments()?.find(|part| uuid::Uuid::try_parse(part).is_ok()))
        .unwrap_or("<environment ID>")
        .to_owned();
    let api = match host.strip_prefix("auth.pingone.") {
        Some(region) => format!("api.pingone.{region}"),
        None => "api.pingone.<region>".to_owned(),
    };
    let document = Registration {
        provider: answers.preset.provider.as_str(),
        name: NAME,
        redirect_uri: &answers.redirect_uri,
        client_id: &answers.client_id,
        host: &host,
        scopes: &SCOPES.join(" "),
        server,
        api: &api,
        environment: &environment,
        portal: cloud(&host).0,
        graph: cloud(&host).1,
    };
    let mut files = vec![file("1-identity-provider.md", document.render()?)];
    files.extend(registration::bodies(answers, server).into_iter().map(|(name, body)| {
        let text = serde_json::to_string_pretty(&body).unwrap_or_default();
        file(&format!("identity-provider/{name}"), format!("{text}\n"))
    }));
    Ok(files)
}

/// Admin center and Microsoft Graph of the cloud that a host signs in to (Microsoft, "National cloud deployments").
fn cloud(host: &str) -> (&'static str, &'static str) {
    match host {
        "login.microsoftonline.us" => ("https://portal.azure.us", "https://graph.microsoft.us"),
        "login.partner.microsoftonline.cn" => {
            ("https://portal.azure.cn", "https://microsoftgraph.chinacloudapi.cn")
        }
        _ => ("https://entra.microsoft.com", "https://graph.microsoft.com"),
    }
}

/// The values for the Amazon Quick console, by the names of its fields.
pub(crate) fn console_values(answers: &Answers) -> Vec<(&'static str, String)> {
    let mut values = Vec::new();
    let client_id = answers.client_id.clone().unwrap_or_default();
    if let Some(center) = &answers.identity_center {
        let arn = center.trusted_token_issuer.clone();
        values.push((
            "Trusted Token Issuer ARN",
            arn.unwrap_or_else(|| "<TrustedTokenIssuerArn of step 2>".to_owned()),
        ));
        values.push(("Aud claim", client_id.clone()));
    }
    values.push(("Name", NAME.to_owned()));
    if let Some(endpoints) = &answers.endpoints {
        // The app vendor's page puts Google's client secret into this address.
        let token = match &answers.client_secret {
            Some(secret) => {
                let query = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("client_secret", secret)
                    .finish();
                format!("{}?{query}", endpoints.token_endpoint)
            }
            None => endpoints.token_endpoint.clone(),
        };
        values.push(("Issuer URL", endpoints.issuer.clone()));
        values.push(("Authorization Endpoint", endpoints.authorization_endpoint.clone()));
        values.push(("Token Endpoint", token));
        values.push(("JWKS URI", endpoints.jwks_uri.clone()));
    }
    values.push(("Client ID", client_id));
    values
}

/// The instructions for everything after the registration: AWS, the console, the distribution.
pub(crate) fn after_registration(
    answers: &Answers,
    app_profile: bool,
) -> Result<Vec<Artefact>, askama::Error> {
    let issuer = answers.preset.issuer.as_str();
    let mut files = Vec::new();
    if let Some(center) = &answers.identity_center {
        let input = trusted_token_issuer(issuer, center);
        let configuration = &input["TrustedTokenIssuerConfiguration"];
        let document = TrustedTokenIssuer {
            instance: &center.instance,
            tti_name: TTI_NAME,
            configuration: configuration.to_string(),
            tti_arn: &center.trusted_token_issuer,
            region: &center.region,
            notes: center.notes(),
            claim: &center.claim,
            attribute: &center.attribute,
        };
        files.push(file("2-trusted-token-issuer.md", document.render()?));
        let text = serde_json::to_string_pretty(&input).unwrap_or_default();
        files.push(file("2-trusted-token-issuer.json", format!("{text}\n")));
    }
    let access = ExtensionAccess {
        checked: answers.checked,
        refused: answers.refused,
        identity_center: answers.identity_center.is_some(),
        values: console_values(answers),
    };
    files.push(file("3-extension-access.md", access.render()?));
    let app = crate::app::descriptor::find(&answers.app);
    let endpoints = answers
        .endpoints
        .iter()
        .flat_map(|all| [&all.issuer, &all.authorization_endpoint, &all.token_endpoint, &all.jwks_uri]);
    let addresses = endpoints.chain(&answers.addresses).filter_map(|address| address.parse::<Url>().ok());
    let hosts: BTreeSet<String> = addresses.map(|url| net::http::host(&url)).collect();
    let distribution = Distribution {
        app_profile,
        quick: answers.app == "amazon-quick",
        hosts,
        domains: app.map(|app| app.domains().collect()).unwrap_or_default(),
    };
    files.push(file("4-distribution.md", distribution.render()?));
    Ok(files)
}

/// The input of the AWS command (`sso-admin`, `CreateTrustedTokenIssuer`).
fn trusted_token_issuer(issuer: &str, center: &IdentityCenter) -> Value {
    json!({
        "InstanceArn": center.instance,
        "Name": TTI_NAME,
        "TrustedTokenIssuerType": "OIDC_JWT",
        "TrustedTokenIssuerConfiguration": { "OidcJwtConfiguration": {
            "IssuerUrl": issuer,
            "ClaimAttributePath": center.claim,
            "IdentityStoreAttributePath": center.attribute,
            "JwksRetrievalOption": "OPEN_ID_DISCOVERY",
        } },
    })
}

#[derive(Template)]
#[template(path = "setup/1-identity-provider.md", escape = "none")]
struct Registration<'a> {
    provider: &'a str,
    name: &'a str,
    redirect_uri: &'a str,
    client_id: &'a Option<String>,
    host: &'a str,
    scopes: &'a str,
    /// Okta's authorization server.
    server: &'a str,
    /// The host of PingOne's API.
    api: &'a str,
    /// PingOne's environment ID.
    environment: &'a str,
    /// Microsoft's admin center in this cloud.
    portal: &'a str,
    /// Microsoft Graph in this cloud.
    graph: &'a str,
}

#[derive(Template)]
#[template(path = "setup/2-trusted-token-issuer.md", escape = "none")]
struct TrustedTokenIssuer<'a> {
    instance: &'a str,
    tti_name: &'a str,
    configuration: String,
    tti_arn: &'a Option<String>,
    region: &'a Option<String>,
    notes: Vec<String>,
    claim: &'a str,
    attribute: &'a str,
}

#[derive(Template)]
#[template(path = "setup/3-extension-access.md", escape = "none")]
struct ExtensionAccess {
    checked: bool,
    refused: bool,
    identity_center: bool,
    values: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "setup/4-distribution.md", escape = "none")]
struct Distribution<'a> {
    /// There is a profile for the app itself.
    app_profile: bool,
    quick: bool,
    hosts: BTreeSet<String>,
    domains: Vec<&'a str>,
}

fn file(path: &str, mut text: String) -> Artefact {
    text.truncate(text.trim_end().len());
    text.push('\n');
    Artefact { path: path.to_owned(), bytes: text.into_bytes() }
}
