//! What the provider publishes: discovery, keys, userinfo.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use serde_json::{Value, json};

use super::behaviour::{ProviderFault, Variation};
use super::{Shared, email};

pub(super) async fn discovery(State(shared): State<Arc<Shared>>) -> Response {
    let state = shared.lock();
    let (issuer, at) = (&state.issuer, shared.vendor.endpoints());
    let base = issuer.strip_suffix(at.issuer).unwrap_or(issuer);
    let named = match state.behaviour.fault {
        Some(ProviderFault::DiscoveryWithSlash) => format!("{issuer}/"),
        Some(ProviderFault::DiscoveryOfAllTenants) => {
            "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned()
        }
        Some(ProviderFault::DiscoveryRefused) => {
            let refused = json!({ "errorCode": "E0000015", "errorSummary": "You do not have permission" });
            return (StatusCode::UNAUTHORIZED, Json(refused)).into_response();
        }
        Some(_) | None => issuer.clone(),
    };
    let mut document = json!({
        "issuer": named,
        "authorization_endpoint": format!("{base}{}", at.authorize),
        "token_endpoint": format!("{base}{}", at.token),
        "jwks_uri": format!("{base}{}", at.keys),
        "userinfo_endpoint": format!("{base}{}", at.user_info),
        "revocation_endpoint": format!("{base}/revoke"),
        "end_session_endpoint": format!("{base}/logout"),
        "response_types_supported": ["code"],
        "scopes_supported": ["openid", "email", "profile", "offline_access"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        "authorization_response_iss_parameter_supported": shared.vendor.names_issuer(),
    });
    match state.behaviour.fault {
        Some(ProviderFault::CaptivePortal) => {
            return Redirect::temporary("http://portal.example/login").into_response();
        }
        Some(ProviderFault::CaptivePortalPage) => {
            return Html("<h1>Welcome to the hotel</h1>").into_response();
        }
        Some(ProviderFault::FewCapabilities) => {
            document["scopes_supported"] = json!(["openid", "email"]);
            document["grant_types_supported"] = json!(["authorization_code"]);
            document["code_challenge_methods_supported"] = json!(["plain"]);
            document["id_token_signing_alg_values_supported"] = json!(["HS256"]);
        }
        Some(_) | None => {}
    }
    if state.behaviour.device_flow {
        document["device_authorization_endpoint"] = json!(format!("{base}/device"));
    }
    match (&state.behaviour.discovery_member, document.as_object_mut()) {
        (Some((name, Some(value))), Some(members)) => drop(members.insert((*name).to_owned(), value.clone())),
        (Some((name, None)), Some(members)) => drop(members.remove(*name)),
        _ => {}
    }
    let mut response = Json(document).into_response();
    if state.behaviour.fault == Some(ProviderFault::ClockSlow) {
        #[expect(clippy::disallowed_methods, reason = "an identity provider has a clock, which may be wrong")]
        let slow = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2);
        let date = slow.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        response.headers_mut().insert("date", date.parse().expect("it is plain text"));
    }
    response
}

pub(super) async fn jwks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let mut state = shared.lock();
    state.key_requests += 1;
    let [first, second, third, rsa] = &shared.public;
    let current = if state.rotated { second } else { first };
    let keys = if state.behaviour.variation == Some(Variation::NoKeyIdOfOne) {
        vec![current]
    } else if state.behaviour.fault == Some(ProviderFault::NoKeyIdOfSeveral) {
        vec![first, second]
    } else {
        vec![current, third, rsa]
    };
    if state.behaviour.fault == Some(ProviderFault::KeysUnusable) {
        return Json(json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }));
    }
    Json(state.behaviour.keys.clone().unwrap_or_else(|| json!({ "keys": keys })))
}

pub(super) async fn user_info(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let state = shared.lock();
    if !headers.get("authorization").is_some_and(|value| value.as_bytes().starts_with(b"Bearer ")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let other = state.behaviour.fault == Some(ProviderFault::UserInfoOfAnotherUser);
    let user = state.behaviour.user;
    if state.behaviour.fault == Some(ProviderFault::UserInfoRefused) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut claims = json!({ "sub": if other { "eve" } else { user } });
    if state.behaviour.fault != Some(ProviderFault::NoEmail) {
        claims["email"] = json!(email(user));
    }
    Json(claims).into_response()
}
