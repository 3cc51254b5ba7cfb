//! PURE: the registration of a public, native client at each identity provider.
//!
//! In: answers. Out: the request bodies for the vendor's API (Microsoft Graph `POST /applications`; Okta `POST
//! /api/v1/apps`; PingFederate admin API `/oauth/clients`; PingOne `/applications`). Called by [`super::documents`].

use policy_schema::settings::IdentityProvider;
use serde_json::{Value, json};

use super::Answers;

/// The name of the client at each identity provider.
pub(super) const NAME: &str = "Amazon Quick Desktop";
/// The scopes, in the order of the app vendor's page.
pub(super) const SCOPES: [&str; 4] = ["openid", "email", "profile", "offline_access"];

/// The ID of Microsoft Graph.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
/// The IDs of Microsoft Graph's delegated permissions for [`SCOPES`], in the same order.
const GRAPH_SCOPES: [&str; 4] = [
    "37f7f235-527c-4136-accd-4a02d197296e",
    "64a6cdd6-aab1-4aaf-94b8-3cc8405e90d0",
    "14dad69e-099b-42c9-810b-d002981feec1",
    "7427e0e9-2fba-42fe-b0c0-848c9e6a8182",
];

type Bodies = Vec<(&'static str, Value)>;

/// The request bodies, by the names of their files.
pub(super) fn bodies(answers: &Answers, server: &str) -> Bodies {
    let redirect_uri = answers.redirect_uri.as_str();
    let client_id = answers.client_id.as_deref();
    match answers.preset.provider {
        IdentityProvider::Entra => entra(redirect_uri),
        IdentityProvider::Okta => okta(redirect_uri, client_id.unwrap_or("<client ID>"), server),
        IdentityProvider::PingFederate => {
            pingfederate(redirect_uri, client_id.unwrap_or("amazon-quick-desktop"))
        }
        IdentityProvider::PingOne => pingone(redirect_uri),
        IdentityProvider::Google | IdentityProvider::Custom => Vec::new(),
    }
}

fn entra(redirect_uri: &str) -> Bodies {
    let access: Vec<Value> = GRAPH_SCOPES.iter().map(|id| json!({ "id": id, "type": "Scope" })).collect();
    vec![(
        "app.json",
        json!({
            "displayName": NAME,
            "signInAudience": "AzureADMyOrg",
            "isFallbackPublicClient": true,
            "publicClient": { "redirectUris": [redirect_uri] },
            "requiredResourceAccess": [{ "resourceAppId": GRAPH, "resourceAccess": access }],
            "optionalClaims": { "idToken": [{ "name": "email", "essential": false }] },
        }),
    )]
}

fn okta(redirect_uri: &str, client_id: &str, server: &str) -> Bodies {
    let mut all = vec![(
        "app.json",
        json!({
            "name": "oidc_client",
            "label": NAME,
            "signOnMode": "OPENID_CONNECT",
            "credentials": { "oauthClient": { "token_endpoint_auth_method": "none", "pkce_required": true } },
            "settings": { "oauthClient": {
                "application_type": "native",
                "response_types": ["code"],
                "grant_types": ["authorization_code", "refresh_token"],
                "redirect_uris": [redirect_uri],
                "consent_method": "TRUSTED",
                "refresh_token": { "rotation_type": "ROTATE", "leeway": 30 },
            } },
        }),
    )];
    if server != "org" {
        all.push((
            "policy.json",
            json!({
                "type": "OAUTH_AUTHORIZATION_POLICY",
                "status": "ACTIVE",
                "name": NAME,
                "description": "Sign-in to Amazon Quick on desktop",
                "priority": 1,
                "conditions": { "clients": { "include": [client_id] } },
            }),
        ));
        all.push((
            "rule.json",
            json!({
                "type": "RESOURCE_ACCESS",
                "name": "Authorization code with refresh tokens",
                "priority": 1,
                "conditions": {
                    "people": { "groups": { "include": ["EVERYONE"] } },
                    "grantTypes": { "include": ["authorization_code"] },
                    "scopes": { "include": SCOPES },
                },
                "actions": { "token": {
                    "accessTokenLifetimeMinutes": 60,
                    "refreshTokenLifetimeMinutes": 0,
                    "refreshTokenWindowMinutes": 10080,
                } },
            }),
        ));
    }
    all
}

fn pingfederate(redirect_uri: &str, client_id: &str) -> Bodies {
    vec![
        (
            "client.json",
            json!({
                "clientId": client_id,
                "name": NAME,
                "enabled": true,
                "redirectUris": [redirect_uri],
                "grantTypes": ["AUTHORIZATION_CODE", "REFRESH_TOKEN"],
                "clientAuth": { "type": "NONE" },
                "requireProofKeyForCodeExchange": true,
                "restrictedResponseTypes": ["code"],
                "restrictScopes": true,
                "restrictedScopes": SCOPES,
            }),
        ),
        (
            "openid-connect-policy.json",
            json!({
                "returnIdTokenOnRefreshGrant": true,
                "includeUserInfoInIdToken": true,
                "attributeContract": { "extendedAttributes": [{ "name": "email", "multiValued": false }] },
                "attributeMapping": { "attributeContractFulfillment": {
                    "email": { "source": { "type": "TOKEN" }, "value": "email" },
                } },
                "scopeAttributeMappings": { "email": { "values": ["email"] } },
            }),
        ),
    ]
}

fn pingone(redirect_uri: &str) -> Bodies {
    let id = |scope: &&str| json!({ "id": format!("<ID of the scope {scope}>") });
    let scopes: Vec<Value> = SCOPES.iter().skip(1).map(id).collect();
    vec![
        (
            "application.json",
            json!({
                "name": NAME,
                "enabled": true,
                "type": "NATIVE_APP",
                "protocol": "OPENID_CONNECT",
                "responseTypes": ["CODE"],
                "grantTypes": ["AUTHORIZATION_CODE", "REFRESH_TOKEN"],
                "pkceEnforcement": "S256_REQUIRED",
                "tokenEndpointAuthMethod": "NONE",
                "redirectUris": [redirect_uri],
            }),
        ),
        (
            "grant.json",
            json!({
                "resource": { "id": "<ID of the resource openid>" },
                "scopes": scopes,
            }),
        ),
        ("attribute.json", json!({ "name": "email", "value": "${user.email}", "required": true })),
    ]
}
