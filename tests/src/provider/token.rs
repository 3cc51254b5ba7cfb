//! The token endpoint: who gets tokens, and what happens to used refresh tokens.

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

use super::answer::Stalling;
use super::behaviour::{Misbehaviour, Rotation};
use super::{GOOGLE_SECRET, Granted, Inner, Shared, Vendor, more};

pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    Form(question): Form<BTreeMap<String, String>>,
) -> Response {
    let misbehaviour = {
        let mut state = shared.lock();
        state.exchanges += 1;
        state.behaviour.misbehaviour
    };
    match misbehaviour {
        Some(Misbehaviour::TokenEndpointRedirects) => {
            return Redirect::temporary("http://127.0.0.1:9/token").into_response();
        }
        Some(Misbehaviour::TokenEndpointAnswersHtml) => {
            return Html("<h1>Proxy</h1> access_token=canary").into_response();
        }
        Some(Misbehaviour::TokenEndpointAnswersEndlessly) => {
            return "x".repeat(8 * 1024 * 1024).into_response();
        }
        Some(Misbehaviour::TokenEndpointStalls) => {
            let begun = axum::body::Body::from_stream(Stalling::begun());
            return ([("content-type", "application/json")], begun).into_response();
        }
        Some(Misbehaviour::TokenEndpointFailsSilently) => {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Some(_) | None => {}
    }
    let parameter = |name: &str| question.get(name).map_or("", String::as_str);
    let granted = {
        let mut state = shared.lock();
        state.exchanged.clone_from(&question);
        match parameter("grant_type") {
            "authorization_code" => redeem(&mut state, shared.vendor, &question),
            "refresh_token" => refresh(&mut state, shared.vendor, &question),
            "urn:ietf:params:oauth:grant-type:device_code" => {
                more::redeem_device(&mut state, parameter("device_code"))
            }
            _ => Err("unsupported_grant_type"),
        }
    };
    let granted = match granted {
        Ok(granted) => granted,
        Err(error) => {
            let described = if error == "invalid_grant" { shared.vendor.ended() } else { "" };
            let body = json!({ "error": error, "error_description": described });
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
    };
    let answer = shared.answer(&granted);
    if !granted.first && shared.loses_answer() {
        let broken = axum::body::Body::from_stream(Stalling::broken());
        return ([("content-type", "application/json")], broken).into_response();
    }
    let stall = shared.lock().behaviour.stall.filter(|_| !granted.first);
    if let Some(stall) = stall {
        tokio::time::sleep(stall).await;
    }
    Json(answer).into_response()
}

fn redeem(
    state: &mut Inner,
    vendor: Vendor,
    asked: &BTreeMap<String, String>,
) -> Result<Granted, &'static str> {
    let parameter = |name: &str| asked.get(name).cloned().unwrap_or_default();
    if vendor == Vendor::Google && parameter("client_secret") != GOOGLE_SECRET {
        return Err("invalid_client");
    }
    let question = state.codes.remove(&parameter("code")).ok_or("invalid_grant")?;
    let challenge = BASE64.encode(digest::digest(&digest::SHA256, parameter("code_verifier").as_bytes()));
    if question.get("code_challenge") != Some(&challenge) {
        return Err("invalid_grant");
    }
    let first = |name: &str| question.get(name).cloned().unwrap_or_default();
    Ok(Granted {
        nonce: first("nonce"),
        first: true,
        user: state.behaviour.user,
        scope: first("scope"),
        lasting: vendor.gives_refresh_token(first)
            && state.behaviour.misbehaviour != Some(Misbehaviour::NoRefreshToken),
    })
}

fn refresh(
    state: &mut Inner,
    vendor: Vendor,
    asked: &BTreeMap<String, String>,
) -> Result<Granted, &'static str> {
    let parameter = |name: &str| asked.get(name).cloned().unwrap_or_default();
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
        // Somebody else may have it: the whole family ends.
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
    // Google's refresh tokens stay what they are.
    Ok(Granted { nonce, first: false, user, scope, lasting: vendor != Vendor::Google })
}
