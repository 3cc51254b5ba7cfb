//! The token endpoint: which requests get tokens, and what happens to used refresh tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest;
use serde_json::json;
use tokio::time::Instant;

use super::behaviour::{ProviderFault, Rotation};
use super::response::IncompleteBody;
use super::{GOOGLE_SECRET, Granted, Inner, Shared, Vendor, device_flow};

pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    Form(request): Form<BTreeMap<String, String>>,
) -> Response {
    let fault = {
        let mut state = shared.lock();
        state.token_requests += 1;
        state.behaviour.fault
    };
    match fault {
        Some(ProviderFault::TokenEndpointRedirects) => {
            return Redirect::temporary("http://127.0.0.1:9/token").into_response();
        }
        Some(ProviderFault::TokenEndpointSendsHtml) => {
            return Html("<h1>Proxy</h1> access_token=canary").into_response();
        }
        Some(ProviderFault::TokenEndpointSendsEndlessBody) => {
            return "x".repeat(8 * 1024 * 1024).into_response();
        }
        Some(ProviderFault::TokenEndpointStalls) => {
            let body = axum::body::Body::from_stream(IncompleteBody::that_stalls());
            return ([("content-type", "application/json")], body).into_response();
        }
        Some(ProviderFault::TokenEndpointFailsWithoutBody) => {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Some(_) | None => {}
    }
    let parameter = |name: &str| request.get(name).map_or("", String::as_str);
    let granted = {
        let mut state = shared.lock();
        state.token.clone_from(&request);
        match parameter("grant_type") {
            "authorization_code" => redeem(&mut state, shared.vendor, &request),
            "refresh_token" => refresh(&mut state, shared.vendor, &request),
            "urn:ietf:params:oauth:grant-type:device_code" => {
                device_flow::redeem_device(&mut state, parameter("device_code"))
            }
            _ => Err("unsupported_grant_type"),
        }
    };
    let granted = match granted {
        Ok(granted) => granted,
        Err(error) => {
            let described =
                if error == "invalid_grant" { shared.vendor.invalid_grant_description() } else { "" };
            let body = json!({ "error": error, "error_description": described });
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
    };
    let response = shared.token_response(&granted);
    if !granted.first && shared.loses_response() {
        let body = axum::body::Body::from_stream(IncompleteBody::that_breaks());
        return ([("content-type", "application/json")], body).into_response();
    }
    let stall = shared.lock().behaviour.stall.filter(|_| !granted.first);
    if let Some(stall) = stall {
        tokio::time::sleep(stall).await;
    }
    Json(response).into_response()
}

fn redeem(
    state: &mut Inner,
    vendor: Vendor,
    request: &BTreeMap<String, String>,
) -> Result<Granted, &'static str> {
    let parameter = |name: &str| request.get(name).cloned().unwrap_or_default();
    if vendor == Vendor::Google && parameter("client_secret") != GOOGLE_SECRET {
        return Err("invalid_client");
    }
    let request = state.codes.remove(&parameter("code")).ok_or("invalid_grant")?;
    let challenge = BASE64.encode(digest::digest(&digest::SHA256, parameter("code_verifier").as_bytes()));
    if request.get("code_challenge") != Some(&challenge) {
        return Err("invalid_grant");
    }
    let first = |name: &str| request.get(name).cloned().unwrap_or_default();
    Ok(Granted {
        nonce: first("nonce"),
        first: true,
        user: state.behaviour.user,
        scope: first("scope"),
        with_refresh_token: vendor.issues_refresh_token(first)
            && state.behaviour.fault != Some(ProviderFault::NoRefreshToken),
    })
}

fn refresh(
    state: &mut Inner,
    vendor: Vendor,
    request: &BTreeMap<String, String>,
) -> Result<Granted, &'static str> {
    let parameter = |name: &str| request.get(name).cloned().unwrap_or_default();
    let rotation = state.behaviour.rotation;
    let known = state.refresh_tokens.get_mut(&parameter("refresh_token")).ok_or("invalid_grant")?;
    if known.revoked {
        return Err("invalid_grant");
    }
    if parameter("scope").split(' ').any(|scope| scope == "forbidden") {
        return Err("invalid_scope");
    }
    let reused_too_late = match (known.used, rotation) {
        (None, _) | (Some(_), Rotation::OldStaysValid) => false,
        (Some(used), Rotation::Grace) => used.elapsed() > Duration::from_secs(30),
        (Some(_), Rotation::OldIsForgotten) => return Err("invalid_grant"),
        (Some(_), Rotation::Strict) => true,
    };
    known.used.get_or_insert(Instant::now());
    let (nonce, user) = (known.nonce.clone(), known.user);
    if reused_too_late {
        // It may have been stolen: all its successors are revoked.
        for token in state.refresh_tokens.values_mut().filter(|token| token.nonce == nonce) {
            token.revoked = true;
        }
        return Err("invalid_grant");
    }
    state.refreshes += 1;
    let scope = match parameter("scope") {
        scope if scope.is_empty() => "openid email profile offline_access".to_owned(),
        scope => scope,
    };
    // Google keeps the refresh token.
    Ok(Granted { nonce, first: false, user, scope, with_refresh_token: vendor != Vendor::Google })
}
