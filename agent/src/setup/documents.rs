//! The files that `steward setup` writes, from answers alone. Pure.
//!
//! What to click and what to run at the identity provider comes from its vendor's documentation (Microsoft Graph
//! `POST /applications`; Okta `POST /api/v1/apps`; PingFederate admin API `/oauth/clients`; PingOne `/applications`), what
//! to enter in the Amazon Quick console from the app vendor's page.

use std::collections::BTreeSet;

use askama::Template;
use policy_schema::export::Artefact;
use serde_json::{Value, json};
use url::Url;

use super::{Answers, IdentityCenter, registration};

/// The name of the client, everywhere.
pub(super) const NAME: &str = "Amazon Quick Desktop";
/// The same where no space may be in it.
const TTI_NAME: &str = "AmazonQuickDesktop";
/// The scopes, in the vendor's order.
pub(super) const SCOPES: [&str; 4] = ["openid", "email", "profile", "offline_access"];

#[derive(Template)]
#[template(path = "setup/1-identity-provider.md", escape = "none")]
struct Sheet<'a> {
    provider: &'a str,
    name: &'a str,
    redirect_uri: &'a str,
    client_id: &'a Option<String>,
    host: &'a str,
    scopes: &'a str,
    /// Okta's authorization server.
    server: &'a str,
    /// PingOne's API and environment.
    api: &'a str,
    environment: &'a str,
}

#[derive(Template)]
#[template(path = "setup/2-trusted-token-issuer.md", escape = "none")]
struct TrustedTokenIssuer<'a> {
    instance: &'a str,
    tti_name: &'a str,
    configuration: String,
    tti_arn: &'a Option<String>,
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
    quick: bool,
    hosts: BTreeSet<String>,
    domains: Vec<&'a str>,
}

/// What to do at the identity provider: the sheet, and the bodies of its commands.
pub(crate) fn identity_provider(answers: &Answers) -> Result<Vec<Artefact>, askama::Error> {
    let issuer: Option<Url> = answers.preset.issuer.parse().ok();
    let host = issuer.as_ref().map(crate::http::host).unwrap_or_default();
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
    let sheet = Sheet {
        provider: answers.preset.provider.as_str(),
        name: NAME,
        redirect_uri: &answers.redirect_uri,
        client_id: &answers.client_id,
        host: &host,
        scopes: &SCOPES.join(" "),
        server,
        api: &api,
        environment: &environment,
    };
    let mut files = vec![file("1-identity-provider.md", sheet.render()?)];
    files.extend(registration::bodies(answers, server).into_iter().map(|(name, body)| {
        let text = serde_json::to_string_pretty(&body).unwrap_or_default();
        file(&format!("identity-provider/{name}"), format!("{text}\n"))
    }));
    Ok(files)
}

/// What the AWS command is given (`sso-admin`, `CreateTrustedTokenIssuer`).
pub(crate) fn trusted_token_issuer(issuer: &str, center: &IdentityCenter) -> Value {
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

/// What to enter in the Amazon Quick console, by the names that stand there.
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
        // Where Google's secret goes, as the vendor's page has it.
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

/// Everything after the registration: the trust in AWS, the console, the distribution.
pub(crate) fn rest(answers: &Answers) -> Result<Vec<Artefact>, askama::Error> {
    let issuer = answers.preset.issuer.as_str();
    let mut files = Vec::new();
    if let Some(center) = &answers.identity_center {
        let input = trusted_token_issuer(issuer, center);
        let configuration = &input["TrustedTokenIssuerConfiguration"];
        let sheet = TrustedTokenIssuer {
            instance: &center.instance,
            tti_name: TTI_NAME,
            configuration: configuration.to_string(),
            tti_arn: &center.trusted_token_issuer,
            claim: &center.claim,
            attribute: &center.attribute,
        };
        files.push(file("2-trusted-token-issuer.md", sheet.render()?));
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
    let hosts: BTreeSet<String> = addresses.map(|url| crate::http::host(&url)).collect();
    let distribution = Distribution {
        quick: answers.app == "amazon-quick",
        hosts,
        domains: app.map(|app| app.domains().collect()).unwrap_or_default(),
    };
    files.push(file("4-distribution.md", distribution.render()?));
    Ok(files)
}

fn file(path: &str, mut text: String) -> Artefact {
    text.truncate(text.trim_end().len());
    text.push('\n');
    Artefact { path: path.to_owned(), bytes: text.into_bytes() }
}
